"""Counting over a Dask cluster: the same counts, by users shared out among many machines.

The work is a grid: shares of the users, by the hash of their id, times blocks of the rows of X. A
task counts one block of rows for one share; the blocks of all shares are added up pair by pair, and
the sum is written before further blocks are begun. X is the sum over users, whole numbers are
added, and so the result is that of one machine, whatever the shares and whoever counts them. No
machine ever holds all of X: blocks are cut by their number of entries, and the smallest, a single
row, always fits, which is why columns need not be cut as well.

Dask is imported when something is counted, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from recsys.cooccurrence import partials, shares
from recsys.cooccurrence.block_files import Counted, WrittenBlock, seal_blocks
from recsys.cooccurrence.blocks import CooccurrenceBlocks, open_blocks
from recsys.cooccurrence.config import CooccurrenceConfig, Window
from recsys.cooccurrence.pieces import Piece, pieces_of
from recsys.cooccurrence.reports import merge_reports
from recsys.cooccurrence.rows import cut
from recsys.cooccurrence.sizes import parse_bytes
from recsys.data import Checks
from recsys.data.validation import ReportCallback, warn_on_report
from recsys.errors import ConfigError, DataError
from recsys.storage import atomic_folder
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from distributed import Client, Future

Submit = Callable[..., "Future[Any]"]

_ROW_BYTES: Final = 150
"""Memory for a row of ratings while a share is read, about."""
_ENTRY_BYTES: Final = 40
"""Memory for an entry of a block while two blocks are added: twice, and in the sum."""
_PATIENCE: Final = 60
"""Seconds to wait for a first worker."""


def count_on_cluster(
    source: Path | str,
    folder: Path | str,
    cluster: Client | str,
    min_rating: float | None = CooccurrenceConfig().min_rating,
    *,
    window: Window | None = None,
    columns: Mapping[str, str] | None = None,
    checks: Checks = Checks(),
    memory_limit: str | int = "2GB",
    n_partitions: int | None = None,
    on_block: Callable[[int, int], object] | None = None,
    on_report: ReportCallback = warn_on_report,
) -> CooccurrenceBlocks:
    """Count, for each pair of items, the users who liked both, on the workers of a Dask cluster.

    The counts are those of `count_cooccurrence(read_ratings(source), min_rating, window=window)`.
    A worker that is lost meanwhile costs time only. Each partition is read and checked by
    `read_ratings`, by itself.

    Args:
        source: a Parquet file, or a folder of them, which every worker sees under this path.
        folder: where to write the row blocks, on storage that every worker sees under this path;
            a folder that is already there is replaced.
        cluster: a Dask client, or the address of a scheduler such as "tcp://10.0.0.1:8786".
        min_rating: the lowest rating that counts as "liked"; None counts every row, as does
            data without ratings.
        window: count pairs of watches within a window instead.
        columns: what the source calls `user_id`, `item_id`, `rating` and `timestamp`.
        checks: what to do about rows that cannot be right.
        memory_limit: the most memory that one task shall take, about; a worker runs as many at
            once as it has threads, and the ratings lie in the memory of all workers together.
        n_partitions: into how many parts to divide the users; by default as many as the cluster
            has threads, or as `memory_limit` needs.
        on_block: called with how many blocks of X are written, and how many there are.
        on_report: called with the account of what was read and what was left out.

    Returns:
        A reader of the blocks.

    Raises:
        DataError: the source cannot be used, nothing counts, or a worker does not see `folder`.
        ConfigError: Dask is not installed, the cluster does not answer or has no workers, or
            `memory_limit` is not enough.
    """
    limit, folder = parse_bytes(memory_limit), Path(folder).absolute()
    if n_partitions is not None and n_partitions < 1:
        raise ConfigError(f"n_partitions is {n_partitions}: it must be 1 or higher")
    pieces, n_rows = pieces_of(Path(source), columns)
    with (
        _connected(cluster) as client,
        atomic_folder(folder) as draft,
        TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
        ) as scratch,
    ):
        submit: Submit = partial(client.submit, pure=False)  # files may have changed meanwhile
        threads = sum(client.nthreads().values())
        n = n_partitions or max(threads, -(-n_rows * _ROW_BYTES * 2 // limit))
        work = Path(scratch)
        found = _share_out(submit, pieces, n, work, checks)
        facts = client.gather([submit(shares.facts_of, share, min_rating) for share in found])
        on_report(merge_reports(str(source), [one.report for one in facts if one.report]))
        _refuse_nothing(facts, min_rating)
        counting = _prepare(submit, found, facts, (min_rating, window, limit))
        del found  # the cluster keeps the way to make them again
        ahead = 2 + threads // len(counting.counters)
        written = []
        for block in _count_blocks(submit, counting, work, ahead):
            (work / block.name).replace(draft / block.name)
            written.append(block)
            if on_block is not None:
                on_block(len(written), len(counting.blocks))
        written.sort(key=lambda block: block.rows.start)
        seal_blocks(draft, written, _counted(counting, facts, min_rating, window))
    return open_blocks(folder, verify=False)


@dataclass(frozen=True)
class _Counting:
    """What is to be counted, all of it laid out beforehand."""

    counters: list[Future[Any]]
    """Of each share in which something counts."""
    ids: NDArray[Any]
    """Of the items of all shares, ascending."""
    outline: partials.Outline
    """Of all shares."""
    blocks: list[tuple[int, int]]
    """The rows of each block."""


def _prepare(
    submit: Submit,
    found: Sequence[Future[Any]],
    facts: Sequence[shares.ShareFacts],
    settings: tuple[float | None, Window | None, int],
) -> _Counting:
    """Lay out what is to be counted; `settings` are those of each share's counter."""
    ids = _reduce(submit, shares.unite_items, [submit(shares.items_of, one) for one in found])
    counters = [
        submit(partials.counter_of, share, ids, *settings)
        for share, fact in zip(found, facts, strict=True)
        if fact.n_likes
    ]
    outlines = [submit(partials.outline_of, counter) for counter in counters]
    outline = _reduce(submit, partials.add_outlines, outlines).result()
    blocks = cut(outline.bounds, settings[-1] // 2 // _ENTRY_BYTES)
    return _Counting(counters, ids.result(), outline, blocks)


def _counted(
    counting: _Counting,
    facts: Sequence[shares.ShareFacts],
    min_rating: float | None,
    window: Window | None,
) -> Counted:
    """What the counts are of."""
    return Counted(
        item_counts=counting.outline.item_counts,
        n_users=sum(one.n_users for one in facts),
        min_rating=min_rating if any(one.has_ratings for one in facts) else None,
        items=Vocabulary(counting.ids),
        window=window,
        is_weighted=False,
        unit=counting.outline.unit,
    )


@contextmanager
def _connected(cluster: Client | str) -> Iterator[Client]:
    """A client of a cluster that has workers; one made here is closed again."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "counting on a cluster needs Dask, which is not installed: pip install -e '.[dask]'"
        ) from error
    with ExitStack() as stack:
        if isinstance(cluster, str):
            try:
                client = stack.enter_context(Client(cluster, set_as_default=False))
            except (OSError, ValueError) as error:
                raise ConfigError(f"no Dask scheduler answers at {cluster!r}: {error}") from error
        else:
            client = cluster
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise ConfigError(
                f"the Dask cluster has had no worker for {_PATIENCE} seconds: start some"
            ) from error
        with client.as_current():  # as_completed asks for it
            yield client


def _share_out(
    submit: Submit, pieces: Sequence[Piece], n: int, work: Path, checks: Checks
) -> list[Future[Any]]:
    """The shares of the n partitions."""
    scattered = [
        submit(shares.scatter_users, piece, n, work, f"{number:06d}")
        for number, piece in enumerate(pieces)
    ]
    return [submit(shares.collect_share, scattered, place, checks) for place in range(n)]


def _refuse_nothing(facts: Sequence[shares.ShareFacts], min_rating: float | None) -> None:
    """Raise if nothing counts."""
    if not any(one.n_likes for one in facts):
        highest = max(one.highest for one in facts)
        raise DataError(
            f"no rating is {min_rating} or higher (the highest is {highest:g}); lower min_rating"
        )


def _reduce(
    submit: Submit, combine: Callable[[Any, Any], Any], futures: Sequence[Future[Any]]
) -> Future[Any]:
    """Combine all by a tree of pairs: log₂ n steps, none of which holds more than two."""
    while len(futures) > 1:
        pairs = [futures[start : start + 2] for start in range(0, len(futures), 2)]
        futures = [submit(combine, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return futures[0]


def _count_blocks(
    submit: Submit, counting: _Counting, work: Path, ahead: int
) -> Iterator[WrittenBlock]:
    """Count blocks of rows and write them, in any order, never more than `ahead` at once."""
    from distributed import as_completed

    def begin(start: int, stop: int) -> Future[Any]:
        parts = [submit(partials.count_rows, one, start, stop) for one in counting.counters]
        return submit(partials.write_rows, _reduce(submit, partials.add_blocks, parts), work)

    waiting = iter(counting.blocks)
    running = as_completed([begin(*block) for block in islice(waiting, ahead)])
    for done in running:
        yield done.result()
        running.update([begin(*block) for block in islice(waiting, 1)])
