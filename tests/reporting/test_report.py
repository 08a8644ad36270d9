"""The report page in a browser, at the widths of a desktop, a tablet and a phone."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from recsys.baselines import fit_item_knn, fit_markov_chain, fit_popularity
from recsys.data import leave_last_out, per_user_ratio, read_ratings
from recsys.errors import RecsysError
from recsys.evaluation import (
    comparison_table,
    confidence_intervals,
    evaluate,
    segment_targets,
    significance_table,
)
from recsys.reporting import loss_curve, report_page
from recsys.reporting.charts import ndcg_by_segment
from recsys.reporting.report import model_rows

CURVES = {"lstm": {"train_loss": [5.0, 4.0, 3.5]}, "embeddings": {"relative_loss": [0.9, 0.4]}}
FITS = {"markov": fit_markov_chain, "item-knn": fit_item_knn, "popularity": fit_popularity}
WIDTHS = (1280, 900, 390)


@pytest.fixture(scope="module")
def reports(sample_split):
    vectors = np.eye(sample_split.interactions.n_items, dtype=np.float32)
    return {
        name: evaluate(fit(sample_split.train), sample_split, item_vectors=vectors)
        for name, fit in FITS.items()
    }


@pytest.fixture(scope="module")
def page(reports, sample_split):
    return report_page(reports, sample_split, reference="item-knn", curves=CURVES)


@pytest.fixture(scope="module")
def tabs(browser, page, tmp_path_factory):
    """The open page by width, with the requests and console messages that it caused."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    opened = {}
    for width in WIDTHS:
        tab = browser.new_page(viewport={"width": width, "height": 844})
        events = []
        tab.on("console", lambda message, events=events: events.append(message.text))
        tab.on("pageerror", lambda error, events=events: events.append(str(error)))
        tab.on("request", lambda request, events=events: events.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("#curves .scatterlayer .trace")
        opened[width] = tab, [event for event in events if event != path.as_uri()]
    yield opened
    for tab, _ in opened.values():
        tab.close()


@pytest.fixture(params=WIDTHS)
def tab(tabs, request):
    return tabs[request.param][0]


@pytest.mark.parametrize("width", WIDTHS)
def test_page_makes_no_requests_and_logs_no_errors(tabs, width):
    _, events = tabs[width]
    assert [event for event in events if not event.startswith("data:")] == []


def test_page_fits_the_width(tab):
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


CHART_BOXES = """
() => [...document.querySelectorAll(".js-plotly-plot")].map(plot => {
  const cell = plot.parentElement.parentElement;
  const box = element => element.getBoundingClientRect();
  const chart = box(plot.querySelector(".main-svg"));
  return [box(cell).left, chart.left, chart.right, box(cell).right];
})
"""


def test_every_chart_fills_its_cell_and_does_not_overflow_it(tab):
    tab.wait_for_timeout(300)  # charts are resized after the page has its layout
    boxes = tab.evaluate(CHART_BOXES)
    assert len(boxes) == 8
    for cell_left, left, right, cell_right in boxes:
        assert right - left > 250
        assert left == pytest.approx(cell_left, abs=1)
        assert right == pytest.approx(cell_right, abs=1)


CUT_OFF = """
() => [...document.querySelectorAll(".js-plotly-plot")].flatMap(plot => {
  const chart = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < chart.left - 1 || box.right > chart.right + 1;
  }).map(text => text.textContent);
})
"""


def test_no_text_of_a_chart_is_cut_off(tab):
    tab.wait_for_timeout(300)
    assert tab.evaluate(CUT_OFF) == []
    epochs = tab.locator("#curves .js-plotly-plot").first.locator(".xtick text")
    assert epochs.all_text_contents() == ["1", "2", "3"]


def test_values_at_the_pointer_hide_the_lines_behind_them(tab):
    tab.locator("#lists .nsewdrag").hover()
    tab.locator("#lists .hoverlayer .bg").wait_for()
    style = "box => [getComputedStyle(box).fill, getComputedStyle(box).fillOpacity]"
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert tab.locator("#lists .hoverlayer .bg").evaluate(style) == [paper, "1"]


def test_where_all_targets_are_in_one_segment_there_is_no_chart():
    """Two users with the same history."""
    rows = [(user, item) for user in (1, 2) for item in (1, 2, 3, 4)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
    split = leave_last_out(log)
    reports = {"markov": evaluate(fit_markov_chain(split.train), split)}
    charts = ndcg_by_segment(reports, split, "test")
    segments = segment_targets(split, "test")
    assert {*segments} == {"history length", "popularity decile", "cold start"}
    assert charts == {}, "all targets are the same item, which is cold"


def test_every_chart_has_a_line_for_each_model(tab):
    def lines(section):
        return tab.locator(f"{section} .js-plotly-plot").evaluate_all(
            "plots => plots.map(plot => plot.querySelectorAll('.scatterlayer .trace').length)"
        )

    assert lines("#by-k") == [3, 3, 3]
    assert lines("#segments") == [3, 3], "no target is cold"
    assert lines("#lists") == [4], "the models and the targets"
    assert lines("#curves") == [1, 1]


def test_models_are_sorted_and_have_intervals(tab, reports):
    found = tab.locator("#models tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.innerText.trim()))"
    )
    ndcg = {name: report.metrics["ndcg_at_10"] for name, report in reports.items()}
    assert [row[0] for row in found] == sorted(ndcg, key=ndcg.get, reverse=True)
    ranks = {name: report.to_frame() for name, report in reports.items()}
    differences = significance_table("item-knn", ranks)
    for name, _, cell, _, difference, p in found:
        expected = confidence_intervals(ranks[name], [10]).loc["ndcg_at_10"]
        mean, low, high = (f"{value:.4f}" for value in expected)
        assert cell.split() == [mean, low, "to", high]
        if name == "item-knn":
            assert difference == p == ""
        else:
            assert difference.split()[0] == f"{differences['difference'][name]:+.4f}"
            assert p == f"{differences['p_holm'][name]:.2g}"


def test_the_charts_agree_with_the_metrics(tab, reports):
    data = tab.locator("#by-k .js-plotly-plot").evaluate_all(
        "plots => plots.map(plot => plot.data.map(line => [line.name, ...line.y]))"
    )
    for metric, lines in zip(("hit_rate", "ndcg", "mrr"), data, strict=True):
        for name, *values in lines:
            for k in (5, 10, 20):
                assert values[k - 1] == pytest.approx(reports[name].metrics[f"{metric}_at_{k}"])


def test_the_popularity_of_the_lists_is_charted(tab, reports, sample_split):
    lines = tab.locator("#lists .js-plotly-plot").evaluate(
        "plot => Object.fromEntries(plot.data.map(line => [line.name, line.y]))"
    )
    assert all(sum(shares) == pytest.approx(1) for shares in lines.values())
    counts = np.bincount(sample_split.train.item_index, minlength=sample_split.interactions.n_items)
    most = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[most]) - counts[most]
    first = most[10 * before < counts.sum()]
    expected = np.isin(reports["popularity"].recommended, first).mean()
    assert lines["popularity"][0] == pytest.approx(expected)
    assert tab.locator("#lists tbody tr").count() == 3


def test_five_example_users_are_shown(tab, reports, sample_split):
    cards = tab.locator("#examples .card")
    assert cards.count() == 5
    titles = sample_split.interactions.catalogue["title"]
    users = reports["item-knn"].users
    for card in cards.all():
        user = card.locator("h3").inner_text().removeprefix("User ")
        row = users.astype(str).tolist().index(user)
        listed = card.locator("ol li").all_inner_texts()
        assert listed == titles.iloc[reports["item-knn"].recommended[row]].tolist()
        history = sample_split.histories("test")[row]
        assert card.locator("ul li").all_inner_texts() == titles.iloc[history[-8:]].tolist()
        target = titles.iloc[sample_split.targets("test")[row]]
        assert card.locator("div.target").inner_text() == target
        rank = reports["item-knn"].ranks[row]
        assert card.locator("ol li.target").all_inner_texts() == [target] * int(rank <= 10)
        assert f"item-knn\xa0{rank}" in card.inner_text()


def test_titles_are_escaped():
    markup = "<script>alert(1)</script> & Sons"
    log = pd.DataFrame({"user_id": [1] * 3 + [2] * 3, "item_id": [1, 2, 3, 2, 3, 1]})
    split = leave_last_out(read_ratings(log.assign(title=markup)))
    log = split.interactions
    named = dataclasses.replace(log, catalogue=log.catalogue.assign(title=markup))
    split = dataclasses.replace(split, interactions=named)
    text = report_page({"popularity": evaluate(fit_popularity(split.train), split)}, split)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Sons" in text


def test_without_curves_the_section_is_omitted(reports, sample_split):
    text = report_page(reports, sample_split)
    assert "Learning curves" not in text
    assert "The lists are those of markov" in text, "the first model is the default reference"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda reports: {}, "there are no reports to compare"),
        (
            lambda reports: {"markov": reports["markov"]},
            "no report of 'item-knn': the models are markov",
        ),
        (
            lambda reports: (
                reports
                | {
                    "markov": dataclasses.replace(
                        reports["markov"],
                        fingerprint={**reports["markov"].fingerprint, "ties": "x"},
                    )
                }
            ),
            "markov and item-knn: .* not comparable: ties",
        ),
    ],
    ids=["none", "no reference", "other protocol"],
)
def test_reports_that_cannot_be_compared_are_rejected(reports, sample_split, change, message):
    with pytest.raises(RecsysError, match=message):
        report_page(change(reports), sample_split, reference="item-knn")


