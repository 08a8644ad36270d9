"""The bundle: one verified folder with everything that is needed to recommend.

manifest.json               format version, library versions, when the model was trained, size and
                            SHA-256 of every file
config.json                 the configuration of each stage, and the loss of the embeddings
items.parquet               the catalogue in index order: item_id, title, genres where known
embeddings.safetensors      the item embeddings
session_model.safetensors   the parameters of the session model
neighbours.npz              the nearest items of each item and their cosines
metrics.json                validation and test metrics of the session model, and the recall of
                            answers by clusters
clusters.npz                the cluster of each item, so that answers need not score all of more
                            than 200,000 items (optional)
cooccurrence.npz            the largest co-occurrence counts of each item (optional)
user_histories.npz          the users' histories, for `recommend_user` (optional)

Shapes: U users, D query vector of the session model.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.numpy import load_file, save_file

from recsys import columns
from recsys.arguments import shown
from recsys.data.catalogue import require_catalogue_size
from recsys.embeddings import ItemEmbeddings, vector_bytes
from recsys.embeddings.neighbours import ANN_THRESHOLD
from recsys.errors import BundleError, DataError, QueryError, UnknownUserError
from recsys.recommender.catalogue_file import catalogue_fault, read_catalogue
from recsys.recommender.clusters import cluster_items
from recsys.recommender.inverted_file import Clusters
from recsys.recommender.scoring import Histories
from recsys.sessions import (
    NumpySessionModel,
    SessionConfig,
    Weights,
    from_torch,
    parameter_bytes,
    to_torch,
)
from recsys.storage import (
    MANIFEST,
    atomic_folder,
    installed_versions,
    read_arrays,
    read_json,
    verify_manifest,
    write_arrays,
    write_json,
    write_manifest,
)
from recsys.vocabulary import ID, Vocabulary

if TYPE_CHECKING:
    from recsys.cooccurrence import Cooccurrence, CooccurrenceBlocks
    from recsys.data import Interactions, Subset
    from recsys.evaluation import Report
    from recsys.sessions import SessionModel

FORMAT_VERSION = 1

N_NEIGHBOURS = 100
"""Number of neighbours stored for each item."""

N_PARTNERS = 256
"""Number of co-occurrence counts stored for each item, the largest ones."""

_REQUIRED = {
    "config.json",
    "embeddings.safetensors",
    "items.parquet",
    "metrics.json",
    "neighbours.npz",
    "session_model.safetensors",
}
_CLUSTERS = "clusters.npz"
_PAIR_COUNTS, _USER_HISTORIES = "cooccurrence.npz", "user_histories.npz"
_ENCODE_BATCH = 256


@dataclass(frozen=True, eq=False, repr=False)
class PairCounts:
    """The largest co-occurrence counts of each item, in CSR layout."""

    offsets: NDArray[np.int64]
    """Item i's row is `offsets[i]` to `offsets[i + 1]`, [n_items + 1]."""
    partners: NDArray[np.int32]
    """The other item, ascending within a row, [n]."""
    counts: NDArray[np.int32]
    """Number of users with a positive interaction with both, [n]."""
    is_complete: NDArray[np.bool_]
    """Whether an item's row holds all of its non-zero counts, [n_items]."""

    @classmethod
    def from_cooccurrence(
        cls, cooccurrence: Cooccurrence | CooccurrenceBlocks
    ) -> PairCounts | None:
        """The largest counts. None if counts are not numbers of users (windows, weights)."""
        if cooccurrence.window is not None or cooccurrence.weights is not None:
            return None
        from recsys.cooccurrence import keep_top_k

        lengths, largest = [], []
        for block in cooccurrence:
            lengths.append(np.diff(block.matrix.indptr))
            largest.append(keep_top_k(block.matrix, N_PARTNERS))
        kept = np.concatenate([np.diff(matrix.indptr) for matrix in largest])
        return cls(
            offsets=np.concatenate([[0], kept.cumsum(dtype=np.int64)]),
            partners=np.concatenate([matrix.indices for matrix in largest]).astype(np.int32),
            counts=np.concatenate([matrix.data for matrix in largest]).astype(np.int32),
            is_complete=np.concatenate(lengths) == kept,
        )

    def count(self, a: int, b: int) -> int | None:
        """The count of a pair. None if it is not stored, or the items are the same."""
        if a == b:
            return None
        for row, partner in ((a, b), (b, a)):
            start, stop = self.offsets[row], self.offsets[row + 1]
            position = start + np.searchsorted(self.partners[start:stop], partner)
            if position < stop and self.partners[position] == partner:
                return int(self.counts[position])
        return 0 if self.is_complete[a] or self.is_complete[b] else None


