"""The state that all requests share: the current model, the sessions and the micro-batcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby
from threading import Thread
from typing import Any, TypeAlias

import numpy as np
from starlette.requests import Request

from recsys import columns
from recsys.embeddings.projection import pca_plane
from recsys.recommender import Item, Recommender
from recsys.serving.config import ServingConfig
from recsys.serving.errors import ProblemError
from recsys.serving.middleware import Metrics
from recsys.serving.schemas import FilterField, GenreFilter
from recsys.serving.session_store import SessionStore

_MAX_BATCH = 64
"""Histories per batch, so that the event loop is blocked for a few milliseconds at most."""

_MAP_FIT_ITEMS = 2000
_MAP_PERCENTILES = (1.0, 99.0)
"""Percentiles of the coordinates at the edges of the map; outliers are drawn at the edge."""

Records: TypeAlias = list[dict[str, Any]]


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
        genres = chain.from_iterable(recommender.catalogue.genres)
        return cls(recommender, ItemMap(recommender), {genre.casefold(): genre for genre in genres})

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


_Pending: TypeAlias = tuple[Sequence[Item], "asyncio.Future[Records]"]
"""A history and its result."""


class MicroBatcher:
    """Answers `next_items` requests that arrive at the same time as one batch.

    Encoding a history reads all weights of the session model at every step; a batch reads them
    only once. A single request is not delayed.
    """

    def __init__(self) -> None:
        self._pending: dict[tuple[Recommender, tuple[Any, ...]], list[_Pending]] = {}

    async def next_items(
        self, recommender: Recommender, history: Sequence[Item], **options: float | None
    ) -> Records:
        """The records of `Recommender.next_items`.

        Raises:
            UnknownItemError: The history contains an unknown item.
        """
        for item in history:
            recommender.index_of(item)  # an error here does not affect the rest of the batch
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_soon(self._run)  # after the requests that have already arrived
        result: asyncio.Future[Records] = loop.create_future()
        key = (recommender, tuple(options.items()))
        self._pending.setdefault(key, []).append((history, result))
        return await result

    def _run(self) -> None:
        groups, self._pending = self._pending, {}
        for (recommender, options), requests in groups.items():
            for start in range(0, len(requests), _MAX_BATCH):
                batch = [(h, r) for h, r in requests[start : start + _MAX_BATCH] if not r.done()]
                try:
                    answers = _next_items(recommender, [h for h, _ in batch], dict(options))
                except Exception as error:  # noqa: BLE001, raised by each waiting request
                    for _, result in batch:
                        result.set_exception(error)
                    continue
                for (_, result), records in zip(batch, answers, strict=True):
                    result.set_result(records)


def _next_items(
    recommender: Recommender, histories: list[Sequence[Item]], options: dict[str, Any]
) -> list[Records]:
    if len(histories) == 1:
        return [recommender.next_items(histories[0], **options).as_records()]
    results: list[Records] = [[] for _ in histories]
    rows = recommender.recommend_batch(histories, **options).as_records()
    for row, records in groupby(rows, key=lambda record: int(record.pop("row"))):
        results[row] = list(records)
    return results


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
        self._model = LoadedModel.from_recommender(current())
        self._latest = self._model.recommender
        self._loader = Thread()
        self._sessions: SessionStore | None = None

    def open(self) -> None:
        """Open the session store, after the fork, which SQLite connections do not survive."""
        config = self.config
        self._sessions = SessionStore(config.session_store, config.max_sessions, config.session_ttl)
        self.metrics.loaded.set(self._model.loaded_at.timestamp())

    def close(self) -> None:
        """Close the session store."""
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
        """The model to answer with. A new recommender is prepared in a thread before it is used."""
        recommender = self._current()
        if recommender is not self._latest and not self._loader.is_alive():
            self._latest = recommender
            self._loader = Thread(target=self._load, args=(recommender,), daemon=True)
            self._loader.start()
        return self._model

    def _load(self, recommender: Recommender) -> None:
        self._model = LoadedModel.from_recommender(recommender)
        self.metrics.loaded.set(self._model.loaded_at.timestamp())


def get_state(request: Request) -> AppState:
    """The state of the application that received a request."""
    return request.app.state.recsys  # type: ignore[no-any-return]
