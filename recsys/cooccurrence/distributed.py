"""Counting on a Dask cluster: the same counts, with the users divided among the workers.

Row groups of Parquet files are split into partitions of users, by a hash of the user id. Each block
of rows of X is counted for every partition, and the sum is written. The counts are integers, so the
result does not depend on the partitions. Tasks are deterministic and files are written atomically,
so that Dask can recompute the results of a lost worker. Dask is imported on the first count.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from recsys import columns as names
from recsys.cluster import connect, require_shared
from recsys.config import Runtime
from recsys.cooccurrence.blocks import (
    CooccurrenceBlocks,
    WrittenBlock,
    finalize_blocks,
    open_blocks,
    write_block,
)
from recsys.cooccurrence.config import MinRating, Window
from recsys.cooccurrence.matrix import CountMetadata, RowBlock
from recsys.cooccurrence.planner import CountPlan, no_positives_error, plan_count, split_rows
from recsys.data import Checks, Finding, Interactions, ReadReport, read_ratings
from recsys.data.arrow import common_type, convert
from recsys.data.detection import detect_layout
from recsys.data.options import ReadOptions
from recsys.data.parquet import ParquetPart, open_parts
from recsys.data.report import ReportCallback, warn_on_report
from recsys.errors import ConfigError, DataError
from recsys.memory import parse_bytes
from recsys.storage import atomic_file, atomic_folder
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from distributed import Client, Future

Submit = Callable[..., "Future[Any]"]
RowGroupReader = Callable[[], pa.Table]
Partition = tuple[Interactions, ReadReport]  # of some users, with the items of these users only

_ROW_BYTES: Final = 150  # approximate memory per rating while a partition is read
_ENTRY_BYTES: Final = 40  # approximate memory per entry while two blocks are added


def count_on_cluster(
    source: Path | str,
    folder: Path | str,
    cluster: Client | str,
    min_rating: MinRating = "auto",
    *,
    window: Window | None = None,
    columns: Mapping[str, str] | None = None,
    checks: Checks = Checks(),
    memory_limit: str | int = "2GB",
    n_partitions: int | None = None,
    on_block: Callable[[int, int], object] | None = None,
    on_report: ReportCallback = warn_on_report,
) -> CooccurrenceBlocks:
    """Count co-occurrences on the workers of a Dask cluster, and open the counts.

    The counts equal `count_cooccurrence(read_ratings(source), min_rating, window=window)`. Losing
    a worker costs time only. Each partition is read and checked separately by `read_ratings`.

    Args:
        source: a Parquet file, or a folder of them, that every worker sees under this path.
        folder: where to write the row blocks, on storage that every worker sees under this path.
            An existing folder is replaced.
        cluster: a Dask client, or the address of a scheduler, such as "tcp://10.0.0.1:8786".
        min_rating: lowest rating of a positive interaction; by default 0.8 of the highest of the
            scale, such as 4 of 5. None counts every interaction, as does data without ratings.
        window: count pairs of interactions within a window instead.
        columns: names of `user_id`, `item_id`, `rating` and `timestamp` in the source. A column
            with kinds of events is refused; `{"event": ""}` counts all rows alike.
        checks: how to handle invalid rows.
        memory_limit: approximate memory of one task. A worker runs as many tasks at once as it
            has threads, and the ratings are kept in the memory of all workers together.
        n_partitions: number of user partitions; by default one per thread of the cluster, or as
            many as `memory_limit` requires.
        on_block: called with the number of blocks written and the total.
        on_report: called with the report of what was read and what was quarantined.

    Raises:
        DataError: the source cannot be used, or has no positive interactions.
        ConfigError: Dask is not installed, the cluster does not answer or has no workers, a worker
            does not see `folder`, or `memory_limit` is too low.
    """
    limit, folder = parse_bytes(memory_limit), Path(folder).absolute()
    if n_partitions is not None and n_partitions < 1:
        raise ConfigError(f"n_partitions is {n_partitions}: it must be 1 or higher")
    groups, n_rows = row_groups(Path(source), columns)
    with (
        connect(cluster) as client,
        client.as_current(),  # as_completed needs a current client
        atomic_folder(folder) as tmp_path,
        TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
        ) as scratch,
    ):
        submit: Submit = partial(client.submit, pure=False)  # the files may have changed
        threads, work = sum(client.nthreads().values()), Path(scratch)
        n = n_partitions or max(threads, -(-n_rows * _ROW_BYTES * 2 // limit))
        partitions = _read_partitions(submit, groups, work, n, checks)
        on_report(merge_reports(str(source), [part.report for _, part in partitions]))
        plans, metadata, max_entries = _plan(submit, partitions, min_rating, window, limit)
        del partitions  # Dask keeps them for as long as the plans need them
        blocks = split_rows(max_entries, limit // 2 // _ENTRY_BYTES)
        written = []
        for block in _count_blocks(submit, plans, blocks, work, 2 + threads // len(plans)):
            (work / block.name).replace(tmp_path / block.name)
            written.append(block)
            if on_block is not None:
                on_block(len(written), len(blocks))
        finalize_blocks(tmp_path, sorted(written, key=lambda block: block.start), metadata)
    return open_blocks(folder, verify=False)


def _read_partitions(
    submit: Submit,
    groups: Sequence[RowGroupReader],
    work: Path,
    n: int,
    checks: Checks,
) -> list[tuple[Future[Partition], PartitionStats]]:
    """Divide the users among n partitions, of which those without rows are left out."""
    scattered = [submit(scatter_users, *group, n, work) for group in enumerate(groups)]
    files = [future.result() for future in scattered]
    futures = [
        submit(collect_partition, [group[index] for group in files if index in group], checks)
        for index in sorted(set().union(*files))
    ]
    stats = [submit(partition_stats, future) for future in futures]
    return [(future, part.result()) for future, part in zip(futures, stats, strict=True)]


def _plan(
    submit: Submit,
    partitions: Sequence[tuple[Future[Partition], PartitionStats]],
    min_rating: MinRating,
    window: Window | None,
    memory_limit: int,
) -> tuple[list[Future[CountPlan]], CountMetadata, NDArray[np.int64]]:
    """Plan the count of each partition; also returns the maximum entries of each row of X."""
    highest = max(part.highest for _, part in partitions)
    lowest = None if min_rating == "auto" or highest == -np.inf else min_rating
    if min_rating == "auto":  # the scale of the whole log; a part without one has counts
        found = {part.positive_rating for _, part in partitions if part.highest > 0}
        if None not in found:
            lowest = max((rating for rating in found if rating is not None), default=None)
    positive = [
        future
        for future, part in partitions
        if part.n_users and (lowest is None or part.highest >= lowest)
    ]
    if not positive:
        raise no_positives_error(lowest, highest)
    used = [future for future, part in partitions if part.n_users]
    all_ids = [submit(lambda partition: partition[0].items.ids, future) for future in used]
    ids = _tree_reduce(submit, np.union1d, all_ids)
    plans = [
        submit(plan_partition, future, ids, lowest, window, memory_limit) for future in positive
    ]
    sizes = [
        submit(lambda plan: np.stack([plan.counter.item_counts, plan.counter.max_entries]), plan)
        for plan in plans
    ]
    item_counts, max_entries = _tree_reduce(submit, operator.add, sizes).result()
    metadata = CountMetadata(
        item_counts=item_counts,
        n_users=sum(part.n_users for _, part in partitions),
        min_rating=lowest,
        items=Vocabulary(ids.result()),
        window=window,
    )
    return plans, metadata, np.minimum(max_entries, metadata.n_items - 1)


def _tree_reduce(
    submit: Submit, combine: Callable[[Any, Any], Any], futures: Sequence[Future[Any]]
) -> Future[Any]:
    """Combine all in log₂ n levels of pairs, so that no task holds more than two."""
    while len(futures) > 1:
        pairs = [futures[start : start + 2] for start in range(0, len(futures), 2)]
        futures = [submit(combine, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return futures[0]


def _count_blocks(
    submit: Submit,
    plans: Sequence[Future[Any]],
    blocks: Sequence[tuple[int, int]],
    work: Path,
    n_ahead: int,
) -> Iterator[WrittenBlock]:
    """Count and write blocks of rows, in any order, at most `n_ahead` at once."""
    from distributed import as_completed

    def start_block(start: int, stop: int) -> Future[Any]:
        # The copy releases the unused capacity.
        parts = [submit(lambda plan: plan.count_block(start, stop).copy(), plan) for plan in plans]
        return submit(write_rows, _tree_reduce(submit, add_blocks, parts), work)

    waiting = iter(blocks)
    running = as_completed([start_block(*block) for block in islice(waiting, n_ahead)])
    for done in running:
        yield done.result()
        running.update([start_block(*block) for block in islice(waiting, 1)])


def merge_reports(source: str, reports: Sequence[ReadReport]) -> ReadReport:
    """One report for a source that was read in partitions; line numbers are those of partitions."""
    findings: dict[str, Finding] = {}
    for finding in chain.from_iterable(report.findings for report in reports):
        first = findings.get(finding.check, replace(finding, n_rows=0))
        findings[finding.check] = replace(first, n_rows=first.n_rows + finding.n_rows)
    return ReadReport(
        source=source,
        n_rows=sum(report.n_rows for report in reports),
        n_used=sum(report.n_used for report in reports),
        findings=tuple(findings.values()),
        has_timestamps=reports[0].has_timestamps,
        quarantined_table=pa.concat_tables(
            [report.quarantined_table for report in reports], promote_options="default"
        ),
    )


def row_groups(source: Path, columns: Mapping[str, str] | None) -> tuple[list[RowGroupReader], int]:
    """Readers of the row groups of a Parquet file or a folder of them, and the number of rows."""
    detected = detect_layout(source.absolute())
    if detected.name != "parquet" or not detected.files.path.is_dir():
        raise DataError(
            f"{source}: a cluster count is read from Parquet, a file or a folder of them; save "
            "the ratings as Parquet first"
        )
    options = ReadOptions(columns={} if columns is None else columns)
    parts = open_parts(detected.files.path, detected, options)
    filled = [part for part in parts if part.n_rows]
    for part in filled:
        if names.EVENT in part.types:
            raise ConfigError(
                f"{part.where(names.EVENT)}: may give events weights, which a cluster does not "
                'count; count on one machine, or count all rows alike with columns = {event = ""}'
            )
    if not filled:
        raise DataError(f"{source}: the file has no rows")
    types = {
        ours: common_type(ours, {part.where(ours): part.types[ours] for part in filled})
        for ours in filled[0].source_names
    }
    groups: list[RowGroupReader] = [
        partial(read_row_group, part, index, types)
        for part in filled
        for index in range(part.n_row_groups)
    ]
    return groups, sum(part.n_rows for part in filled)


def read_row_group(part: ParquetPart, index: int, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read rows under our column names, with the same types in each row group."""
    columns = part.read([index])
    return pa.table(
        {
            ours: convert(ours, column, types[ours], part.where(ours))
            for ours, column in columns.items()
        }
    )


