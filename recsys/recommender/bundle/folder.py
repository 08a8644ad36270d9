"""Bundles to and from their folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys import columns
from recsys.embeddings import ItemEmbeddings
from recsys.errors import BundleError
from recsys.recommender.bundle.contents import Bundle
from recsys.recommender.bundle.histories import Histories
from recsys.recommender.bundle.pair_counts import PairCounts
from recsys.sessions import SessionConfig, Weights
from recsys.sessions.weights import of_today
from recsys.storage import (
    MANIFEST,
    atomic_folder,
    read_arrays,
    read_json,
    verify_manifest,
    write_arrays,
    write_json,
    write_manifest,
)
from recsys.vocabulary import Vocabulary

FORMAT_VERSION = 3
READABLE = (1, 2, 3)
"""The versions of the format that are read."""
_BEFORE_FORMAT_3: dict[str, Any] = {"ema_half_lives": (), "ema_dropout": 0.0}
"""What the configuration of a session model did not say, as it could not be otherwise."""

_REQUIRED = {
    "config.json",
    "embeddings.safetensors",
    "items.parquet",
    "metrics.json",
    "neighbours.npz",
    "session_model.safetensors",
}
_COUNTS, _HISTORIES = "cooccurrence.npz", "histories.npz"
_LIBRARIES = ("numpy", "torch", "pandas", "safetensors")


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle folder; it appears whole or not at all."""
    with atomic_folder(folder) as draft:
        fitted = bundle.embeddings
        facts = {
            "loss": fitted.loss,
            "relative_loss": fitted.relative_loss,
            "optimum_loss": fitted.optimum_loss,
        }
        weights = bundle.weights
        save_file(_contiguous({"vectors": fitted.vectors}), draft / "embeddings.safetensors")
        save_file(_contiguous(weights.arrays), draft / "session_model.safetensors")
        write_arrays(
            draft / "neighbours.npz", index=bundle.neighbour_index, cosine=bundle.neighbour_cosine
        )
        if bundle.counts is not None:
            write_arrays(draft / _COUNTS, **bundle.counts.arrays())
        if bundle.histories is not None:
            write_arrays(draft / _HISTORIES, **bundle.histories.arrays())
        bundle.catalogue.to_parquet(draft / "items.parquet", index=False)
        stages = {
            **bundle.config,
            "session_model": weights.config.model_dump(mode="json"),
            "embedding_fit": facts,
        }
        write_json(draft / "config.json", stages)
        write_json(draft / "metrics.json", bundle.metrics)
        write_manifest(
            draft,
            format_version=FORMAT_VERSION,
            python=platform.python_version(),
            libraries={name: version(name) for name in _LIBRARIES},
        )
    return folder


def _contiguous(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def load_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle folder.

    Raises:
        BundleError: it is missing, incomplete, altered, or of an unknown format.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such folder")
    manifest = verify_manifest(folder)
    _require_readable(folder, manifest.get("format_version"))
    missing = sorted(_REQUIRED - set(manifest["files"]))
    if missing:
        raise BundleError(f"{folder / missing[0]} is missing from {MANIFEST}")
    try:
        return _read(folder, set(manifest["files"]))
    except (KeyError, TypeError, ValueError, SafetensorError, OSError, BadZipFile) as error:
        raise BundleError(f"{folder} does not hold what a bundle should: {error}") from error


def _require_readable(folder: Path, format_version: object) -> None:
    if format_version in READABLE:
        return
    known = f"{READABLE[0]} to {FORMAT_VERSION}"
    newer = isinstance(format_version, int) and format_version > FORMAT_VERSION
    remedy = "; it was written by a newer one: upgrade recsys" if newer else ""
    raise BundleError(
        f"{folder} has bundle format {format_version}; "
        f"this version of recsys reads formats {known}{remedy}"
    )


def _read(folder: Path, files: set[str]) -> Bundle:
    config = read_json(folder / "config.json")
    catalogue = pd.read_parquet(folder / "items.parquet")
    items = Vocabulary(catalogue[columns.ITEM_ID].to_numpy())
    weights = Weights(
        SessionConfig.model_validate(_BEFORE_FORMAT_3 | config["session_model"]),
        load_file(folder / "session_model.safetensors"),
    )
    neighbours = read_arrays(folder / "neighbours.npz")
    facts = config["embedding_fit"]
    return Bundle(
        catalogue=catalogue,
        embeddings=ItemEmbeddings(
            load_file(folder / "embeddings.safetensors")["vectors"],
            items,
            facts["loss"],
            facts["relative_loss"],
            facts.get("optimum_loss"),
        ),
        neighbour_index=neighbours["index"],
        neighbour_cosine=neighbours["cosine"],
        weights=of_today(weights, items),
        config=config,
        metrics=read_json(folder / "metrics.json"),
        counts=PairCounts.read(folder / _COUNTS) if _COUNTS in files else None,
        histories=Histories.read(folder / _HISTORIES) if _HISTORIES in files else None,
    )
