"""Counts on a Dask cluster equal those of one machine, even if a worker is lost."""

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
from recsys.cooccurrence.distributed import add_blocks, count_on_cluster, partition_of
from recsys.cooccurrence.matrix import RowBlock, make_csr
from recsys.data import read_ratings
from recsys.errors import ConfigError, DataError

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).parents[2]
DECAYED = Window(size=4, direction="forward", decay="linear", half_life_days=0.01)


@pytest.fixture(scope="module")
def client():
    """A client of two workers, threads of this process."""
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


def ignore(report):
    """The data has invalid rows on purpose."""


def assert_equal_counts(blocks, expected, assert_equal):
    assert_equal(blocks.load().matrix, expected.matrix)
    assert blocks.item_counts.tolist() == expected.item_counts.tolist()
    assert blocks.items == expected.items
    for name in ("n_users", "min_rating", "window"):
        assert getattr(blocks, name) == getattr(expected, name)
    for found, sums in zip(blocks.marginals(), expected.marginals(), strict=True):
        assert np.array_equal(found, sums)
    assert blocks.n_entries == expected.matrix.nnz


@pytest.mark.parametrize(
    "window",
    [None, Window(size=2), DECAYED],
    ids=["sets", "window", "decayed"],
)
def test_equals_the_counts_of_one_machine(client, source, tmp_path, window, assert_equal):
    expected = count_cooccurrence(read_ratings(source, on_report=ignore), 3.5, window=window)
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
        on_report=ignore,
    )
    blocks = open_blocks(tmp_path / "counts")
    assert_equal_counts(blocks, expected, assert_equal)
    assert len(blocks.parts) > 1
    assert done == [(n + 1, len(blocks.parts)) for n in range(len(blocks.parts))]
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]


