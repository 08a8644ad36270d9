"""What a server answers from: the recommender of now, and what is made from it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Thread
from typing import TypeAlias

from starlette.requests import Request

from recsys import columns
from recsys.recommender import Item, Recommender
from recsys.serving.config import ServingConfig
from recsys.serving.item_map import ItemMap
from recsys.serving.live_sessions import LiveSessions
from recsys.serving.metrics import Metrics
from recsys.serving.problems import ProblemError
from recsys.serving.requests import ItemFilter, OfGenres
from recsys.serving.together import Together

LibraryChoice: TypeAlias = "list[Item] | dict[str, list[str]]"


@dataclass(frozen=True, eq=False)
class Model:
    """A recommender and what is made from it once."""

    recommender: Recommender
    item_map: ItemMap
    genres: frozenset[str]
    """All genres, in lower case."""
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, recommender: Recommender) -> Model:
        """Make it, and everything else that the first request would wait for."""
        recommender.search("a title")
        return cls(recommender, ItemMap(recommender), frozenset(_genres(recommender)))

    def choice(self, choice: ItemFilter) -> LibraryChoice:
        """What the recommender calls a choice.

        Raises:
            ProblemError: there is no such genre.
        """
        if not isinstance(choice, OfGenres):
            return list(choice)
        for genre in choice.genres:
            if genre.casefold() not in self.genres:
                known = ", ".join(sorted(self.genres)[:40]) or "none"
                detail = f"no item is of the genre {genre!r}; there are {known}"
                raise ProblemError(404, "unknown-genre", detail)
        return {columns.GENRES: choice.genres}


def _genres(recommender: Recommender) -> Iterable[str]:
    written = recommender.catalogue.table.get(columns.GENRES)
    for several in () if written is None else written.dropna().unique():
        yield from str(several).casefold().split("|")


class Deployment:
    """The parts of a running server.

    Args:
        current: gives the recommender to answer with; another one from time to time.
        config: limits.
        source: what the recommender came from, for people.
    """

    def __init__(
        self, current: Callable[[], Recommender], config: ServingConfig, source: str
    ) -> None:
        self._current = current
        self.source = source
        self.config = config
        self.metrics = Metrics()
        self.together = Together()
        self._model = Model.of(current())
        self._latest = self._model.recommender
        self._renewal = Thread()
        self._sessions: LiveSessions | None = None

    def open(self) -> None:
        """Begin to keep sessions; in the process that answers, since SQLite survives no fork."""
        config = self.config
        self._sessions = LiveSessions(config.session_store, config.max_sessions, config.session_ttl)
        self.metrics.loaded.set(self._model.loaded_at.timestamp())

    def close(self) -> None:
        """Let go of the sessions."""
        if self._sessions is not None:
            self._sessions.close()

    @property
    def sessions(self) -> LiveSessions:
        """The sessions that go on."""
        if self._sessions is None:
            raise RuntimeError("the application has not been started: its lifespan did not run")
        return self._sessions

    @property
    def model(self) -> Model:
        """The model to answer with: that of before until all is made from a new recommender."""
        recommender = self._current()
        if recommender is not self._latest and not self._renewal.is_alive():
            # The map and the index for searching take seconds, which no request shall wait for.
            self._latest = recommender
            self._renewal = Thread(target=self._renew, args=(recommender,), daemon=True)
            self._renewal.start()
        return self._model

    def _renew(self, recommender: Recommender) -> None:
        self._model = Model.of(recommender)
        self.metrics.loaded.set(self._model.loaded_at.timestamp())


def deployment_of(request: Request) -> Deployment:
    """That of the application which a request came to."""
    found: Deployment = request.app.state.deployment
    return found
