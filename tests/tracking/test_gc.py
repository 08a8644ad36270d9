"""`recsys gc`: what it lists, what it removes, and what it keeps."""

import itertools
import os
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities import ViewType

from recsys.cli.main import main
from recsys.errors import TrackingError
from recsys.loading import load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import log_bundle, promote, register, start_run
from recsys.tracking.gc import remove_runs, select_runs

DAY = 24 * 3600


def gc(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["recsys", "gc", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    return capsys.readouterr().out


def age(days):
    """Move all recorded runs back in time."""
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database, database:
        earlier = days * DAY * 1000
        database.execute(
            "UPDATE runs SET start_time = start_time - ?, end_time = end_time - ?",
            (earlier, earlier),
        )


def run_with_model(folder, name):
    with start_run(name, "e") as run, run.child("lstm") as child:
        child.log_html("<html>", "page")
        log_bundle(run, folder)
    return run


@pytest.fixture
def history(store, bundle):
    """Old runs, among them the champion and a challenger, one still running, and a new one."""
    folder = save_bundle(bundle, store / "bundle")
    runs = {name: run_with_model(folder, name) for name in ("old", "champion", "challenger")}
    for name, run in runs.items():
        version = register(run, "recsys", name)
        if name == "champion":
            promote(run, "recsys", version)
    with start_run("sweep", "e") as sweep, sweep.child("trial 1") as trial:
        register_named(trial, folder)
    runs["sweep"] = sweep
    with start_run("deleted in the UI", "e") as deleted:
        pass
    deleted.client.delete_run(deleted.run_id)
    with start_run("still running", "e") as runs["still running"]:
        age(40)
        with start_run("new", "e") as runs["new"]:
            pass
        yield runs


def register_named(run, folder):
    """Register a version with a custom alias."""
    log_bundle(run, folder)
    run.client.set_registered_model_alias("recsys", "europe", register(run, "recsys", "trial"))
    run.client.set_registered_model_alias("recsys", "challenger", "3")


def names(client):
    experiments = [client.get_experiment_by_name("e").experiment_id]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL)
    return sorted(run.info.run_name for run in runs)


KEPT = sorted(
    ["champion", "lstm", "challenger", "lstm", "sweep", "trial 1", "still running", "new"]
)


def test_nothing_is_removed_without_yes(history, monkeypatch, capsys):
    client = history["old"].client
    before = names(client)
    output = gc(monkeypatch, capsys, "--keep", "0")
    assert "old" in output
    assert "deleted in the UI" in output
    assert "champion" not in output
    assert "Nothing is removed without --yes" in output
    assert names(client) == before


def test_old_runs_are_removed_with_their_models_versions_and_files(history, monkeypatch, capsys):
    client = history["old"].client
    old = client.get_run(history["old"].run_id)
    (model_output,) = old.outputs.model_outputs
    model = client.get_logged_model(model_output.model_id)
    folders = [
        Path(uri.removeprefix("file://"))
        for uri in (old.info.artifact_uri, model.artifact_location)
    ]
    assert folders[1].is_dir()
    assert "removed: " in gc(monkeypatch, capsys, "--keep", "0", "--yes")
    assert names(client) == KEPT
    assert not any(folder.exists() for folder in folders)
    versions = client.search_model_versions("name = 'recsys'")
    assert sorted(str(version.version) for version in versions) == ["2", "3", "4"]
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database:
        (rows,) = database.execute(
            "SELECT count(*) FROM logged_models WHERE model_id = ?", (model_output.model_id,)
        ).fetchone()
    assert rows == 0
    for alias in ("champion", "challenger", "europe"):
        assert len(load_recommender(f"models:/recsys@{alias}").next_items([])) == 10
    assert "nothing to remove" in gc(monkeypatch, capsys, "--keep", "0", "--yes")


def test_latest_and_recent_runs_are_kept(history, monkeypatch, capsys):
    assert "nothing to remove" in gc(monkeypatch, capsys, "--days", "60", "--keep", "0")
    output = gc(monkeypatch, capsys, "--keep", "6")
    assert "deleted in the UI" in output
    assert " old " not in output


def test_runs_and_deletions_of_other_programs_are_left_alone(store, monkeypatch, capsys):
    with start_run("ours", "e") as run:
        client = run.client
        foreign = client.create_run(run.experiment_id, run_name="foreign")
        client.set_terminated(foreign.info.run_id)
    age(40)
    experiment = client.create_experiment("deleted by a user")
    deleted_run = client.create_run(experiment)
    deleted_model = client.create_logged_model(experiment)
    client.delete_logged_model(deleted_model.model_id)
    client.delete_experiment(experiment)
    assert "removed: " in gc(monkeypatch, capsys, "--keep", "0", "--yes")
    assert names(client) == ["foreign"]
    deleted = client.search_experiments(view_type=ViewType.DELETED_ONLY)
    assert [found.name for found in deleted] == ["deleted by a user"]
    client.restore_experiment(experiment)
    assert client.get_run(deleted_run.info.run_id).info.lifecycle_stage == "active"
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database:
        query = "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'deleted'"
        assert database.execute(query).fetchall() == [(deleted_model.model_id,)]


def test_removal_fails_if_a_version_was_given_an_alias_since(history):
    client = history["old"].client
    to_remove, _ = select_runs(client, datetime.now(UTC) - timedelta(days=30), 0)
    (old,) = [tree for tree in to_remove if tree.root.info.run_name == "old"]
    promote(history["old"], "recsys", "1")
    with pytest.raises(TrackingError, match="run 'old' is in use"):
        remove_runs(client, [old])
    assert "old" in names(client)


def test_cached_results_are_removed_unless_a_kept_run_uses_them(store, monkeypatch, capsys):
    kinds = ("counts", "embeddings", "reports")
    needed, unneeded, fresh = (digit * 64 for digit in "abc")
    with start_run("kept", "e") as run:
        run.log_params(dict.fromkeys(kinds, needed))
    modified = time.time() - 40 * DAY
    for kind, name in itertools.product(kinds, (needed, unneeded, fresh, "notes")):
        file = Path("data/cache") / kind / name / "file"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"0" * 1000)
        if name != fresh:
            for path in (file, file.parent):
                os.utime(path, (modified, modified))
    assert "reports" in gc(monkeypatch, capsys, "--yes")
    for kind in kinds:
        folders = (Path("data/cache") / kind).iterdir()
        assert sorted(path.name for path in folders) == [needed, fresh, "notes"]


def test_missing_store_is_an_error(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recsys", "gc"])
    with pytest.raises(SystemExit):
        main()
    assert "no runs are recorded" in capsys.readouterr().err
