"""Tags, descriptions and system metrics of runs."""

import json
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from prefect.utilities.collections import visit_collection

from recsys.baselines import fit_popularity
from recsys.config import Runtime
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import leave_last_n
from recsys.embeddings import EmbeddingConfig
from recsys.errors import TrackingError
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig
from recsys.storage import with_digest
from recsys.tracking import start_run
from recsys.tracking.descriptions import (
    describe_data,
    describe_results,
    main_settings,
    run_name,
)
from recsys.tracking.journal import replay
from recsys.tracking.runs import PROCESS_TAG, Run
from recsys.tracking.store import connect

ROOT = Path(__file__).parents[2]


def tags_of(run):
    return run.client.get_run(run.run_id).data.tags


def test_tags_record_versions_device_data_and_commit(store, sample):
    with start_run("a", "e") as run, run.child("child") as child:
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
        assert tags_of(child)["mlflow.source.git.commit"] == commit.stdout.strip()


def test_equal_protocols_share_a_fingerprint(store, sample, sample_split):
    def evaluated(name, split):
        model = fit_popularity(split.train)
        with start_run(name, "e") as run:
            run.log_reports({"validation": evaluate(model, split, "validation")})
        return tags_of(run)

    first, second = evaluated("a", sample_split), evaluated("b", sample_split)
    assert first["protocol"] == "leave-last-out"
    assert first["protocol_fingerprint"] == second["protocol_fingerprint"]
    two_each = evaluated("c", leave_last_n(sample, 2))
    assert two_each["protocol_fingerprint"] != first["protocol_fingerprint"]


def test_names_begin_with_what_differs_and_state_the_stage_only_where_it_is_needed():
    configs = {
        "embeddings": EmbeddingConfig(dim=32, epochs=7),
        "session_model": SessionConfig(epochs=2),
        "runtime": Runtime(),
    }
    assert run_name("train", configs).startswith("epochs=2 dim=32 embeddings.epochs=7 · train ")
    defaults = {name: type(config)() for name, config in configs.items()}
    assert run_name("train", defaults).startswith("train ")


def test_main_settings_are_few_and_have_all_that_are_not_defaults():
    config = SessionConfig(ema_dropout=0.4)
    found = main_settings({"session_model": config, "runtime": Runtime()})
    assert found["session_model.ema_dropout"] == 0.4
    assert "session_model.epochs" not in found, "it depends on the data"
    assert found["runtime.seed"] == 0
    assert len(found) == 5
    resolved = main_settings({"session_model": config.resolve(1000)})
    assert (resolved["session_model.epochs"], resolved["session_model.embedding_dim"]) == (12, 64)
    weightings = main_settings({"cooccurrence": CooccurrenceConfig(min_rating=None)})
    assert weightings == {"cooccurrence.min_rating": None}, "not the default"


def test_metrics_have_six_decimals(store):
    with start_run("a", "e") as run:
        run.log_metrics({"third": 1 / 3, "count": 12_345_678})
    assert run.client.get_run(run.run_id).data.metrics == {"third": 0.333333, "count": 12_345_678}


def test_latest_note_is_first(store):
    with start_run("a", "e") as run:
        run.add_note("first")
        run.add_note("second")
    assert tags_of(run)["mlflow.note.content"] == "second\n\nfirst"


def test_result_description_has_a_table_with_the_model_in_bold():
    table = pd.DataFrame(
        {"HitRate@10": [0.3, 0.25], "NDCG@5": [0.1, 0.1], "NDCG@10": [0.2, 0.15]},
        index=["ease", "lstm"],
    )
    assert describe_results(table, "lstm").splitlines() == [
        "**Result**: lstm, number 2 of 2 by NDCG@10 on the test targets; ease has 0.2000.",
        "",
        "| model | HitRate@10 | NDCG@10 |",
        "| --- | --- | --- |",
        "| ease | 0.3000 | 0.2000 |",
        "| **lstm** | **0.2500** | **0.1500** |",
    ]
    assert "ease, the best of 2 by NDCG@10" in describe_results(table, "ease")
    assert describe_results(table.loc[["lstm"]], "lstm").splitlines()[0].endswith("targets.")


def test_data_description_has_users_items_and_targets(sample_split):
    data = sample_split.interactions
    text = describe_data(sample_split, "sample")
    assert f"sample, {data.n_users} users, {data.n_items} items, {len(data):,} interactions" in text
    assert f"{data.n_users} validation and {data.n_users} test targets" in text


