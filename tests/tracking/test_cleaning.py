"""`recsys gc`: what it lists, what it removes, and what it never touches."""

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
from recsys.tracking.cleaning import survey
from recsys.tracking.removal import remove

DAY = 24 * 3600


def gc(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["recsys", "gc", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def age(days):
    """Let everything that is recorded have happened so many days earlier."""
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database, database:
        earlier = days * DAY * 1000
        database.execute(
            "UPDATE runs SET start_time = start_time - ?, end_time = end_time - ?",
            (earlier, earlier),
        )


def run_with_model(folder, name):
    with start_run(name, "e") as run, run.child("lstm") as stage:
        stage.log_page("<html>", "page")
        log_bundle(run, folder)
    return run


@pytest.fixture
def history(store, bundle):
    """Five runs of long ago, one of them champion, one challenger, and a new one."""
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
    """A version that a person gave a name of their own."""
    log_bundle(run, folder)
    run.client.set_registered_model_alias("recsys", "europe", register(run, "recsys", "trial"))
    run.client.set_registered_model_alias("recsys", "challenger", "3")


def names(client):
    experiments = [client.get_experiment_by_name("e").experiment_id]
    found = client.search_runs(experiments, run_view_type=ViewType.ALL)
    return sorted(run.info.run_name for run in found)


STAYS = sorted(
    ["champion", "lstm", "challenger", "lstm", "sweep", "trial 1", "still running", "new"]
)


def test_without_yes_nothing_is_removed(history, monkeypatch, capsys):
    client = history["old"].client
    before = names(client)
    told = gc(monkeypatch, capsys, "--newest", "0")
    assert "old" in told
    assert "deleted in the UI" in told
    assert "champion" not in told.replace("needed by nothing", "")
    assert "Nothing is removed without --yes" in told
    assert names(client) == before


def test_old_runs_go_with_all_that_hangs_on_them(history, monkeypatch, capsys):
    client = history["old"].client
    old = client.get_run(history["old"].run_id)
    (output,) = old.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    places = [
        Path(uri.removeprefix("file://"))
        for uri in (old.info.artifact_uri, model.artifact_location)
    ]
    assert places[1].is_dir()
    assert "removed: " in gc(monkeypatch, capsys, "--newest", "0", "--yes")
    assert names(client) == STAYS
    assert not any(place.exists() for place in places)
    versions = client.search_model_versions("name = 'recsys'")
    assert sorted(str(version.version) for version in versions) == ["2", "3", "4"]
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database:
        (rows,) = database.execute(
            "SELECT count(*) FROM logged_models WHERE model_id = ?", (output.model_id,)
        ).fetchone()
    assert rows == 0
    for alias in ("champion", "challenger", "europe"):
        assert len(load_recommender(f"models:/recsys@{alias}").next_items([])) == 10
    assert "nothing to remove" in gc(monkeypatch, capsys, "--newest", "0", "--yes")


def test_the_newest_and_the_young_stay(history, monkeypatch, capsys):
    assert "nothing to remove" in gc(monkeypatch, capsys, "--days", "60", "--newest", "0")
    told = gc(monkeypatch, capsys, "--newest", "6")
    assert "deleted in the UI" in told
    assert " old " not in told


def test_what_others_record_is_not_touched(store, monkeypatch, capsys):
    with start_run("ours", "e") as run:
        theirs = run.client.create_run(run.experiment, run_name="theirs")
        run.client.set_terminated(theirs.info.run_id)
    age(40)
    gc(monkeypatch, capsys, "--newest", "0", "--yes")
    assert names(run.client) == ["theirs"]


def test_a_version_that_is_given_an_alias_meanwhile_stops_its_removal(history):
    client = history["old"].client
    found = survey(client, datetime.now(UTC) - timedelta(days=30), 0)
    (old,) = [tree for tree in found.old if tree.root.info.run_name == "old"]
    promote(history["old"], "recsys", "1")
    with pytest.raises(TrackingError, match="old is in use now"):
        remove(client, old)
    assert "old" in names(client)


@pytest.mark.parametrize("kind", ["counts", "embeddings", "reports"])
def test_kept_results_go_unless_a_run_that_stays_names_them(history, monkeypatch, capsys, kind):
    history["champion"].log_params({kind: "needed"})
    folder = Path("data/cache") / kind
    for name in ("needed", "unneeded", "fresh"):
        file = folder / name / "file"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"0" * 1000)
        if name != "fresh":
            then = time.time() - 40 * DAY
            for path in (file, file.parent):
                os.utime(path, (then, then))
    told = gc(monkeypatch, capsys, "--yes")
    assert "unneeded" in told
    assert sorted(path.name for path in folder.iterdir()) == ["fresh", "needed"]


def test_a_store_that_is_not_there_is_told(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recsys", "gc"])
    with pytest.raises(SystemExit):
        main()
    assert "no runs are recorded" in capsys.readouterr().err
