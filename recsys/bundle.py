"""The folder that is deployed: one verified directory with all that recommending needs.

manifest.json               format, library versions, size and SHA-256 of every file
config.json                 the configuration of each stage
items.parquet               the catalogue, in index order
embeddings.safetensors      item vectors
session_model.safetensors   the recurrent network's parameters
neighbours.npz              the nearest items of each item, and their cosine
metrics.json                validation and test metrics of the session model
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys import columns
from recsys.data import Target
from recsys.embeddings import ItemEmbeddings
from recsys.errors import BundleError
from recsys.evaluation import Report
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork
from recsys.storage import (
    atomic_folder,
    read_arrays,
    read_json,
    verify_manifest,
    write_arrays,
    write_json,
    write_manifest,
)
from recsys.vocabulary import Vocabulary

FORMAT_VERSION = 1
N_NEIGHBOURS = 100
"""How many neighbours of each item are kept."""

_LIBRARIES = ("numpy", "torch", "pandas", "safetensors")


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
    session_model: SessionModel
    config: Mapping[str, Any]
    """The configuration of each stage, as plain values."""
    metrics: Mapping[str, Any]

    @property
    def items(self) -> Vocabulary:
        """The items that can be recommended."""
        return self.session_model.items


def make_bundle(
    catalogue: pd.DataFrame,
    embeddings: ItemEmbeddings,
    session_model: SessionModel,
    config: Mapping[str, BaseModel],
    reports: Mapping[Target, Report],
) -> Bundle:
    """Put the results of a pipeline run together and find each item's neighbours.

    Raises:
        ValueError: the parts are of different catalogues.
    """
    if embeddings.items != session_model.items or len(catalogue) != len(embeddings.items):
        raise ValueError("catalogue, embeddings and session model must have the same items")
    index, cosine = embeddings.neighbours(N_NEIGHBOURS)
    return Bundle(
        catalogue=catalogue,
        embeddings=embeddings,
        neighbour_index=index,
        neighbour_cosine=cosine,
        session_model=session_model,
        config={stage: settings.model_dump(mode="json") for stage, settings in config.items()},
        metrics={target: dict(report.metrics) for target, report in reports.items()},
    )


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle folder; it appears whole or not at all."""
    with atomic_folder(folder) as draft:
        vectors = torch.from_numpy(np.ascontiguousarray(bundle.embeddings.vectors))
        fitted = bundle.embeddings
        facts = {
            "loss": fitted.loss,
            "relative_loss": fitted.relative_loss,
            "optimum_loss": fitted.optimum_loss,
        }
        network = bundle.session_model.network
        parameters = {name: p.cpu().contiguous() for name, p in network.state_dict().items()}
        save_file({"vectors": vectors}, draft / "embeddings.safetensors")
        save_file(parameters, draft / "session_model.safetensors")
        write_arrays(
            draft / "neighbours.npz", index=bundle.neighbour_index, cosine=bundle.neighbour_cosine
        )
        bundle.catalogue.to_parquet(draft / "items.parquet", index=False)
        stages = {
            **bundle.config,
            "session": network.config.model_dump(mode="json"),
            "embeddings": facts,
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


def load_bundle(folder: Path, device: torch.device | None = None) -> Bundle:
    """Read and verify a bundle folder.

    Raises:
        BundleError: it is missing, incomplete, altered, or of an unknown format.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such folder")
    manifest = verify_manifest(folder)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{folder} has bundle format {manifest.get('format_version')}; "
            f"this version of recsys reads format {FORMAT_VERSION}"
        )
    try:
        return _read(folder, device or torch.device("cpu"))
    except (KeyError, ValidationError, SafetensorError, RuntimeError, OSError) as error:
        raise BundleError(f"{folder} does not hold what a bundle should: {error}") from error


def _read(folder: Path, device: torch.device) -> Bundle:
    config = read_json(folder / "config.json")
    catalogue = pd.read_parquet(folder / "items.parquet")
    items = Vocabulary(catalogue[columns.ITEM_ID].to_numpy())
    network = SessionNetwork(len(items), SessionConfig.model_validate(config["session"]))
    network.load_state_dict(load_file(folder / "session_model.safetensors"))
    neighbours = read_arrays(folder / "neighbours.npz")
    facts = config["embeddings"]
    vectors = load_file(folder / "embeddings.safetensors")["vectors"].numpy()
    return Bundle(
        catalogue=catalogue,
        embeddings=ItemEmbeddings(
            vectors, items, facts["loss"], facts["relative_loss"], facts.get("optimum_loss")
        ),
        neighbour_index=neighbours["index"],
        neighbour_cosine=neighbours["cosine"],
        session_model=SessionModel(network.to(device).eval(), items),
        config=config,
        metrics=read_json(folder / "metrics.json"),
    )
