"""Embeddings on disk: a verified folder, and formats of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys import columns, storage
from recsys.arguments import require, require_type, to_list, to_path
from recsys.callbacks import History
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.errors import BundleError, ConfigError, DataError
from recsys.storage import atomic_file, atomic_folder, require_new
from recsys.vocabulary import Vocabulary

_VECTORS, _FIT = "vectors.safetensors", "fit.json"
_LOSSES = ("loss", "relative_loss", "optimum_loss")

_PROJECTOR_CONFIG = """\
embeddings {
  tensor_name: "items"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def save_embeddings(embeddings: ItemEmbeddings, history: History, folder: Path | str) -> None:
    """Write vectors, losses and the metrics of each epoch to a folder, which is replaced."""
    require_type(embeddings, ItemEmbeddings, "fit_embeddings")
    require(History, history=history)
    folder = to_path(folder, ConfigError)
    losses = {name: getattr(embeddings, name) for name in _LOSSES}
    fit = losses | {"epochs": history.to_json()}
    with atomic_folder(folder) as tmp_path:
        save_file({"vectors": embeddings.vectors.copy(order="C")}, tmp_path / _VECTORS)
        storage.write_json(tmp_path / _FIT, fit)
        storage.write_manifest(tmp_path)


def vector_bytes(n_items: int, dim: int) -> int:
    """The size of the vectors of embeddings."""
    return n_items * dim * np.dtype(np.float32).itemsize


def load_embeddings(folder: Path | str, items: Vocabulary) -> tuple[ItemEmbeddings, History]:
    """Read what `save_embeddings` wrote for these items.

    Raises:
        BundleError: The folder is missing or damaged, or has another number of items.
    """
    require(Vocabulary, items=items)
    folder = to_path(folder, BundleError)
    storage.verify_manifest(folder)
    try:
        vectors = load_file(folder / _VECTORS)["vectors"]
        fit = storage.read_json(folder / _FIT)
        losses = [fit[name] for name in _LOSSES]
        history = History.from_json(fit["epochs"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(f"{folder} does not contain fitted embeddings: {error}") from error
    if len(vectors) != len(items):
        raise BundleError(f"{folder} has vectors of {len(vectors)} items, expected {len(items)}")
    return ItemEmbeddings(vectors, items, *losses), history


def write_parquet(embeddings: ItemEmbeddings, path: Path | str) -> None:
    """Write a Parquet file with one row per item: `item_id`, and `vector`, a list of float32."""
    require_type(embeddings, ItemEmbeddings, "fit_embeddings")
    path = to_path(path, ConfigError)
    flat = pa.array(embeddings.vectors.ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, embeddings.dim)
    table = pa.table({columns.ITEM_ID: embeddings.items.ids.tolist(), "vector": vectors})
    with atomic_file(require_new(path)) as tmp_path:
        pq.write_table(table, tmp_path)


def write_word2vec(
    embeddings: ItemEmbeddings, path: Path | str, names: Sequence[str] | None = None
) -> None:
    """Write the word2vec text format, which gensim and most tools for word vectors read.

    The first line is `n_items dim`, then follows one line per item. White space separates the
    fields, and is replaced by `_` in `names`, which default to the ids.

    Raises:
        DataError: Names are empty or not unique, or their number differs from that of the items.
    """
    path = to_path(path, ConfigError)
    keys = _item_names(embeddings, names, "_")
    if len(set(keys)) != len(keys) or "" in keys:
        raise DataError("names are empty or occur twice: every item needs a unique name")
    with atomic_file(require_new(path)) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(f"{len(keys)} {embeddings.dim}\n")
        for key, vector in zip(keys, embeddings.vectors, strict=True):
            file.write(f"{key} {_format_vector(vector, ' ')}\n")


def write_projector(
    embeddings: ItemEmbeddings, folder: Path | str, names: Sequence[str] | None = None
) -> None:
    """Write a folder for TensorBoard's embedding projector (`tensorboard --logdir <folder>`).

    `vectors.tsv` and `metadata.tsv` have one line per item, without a header. `names` default to
    the ids.

    Raises:
        DataError: The number of names differs from that of the items.
    """
    folder = to_path(folder, ConfigError)
    labels = _item_names(embeddings, names, " ")
    vectors = [_format_vector(vector, "\t") for vector in embeddings.vectors]
    with atomic_folder(folder) as tmp_path:
        for name, lines in (("vectors.tsv", vectors), ("metadata.tsv", labels)):
            content = "".join(f"{line}\n" for line in lines)
            (tmp_path / name).write_text(content, encoding="utf-8")
        (tmp_path / "projector_config.pbtxt").write_text(_PROJECTOR_CONFIG, encoding="utf-8")


def _item_names(
    embeddings: ItemEmbeddings, names: Sequence[str] | None, separator: str
) -> list[str]:
    """The names with each run of white space replaced by a separator; by default the ids."""
    require_type(embeddings, ItemEmbeddings, "fit_embeddings")
    names = embeddings.items.ids.tolist() if names is None else to_list("names", names)
    if len(names) != len(embeddings.items):
        raise DataError(f"there are {len(names)} names for {len(embeddings.items)} items")
    return [separator.join(str(name).split()) for name in names]


def _format_vector(vector_D: NDArray[np.float32], separator: str) -> str:
    """Enough digits to recover the same float32 values."""
    return separator.join(f"{value:.9g}" for value in vector_D)