def test_secrets_of_the_environment_are_not_recorded(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-2")
    with start_run("a", "e") as run:
        run.log_config(runtime=Runtime())
    recorded = [path for path in Path("mlflow").rglob("*") if path.is_file()]
    assert recorded
    assert not [path for path in recorded if b"s3cr3t" in path.read_bytes()]


def test_system_metrics_are_logged_on_request(store, monkeypatch):
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


def test_runs_of_processes_that_no_longer_exist_are_closed(store):
    """In whatever experiment, and even if the id of the process belongs to a later one.

    The models that they began to store are removed.
    """
    with start_run("alive", "first") as alive:
        create = partial(alive.client.create_run, alive.experiment_id)
        with subprocess.Popen(["true"]) as gone:
            pass
        ids = [create(tags={PROCESS_TAG: f"{platform.node()}:{gone.pid}"}).info.run_id]
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
            began = int(1000 * psutil.Process(later.pid).create_time())
            process, other = (f"{host}:{later.pid}" for host in (platform.node(), "another-host"))
            ids += [
                create(start_time=began - 1000, tags={PROCESS_TAG: process}).info.run_id,
                create(start_time=began + 1000, tags={PROCESS_TAG: process}).info.run_id,
                create(start_time=began - 1000, tags={PROCESS_TAG: other}).info.run_id,
            ]
            begin = partial(alive.client.create_logged_model, alive.experiment_id)
            models = [begin(source_run_id=run_id) for run_id in (ids[0], ids[2])]
            with start_run("next", "second"):
                statuses = [alive.client.get_run(run_id).info.status for run_id in ids]
            later.communicate(b"\n")
        assert statuses == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
        left = alive.client.search_logged_models([alive.experiment_id])
        assert [model.model_id for model in left] == [models[1].model_id]
        assert alive.client.get_run(alive.run_id).info.status == "RUNNING"


CREATE = {"run": "pending-1", "call": "create", "experiment": "e", "name": "a", "tags": {}}
SET_TAG = {"run": "pending-1", "call": "log_batch", "tags": {"a": "b"}}


def journal_of(*entries):
    return "".join(json.dumps(with_digest(entry)) + "\n" for entry in entries)


@pytest.mark.parametrize(("content", "reason"), [
    ("", r"journal.jsonl was cut: it has 0 lines, not at least 1"),
    ('{"run"', r"journal.jsonl, line 1 is damaged"),
    (journal_of(CREATE, SET_TAG)[:-9], r"journal.jsonl, line 2 is damaged"),
    (journal_of(CREATE, SET_TAG).replace('"b"', '"c"'), r"journal.jsonl, line 2 is damaged"),
    (journal_of(SET_TAG), r"journal.jsonl lacks lines before line 1"),
    (journal_of(CREATE) + "7\n", r"journal.jsonl, line 2 is damaged"),
])  # fmt: skip
def test_nothing_is_sent_of_a_damaged_journal(home, content, reason):
    (home / "journal.jsonl").write_text(content)
    with pytest.raises(TrackingError, match=reason):
        replay(home)
    assert not Path("mlflow").exists()


def test_a_write_that_the_store_refuses_is_named(store, tmp_path):
    """Such as one to a run that was deleted for good while it waited."""
    (tmp_path / "journal.jsonl").write_text(journal_of({**SET_TAG, "run": "0" * 32}))
    with pytest.raises(
        TrackingError, match=r"journal.jsonl, line 1: MLflow refuses it: .* not found"
    ):
        replay(tmp_path)


def test_a_run_that_did_not_end_is_marked_as_killed(store, tmp_path, caplog):
    (tmp_path / "journal.jsonl").write_text(journal_of({**CREATE, "time": 1}, SET_TAG))
    ((_, run_id),) = replay(tmp_path).items()
    assert connect().get_run(run_id).info.status == "KILLED"
    assert f"run {run_id} did not end, and is marked as killed" in caplog.text


def test_a_run_is_not_iterated_over_while_threads_add_children(store):
    """Prefect visits the arguments of a task, and would fail if one changes meanwhile."""
    with start_run("train", "e") as run, run.child("data"):
        visited = []
        visit_collection([run], visited.append, return_data=False)
        assert [each for each in visited if isinstance(each, Run | dict)] == [run]