def test_example_of_the_page_counts(client, tmp_path, monkeypatch, assert_equal):
    page = (ROOT / "docs" / "how-to" / "several-machines.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    log = make_log(int).dropna().drop_duplicates(["user_id", "item_id"])
    log.to_parquet("ratings.parquet")
    exec(code.replace('"tcp://10.0.0.1:8786"', "client"), variables := {"client": client})
    expected = count_cooccurrence(read_ratings("ratings.parquet"), 4.0)
    assert_equal_counts(variables["blocks"], expected, assert_equal)


def test_quarantined_rows_are_reported_once(client, source, tmp_path):
    expected, reports = [], []
    read_ratings(source, on_report=expected.append)
    count_on_cluster(source, tmp_path / "counts", client, n_partitions=3, on_report=reports.append)
    (report,), (whole,) = reports, expected
    assert (report.n_rows, report.n_used) == (whole.n_rows, whole.n_used)
    assert len(report.quarantined) == len(whole.quarantined) == whole.n_rows - whole.n_used
    assert {f.check: f.n_rows for f in report.findings} == {
        f.check: f.n_rows for f in whole.findings
    }


def test_more_partitions_than_users(client, small_log, tmp_path, assert_equal):
    small_log.to_parquet(tmp_path / "ratings.parquet")
    expected = count_cooccurrence(read_ratings(small_log))
    blocks = count_on_cluster(
        tmp_path / "ratings.parquet", tmp_path / "counts", client, n_partitions=20
    )
    assert_equal_counts(blocks, expected, assert_equal)


@pytest.mark.parametrize("top", [10.0, 5.0, 200.0])
def test_the_scale_is_that_of_all_partitions(client, small_log, tmp_path, assert_equal, top):
    """Only one user has the highest rating, and most partitions are without it."""
    small_log = small_log.assign(rating=small_log["rating"].where(small_log["rating"] < 5, top))
    small_log.to_parquet(tmp_path / "ratings.parquet")
    blocks = count_on_cluster(
        tmp_path / "ratings.parquet", tmp_path / "counts", client, n_partitions=3, on_report=ignore
    )
    expected = count_cooccurrence(read_ratings(small_log))
    assert blocks.min_rating == {10.0: 8, 5.0: 4, 200.0: None}[top]
    assert_equal_counts(blocks, expected, assert_equal)


def test_parts_of_different_types(client, small_log, tmp_path, assert_equal):
    """Ids that are integers in one file and text in another are text in both."""
    folder = tmp_path / "log"
    for user, rows in small_log.groupby("user_id"):
        (folder / f"user_id={user:03}").mkdir(parents=True)
        part = rows.drop(columns="user_id").astype({"item_id": int if user == 1 else str})
        part.to_parquet(folder / f"user_id={user:03}" / "part.parquet")
    expected = count_cooccurrence(read_ratings(folder))
    blocks = count_on_cluster(folder, tmp_path / "counts", client, n_partitions=3)
    assert blocks.items.ids.tolist() == ["10", "20", "30", "40", "50"]
    assert_equal_counts(blocks, expected, assert_equal)


def test_interactions_without_ratings_or_timestamps(client, small_log, tmp_path, assert_equal):
    events = small_log.rename(columns={"item_id": "film"})[["user_id", "film"]]
    events.to_parquet(tmp_path / "events.parquet")
    columns = {"item_id": "film"}
    expected = count_cooccurrence(read_ratings(events, columns=columns, on_report=ignore))
    blocks = count_on_cluster(
        tmp_path / "events.parquet",
        tmp_path / "counts",
        client,
        columns=columns,
        on_report=ignore,
    )
    assert_equal_counts(blocks, expected, assert_equal)
    assert blocks.min_rating is None


@pytest.fixture
def processes(tmp_path):
    """A client of a scheduler and two worker processes, and the workers by name."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    address_file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(address_file), "--no-dashboard"]

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
        with distributed.Client(scheduler_file=str(address_file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield client, dict(zip(("first", "second"), running[1:], strict=True))
    finally:
        for process in running:
            process.kill()
            process.wait()


def count_plans(client):
    """Number of plans, or of the partitions they are made from, that each worker holds."""
    return {
        address: sum(str(key).startswith(("plan_partition", "collect_partition")) for key in keys)
        for address, keys in client.has_what().items()
    }


@pytest.fixture
def time_limit():
    """Fail if the count hangs."""

    def fail(number, frame):
        raise TimeoutError("the count takes longer than two minutes")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("stage", ["reading", "counting"])
def test_a_killed_worker_costs_only_time(
    processes, time_limit, skewed, tmp_path, assert_equal, stage
):
    """Kill the worker with most users after reading, or after one of many blocks."""
    client, workers = processes
    log = pd.DataFrame({"user_id": skewed.user_index, "item_id": skewed.item_index})
    log.to_parquet(tmp_path / "events.parquet", row_group_size=5_000)
    expected = count_cooccurrence(skewed)
    killed, recounted = [], []

    def kill():
        held = count_plans(client)
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
            recounted.append(count_plans(client))

    blocks = count_on_cluster(
        tmp_path / "events.parquet",
        tmp_path / "counts",
        client.scheduler.address,
        n_partitions=4,
        memory_limit="2MB",
        on_block=on_block,
        on_report=lambda report: kill() if stage == "reading" else None,
    )
    assert_equal_counts(open_blocks(blocks.folder), expected, assert_equal)
    assert len(killed) == 1
    # The surviving worker has recomputed what was lost.
    (survivor,) = recounted[0]
    assert survivor not in killed
    assert recounted[0][survivor] == 4


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
def test_the_partition_depends_only_on_the_user(kind):
    ids = pa.chunked_array([pa.array([5, 7, None, 5], pa.int64())]).cast(kind)
    partitions = partition_of(ids, 1_000)
    assert partitions[0] == partitions[3] != partitions[1]
    assert partition_of(ids[3:], 1_000)[0] == partitions[0]
    assert ((partitions >= 0) & (partitions < 1_000)).all()


def test_sums_that_overflow_are_rejected():
    half = make_csr(
        np.array([2**30], np.int32), np.array([1], np.int32), np.array([0, 1, 1]), shape=(2, 2)
    )
    block, less = RowBlock(0, half), RowBlock(0, half.copy())
    less.matrix.data -= 1
    assert add_blocks(block, less).matrix.data.tolist() == [2**31 - 1]
    with pytest.raises(DataError, match="2,147,483,648, more than int32 holds"):
        add_blocks(block, block)


def test_a_threshold_above_all_ratings_is_rejected(client, small_log, tmp_path):
    small_log.to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match=r"no rating is 6.0 or higher \(the highest is 5\)"):
        count_on_cluster(tmp_path / "ratings.parquet", tmp_path / "counts", client, 6.0)
    assert [path.name for path in tmp_path.iterdir()] == ["ratings.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda log: log.assign(user_id=log["user_id"] + 0.5), "'user_id': is of type double"),
        (lambda log: log.drop(columns="item_id"), "no column 'item_id'"),
        (lambda log: log[:0], "the file has no rows"),
    ],
    ids=["fractions", "column", "empty"],
)
def test_unusable_ratings(client, small_log, tmp_path, change, message):
    change(small_log).to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match=message):
        count_on_cluster(tmp_path / "ratings.parquet", tmp_path / "counts", client)


def test_other_formats_are_rejected(client, small_log, tmp_path):
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
