"""Counts over a Dask cluster are those of one machine, even if a worker is lost on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.cooccurrence import Window, count_cooccurrence, open_blocks
from recsys.cooccurrence.distributed import count_on_cluster
from recsys.cooccurrence.partials import add_blocks
from recsys.cooccurrence.rows import RowBlock, csr_of
from recsys.cooccurrence.shares import partition_of
from recsys.data import read_ratings
from recsys.errors import ConfigError, DataError

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).parents[2]
DECAYED = Window(size=4, direction="forward", decay="linear", half_life_days=0.01)


@pytest.fixture(scope="module")
def client():
    """Two workers, as threads of this process."""
    with distributed.Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


def make_log(name_of, n_rows=30_000):
    """Ratings of 300 users and 500 items, some of them twice, some without a user."""
    rng = np.random.default_rng(3)
    popularity = 1 / np.arange(1, 501)
    log = pd.DataFrame(
        {
            "user_id": [name_of(user) for user in rng.integers(0, 300, n_rows)],
            "item_id": [
                name_of(item) for item in rng.choice(500, n_rows, p=popularity / popularity.sum())
            ],
            "rating": rng.integers(1, 11, n_rows) / 2,
            "timestamp": rng.integers(1_500_000_000, 1_500_001_000, n_rows),
        }
    )
    log["user_id"] = log["user_id"].astype("Int64" if isinstance(name_of(0), int) else "str")
    log.loc[::997, "user_id"] = pd.NA
    return log


@pytest.fixture(scope="module", params=[int, "u{:03d}".format], ids=["numbers", "text"])
def source(request, tmp_path_factory):
    """A folder of two Parquet files of several row groups."""
    folder = tmp_path_factory.mktemp("ratings")
    log = make_log(request.param)
    log[:18_000].to_parquet(folder / "part-0.parquet", row_group_size=6_000)
    log[18_000:].to_parquet(folder / "part-1.parquet", row_group_size=6_000)
    return folder


def quietly(report):
    """Rows are left out on purpose."""


def assert_same_counts(blocks, expected, assert_same):
    assert_same(blocks.load().matrix, expected.matrix)
    assert blocks.item_counts.tolist() == expected.item_counts.tolist()
    assert blocks.items == expected.items
    for name in ("n_users", "min_rating", "window", "is_weighted"):
        assert getattr(blocks, name) == getattr(expected, name)
    for found, sums in zip(blocks.marginals(), expected.marginals(), strict=True):
        assert np.array_equal(found, sums)
    assert blocks.n_entries == expected.matrix.nnz


@pytest.mark.parametrize(
    "window",
    [None, Window(size=2), DECAYED],
    ids=["sets", "window", "decayed"],
)
def test_as_on_one_machine(client, source, tmp_path, window, assert_same):
    expected = count_cooccurrence(read_ratings(source, on_report=quietly), 3.5, window=window)
    done = []
    count_on_cluster(
        source,
        tmp_path / "counts",
        client,
        3.5,
        window=window,
        n_partitions=5,
        memory_limit="2MB",
        on_block=lambda *progress: done.append(progress),
        on_report=quietly,
    )
    blocks = open_blocks(tmp_path / "counts")
    assert_same_counts(blocks, expected, assert_same)
    assert len(blocks.parts) > 1
    assert done == [(n + 1, len(blocks.parts)) for n in range(len(blocks.parts))]
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]


def test_what_was_left_out_is_told_once(client, source, tmp_path):
    expected, reports = [], []
    read_ratings(source, on_report=expected.append)
    count_on_cluster(source, tmp_path / "counts", client, n_partitions=3, on_report=reports.append)
    (report,), (whole,) = reports, expected
    assert (report.n_rows, report.n_used) == (whole.n_rows, whole.n_used)
    assert len(report.quarantined) == len(whole.quarantined) == whole.n_rows - whole.n_used
    assert {f.check: f.n_rows for f in report.findings} == {
        f.check: f.n_rows for f in whole.findings
    }


def test_more_partitions_than_users(client, small_log, tmp_path, assert_same):
    small_log.to_parquet(tmp_path / "ratings.parquet")
    expected = count_cooccurrence(read_ratings(small_log))
    blocks = count_on_cluster(
        tmp_path / "ratings.parquet", tmp_path / "counts", client, n_partitions=20
    )
    assert_same_counts(blocks, expected, assert_same)


def test_ids_without_ratings_or_times(client, small_log, tmp_path, assert_same):
    watches = small_log.rename(columns={"item_id": "film"})[["user_id", "film"]]
    watches.to_parquet(tmp_path / "watches.parquet")
    columns = {"item_id": "film"}
    expected = count_cooccurrence(read_ratings(watches, columns=columns, on_report=quietly))
    blocks = count_on_cluster(
        tmp_path / "watches.parquet",
        tmp_path / "counts",
        client,
        columns=columns,
        on_report=quietly,
    )
    assert_same_counts(blocks, expected, assert_same)
    assert blocks.min_rating is None


@pytest.fixture
def processes(tmp_path):
    """A scheduler and two workers, processes of their own: the address, and pids by name."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    known = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(known), "--no-dashboard"]

    def start(*command):
        with (tmp_path / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command, *common],
                env=environment,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )

    local = ("--host", "127.0.0.1")
    running = [start("distributed.cli.dask_scheduler", "--port", "0", *local)]
    try:
        for name in ("first", "second"):
            alone = ("--no-nanny", "--nthreads", "1", "--name", name, *local)
            running.append(start("distributed.cli.dask_worker", *alone))
        with distributed.Client(scheduler_file=str(known), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield client, dict(zip(("first", "second"), running[1:], strict=True))
    finally:
        for process in running:
            process.kill()
            process.wait()


def has_counters(client):
    """How many of the counters, or of the shares they are made of, each worker holds."""
    return {
        address: sum(str(key).startswith(("counter_of", "collect_share")) for key in keys)
        for address, keys in client.has_what().items()
    }


@pytest.fixture
def time_limit():
    """A count that waits for ever for what is lost fails, too."""

    def give_up(number, frame):
        raise TimeoutError("the count has not ended in two minutes")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("stage", ["reading", "counting"])
def test_a_killed_worker_costs_only_time(
    processes, time_limit, crowd, tmp_path, assert_same, stage
):
    """The worker with most of the users is killed after reading, or after one block of many."""
    client, workers = processes
    log = pd.DataFrame({"user_id": crowd.user_index, "item_id": crowd.item_index})
    log.to_parquet(tmp_path / "watches.parquet", row_group_size=5_000)
    expected = count_cooccurrence(crowd)
    killed, recounted = [], []

    def kill():
        held = has_counters(client)
        address = max(held, key=held.get)
        assert held[address] >= 2
        victim = workers[client.scheduler_info()["workers"][address]["name"]]
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        killed.append(address)

    def on_block(done, total):
        if stage == "counting" and done == 1:
            assert total >= 10
            kill()
        if done == total:
            recounted.append(has_counters(client))

    blocks = count_on_cluster(
        tmp_path / "watches.parquet",
        tmp_path / "counts",
        client.scheduler.address,
        n_partitions=4,
        memory_limit="2MB",
        on_block=on_block,
        on_report=lambda report: kill() if stage == "reading" else None,
    )
    assert_same_counts(open_blocks(blocks.folder), expected, assert_same)
    assert len(killed) == 1
    # The one that is left has had to make anew what was lost.
    (survivor,) = recounted[0]
    assert survivor not in killed
    assert recounted[0][survivor] == 4


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
def test_a_user_is_always_of_one_partition(kind):
    ids = pa.chunked_array([pa.array([5, 7, None, 5], pa.int64())]).cast(kind)
    places = partition_of(ids, 1_000)
    assert places[0] == places[3] != places[1]
    # Another piece, in other company; the hash is the same on every machine and every day.
    assert partition_of(ids[3:], 1_000)[0] == places[0]
    assert ((places >= 0) & (places < 1_000)).all()


def test_sums_that_do_not_fit_are_refused():
    half = csr_of(
        np.array([2**30], np.int32), np.array([1], np.int32), np.array([0, 1, 1]), shape=(2, 2)
    )
    block, less = RowBlock(0, half), RowBlock(0, half.copy())
    less.matrix.data -= 1
    assert add_blocks(block, less).matrix.data.tolist() == [2**31 - 1]
    with pytest.raises(DataError, match="2,147,483,648, more than int32 holds"):
        add_blocks(block, block)


def test_nothing_liked_is_an_error(client, small_log, tmp_path):
    small_log.to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match=r"no rating is 6.0 or higher \(the highest is 5\)"):
        count_on_cluster(tmp_path / "ratings.parquet", tmp_path / "counts", client, 6.0)
    assert [path.name for path in tmp_path.iterdir()] == ["ratings.parquet"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda log: log.astype({"user_id": float}), "'user_id' is of type double"),
        (lambda log: log.drop(columns="item_id"), "no column 'item_id'"),
        (lambda log: log[:0], "there are no rows"),
    ],
    ids=["fractions", "column", "empty"],
)
def test_unusable_ratings(client, small_log, tmp_path, change, told):
    change(small_log).to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match=told):
        count_on_cluster(tmp_path / "ratings.parquet", tmp_path / "counts", client)


def test_other_files_are_refused(client, small_log, tmp_path):
    small_log.to_csv(tmp_path / "ratings.csv", index=False)
    with pytest.raises(DataError, match="read from Parquet"):
        count_on_cluster(tmp_path / "ratings.csv", tmp_path / "counts", client)


def test_no_cluster(small_log, tmp_path):
    small_log.to_parquet(tmp_path / "ratings.parquet")
    source, target = tmp_path / "ratings.parquet", tmp_path / "counts"
    with pytest.raises(ConfigError, match="n_partitions is 0"):
        count_on_cluster(source, target, "tcp://127.0.0.1:1", n_partitions=0)
    with (
        distributed_timeout("1s"),
        pytest.raises(ConfigError, match="no Dask scheduler answers"),
    ):
        count_on_cluster(source, target, "tcp://127.0.0.1:1")


def distributed_timeout(limit):
    import dask

    return dask.config.set({"distributed.comm.timeouts.connect": limit})


def test_without_dask(small_log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    small_log.to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[dask\]'"):
        count_on_cluster(tmp_path / "ratings.parquet", tmp_path / "counts", "tcp://127.0.0.1:1")