@dataclass(frozen=True, eq=False, repr=False)
class UserHistories:
    """The users' histories, and the session model's query vector after each."""

    users: Vocabulary
    offsets: NDArray[np.int64]
    """User u's history is `offsets[u]` to `offsets[u + 1]`, [n_users + 1]."""
    item_index: NDArray[np.int32]
    """The items, user after user, oldest first, [n]."""
    state_vectors: NDArray[np.float32]
    """The query vector after each history, so that histories need not be encoded again,
    [n_users, D]; zero for empty histories."""

    @classmethod
    def from_interactions(
        cls, interactions: Interactions, model: NumpySessionModel
    ) -> UserHistories:
        """All interactions of all users; if histories are sessions, those of their latest."""
        interactions = interactions.sequence().latest_sessions()
        vectors_UD = np.zeros((interactions.n_users, model.item_embeddings_ND.shape[1]), np.float32)
        users = np.flatnonzero(interactions.history_lengths > 0)
        by_length = users[np.argsort(interactions.history_lengths[users], kind="stable")]
        for start in range(0, len(by_length), _ENCODE_BATCH):
            batch = by_length[start : start + _ENCODE_BATCH]
            vectors_UD[batch] = model.encode_batch([interactions.history(u) for u in batch])
        return cls(
            interactions.users, interactions.user_offsets, interactions.item_index, vectors_UD
        )

    def history(self, user: int) -> NDArray[np.int32]:
        """The items of the user with this index, oldest first, [length]."""
        return self.item_index[self.offsets[user] : self.offsets[user + 1]]

    def indices(self, user_ids: Sequence[ID]) -> NDArray[np.integer]:
        """The indices of users.

        Raises:
            UnknownUserError: A user has no history here.
            QueryError: An id is neither an integer nor text.
        """
        ids = [user.item() if isinstance(user, np.generic) else user for user in user_ids]
        for user in ids:
            if isinstance(user, bool) or not isinstance(user, int | str):
                raise QueryError(f"{shown(user)} is a {type(user).__name__}, not the id of a user")
        users = self.users.indices(ids)
        if (users < 0).any():
            unknown = ids[int(np.argmax(users < 0))]
            raise UnknownUserError(f"the bundle has no history of user {shown(unknown)}")
        return users

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays to store. User ids are integers or fixed-width text."""
        ids = self.users.ids
        return {**vars(self), "users": ids if ids.dtype == np.int64 else ids.astype(np.str_)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> UserHistories:
        """The inverse of `arrays`."""
        ids = arrays["users"]
        if ids.ndim != 1 or (ids.dtype != np.int64 and ids.dtype.kind != "U"):
            raise ValueError(f"the ids of users are {ids.dtype}: they must be int64 or text")
        users = Vocabulary(ids if ids.dtype == np.int64 else ids.astype(object))
        return cls(**{**arrays, "users": users})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Bundle:
    """The content of a bundle folder."""

    catalogue: pd.DataFrame
    """One row per item, in index order: `item_id`, `title` and any other attributes."""
    embeddings: ItemEmbeddings
    neighbour_index: NDArray[np.int32]
    """The nearest items of each item, best first, padded with -1, [n_items, K]."""
    neighbour_cosine: NDArray[np.float32]
    """Their cosines, [n_items, K]."""
    weights: Weights
    """The parameters of the session model."""
    config: Mapping[str, Any]
    """The configuration of each stage."""
    metrics: Mapping[str, Any]
    pair_counts: PairCounts | None = None
    user_histories: UserHistories | None = None
    clusters: Clusters | None = None
    """None if answers score all items."""
    trained_at: datetime | None = None
    """When the session model was trained; None if it was not recorded."""

    def __repr__(self) -> str:
        return f"<Bundle of {len(self.items):,} items>"

    @property
    def items(self) -> Vocabulary:
        """The items that can be recommended."""
        return self.embeddings.items

    @cached_property
    def session_model(self) -> SessionModel:
        """The session model in torch, on the CPU. Created on first access."""
        return to_torch(self.weights, self.items)


def make_bundle(
    catalogue: pd.DataFrame,
    embeddings: ItemEmbeddings,
    session_model: SessionModel,
    config: Mapping[str, BaseModel],
    reports: Mapping[Subset, Report],
    *,
    cooccurrence: Cooccurrence | CooccurrenceBlocks | None = None,
    interactions: Interactions | None = None,
    sample: Histories = (),
    trained_at: datetime | None = None,
) -> Bundle:
    """Assemble a bundle from the results of training and compute each item's neighbours.

    Args:
        catalogue: One row per item, in index order.
        embeddings: The item embeddings.
        session_model: A session model of the same items.
        config: The configuration of each stage.
        reports: Evaluation of the session model.
        cooccurrence: The counts that the embeddings were fitted to, for explanations. The bundle
            stores the largest counts of each item.
        interactions: The users' histories, for `recommend_user`. They are personal data: omit them
            from bundles that are published.
        sample: Histories, such as those of the validation targets. With them, more than 200,000
            items are clustered, so that answers need not score all of them. The recall of these
            answers is measured, as `metrics["search"]`; below 0.99 there are no clusters.
        trained_at: When the session model was trained, with a time zone. Without it, the same
            results give the same files.

    Raises:
        ValueError: The parts have different items.
    """
    parts = [part.items for part in (session_model, cooccurrence, interactions) if part is not None]
    if len(catalogue) != len(embeddings.items) or any(embeddings.items != items for items in parts):
        raise ValueError("all parts of a bundle must have the same items")
    weights = from_torch(session_model)
    metrics: dict[str, Any] = {subset: dict(report.metrics) for subset, report in reports.items()}
    clusters = None
    if len(catalogue) > ANN_THRESHOLD and len(sample) > 1:
        clusters, metrics["search"] = cluster_items(embeddings, weights, sample)
    return Bundle(
        catalogue,
        embeddings,
        *embeddings.neighbours(N_NEIGHBOURS),
        weights,
        config={stage: settings.model_dump(mode="json") for stage, settings in config.items()},
        metrics=metrics,
        pair_counts=None if cooccurrence is None else PairCounts.from_cooccurrence(cooccurrence),
        user_histories=None
        if interactions is None
        else UserHistories.from_interactions(interactions, NumpySessionModel(weights)),
        clusters=clusters,
        trained_at=trained_at,
    )


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle folder atomically.

    Raises:
        DataError: The catalogue has columns of other types, or too much text.
    """
    if fault := catalogue_fault(bundle.catalogue):
        raise DataError(f"the catalogue{fault}")
    require_catalogue_size(bundle.catalogue, "the catalogue")
    embeddings, weights = bundle.embeddings, bundle.weights
    config = {
        **bundle.config,
        "session_model": weights.config.model_dump(mode="json"),
        "repeats": weights.repeats,
        "embeddings_fit": {
            name: getattr(embeddings, name) for name in ("loss", "relative_loss", "optimum_loss")
        },
    }
    with atomic_folder(folder) as path:
        write_json(path / "config.json", config)
        write_json(path / "metrics.json", bundle.metrics)
        bundle.catalogue.to_parquet(path / "items.parquet", index=False)
        save_file(_contiguous({"vectors": embeddings.vectors}), path / "embeddings.safetensors")
        save_file(_contiguous(weights.arrays), path / "session_model.safetensors")
        write_arrays(
            path / "neighbours.npz", index=bundle.neighbour_index, cosine=bundle.neighbour_cosine
        )
        if (clusters := bundle.clusters) is not None:
            share = np.array(clusters.max_missed)
            write_arrays(path / _CLUSTERS, cluster=clusters.cluster, max_missed=share)
        if bundle.pair_counts is not None:
            write_arrays(path / _PAIR_COUNTS, **vars(bundle.pair_counts))
        if bundle.user_histories is not None:
            write_arrays(path / _USER_HISTORIES, **bundle.user_histories.arrays())
        write_manifest(
            path,
            format_version=FORMAT_VERSION,
            python=platform.python_version(),
            libraries=installed_versions("numpy", "torch", "pandas", "safetensors"),
            trained_at=bundle.trained_at and bundle.trained_at.isoformat(timespec="seconds"),
        )
    return folder


