"""What a bundle holds, and how it is put together from the results of a pipeline run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from recsys.embeddings import ItemEmbeddings
from recsys.recommender.bundle.histories import Histories
from recsys.recommender.bundle.pair_counts import PairCounts
from recsys.sessions import NumpySessionModel, Weights, from_torch, to_torch
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.cooccurrence import Cooccurrence
    from recsys.data import Interactions, Subset
    from recsys.evaluation import Report
    from recsys.sessions import SessionModel

N_NEIGHBOURS = 100
"""How many neighbours of each item are kept."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle folder holds, in memory."""

    catalogue: pd.DataFrame
    """One row per item, in index order: `item_id`, `title` and whatever else is known."""
    embeddings: ItemEmbeddings
    neighbour_index: NDArray[np.int32]
    """The nearest items of each item, best first, -1 where there are no more, [n_items, K]."""
    neighbour_cosine: NDArray[np.float32]
    """Their cosine to the item, [n_items, K]."""
    weights: Weights
    """Of the session model."""
    config: Mapping[str, Any]
    """The configuration of each stage, as plain values."""
    metrics: Mapping[str, Any]
    counts: PairCounts | None = None
    """Who liked both; None in bundles of version 1."""
    histories: Histories | None = None
    """Who watched what, where it was asked for."""

    @property
    def items(self) -> Vocabulary:
        """The items that can be recommended."""
        return self.embeddings.items

    @cached_property
    def session_model(self) -> SessionModel:
        """The session model for torch, made when it is first asked for, on the CPU."""
        return to_torch(self.weights, self.items)


def make_bundle(
    catalogue: pd.DataFrame,
    embeddings: ItemEmbeddings,
    session_model: SessionModel,
    config: Mapping[str, BaseModel],
    reports: Mapping[Subset, Report],
    *,
    counts: Cooccurrence | None = None,
    histories: Interactions | None = None,
) -> Bundle:
    """Put the results of a pipeline run together and find each item's neighbours.

    Args:
        catalogue: one row per item, in index order.
        embeddings: of the items.
        session_model: over the same items.
        config: the configuration of each stage.
        reports: how the session model did.
        counts: what the embeddings were fitted to; the bundle keeps the largest of each item, for
            explanations.
        histories: whose watches the bundle shall hold, for `recommend_user`. They are
            personal data: leave them out of bundles that travel.

    Raises:
        ValueError: the parts are of different catalogues.
    """
    parts = (session_model.items, *(part.items for part in (counts, histories) if part is not None))
    if len(catalogue) != len(embeddings.items) or any(embeddings.items != part for part in parts):
        raise ValueError("all parts of a bundle must have the same items")
    index, cosine = embeddings.neighbours(N_NEIGHBOURS)
    weights = from_torch(session_model)
    return Bundle(
        catalogue=catalogue,
        embeddings=embeddings,
        neighbour_index=index,
        neighbour_cosine=cosine,
        weights=weights,
        config={stage: settings.model_dump(mode="json") for stage, settings in config.items()},
        metrics={target: dict(report.metrics) for target, report in reports.items()},
        counts=None if counts is None else PairCounts.of(counts),
        histories=None
        if histories is None
        else Histories.of(histories, NumpySessionModel(weights)),
    )
