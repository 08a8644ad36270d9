"""The MLflow UI in a browser, with five small training runs to compare."""

import json
import shutil
from urllib.parse import quote

import pytest

from recsys.callbacks import History, compose
from recsys.config import Runtime
from recsys.evaluation import comparison_table, evaluate
from recsys.reporting import loss_curve
from recsys.sessions import SessionConfig, fit_session_model
from recsys.tracking import describe_data, run_name, start_run

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser found: {', '.join(BROWSERS)}")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=BROWSER_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def five_runs(browser, server, sample_split):
    """Five training runs with different learning rates, recorded as `flows.train` does."""
    runtime = Runtime(device="cpu", precision="32-true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        runs = []
        for rate in RATES:
            config = SessionConfig(embedding_dim=8, hidden_dim=8, epochs=3, learning_rate=rate)
            with start_run(run_name("train", {"session_model": config}), "to compare") as run:
                history = History()
                run.log_config(session_model=config, runtime=runtime)
                model = fit_session_model(
                    sample_split.train,
                    config.model_copy(update={"item_embedding_init": "random"}),
                    runtime=runtime,
                    on_epoch=compose(history, run.on_epoch),
                    validate=lambda model: evaluate(model, sample_split, "validation").metrics,
                )
                losses = history.series("train_loss")
                run.log_figure(loss_curve(losses, "LSTM", "cross-entropy"), "loss")
                run.add_note(describe_data(sample_split, "sample"))
                report = evaluate(model, sample_split, "test")
                run.log_reports({"test": report})
                run.log_comparison(comparison_table({"lstm": report}), "lstm")
            runs.append(run)
        runs[0].set_tags({"champion": "champion of recsys"})
    return runs


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1900, "height": 1300})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def test_compare_page_shows_differing_parameters(server, five_runs, page):
    ids = quote(json.dumps([run.run_id for run in five_runs]))
    experiments = quote(json.dumps([five_runs[0].experiment_id]))
    page.goto(f"{server}/#/compare-runs?runs={ids}&experiments={experiments}")
    page.get_by_text("Comparing 5 Runs from 1 Experiment").wait_for()
    page.get_by_text("session_model.learning_rate").last.wait_for()
    page.get_by_role("switch").first.click()  # show diff only
    page.get_by_text("session_model.hidden_dim").wait_for(state="detached")
    text = page.locator("body").inner_text()
    params = text.partition("\nParameters\n")[2].partition("\nMetrics\n")[0]
    for rate in RATES:
        assert str(rate) in params
    # The figures of all runs.
    page.get_by_text("loss.png").first.dispatch_event("click")
    page.wait_for_function(
        "new Set([...document.images].filter(image => image.naturalWidth > 300)"
        ".map(image => image.src)).size == 5"
    )


def test_chart_view_overlays_the_learning_curves(server, five_runs, page):
    experiment = five_runs[0].experiment_id
    page.goto(f"{server}/#/experiments/{experiment}/runs?compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("epoch/train_loss")
    page.get_by_text("epoch/train_loss").first.wait_for()
    page.wait_for_function(
        "document.querySelectorAll('.js-plotly-plot').length == 1 && "
        "document.querySelectorAll('.scatterlayer .trace').length >= 5"
    )
    lines = page.evaluate(
        "document.querySelector('.js-plotly-plot').data.map(trace => [trace.name, trace.x.length])"
    )
    names = {run.client.get_run(run.run_id).info.run_name for run in five_runs}
    assert {name for name, _ in lines} == names
    assert {points for _, points in lines} == {3}, "one point per epoch"


def test_saved_view_shows_the_metrics(server, five_runs, page):
    page.goto(f"{server}/#/experiments/{five_runs[0].experiment_id}/runs")
    with page.expect_popup() as opened:  # links in a description open a new tab
        page.get_by_role("link", name="Results").click()
    view = opened.value
    view.set_viewport_size({"width": 1900, "height": 900})
    view.get_by_role("columnheader", name="test_ndcg_at_10").first.wait_for(timeout=60_000)
    run = five_runs[0].client.get_run(five_runs[0].run_id)
    figure = str(run.data.metrics["test_ndcg_at_10"])[:8]
    view.get_by_text(figure).first.wait_for(timeout=60_000)
    view.get_by_text("champion of recsys").first.wait_for(timeout=60_000)
    view.close()


def test_run_page_starts_with_the_result(server, five_runs, page):
    run = five_runs[0]
    page.goto(f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}")
    page.get_by_text("Result", exact=True).wait_for()
    page.get_by_text("by NDCG@10 on the test targets").wait_for()
    page.get_by_text("learning_rate=0.001 ·").first.wait_for()
