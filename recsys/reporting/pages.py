"""Web pages from the templates of this package, with plotly's script inside."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """Fill in a template of the folder `templates`; `plotly` is the script."""
    from plotly.offline import get_plotlyjs  # slow to import

    environment = Environment(
        loader=PackageLoader("recsys.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = Markup(get_plotlyjs())  # noqa: S704 – part of plotly
    return environment.get_template(template).render(plotly=script, **values)
