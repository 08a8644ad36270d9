"""What a run says of itself: tags and description."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from recsys.baselines.popularity import fit_popularity
from recsys.config import Runtime
from recsys.data import leave_last_n
from recsys.evaluation import evaluate
from recsys.tracking import notes, start_run

ROOT = Path(__file__).parents[2]


def tags_of(run):
    return run.client.get_run(run.run_id).data.tags


def test_a_run_tells_what_it_was_made_with(store, sample):
    with start_run("a", "e") as run, run.child("stage") as stage:
        run.log_config(runtime=Runtime(device="cpu", precision="32-true"))
        run.log_dataset(sample, "sample", "data/sample")
    tags = tags_of(run)
    assert tags["version.torch"] == torch.__version__
    assert tags["version.python"] == platform.python_version()
    assert (tags["device"], tags["precision"]) == ("cpu", "32-true")
    assert tags["data_digest"] == sample.digest
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False)
    if commit.returncode == 0:
        assert tags["mlflow.source.git.commit"] == commit.stdout.strip()
        assert tags_of(stage)["mlflow.source.git.commit"] == commit.stdout.strip()


def test_results_that_were_measured_alike_share_a_fingerprint(store, sample, sample_split):
    def judged(name, split):
        model = fit_popularity(split.train)
        with start_run(name, "e") as run:
            run.log_reports({"validation": evaluate(model, split, "validation")})
        return tags_of(run)

    one, other = judged("a", sample_split), judged("b", sample_split)
    assert one["protocol"] == "leave-last-out"
    assert one["protocol_fingerprint"] == other["protocol_fingerprint"]
    two_each = judged("c", leave_last_n(sample, 2))
    assert two_each["protocol_fingerprint"] != one["protocol_fingerprint"]


def test_the_latest_note_stands_on_top(store):
    with start_run("a", "e") as run:
        run.add_note("first")
        run.add_note("second")
    assert tags_of(run)["mlflow.note.content"] == "second\n\nfirst"


def test_the_description_has_the_table_with_the_model_in_bold():
    table = pd.DataFrame(
        {"HitRate@10": [0.3, 0.25], "NDCG@5": [0.1, 0.1], "NDCG@10": [0.2, 0.15]},
        index=["ease", "lstm"],
    )
    assert notes.of_results(table, "lstm").splitlines() == [
        "**Result**: lstm, number 2 of 2 by NDCG@10 on the test targets; ease has 0.2000.",
        "",
        "| model | HitRate@10 | NDCG@10 |",
        "| --- | --- | --- |",
        "| ease | 0.3000 | 0.2000 |",
        "| **lstm** | **0.2500** | **0.1500** |",
    ]
    assert "ease, the best of 2 by NDCG@10" in notes.of_results(table, "ease")
    assert notes.of_results(table.loc[["lstm"]], "lstm").splitlines()[0].endswith("targets.")


def test_the_description_tells_what_went_in(sample_split):
    log = sample_split.interactions
    told = notes.of_data(sample_split, "sample")
    assert f"sample, {log.n_users} users, {log.n_items} items, {len(log):,} watches" in told
    assert f"{log.n_users} validation and {log.n_users} test targets" in told


RECORD = """
from recsys.config import Runtime
from recsys.tracking import start_run
with start_run("a", "e") as run:
    run.log_config(runtime=Runtime())
"""


def test_no_secret_of_the_environment_is_recorded(store):
    secrets = {"MLFLOW_TRACKING_TOKEN": "s3cr3t-1", "AWS_SECRET_ACCESS_KEY": "s3cr3t-2"}
    subprocess.run([sys.executable, "-c", RECORD], env={**os.environ, **secrets}, check=True)
    recorded = [path for path in Path("mlflow").rglob("*") if path.is_file()]
    assert recorded
    assert not [path for path in recorded if b"s3cr3t" in path.read_bytes()]


def test_the_load_of_the_machine_is_recorded_where_asked_for(store, monkeypatch):
    with start_run("without", "e") as run:
        pass
    assert not run.client.get_run(run.run_id).data.metrics
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with start_run("with", "e") as run:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            metrics = run.client.get_run(run.run_id).data.metrics
            if "system/cpu_utilization_percentage" in metrics:
                break
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in metrics
    assert "system/system_memory_usage_megabytes" in metrics