def _contiguous(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def bundle_bytes(n_items: int, dim: int, config: SessionConfig) -> int:
    """The size of a bundle, at least: its vectors and the parameters of its session model."""
    return vector_bytes(n_items, dim) + parameter_bytes(config, n_items)


def load_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle folder.

    Raises:
        BundleError: The bundle is missing, incomplete, modified or of an unknown format.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} does not exist or is not a folder")
    manifest = verify_manifest(folder)
    format_version = manifest.get("format_version")
    if format_version != FORMAT_VERSION or isinstance(format_version, bool):
        raise BundleError(
            f"{folder} has bundle format {format_version}; this version of recsys reads format "
            f"{FORMAT_VERSION}: upgrade recsys, or train the model again"
        )
    missing = sorted(_REQUIRED - set(manifest["files"]))
    if missing:
        raise BundleError(f"{folder / missing[0]} is missing from {MANIFEST}")
    try:
        trained_at = manifest.get("trained_at")
        bundle = _read(folder, set(manifest["files"]))
        if trained_at is not None:
            bundle = replace(bundle, trained_at=datetime.fromisoformat(trained_at))
    except BundleError:
        raise
    except Exception as error:  # the libraries raise many kinds, MemoryError among them
        message = f"{type(error).__name__}: {error}"
        raise BundleError(f"{folder} has invalid content: {message}") from error
    return bundle


