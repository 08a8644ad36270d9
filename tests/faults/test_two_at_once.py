"""Runs, promotions, clean-ups and servers that use one folder at the same time."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.loading import load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import find_champion, log_bundle, promote, register, start_run


@pytest.fixture(scope="module")
def project(new_project):
    return new_project()


@pytest.fixture(scope="module")
def two_trainings(project):
    """The state after two trainings that started at the same time."""
    processes = [project.start("train") for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], project.log()
    return project.state()


@pytest.mark.chaos
def test_two_trainings_wait_for_each_other(project, two_trainings):
    state, log = two_trainings, project.log()
    assert log.count("Another process trains or removes results") == 1
    assert state["files"]["1"] == state["files"]["2"], "both give the same bundle"
    assert state["champion"] == 1
    assert state["running"] == 0
    assert state["litter"] == []


@pytest.mark.chaos
def test_a_training_a_refresh_a_clean_up_and_a_server_at_once(project, two_trainings, monkeypatch):
    """The clean-up removes the run of version 2, which has no alias, and nothing that is used."""
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = [sys.executable, "-m", "recsys.cli.main", "gc", "--yes", "--days", "0", "--keep", "0"]
    processes = [project.start("refresh"), project.start("train")]
    clean_up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    n_answers = 0
    while any(process.is_alive() for process in processes):
        assert len(load_recommender().next_items([1])) == 10
        n_answers += 1
        processes[0].join(0.1)
    output, _ = clean_up.communicate()
    assert n_answers > 5
    assert [process.exitcode for process in processes] == [0, 0], project.log()
    assert clean_up.returncode == 0, output
    state = project.state()
    assert state["running"] == 0
    assert state["litter"] == []
    assert len(state["answer"]) == 10


def test_two_promotions_at_once(local_store, tmp_path, bundle):
    """Neither version is lost, whether or not the registered model existed."""
    folder = save_bundle(bundle, tmp_path / "bundle")
    start = threading.Barrier(2)

    def release(name):
        with start_run(name, "e") as run:
            log_bundle(run, folder)
            start.wait()
            version = register(run, "recsys", name)
            promote(run, "recsys", version)
            return version

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(release, ["first", "second"])) == ["1", "2"]
    assert find_champion("recsys").version in ("1", "2")
    for version in (1, 2):
        assert len(load_recommender(f"models:/recsys/{version}").next_items([])) == 10
