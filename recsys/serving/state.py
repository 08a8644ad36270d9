"""The state that all requests share: the current model, the sessions and the micro-batcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from threading import Event, Thread
from typing import Any, TypeAlias, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from recsys import columns
from recsys.embeddings.projection import pca_plane
from recsys.recommender import Item, Recommender
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.results import ranking_records
from recsys.recommender.scoring import RankedItems
from recsys.serving.config import ServingConfig
from recsys.serving.errors import ProblemError
from recsys.serving.middleware import LOGGER, VERSION_KEY, Metrics
from recsys.serving.schemas import FilterField, GenreFilter
from recsys.serving.session_store import SessionStore

_MAX_BATCH = 64
"""Histories per batch."""

_SLOW_THREADS, _MAX_SLOW = 2, 16
_CHECK_SECONDS = 0.5
"""Seconds between two looks for a new model."""
_WATCH_INTERVAL = 0.1
"""Seconds between two looks whether a client has left."""

_MAP_FIT_ITEMS = 2000
_MAP_PERCENTILES = (1.0, 99.0)
"""Percentiles of the coordinates at the edges of the map; outliers are drawn at the edge."""

Records: TypeAlias = list[dict[str, Any]]
Check: TypeAlias = Callable[[], None]
"""Raises if the client of a request has left."""
_T = TypeVar("_T")


class ItemMap:
    """A PCA projection of the item embeddings; items with a zero vector are omitted."""

    def __init__(self, recommender: Recommender) -> None:
        self._catalogue = catalogue = recommender.catalogue
        self._has_vector = recommender.scorer.has_vector
        popular = recommender.popular_items(len(catalogue)).as_records()
        indices = (catalogue.index_of(row[columns.ITEM_ID]) for row in popular)
        self.popular = [index for index in indices if self._has_vector[index]]
        fitted = np.array(self.popular[:_MAP_FIT_ITEMS], dtype=np.intp)
        self._plane_N2 = np.zeros((len(catalogue), 2))
        if len(fitted):
            plane_N2 = pca_plane(recommender.scorer.unit_vectors, fitted)
            low_2, high_2 = np.percentile(plane_N2[fitted], _MAP_PERCENTILES, axis=0)
            half_2 = np.where(high_2 > low_2, (high_2 - low_2) / 2, 1.0)
            self._plane_N2 = np.clip((plane_N2 - (high_2 + low_2) / 2) / half_2, -1, 1).round(4)

    def locate(self, indices: Iterable[int]) -> Records:
        """The coordinates of items, from -1 to 1. Omits items with a zero vector."""
        ids, titles = self._catalogue.ids.tolist(), self._catalogue.titles
        genres, plane_N2 = self._catalogue.genres, self._plane_N2
        return [
            {
                columns.ITEM_ID: ids[index],
                columns.TITLE: titles[index],
                "x": float(plane_N2[index, 0]),
                "y": float(plane_N2[index, 1]),
                "genre": next(iter(genres[index]), ""),
            }
            for index in indices
            if self._has_vector[index]
        ]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A recommender and what is derived from it once."""

    recommender: Recommender
    item_map: ItemMap
    genres: Mapping[str, str]
    """All genres as the catalogue has them, by their lower case."""
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def from_recommender(cls, recommender: Recommender) -> LoadedModel:
        """Compute everything that the first request would otherwise wait for."""
        recommender.search("a title")  # builds the search index
        catalogue = recommender.catalogue
        catalogue.knows("a title")  # and that of titles
        genres = [genre for genres in catalogue.genres for genre in genres]
        if genres:
            catalogue.values(columns.GENRES)
        return cls(recommender, ItemMap(recommender), {genre.casefold(): genre for genre in genres})

    def unknown_items(self, items: Iterable[Item]) -> list[Item]:
        """The items that the model does not know."""
        return [item for item in items if not self.recommender.catalogue.knows(item)]

    def resolve(self, history: Sequence[Item]) -> tuple[NDArray[np.int32], dict[str, Any]]:
        """The indices of the known items of a history, and what the response says of the others."""
        catalogue = self.recommender.catalogue
        names = list(dict.fromkeys(history))
        found = {name: catalogue.index_of(name) for name in names if catalogue.knows(name)}
        matched = [
            {"query": name, **item_record(catalogue, index)}
            for name, index in found.items()
            if not catalogue.is_exact(name)
        ]
        indices = [found[name] for name in history if name in found]
        unknown = [name for name in names if name not in found]
        ignored = [name if _fits_json(name) else str(name) for name in unknown]
        ambiguous = [
            {"query": name, "items": [item_record(catalogue, index) for index in candidates]}
            for name in unknown
            if (candidates := catalogue.candidates(name))
        ]
        notes = {"ignored": ignored, "ambiguous": ambiguous, "matched": matched}
        return np.array(indices, dtype=np.int32), notes

    def item_filter(self, item_filter: FilterField) -> list[Item] | dict[str, list[str]]:
        """Convert a filter of the API to one of the recommender.

        Raises:
            ProblemError: A genre is unknown.
        """
        if not isinstance(item_filter, GenreFilter):
            return list(item_filter)
        for genre in item_filter.genres:
            if genre.casefold() not in self.genres:
                known = ", ".join(sorted(self.genres.values())[:40]) or "none"
                detail = f"no item has the genre {genre!r}; the genres are {known}"
                raise ProblemError(404, "unknown-genre", detail)
        return {columns.GENRES: item_filter.genres}


def _fits_json(name: Item) -> bool:
    """Whether orjson writes a value: text, or an integer of 64 bits."""
    return isinstance(name, str) or -(2**63) <= name < 2**63


