"""Interactions in a folder: as they are, to be read again without any checks.

manifest.json      what it is, size and SHA-256 of every file
events.npz         user and item of each row, and rating and time where there are some
users.parquet      ids in index order
catalogue.parquet  one row per item, in index order
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from recsys import columns
from recsys.data.interactions import Interactions, offsets_of
from recsys.errors import BundleError
from recsys.storage import (
    atomic_folder,
    read_arrays,
    verify_manifest,
    write_arrays,
    write_manifest,
)
from recsys.vocabulary import Vocabulary

FORMAT: Final = "recsys interactions, version 1"


def save_interactions(interactions: Interactions, folder: Path) -> Path:
    """Write interactions to a folder; it appears whole or not at all."""
    events = {
        "user_index": interactions.user_index,
        "item_index": interactions.item_index,
        "rating": interactions.rating,
        "timestamp": interactions.timestamp,
    }
    with atomic_folder(folder) as draft:
        write_arrays(draft / "events.npz", **{k: v for k, v in events.items() if v is not None})
        users = pd.DataFrame({columns.USER_ID: interactions.users.ids})
        users.to_parquet(draft / "users.parquet", index=False)
        interactions.catalogue.to_parquet(draft / "catalogue.parquet", index=False)
        write_manifest(draft, format=FORMAT, digest=interactions.digest)
    return folder


def load_interactions(folder: Path) -> Interactions:
    """Read interactions that `save_interactions` wrote.

    Raises:
        BundleError: the folder holds none, or a file is missing or damaged.
    """
    manifest = verify_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} holds {manifest.get('format', 'something else')!r}, not {FORMAT!r}"
        )
    events = read_arrays(folder / "events.npz")
    users = Vocabulary(pd.read_parquet(folder / "users.parquet")[columns.USER_ID].to_numpy())
    catalogue = pd.read_parquet(folder / "catalogue.parquet")
    lengths = np.bincount(events["user_index"], minlength=len(users))
    return Interactions(
        user_index=events["user_index"],
        item_index=events["item_index"],
        rating=events.get("rating"),
        timestamp=events.get("timestamp"),
        user_offsets=offsets_of(lengths),
        users=users,
        items=Vocabulary(catalogue[columns.ITEM_ID].to_numpy()),
        catalogue=catalogue,
    )
