"""The page, put together: tables, pictures and examples in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from recsys.data import Split, Subset
from recsys.evaluation import Report
from recsys.reporting import charts, tables
from recsys.reporting.examples import draw_examples

Curves = Mapping[str, Mapping[str, Sequence[float]]]
"""What each stage told by epoch, as `curves["lstm"]["train_loss"]`."""

EXAMPLES = 5


def report_page(
    reports: Mapping[str, Report],
    split: Split,
    subset: Subset = "test",
    *,
    reference: str | None = None,
    curves: Curves | None = None,
    title: str = "How the models did",
    seed: int = 0,
) -> str:
    """A web page that tells how models did on the same targets; it needs nothing but a browser.

    Args:
        reports: what each model was found to be worth, by name.
        split: the data that they were evaluated on.
        subset: the targets that they were evaluated on.
        reference: the model that others are compared with and whose lists are shown; the first
            by default.
        curves: what was told by epoch while training.
        title: the headline.
        seed: of the draw of example users.

    Returns:
        HTML, with the script library in it.

    Raises:
        ValueError: there are no reports, none of the reference, or some that are not comparable
            with each other; names the first difference.
    """
    if not reports:
        raise ValueError("there are no reports to lay side by side")
    reference = reference or next(iter(reports))
    if reference not in reports:
        raise ValueError(f"there is no report of {reference!r}: there are {', '.join(reports)}")
    rows = tables.rows(reports, reference)
    ordered = {row.model: reports[row.model] for row in rows}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        reference=reference,
        subset=subset,
        n_targets=len(reports[reference].ranks),
        fingerprint=reports[reference].fingerprint,
        colours=charts.colours_of(list(ordered)),
        in_fact=charts.IN_FACT,
        rows=rows,
        by_k=_drawn(charts.metrics_by_k(ordered)),
        by_segment=_drawn(charts.by_segments(ordered, split, subset)),
        popularity=Markup(charts.popularity_of_lists(ordered, split, subset)),  # noqa: S704
        curves=_drawn(charts.learning_curves(curves or {})),
        examples=draw_examples(ordered, split, subset, reference, EXAMPLES, seed),
        plotly=_script(),
    )


def _drawn(pictures: Mapping[str, str]) -> dict[str, Markup]:
    """Pictures go into the page as they are: plotly has escaped what is in them."""
    return {name: Markup(html) for name, html in pictures.items()}  # noqa: S704


def _script() -> Markup:
    from plotly.offline import get_plotlyjs  # slow to import, and nothing else needs it

    return Markup(get_plotlyjs())  # noqa: S704