def item_record(catalogue: Catalogue, index: int) -> dict[str, Any]:
    """The id and the title of an item."""
    return {columns.ITEM_ID: catalogue.ids.item(index), columns.TITLE: catalogue.titles[index]}


class Threads:
    """Runs work in a few threads, so that the event loop answers at once whatever is computed.

    Args:
        n_threads: Number of threads.
        max_waiting: Requests that run or wait; more get status 503.
    """

    def __init__(self, n_threads: int, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting = 0
        self._free = asyncio.Semaphore(n_threads)

    async def run(self, request: Request, work: Callable[[Check], _T]) -> _T:
        """Run `work(check)`; `check()` raises if the client has left.

        Raises:
            ProblemError: Too many requests wait, or the client has left.
        """
        if self._waiting >= self._max_waiting:
            detail = "too many slow requests: retry in some seconds"
            raise ProblemError(503, "overloaded", detail, {"Retry-After": "5"})
        has_left = Event()

        def check() -> None:
            if has_left.is_set():
                raise ProblemError(408, "client-left", "the client has closed the connection")

        async def watch() -> None:
            while not await request.is_disconnected():
                await asyncio.sleep(_WATCH_INTERVAL)
            has_left.set()

        self._waiting += 1
        watcher = asyncio.create_task(watch())
        try:
            async with self._free:
                check()
                return await run_in_threadpool(work, check)
        finally:
            watcher.cancel()
            self._waiting -= 1


_Key: TypeAlias = tuple[Recommender, Hashable]
_Pending: TypeAlias = tuple[NDArray[np.int32], "asyncio.Future[bytes]"]
"""A history and its result."""


class MicroBatcher:
    """Answers requests for next items that arrive while others are computed as one batch.

    Encoding a history reads all weights of the session model at every step; a batch reads them
    only once. One batch is computed at a time, in a thread.
    """

    def __init__(self) -> None:
        self._pending: dict[_Key, tuple[RecommendOptions, list[_Pending]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def next_items(
        self, recommender: Recommender, history: NDArray[np.int32], options: RecommendOptions
    ) -> bytes:
        """The records of `Recommender.next_items`, for item indices, as JSON."""
        result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        fields = tuple(vars(options).values())
        key = recommender, fields if options.allowed is None else options
        self._pending.setdefault(key, (options, []))[1].append((history, result))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        while self._pending:
            key = next(iter(self._pending))
            options, requests = self._pending.pop(key)
            for start in range(0, len(requests), _MAX_BATCH):
                batch = [(h, r) for h, r in requests[start : start + _MAX_BATCH] if not r.done()]
                try:
                    histories = [history for history, _ in batch]
                    answers = await run_in_threadpool(_next_items, key[0], histories, options)
                except Exception as error:  # noqa: BLE001, raised by each waiting request
                    for _, result in batch:
                        if not result.done():
                            result.set_exception(error)
                    continue
                for (_, result), records in zip(batch, answers, strict=True):
                    if not result.done():
                        result.set_result(records)


def _next_items(
    recommender: Recommender, histories: list[NDArray[np.int32]], options: RecommendOptions
) -> list[bytes]:
    scorer = recommender.scorer
    ranked = scorer.rank_batch(scorer.encode_batch(histories), histories, options)
    bounds = np.searchsorted(ranked.row, np.arange(len(histories) + 1)).tolist()
    parts = (RankedItems._make(part[a:b] for part in ranked) for a, b in pairwise(bounds))
    return [orjson.dumps(ranking_records(recommender.catalogue, part)) for part in parts]


class AppState:
    """The state of a running server. The arguments are those of `create_app`."""

    def __init__(
        self, current: Callable[[], Recommender], config: ServingConfig, source: str
    ) -> None:
        self._current = current
        self.source = source
        self.config = config
        self.metrics = Metrics()
        self.batcher = MicroBatcher()
        self.slow = Threads(_SLOW_THREADS, _MAX_SLOW)
        self._model = LoadedModel.from_recommender(current())
        self._closed = Event()
        self._sessions: SessionStore | None = None

    def open(self) -> None:
        """Open the session store and follow new models, after the fork, which ends threads."""
        config = self.config
        self._sessions = SessionStore(config.session_store, config.max_sessions, config.session_ttl)
        self.metrics.loaded.set(self._model.loaded_at.timestamp())
        self._closed = Event()
        Thread(target=self._follow, name="recsys-model", daemon=True).start()

    def close(self) -> None:
        """Close the session store, and keep the model."""
        self._closed.set()
        if self._sessions is not None:
            self._sessions.close()

    @property
    def sessions(self) -> SessionStore:
        """The live sessions."""
        if self._sessions is None:
            raise RuntimeError("the application has not been started: its lifespan did not run")
        return self._sessions

    @property
    def model(self) -> LoadedModel:
        """The model to answer with."""
        return self._model

    def _follow(self) -> None:
        """Prepare each new recommender before it is used."""
        latest = self._model.recommender
        while not self._closed.wait(_CHECK_SECONDS):
            recommender = self._current()
            if recommender is not latest:
                latest = recommender
                self._load(recommender)

    def _load(self, recommender: Recommender) -> None:
        try:
            self._model = LoadedModel.from_recommender(recommender)
        except Exception:  # noqa: BLE001, the previous model stays in use
            message = "version %s cannot answer, still using the previous one"
            LOGGER.error(message, recommender.version, exc_info=True)
            return
        self.metrics.loaded.set(self._model.loaded_at.timestamp())


def get_state(request: Request) -> AppState:
    """The state of the application that received a request."""
    return request.app.state.recsys  # type: ignore[no-any-return]


def get_model(request: Request) -> LoadedModel:
    """The model to answer a request with; its version is sent in the response."""
    model = get_state(request).model
    request.scope[VERSION_KEY] = model.recommender.version
    return model
