"""Fitted embeddings as a folder, with what their fit told on the way."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.callbacks import History
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.errors import BundleError
from recsys.storage import (
    atomic_folder,
    read_json,
    verify_manifest,
    write_json,
    write_manifest,
)
from recsys.vocabulary import Vocabulary

_VECTORS, _FIT = "vectors.safetensors", "fit.json"


def save_embeddings(embeddings: ItemEmbeddings, history: History, folder: Path) -> None:
    """Write vectors, losses and the metrics of each epoch; the folder appears whole or not at all.

    Args:
        embeddings: what was fitted.
        history: what the fit told.
        folder: an older one is replaced.
    """
    fit = {
        "loss": embeddings.loss,
        "relative_loss": embeddings.relative_loss,
        "optimum_loss": embeddings.optimum_loss,
        "epochs": history.to_json(),
    }
    with atomic_folder(folder) as draft:
        save_file({"vectors": embeddings.vectors.copy(order="C")}, draft / _VECTORS)
        write_json(draft / _FIT, fit)
        write_manifest(draft)


def load_embeddings(folder: Path, items: Vocabulary) -> tuple[ItemEmbeddings, History]:
    """Read what `save_embeddings` wrote.

    Args:
        folder: where it lies.
        items: which items the vectors are of.

    Raises:
        BundleError: the folder is missing or altered, or is of other items.
    """
    verify_manifest(folder)
    try:
        vectors = load_file(folder / _VECTORS)["vectors"]
        fit = read_json(folder / _FIT)
        losses = (fit["loss"], fit["relative_loss"], fit["optimum_loss"])
        history = History.from_json(fit["epochs"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(f"{folder} does not hold fitted embeddings: {error}") from error
    if len(vectors) != len(items):
        raise BundleError(f"{folder} holds vectors of {len(vectors)} items, not of {len(items)}")
    return ItemEmbeddings(vectors, items, *losses), history
