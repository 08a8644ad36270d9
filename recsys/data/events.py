"""Kinds of events, such as views and purchases: how much each counts, and which form histories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import EVENT, normalize
from recsys.config import did_you_mean
from recsys.data.ids import EncodedColumn, encode_ids, is_text
from recsys.data.options import ReadOptions, normalize_kind
from recsys.errors import DataError

_WORDS: Final = {
    0.1: "view pageview productview detailview productdetailview viewitem itemview viewproduct "
    "pv click clk clickitem detail details visit browse open",
    0.5: "cart addtocart addcart tocart addtobasket basket fav favorite favourite addtofavorites "
    "like wishlist addtowishlist collect bookmark save checkout begincheckout",
    1.0: "purchase purchased buy bought order ordered orderitem transaction sale conversion "
    "play listen stream watch",
    0.0: "removefromcart removecart removefromwishlist impression exposure",
}
_KNOWN: Final = {word: weight for weight, words in _WORDS.items() for word in words.split()}
"""Weights of usual kinds, as `normalize_kind` writes them."""

_VIEWS: Final = frozenset(_WORDS[0.1].split())
_AMBIGUOUS: Final = ("action", "kind", "type")
"""Names of columns that hold kinds of events only if one of these is known."""
_MAX_KINDS: Final = 50
_MAX_SHOWN: Final = 5


# eq=False: comparing arrays element by element gives no single answer.
@dataclass(frozen=True, eq=False)
class Events:
    """The kind of each row, and what each kind is for."""

    codes: NDArray[np.int32]
    """Index into `kinds` of each row, [n]; -1 if it has none."""
    kinds: tuple[str, ...]
    weights: NDArray[np.float32]
    """How much each kind counts, [n_kinds]; NaN if it is neither given nor known."""
    in_sequence: NDArray[np.bool_]
    """Which kinds form the histories, [n_kinds]."""
    notes: tuple[str, ...] = ()
    """Which kinds of the options no row has, and that views are not known."""

    @cached_property
    def row_weights(self) -> NDArray[np.float32]:
        """How much each row counts, [n]; NaN if that is not known."""
        return np.append(self.weights, np.float32(np.nan))[self.codes]

    @cached_property
    def rows_in_sequence(self) -> NDArray[np.bool_]:
        """Which rows form the histories, [n]."""
        return np.append(self.in_sequence, False)[self.codes]

    @property
    def remedy(self) -> str:
        """The settings that give the kinds that are not known a weight, or ignore all kinds."""
        pairs = zip(self.kinds, self.weights.tolist(), strict=True)
        entries = [
            f"{k!r} = {'...' if math.isnan(weight) else f'{weight:g}'}" for k, weight in pairs
        ]
        has_views = not _VIEWS.isdisjoint(map(normalize_kind, self.kinds))
        views = "" if has_views else ", and which are views, sequence_events = ['...']"
        return (
            f"set how much each kind counts, events = {{{', '.join(entries)}}}{views}, or read the "
            'log without kinds, columns = {event = ""}'
        )

    def roles(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """What each kind is for, and how many of some rows and of all, `n_read`, are of it."""
        used, read = (
            np.bincount(codes, minlength=len(self.kinds)).tolist()
            for codes in (self.codes[rows], self.codes[self.codes >= 0])
        )
        values = used, read, self.weights.tolist(), self.in_sequence.tolist()
        return [
            {
                "kind": kind, "n_rows": n_used, "n_read": n_read,
                "weight": float(f"{weight:g}"), "in_sequence": is_in,
            }
            for kind, n_used, n_read, weight, is_in in zip(self.kinds, *values, strict=True)
        ]  # fmt: skip


def encode_kinds(column: pa.ChunkedArray) -> EncodedColumn:
    """Encode a column of text or numbers; kinds are text."""
    is_encoded = pa.types.is_dictionary(column.type) and is_text(column.type.value_type)
    return encode_ids(column if is_encoded else column.cast(pa.large_string()), has_types=False)


def why_no_kinds(column: pa.ChunkedArray, name: str, options: ReadOptions) -> str:
    """Why a column with a usual name for kinds of events has something else; empty if it has them.

    Of those whose name may mean something else, one must be known or in the options.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (is_text(kind) or pa.types.is_integer(kind) or _is_whole(column)):
        return f"holds {kind}, not text or whole numbers"
    kinds = _kinds(encode_kinds(column))
    known = {*_KNOWN, *map(normalize_kind, (*options.events, *options.sequence_events))}
    if not 0 < len(kinds) <= _MAX_KINDS:
        return f"has {len(kinds):,} kinds, not 1 to {_MAX_KINDS}"
    if normalize(name) in _AMBIGUOUS and known.isdisjoint(map(normalize_kind, kinds)):
        return f"has no known kind ({', '.join(map(repr, kinds[:_MAX_SHOWN]))})"
    return ""


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Whether a column holds floats without decimals, as integers with missing values become."""
    if not pa.types.is_floating(column.type):
        return False
    is_whole = pc.or_(pc.equal(pc.floor(column), column), pc.is_nan(column))
    return pc.all(is_whole).as_py() is True


def _kinds(encoded: EncodedColumn) -> list[str]:
    distinct = encoded.distinct.cast(pa.string()).to_pylist()
    return [kind for kind, is_id in zip(distinct, encoded.is_id, strict=True) if is_id]


def parse_events(column: pa.ChunkedArray | None, options: ReadOptions) -> Events | None:
    """The kind of each row, [n], and the weights and roles that the options give the kinds.

    A single kind counts 1 unless the options give it a weight.

    Raises:
        DataError: None of the kinds of `sequence_events` occurs.
    """
    if column is None:
        return None
    encoded = encode_kinds(column)
    found = _kinds(encoded)
    code_of = np.full(len(encoded.distinct) + 1, -1, dtype=np.int32)
    code_of[np.flatnonzero(encoded.is_id)] = np.arange(len(found))
    plain = [normalize_kind(kind) for kind in found]
    given = {normalize_kind(kind): weight for kind, weight in options.events.items()}
    weights = (_KNOWN if len({*plain}) > 1 else dict.fromkeys(plain, 1.0)) | given
    chosen = frozenset(map(normalize_kind, options.sequence_events))
    unseen = {
        kind: f"no row is of the kind {kind!r} in {setting}{did_you_mean(kind, found)}"
        for setting, kinds in (
            ("events", options.events),
            ("sequence_events", options.sequence_events),
        )
        for kind in kinds
        if normalize_kind(kind) not in plain
    }
    if chosen and chosen.isdisjoint(plain):
        raise DataError(
            f"{unseen[options.sequence_events[0]]}; the kinds in column {EVENT!r} are "
            f"{', '.join(map(repr, found))}"
        )
    notes = [*unseen.values()]
    counted = frozenset(kind for kind in plain if weights.get(kind, 0) > 0)
    if not chosen and len(counted) > 1 and _KNOWN.keys().isdisjoint(plain):
        notes.append(
            "no kind of event is known to be a view, so that all that count form the histories; "
            "set sequence_events to those that do, such as views"
        )
    chosen = chosen or _VIEWS.intersection(plain) or counted
    return Events(
        code_of[encoded.codes],
        tuple(found),
        np.array([weights.get(kind, np.nan) for kind in plain], dtype=np.float32),
        np.array([kind in chosen for kind in plain], dtype=np.bool_),
        tuple(notes),
    )