def _read(folder: Path, files: set[str]) -> Bundle:
    config = read_json(folder / "config.json")
    weights = Weights(
        SessionConfig.model_validate(config["session_model"]),
        load_file(folder / "session_model.safetensors"),
        config["repeats"],
    )
    n_items = len(weights.arrays["item_embeddings.weight"]) - 1
    weights.require_shapes(n_items)
    catalogue = read_catalogue(folder / "items.parquet", n_items)
    items = Vocabulary(catalogue[columns.ITEM_ID].to_numpy())
    neighbours = read_arrays(folder / "neighbours.npz")
    vectors = load_file(folder / "embeddings.safetensors")["vectors"]
    clusters, counts, histories = (
        read_arrays(folder / name) if name in files else None
        for name in (_CLUSTERS, _PAIR_COUNTS, _USER_HISTORIES)
    )
    bundle = Bundle(
        catalogue=catalogue,
        embeddings=ItemEmbeddings(vectors, items, **config["embeddings_fit"]),
        neighbour_index=neighbours["index"],
        neighbour_cosine=neighbours["cosine"],
        weights=weights,
        config=config,
        metrics=read_json(folder / "metrics.json"),
        pair_counts=None if counts is None else PairCounts(**counts),
        user_histories=None if histories is None else UserHistories.from_arrays(histories),
        clusters=None
        if clusters is None
        else Clusters(clusters["cluster"], float(clusters["max_missed"])),
    )
    _require_valid(bundle)
    return bundle


