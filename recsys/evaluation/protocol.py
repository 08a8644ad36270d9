"""How items are ranked, and what must agree for two results to be laid side by side."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.config import Config
from recsys.data import Split, Subset

Fingerprint = Mapping[str, str | int | float]

FINGERPRINT = "fingerprint"
"""Under which name tables of ranks carry theirs."""


class RankingProtocol(Config):
    """How the catalogue is ranked; all of it always is, ties by item index."""

    mask_seen: bool = True
    """Leave out what the user has watched, except the target itself."""

    def fingerprint(self, split: Split, subset: Subset) -> dict[str, str | int | float]:
        """What must agree for two results to be comparable: data, split, targets, ranking.

        The names of settings come before digests, so that of two fingerprints that differ the
        first difference is one that a person can read.
        """
        return {
            **split.fingerprint(subset),
            "seen_items": "left out, the target excepted" if self.mask_seen else "ranked",
            "ties": "lower item index first",
        }


DEFAULT_PROTOCOL = RankingProtocol()


def require_comparable(fingerprints: Mapping[str, Fingerprint]) -> None:
    """Refuse to lay results side by side that were not measured alike.

    Args:
        fingerprints: what each result was measured on, by name.

    Raises:
        ValueError: two differ; names the first difference, digests last.
    """
    names = list(fingerprints)
    for name in names[1:]:
        one, other = fingerprints[names[0]], fingerprints[name]
        for key in sorted({**one, **other}, key=lambda key: key.endswith("digest")):
            if one.get(key) != other.get(key):
                raise ValueError(
                    f"{names[0]} and {name} are not comparable: {key} is {one.get(key)!r} for the "
                    f"one, {other.get(key)!r} for the other"
                )
