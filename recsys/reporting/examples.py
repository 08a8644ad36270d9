"""A few users by name: what they watched, what they watched next, and what they were told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys import columns
from recsys.data import Split, Subset
from recsys.evaluation import Report

SHOWN = 8
"""How many of the latest watches are shown."""


@dataclass(frozen=True)
class Recommended:
    """One place of a list."""

    title: str
    is_target: bool


@dataclass(frozen=True)
class Example:
    """One target of one user."""

    user: Any
    earlier: int
    """How many watches came before those shown."""
    history: tuple[str, ...]
    """The latest watches, oldest first."""
    target: str
    """What was watched next."""
    recommended: tuple[Recommended, ...]
    """The reference model's list, best first."""
    ranks: Mapping[str, int]
    """Where each model ranks the target."""


def draw_examples(
    reports: Mapping[str, Report], split: Split, subset: Subset, reference: str, n: int, seed: int
) -> list[Example]:
    """Draw users at random: what is chosen by hand proves nothing.

    Args:
        reports: of each model, on the same targets.
        split: where they come from.
        subset: which targets.
        reference: the model whose lists are shown.
        n: how many users, at most.
        seed: of the draw.
    """
    users = split.users(subset)
    rng = np.random.default_rng(seed)
    distinct, first = np.unique(users, return_index=True)
    chosen = rng.choice(len(distinct), size=min(n, len(distinct)), replace=False)
    titles = split.interactions.catalogue[columns.TITLE].astype(str).to_numpy()
    histories, targets = split.histories(subset), split.targets(subset)
    examples = []
    for at in first[np.sort(chosen)].tolist():
        wanted = targets[at]
        listed = reports[reference].recommended[at]
        examples.append(
            Example(
                user=reports[reference].users[at],
                earlier=max(len(histories[at]) - SHOWN, 0),
                history=tuple(titles[histories[at][-SHOWN:]]),
                target=titles[wanted],
                recommended=tuple(
                    Recommended(titles[item], bool(item == wanted)) for item in listed[listed >= 0]
                ),
                ranks={name: int(report.ranks[at]) for name, report in reports.items()},
            )
        )
    return examples
