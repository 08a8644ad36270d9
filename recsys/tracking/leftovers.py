"""What flows keep to go on from: counts, interactions and checkpoints, each in its own folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


def old_folders(work: Path, before: datetime, needed: set[str]) -> list[Path]:
    """Folders `<kind>/<digest>` in which nothing was written since a moment.

    Args:
        work: where flows keep them.
        before: the moment.
        needed: digests that stay, however old: the champion goes on from its counts.
    """
    folders = sorted(path for path in work.glob("*/*") if path.is_dir())
    return [
        folder for folder in folders if folder.name not in needed and last_written(folder) < before
    ]


def last_written(folder: Path) -> datetime:
    """When anything within a folder was last written."""
    paths = [folder, *folder.rglob("*")]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)


def size_of(folder: Path) -> int:
    """Bytes of all files within a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
