"""Names for results by what went into them: the same data, settings and program, the same name."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import recsys
from recsys.data.layouts import QUARANTINE_SUFFIX
from recsys.errors import DataError
from recsys.storage import sha256_of


def cache_key(**facts: Any) -> str:
    """Hex SHA-256 of some facts.

    Args:
        **facts: digests, configurations, plain values.
    """
    told = {
        name: fact.model_dump(mode="json") if isinstance(fact, BaseModel) else fact
        for name, fact in facts.items()
    }
    return _sha256(json.dumps(told, sort_keys=True))


def hash_files(source: Path) -> str:
    """Hex SHA-256 of a file, or of the names and bytes of the files of a folder.

    What reading itself leaves there, rows set aside, and hidden files are not looked at.

    Raises:
        DataError: there is nothing there.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    if not source.is_dir():
        return sha256_of(source)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    looked_at = [path for path in files if not path.name.startswith(".")]
    told = {
        path.relative_to(source).as_posix(): sha256_of(path)
        for path in looked_at
        if not path.name.endswith(QUARANTINE_SUFFIX)
    }
    return _sha256(json.dumps(told, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def source_hash() -> str:
    """Of every source file of the library: whatever is changed, old results are not taken for new.

    Prefect's own TASK_SOURCE looks at the body of the task alone, and not at what it calls.
    """
    folder = Path(recsys.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        sha.update(path.relative_to(folder).as_posix().encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()
