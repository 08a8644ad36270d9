"""The page as a browser shows it, at the width of a desk and of a phone."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from recsys.baselines import fit_item_knn, fit_markov_chain, fit_popularity
from recsys.data import leave_last_out, read_ratings
from recsys.evaluation import confidence_intervals, evaluate, significance_table
from recsys.reporting import report_page

CURVES = {"lstm": {"train_loss": [5.0, 4.0, 3.5]}, "embeddings": {"relative_loss": [0.9, 0.4]}}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def reports(sample_split):
    fits = {"markov": fit_markov_chain, "item-knn": fit_item_knn, "popularity": fit_popularity}
    vectors = np.eye(sample_split.interactions.n_items, dtype=np.float32)
    return {
        name: evaluate(fit(sample_split.train), sample_split, item_vectors=vectors)
        for name, fit in fits.items()
    }


@pytest.fixture(scope="module")
def page(reports, sample_split):
    return report_page(reports, sample_split, reference="item-knn", curves=CURVES)


@pytest.fixture(scope="module")
def shown(page, tmp_path_factory):
    """What a width shows: the open page, and all that it asked for or complained of."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        opened = {}
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 844})
            troubles = []
            tab.on("console", lambda message, to=troubles: to.append(message.text))
            tab.on("pageerror", lambda error, to=troubles: to.append(str(error)))
            tab.on("request", lambda request, to=troubles: to.append(request.url))
            tab.goto(path.as_uri())
            tab.wait_for_selector("#curves .scatterlayer .trace")
            opened[width] = tab, [told for told in troubles if told != path.as_uri()]
        yield opened
        browser.close()


@pytest.fixture(params=[1280, 390])
def tab(shown, request):
    return shown[request.param][0]


@pytest.mark.parametrize("width", [1280, 390])
def test_it_needs_nothing_from_elsewhere_and_complains_of_nothing(shown, width):
    _, troubles = shown[width]
    assert [told for told in troubles if not told.startswith("data:")] == []


def test_it_fits_the_width(tab):
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Pictures are as wide as the place that they have, and no wider.
    assert tab.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].every(plot =>"
        " plot.getBoundingClientRect().right <= innerWidth"
        " && plot.querySelector('.main-svg').getBoundingClientRect().width > 250)"
    )


def test_all_pictures_are_drawn_with_a_line_for_each_model(tab):
    def lines(section):
        return tab.locator(f"{section} .js-plotly-plot").evaluate_all(
            "plots => plots.map(plot => plot.querySelectorAll('.scatterlayer .trace').length)"
        )

    assert lines("#by-k") == [3, 3, 3]
    assert lines("#segments") == [3, 3, 3]
    assert lines("#lists") == [4], "the models, and what was watched in fact"
    assert lines("#curves") == [1, 1]


def test_models_stand_with_their_intervals_the_best_first(tab, reports):
    found = tab.locator("#models tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.innerText.trim()))"
    )
    ndcg = {name: report.metrics["ndcg_at_10"] for name, report in reports.items()}
    assert [row[0] for row in found] == sorted(ndcg, key=ndcg.get, reverse=True)
    ranks = {name: report.to_frame() for name, report in reports.items()}
    differences = significance_table("item-knn", ranks)
    for name, _, told, _, difference, p in found:
        expected = confidence_intervals(ranks[name], [10]).loc["ndcg_at_10"]
        mean, low, high = (f"{value:.4f}" for value in expected)
        assert told.split() == [mean, low, "to", high]
        if name == "item-knn":
            assert difference == p == ""
        else:
            assert difference.split()[0] == f"{differences['difference'][name]:+.4f}"
            assert p == f"{differences['p_holm'][name]:.2g}"


def test_the_curves_are_those_of_the_metrics(tab, reports):
    data = tab.locator("#by-k .js-plotly-plot").evaluate_all(
        "plots => plots.map(plot => plot.data.map(line => [line.name, ...line.y]))"
    )
    for metric, lines in zip(("hit_rate", "ndcg", "mrr"), data, strict=True):
        for name, *values in lines:
            for k in (5, 10, 20):
                assert values[k - 1] == pytest.approx(reports[name].metrics[f"{metric}_at_{k}"])


def test_what_is_recommended_is_told_by_its_popularity(tab, reports, sample_split):
    lines = tab.locator("#lists .js-plotly-plot").evaluate(
        "plot => Object.fromEntries(plot.data.map(line => [line.name, line.y]))"
    )
    assert all(sum(shares) == pytest.approx(1) for shares in lines.values())
    watches = np.bincount(
        sample_split.train.item_index, minlength=sample_split.interactions.n_items
    )
    most = np.argsort(-watches, kind="stable")
    before = np.cumsum(watches[most]) - watches[most]
    first = most[10 * before < watches.sum()]
    expected = np.isin(reports["popularity"].recommended, first).mean()
    assert lines["popularity"][0] == pytest.approx(expected)
    assert tab.locator("#lists tbody tr").count() == 3


def test_five_users_are_shown_by_title(tab, reports, sample_split):
    cards = tab.locator("#examples .card")
    assert cards.count() == 5
    titles = sample_split.interactions.catalogue["title"]
    users = reports["item-knn"].users
    for card in cards.all():
        user = card.locator("h3").inner_text().removeprefix("User ")
        at = users.astype(str).tolist().index(user)
        listed = card.locator("ol li").all_inner_texts()
        assert listed == titles.iloc[reports["item-knn"].recommended[at]].tolist()
        history = sample_split.histories("test")[at]
        assert card.locator("ul li").all_inner_texts() == titles.iloc[history[-8:]].tolist()
        wanted = titles.iloc[sample_split.targets("test")[at]]
        assert card.locator("div.found").inner_text() == wanted
        rank = reports["item-knn"].ranks[at]
        assert card.locator("ol li.found").all_inner_texts() == [wanted] * int(rank <= 10)
        assert f"item-knn\xa0{rank}" in card.inner_text()


def test_titles_are_text_and_no_markup():
    evil = "<script>alert(1)</script> & Sons"
    log = pd.DataFrame({"user_id": [1] * 3 + [2] * 3, "item_id": [1, 2, 3, 2, 3, 1]})
    split = leave_last_out(read_ratings(log.assign(title=evil)))
    log = split.interactions
    named = dataclasses.replace(log, catalogue=log.catalogue.assign(title=evil))
    split = dataclasses.replace(split, interactions=named)
    text = report_page({"popularity": evaluate(fit_popularity(split.train), split)}, split)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Sons" in text


def test_without_curves_there_is_no_such_section(reports, sample_split):
    text = report_page(reports, sample_split)
    assert "Learning curves" not in text
    assert "The lists are those of markov" in text, "the first is the one compared with"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda reports: {}, "there are no reports"),
        (
            lambda reports: {"markov": reports["markov"]},
            "there is no report of 'item-knn': there are markov",
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
def test_what_cannot_be_laid_side_by_side_is_refused(reports, sample_split, change, message):
    with pytest.raises(ValueError, match=message):
        report_page(change(reports), sample_split, reference="item-knn")
