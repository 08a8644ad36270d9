"""Where flows keep what they need again: below `data/work`, named by content."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
WORK = DATA / "work"
RECOMMENDATIONS = DATA / "recommendations"


def counts_folder(digest: str) -> Path:
    """Co-occurrence counts, and the interactions that they are of."""
    return WORK / "counts" / digest


def embeddings_folder(digest: str) -> Path:
    """Fitted embeddings, and what their fit told by epoch."""
    return WORK / "embeddings" / digest


def reports_folder(digest: str) -> Path:
    """How a baseline did, and with which settings."""
    return WORK / "reports" / digest


def interactions_folder(digest: str) -> Path:
    """Interactions, for other processes to read."""
    return WORK / "interactions" / digest


def checkpoint_folder(digest: str) -> Path:
    """The state of a training after its latest epoch."""
    return WORK / "checkpoints" / digest