@pytest.mark.parametrize(("n", "marker"), [(3, "."), (50, "None")])
def test_a_loss_curve_begins_at_epoch_one(n, marker):
    losses = [1 / (epoch + 1) for epoch in range(n)]
    figure = loss_curve(losses, title="LSTM", ylabel="cross-entropy")
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == list(range(1, n + 1))
    assert list(line.get_ydata()) == losses
    assert (line.get_marker() or "None") == marker
    assert axes.get_title() == "LSTM"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "cross-entropy")


def test_the_page_shows_the_figures_of_the_table(sample):
    """With unequal numbers of targets per user."""
    split = per_user_ratio(sample)
    reports = {n: evaluate(fit(split.train), split) for n, fit in FITS.items()}
    table = comparison_table(reports)
    rows = model_rows(reports, "markov")
    assert [row.model for row in rows] == table.index.tolist()
    for row in rows:
        estimate = row.accuracy["NDCG@10"]
        assert estimate.mean == pytest.approx(table.loc[row.model, "NDCG@10"])
        assert estimate.low < estimate.mean < estimate.high
    knn, markov = (table.loc[name, "NDCG@10"] for name in ("item-knn", "markov"))
    (difference,) = (row.difference for row in rows if row.model == "item-knn")
    assert difference.mean == pytest.approx(knn - markov)