def _require_valid(bundle: Bundle) -> None:
    """Raise a ValueError if an array has another type or size, or a value is out of range.

    The shapes of the session model's parameters are checked by `Weights.require_shapes`.
    """
    _require_types(bundle)
    n, vectors = len(bundle.items), bundle.embeddings.vectors
    index, cosine = bundle.neighbour_index, bundle.neighbour_cosine
    if {len(vectors), len(index)} != {n}:
        raise ValueError(f"the embeddings or the neighbours are not those of {n:,} items")
    if index.shape != cosine.shape:
        raise ValueError(f"there are {index.shape} neighbours, but {cosine.shape} cosines")
    numbers = {"embeddings": vectors, "cosines": cosine, **bundle.weights.arrays}
    _require_indices("neighbours", index, -1, n)
    if (clusters := bundle.clusters) is not None:
        cluster = clusters.cluster
        _require_indices("clusters", cluster, 0, n)
        if cluster.shape != (n,) or not 0 <= clusters.max_missed <= 1:
            raise ValueError(f"the clusters are not those of {n:,} items")
    if (pairs := bundle.pair_counts) is not None:
        _require_indices("co-occurrence counts", pairs.partners, 0, n)
        _require_offsets(
            "co-occurrence counts", pairs.offsets, len(pairs.is_complete), pairs.counts
        )
        _require_offsets("co-occurrence counts", pairs.offsets, n, pairs.partners)
    if (users := bundle.user_histories) is not None:
        _require_indices("histories", users.item_index, 0, n)
        _require_offsets("histories", users.offsets, len(users.users), users.item_index)
        _require_offsets("histories", users.offsets, len(users.state_vectors), users.item_index)
        dim = bundle.weights.arrays["item_embeddings.weight"].shape[1]
        if users.state_vectors.shape[1] != dim:
            raise ValueError(f"the state vectors do not have {dim} dimensions")
        numbers["state vectors"] = users.state_vectors
    for name, array in numbers.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} has values that are not finite numbers")


def _require_types(bundle: Bundle) -> None:
    """Raise a ValueError if an array has values of another kind, or another number of axes."""
    expected: list[tuple[str, int, dict[str, NDArray[Any]]]] = [
        ("f", 2, {"vectors": bundle.embeddings.vectors, "cosines": bundle.neighbour_cosine}),
        ("i", 2, {"neighbours": bundle.neighbour_index}),
        *(("f", array.ndim, {name: array}) for name, array in bundle.weights.arrays.items()),
    ]
    if (clusters := bundle.clusters) is not None:
        expected += [("i", 1, {"clusters": clusters.cluster})]
    if (pairs := bundle.pair_counts) is not None:
        offsets, partners, counts = pairs.offsets, pairs.partners, pairs.counts
        expected += [
            ("i", 1, {"offsets": offsets, "partners": partners, "counts": counts}),
            ("b", 1, {"is_complete": pairs.is_complete}),
        ]
    if (users := bundle.user_histories) is not None:
        expected += [
            ("i", 1, {"offsets": users.offsets, "item_index": users.item_index}),
            ("f", 2, {"state_vectors": users.state_vectors}),
        ]
    for kinds, n_axes, arrays in expected:
        for name, array in arrays.items():
            if array.dtype.kind not in kinds or array.ndim != n_axes:
                shape = " × ".join(map(str, array.shape))
                raise ValueError(f"{name!r} is an array of {array.dtype} of {shape} values")


def _require_indices(name: str, index: NDArray[np.integer], lowest: int, n_items: int) -> None:
    if index.size and not (index.min() >= lowest and index.max() < n_items):
        raise ValueError(f"the {name} have an index that is not that of one of {n_items:,} items")


def _require_offsets(
    name: str, offsets: NDArray[np.int64], n_rows: int, entries: NDArray[Any]
) -> None:
    fits = len(offsets) == n_rows + 1 and offsets[0] == 0 and offsets[-1] == len(entries)
    if not fits or (np.diff(offsets) < 0).any():
        raise ValueError(f"the offsets of the {name} do not fit {n_rows:,} rows")