def scatter_users(number: int, read: RowGroupReader, n: int, folder: Path) -> dict[int, Path]:
    """Write the rows of a row group to one file for each of n partitions that has any."""
    require_shared(folder)
    table = read()
    owner = names.USER_ID if names.USER_ID in table.column_names else names.SESSION_ID
    partition = partition_of(table[owner], n)
    order = np.argsort(partition, kind="stable")
    ends = np.bincount(partition, minlength=n).cumsum()
    files = {}
    for index, rows in enumerate(np.split(order, ends[:-1])):
        if len(rows):
            files[index] = folder / f"users-{index:05d}-{number:06d}.parquet"
            with atomic_file(files[index]) as tmp_path:
                pyarrow.parquet.write_table(table.take(rows), tmp_path)
    return files


def partition_of(user_ids: pa.ChunkedArray, n_partitions: int) -> NDArray[np.int64]:
    """The partition of each row, [n]; depends only on the user id."""
    missing = 0 if pa.types.is_integer(user_ids.type) else ""  # checked when the rows are read
    hashes = pd.util.hash_array(user_ids.fill_null(missing).to_numpy())
    return (hashes % np.uint64(n_partitions)).astype(np.int64)


class PartitionStats(NamedTuple):
    """What the client needs to know about a partition."""

    n_users: int
    positive_rating: float | None
    highest: float  # rating; −∞ if there are none
    report: ReadReport


