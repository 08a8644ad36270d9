"""Embeddings in formats that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.errors import DataError
from recsys.storage import atomic_file


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
    ids = embeddings.items.ids.tolist() if names is None else names
    keys = ["_".join(str(name).split()) for name in ids]
    if len(keys) != len(embeddings.items):
        raise DataError(f"there are {len(keys)} names for {len(embeddings.items)} items")
    if len(set(keys)) != len(keys) or "" in keys:
        raise DataError("names are empty or occur twice, and readers need one for each item")
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.write(f"{len(keys)} {embeddings.dim}\n")
        for key, vector in zip(keys, embeddings.vectors, strict=True):
            file.write(f"{key} {' '.join(f'{value:.9g}' for value in vector)}\n")
