"""Where flows keep what they need again: below `data/cache`, named by content."""

from __future__ import annotations

from pathlib import Path

DATA_DIR = Path("data")
CACHE_DIR = DATA_DIR / "cache"
RECOMMENDATIONS_DIR = DATA_DIR / "recommendations"


def counts_dir(digest: str) -> Path:
    """Co-occurrence counts, and the interactions that they are of."""
    return CACHE_DIR / "counts" / digest


def embeddings_dir(digest: str) -> Path:
    """Fitted embeddings, and what their fit told by epoch."""
    return CACHE_DIR / "embeddings" / digest


def reports_dir(digest: str) -> Path:
    """How a baseline did, and with which settings."""
    return CACHE_DIR / "reports" / digest


def interactions_dir(digest: str) -> Path:
    """Interactions, for other processes to read."""
    return CACHE_DIR / "interactions" / digest


def checkpoint_dir(digest: str) -> Path:
    """The state of a training after its latest epoch."""
    return CACHE_DIR / "checkpoints" / digest
