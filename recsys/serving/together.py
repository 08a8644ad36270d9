"""Requests that come at the same moment, answered as one batch.

To go through a history alone, all weights of the network are read at every step; for several at
once, they are read once. So under load each costs less. A request that comes alone waits for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from recsys.recommender import Item, Recommender

_AT_ONCE = 64
"""Histories answered in one piece: the event loop waits for some milliseconds at most."""

Records: TypeAlias = list[dict[str, Any]]
Wishes: TypeAlias = tuple[tuple[str, int | float | None], ...]


@dataclass(frozen=True)
class _Waiting:
    history: Sequence[Item]
    answer: asyncio.Future[Records]


class Together:
    """`Recommender.next_items` for requests that wish for the same."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Recommender, Wishes], list[_Waiting]] = {}

    async def next_items(
        self, recommender: Recommender, history: Sequence[Item], **wishes: float | None
    ) -> Records:
        """The records of the answer.

        Raises:
            UnknownItemError: the history holds what the catalogue does not.
        """
        for item in history:
            recommender.index_of(item)  # here, so that one's mistake is not the others'
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer_all)  # after the requests that have come already
        mine = _Waiting(history, loop.create_future())
        self._waiting.setdefault((recommender, tuple(wishes.items())), []).append(mine)
        return await mine.answer

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (recommender, wishes), those in waiting.items():
            for start in range(0, len(those), _AT_ONCE):
                some = [one for one in those[start : start + _AT_ONCE] if not one.answer.done()]
                try:
                    answers = _answer(recommender, [one.history for one in some], dict(wishes))
                except Exception as error:  # noqa: BLE001, told to each of those who wait
                    for one in some:
                        one.answer.set_exception(error)
                    continue
                for one, records in zip(some, answers, strict=True):
                    one.answer.set_result(records)


def _answer(
    recommender: Recommender, histories: list[Sequence[Item]], wishes: dict[str, Any]
) -> list[Records]:
    if len(histories) == 1:
        return [recommender.next_items(histories[0], **wishes).as_records()]
    answers: list[Records] = [[] for _ in histories]
    rows = recommender.recommend_batch(histories, **wishes).as_records()
    for row, records in groupby(rows, key=lambda record: int(record.pop("row"))):
        answers[row] = list(records)
    return answers
