"""Where flows keep what they need again: below `data/work`, named by content."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
WORK = DATA / "work"
RECOMMENDATIONS = DATA / "recommendations"


def counts_folder(digest: str) -> Path:
    """Co-occurrence counts, and the interactions that they are of."""
    return WORK / "counts" / digest


def interactions_folder(digest: str) -> Path:
    """Interactions, for other processes to read."""
    return WORK / "interactions" / digest


def checkpoint_folder(digest: str) -> Path:
    """The state of a training after its latest epoch."""
    return WORK / "checkpoints" / digest
