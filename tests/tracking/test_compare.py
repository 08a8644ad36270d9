"""`recsys compare` and `recsys report`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.baselines import fit_markov_chain, fit_popularity
from recsys.cli.main import app
from recsys.config import Runtime
from recsys.data import leave_last_n
from recsys.evaluation import evaluate, significance_table
from recsys.tracking import start_run


def recsys(*arguments, code=0):
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if code:
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def reports(sample_split):
    models = {"popular": fit_popularity, "markov": fit_markov_chain}
    return {name: evaluate(fit(sample_split.train), sample_split) for name, fit in models.items()}


@pytest.fixture
def runs(store, reports):
    """Two comparable runs by name; the first has a report page and a child run."""
    ids = {}
    for seed, (name, report) in enumerate(reports.items()):
        with start_run(name, "films") as run:
            run.log_config(runtime=Runtime(device="cpu", seed=seed))
            run.log_reports({"test": report})
            if not seed:
                run.log_html("<html>", "report")
                with run.child("markov"):  # not taken for the run of this name
                    pass
        ids[name] = run.run_id
    return ids


def test_runs_are_compared_with_the_first(runs, reports):
    popular, markov = (run_id[:8] for run_id in runs.values())
    found = json.loads(recsys("compare", popular, "markov", "--json"))
    assert [row["name"] for row in found["runs"]] == ["popular", "markov"]
    assert found["parameters"] == [{"parameter": "runtime.seed", popular: "0", markov: "1"}]
    metrics = {row["metric"]: row for row in found["metrics"]}
    for label, report in zip((popular, markov), reports.values(), strict=True):
        assert metrics["ndcg_at_10"][label] == round(report.metrics["ndcg_at_10"], 6)
    ranks = {name: report.to_frame() for name, report in reports.items()}
    expected = significance_table("popular", ranks).loc["markov"]
    (row,) = [row for row in found["differences"] if row["metric"] == "ndcg_at_10"]
    assert row["run"] == markov
    for name in ("difference", "low", "high"):
        assert row[name] == pytest.approx(expected[name])
    assert found["same_protocol"]
    assert found["notes"] == []
    page = recsys("compare", popular, markov)
    for part in ("Same protocol.", "runtime.seed", f"Difference to {popular}"):
        assert part in page


def test_runs_of_other_protocols_have_no_differences(runs, sample):
    other = leave_last_n(sample, 2)
    with start_run("other", "films") as run:
        run.log_reports({"test": evaluate(fit_popularity(other.train), other)})
    found = json.loads(recsys("compare", "popular", "other", "markov", "--json"))
    assert {row["run"] for row in found["differences"]} == {runs["markov"][:8]}
    assert not found["same_protocol"]
    (note,) = found["notes"]
    assert f"{runs['popular'][:8]} and {run.run_id[:8]} are not comparable" in note
    page = recsys("compare", "popular", "markov", "--subset", "validation")
    assert "No metrics on validation targets." in page
    assert "has no ranks of validation targets" in page


def test_the_report_page_of_a_run(runs, store):
    path = recsys("report", runs["popular"][:6]).strip()
    assert Path(path).read_text() == "<html>"
    message = recsys("report", "markov", code=1)
    assert "(markov) has no report.html" in message


def test_a_run_that_is_unknown_or_ambiguous(runs, store):
    with start_run("popular", "films"):
        pass
    assert "no run has the id or name 'pop'" in recsys("report", "pop", code=1)
    assert "'popular' is 2 runs: use an id, " in recsys("report", "popular", code=1)
    assert "one run was given" in recsys("compare", "markov", code=1)
    same = recsys("compare", "markov", runs["markov"], code=1)
    assert "are not different runs" in same
    assert "models:/none@champion" in recsys("report", "models:/none@champion", code=1)
