"""Chunks of work have the same results on a cluster, even if a worker is lost."""

import gc
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys import cluster
from recsys.baselines import fit_als, fit_markov_chain
from recsys.cluster import open_workers, require_shared
from recsys.config import Runtime, available_threads
from recsys.cooccurrence import Window, count_cooccurrence, planner
from recsys.errors import ConfigError, DataError, NetworkError
from recsys.evaluation import evaluate, ranking, report, tune_baseline
from recsys.recommender import Recommender
from recsys.recommender.batch import write_recommendations
from recsys.recommender.bundle import save_bundle

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def workers():
    """Two workers, threads of this process."""
    with (
        distributed.Client(
            processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as client,
        open_workers(client) as workers,
    ):
        yield workers


class Pickled:
    """Counts how often it is pickled."""

    times = 0

    def __reduce__(self):
        Pickled.times += 1
        return Pickled, ()


def test_results_are_in_order_and_shared_objects_are_sent_once(workers):
    shared = Pickled()

    def function(item, other, three):
        return item, type(other), three

    for n in (0, 1, 30):
        found = workers.map(function, range(n), shared, 3)
        assert list(found) == [(item, Pickled, 3) for item in range(n)]
    assert Pickled.times == 1
    assert len(workers._shared) == 1
    del shared, found
    gc.collect()
    assert not workers._shared


def test_a_task_has_the_threads_of_the_client(workers):
    with Runtime(threads=3).limit_threads():
        assert list(workers.map(lambda _: available_threads(), [0])) == [3]


CALLS = []


def fail_twice(item, error):
    CALLS.append(item)
    if len(CALLS) < 3:
        raise error
    return item


@pytest.mark.parametrize("error", [OSError("stale"), NetworkError("away")])
def test_unexpected_errors_are_tried_again(workers, error):
    CALLS.clear()
    assert list(workers.map(fail_twice, ["a"], error)) == ["a"]


def test_refusals_are_raised_at_once(workers):
    CALLS.clear()
    with pytest.raises(DataError, match="no ratings"):
        list(workers.map(fail_twice, ["a"], DataError("no ratings")))
    assert CALLS == ["a"]


@pytest.mark.parametrize("window", [None, Window(size=2)], ids=["sets", "window"])
def test_counts_and_their_files_are_the_same(workers, sample_split, tmp_path, window, monkeypatch):
    monkeypatch.setattr(planner, "BLOCK_ENTRIES", 500)
    options = {"window": window, "runtime": Runtime(threads=1)}
    for name, where in {"one": cluster.THIS_PROCESS, "many": workers}.items():
        count_cooccurrence(
            sample_split.train, 3.5, folder=tmp_path / name, workers=where, **options
        )
    assert len(list((tmp_path / "one").glob("rows-*"))) > 1
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_reports_are_the_same(workers, sample_split, bundle, monkeypatch):
    monkeypatch.setattr(report, "CHUNK_SIZE", 20)
    monkeypatch.setattr(ranking, "SCORE_BATCH", 10)
    monkeypatch.setattr(ranking, "VECTOR_BATCH", 10)
    train = sample_split.train
    for model in (fit_markov_chain(train), fit_als(train, runtime=Runtime(threads=1))):
        expected = evaluate(model, sample_split)
        assert len(expected.ranks) > 40
        found = evaluate(model, sample_split, workers=workers)
        assert np.array_equal(found.ranks, expected.ranks)
        assert np.array_equal(found.recommended, expected.recommended)
        for name in ("metrics", "list_quality", "set_metrics", "fingerprint"):
            assert getattr(found, name) == getattr(expected, name)


def test_baselines_are_tuned_alike(workers, sample_split):
    name = "recent-popularity"
    expected = tune_baseline(name, sample_split, max_users=30)
    found = tune_baseline(name, sample_split, max_users=30, workers=workers)
    assert found.config == expected.config
    assert found.trials == expected.trials
    assert len(found.trials) == 4
    history = [sample_split.train.history(0)]
    assert np.array_equal(found.model.score(history), expected.model.score(history))


def test_example_of_the_page_runs(workers, sample_split, tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "how-to" / "several-machines.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    variables = {"split": sample_split, "client": workers.client}
    exec(code.replace('"tcp://10.0.0.1:8786"', "client"), variables)
    expected = evaluate(fit_markov_chain(sample_split.train), sample_split)
    assert variables["report"].metrics == expected.metrics


def test_a_cluster_that_is_of_no_use_is_refused(monkeypatch, workers, tmp_path):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"),
        open_workers("tcp://127.0.0.1:1"),
    ):
        pass
    with pytest.raises(ConfigError, match=r"a worker of the cluster does not see .*gone"):
        list(workers.map(require_shared, [tmp_path / "gone"]))
    versions = iter([{"numpy": "2"}, {"numpy": "1"}, {"numpy": "1"}])
    monkeypatch.setattr(cluster, "installed_versions", lambda *_: next(versions))
    with (
        pytest.raises(ConfigError, match=r"inproc.* has numpy 1, and this process 2: install"),
        open_workers(workers.client),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[dask\]'"), open_workers("2"):
        pass


@pytest.mark.chaos
def test_a_killed_worker_costs_only_time(bundle, sample, tmp_path):
    save_bundle(bundle, tmp_path / "bundle")
    rec = Recommender.load(tmp_path / "bundle")
    options = {"k": 3, "chunk_size": 5}
    write_recommendations(rec, sample, tmp_path / "one", **options)
    killed = []
    with open_workers("2") as workers:

        def kill(done, total):
            if done == 1:
                processes = workers.client.run(os.getpid)
                # The one that holds the histories.
                held = workers.client.has_what()
                address = max(held, key=lambda worker: len(held[worker]))
                os.kill(processes[address], signal.SIGKILL)
                killed.append(address)

        write_recommendations(
            rec, sample, tmp_path / "many", **options, workers=workers, on_file=kill
        )
        assert killed[0] not in workers.client.scheduler_info()["workers"]
        workers.client.cluster.scheduler.allowed_failures = 0
        with pytest.raises(ConfigError, match=r"was lost with each worker that ran it.*tcp://"):
            list(workers.map(os._exit, [1]))
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
