"""Embeddings in formats that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.errors import DataError
from recsys.storage import atomic_file, atomic_folder


def write_parquet(embeddings: ItemEmbeddings, path: Path) -> None:
    """Write a row per item: `item_id`, and `vector`, a list of float32."""
    flat = pa.array(embeddings.vectors.ravel())
    table = pa.table(
        {
            columns.ITEM_ID: embeddings.items.ids.tolist(),
            "vector": pa.FixedSizeListArray.from_arrays(flat, embeddings.dim),
        }
    )
    with atomic_file(path) as draft:
        pq.write_table(table, draft)


def write_word2vec(
    embeddings: ItemEmbeddings, path: Path, names: Sequence[str] | None = None
) -> None:
    """Write the text format of word2vec: a line `n_items dim`, then a line per item.

    gensim (`KeyedVectors.load_word2vec_format`) and most tools for word vectors read it. White
    space separates the fields, so that within names it becomes `_`.

    Args:
        embeddings: what to write.
        path: where to.
        names: what to call the items, in index order; by default their ids.

    Raises:
        DataError: two items would have the same name, or there are not as many as items.
    """
    keys = ["_".join(name.split()) for name in _names(embeddings, names)]
    if len(set(keys)) != len(keys) or "" in keys:
        raise DataError("names are empty or occur twice, and readers need one for each item")
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.write(f"{len(keys)} {embeddings.dim}\n")
        for key, vector in zip(keys, embeddings.vectors, strict=True):
            file.write(f"{key} {_digits(vector, ' ')}\n")


def write_projector(
    embeddings: ItemEmbeddings, folder: Path, names: Sequence[str] | None = None
) -> None:
    """Write what TensorBoard's embedding projector shows: `tensorboard --logdir` the folder.

    `vectors.tsv` and `metadata.tsv` have a line per item, its vector and its name, and can be
    loaded by hand as well. The projector takes the first line of metadata of more than one column
    for a header; of a single column, it does not. `projector_config.pbtxt` tells it of both.

    Args:
        embeddings: what to write.
        folder: appears when all files are written; an older one is replaced.
        names: what to call the items, in index order; by default their ids.

    Raises:
        DataError: there are not as many names as items.
    """
    labels = [" ".join(name.split()) for name in _names(embeddings, names)]
    with atomic_folder(folder) as draft:
        vectors = "".join(f"{_digits(vector, chr(9))}\n" for vector in embeddings.vectors)
        (draft / "vectors.tsv").write_text(vectors, encoding="utf-8")
        metadata = "".join(f"{label}\n" for label in labels)
        (draft / "metadata.tsv").write_text(metadata, encoding="utf-8")
        (draft / "projector_config.pbtxt").write_text(_PROJECTOR_CONFIG, encoding="utf-8")


_PROJECTOR_CONFIG = """\
embeddings {
  tensor_name: "items"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def _names(embeddings: ItemEmbeddings, names: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in (embeddings.items.ids.tolist() if names is None else names)]
    if len(known) != len(embeddings.items):
        raise DataError(f"there are {len(known)} names for {len(embeddings.items)} items")
    return known


def _digits(vector_D: NDArray[np.float32], between: str) -> str:
    """As many digits as make the same float32 again."""
    return between.join(f"{value:.9g}" for value in vector_D)