def collect_partition(files: Sequence[Path], checks: Checks) -> Partition:
    """Read and check the rows of one partition, in the order of the row groups."""
    table = pa.concat_tables([pyarrow.parquet.read_table(path) for path in files])
    reports: list[ReadReport] = []
    log = read_ratings(table, checks=checks, on_report=reports.append)
    return log, replace(reports[0], make_profile=None)  # which would be sent with the log


def partition_stats(partition: Partition) -> PartitionStats:
    """Summarize a partition."""
    log, report = partition
    highest = -np.inf if log.rating is None else log.rating.max(initial=-np.inf)
    return PartitionStats(log.n_users, log.positive_rating, highest, report)


def plan_partition(
    partition: Partition,
    ids: NDArray[Any],
    min_rating: float | None,
    window: Window | None,
    memory_limit: int,
) -> CountPlan:
    """Plan the count of one partition, with the items of all partitions, whose ids ascend."""
    log, _ = partition
    index = np.searchsorted(ids, log.items.ids).astype(np.int32)
    log = replace(log, item_index=index[log.item_index], items=Vocabulary(ids))
    runtime = Runtime(threads=1)  # Dask runs one task for each thread of the cluster
    return plan_count(log, min_rating, window=window, memory_limit=memory_limit, runtime=runtime)


def add_blocks(a: RowBlock, b: RowBlock) -> RowBlock:
    """Add the counts of the same rows; an error if one may exceed its integer type."""
    largest = int(a.matrix.data.max(initial=0)) + int(b.matrix.data.max(initial=0))
    if largest > np.iinfo(a.matrix.dtype).max:
        raise DataError(
            f"a count may reach {largest:,}, more than {a.matrix.dtype} holds: there are too "
            "many users"
        )
    return RowBlock(a.start, a.matrix + b.matrix)


def write_rows(block: RowBlock, folder: Path) -> WrittenBlock:
    """Write the sum of some rows."""
    require_shared(folder)
    return write_block(folder, block)
