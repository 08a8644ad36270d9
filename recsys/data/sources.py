"""What is known of the public data sets: where each is, how to know it, on what terms."""

from __future__ import annotations

import tomllib
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field


class Source(BaseModel):
    """A public data set: where it is, how to know it, and on what terms it may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The name of the folder that it becomes."""
    title: str
    """What it is, in one line."""
    home: str
    """The page about it."""
    url: str
    """The zip archive, with one folder at its top."""
    bytes: int = Field(gt=0)
    """Size of the archive."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the archive, in hex."""
    max_members: int = Field(gt=0)
    """Files and folders that the archive may hold at most."""
    max_unpacked_bytes: int = Field(gt=0)
    """Bytes that the archive may unpack to at most."""
    licence: str
    """The terms of use, in short, and what to cite."""


def public_sources() -> dict[str, Source]:
    """List the data sets that `fetch` knows, by name.

    Example:
        >>> list(public_sources())[:3]
        ['ml-latest-small', 'ml-100k', 'ml-1m']
    """
    text = resources.files("recsys.data").joinpath("sources.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    licences = table["licences"]
    return {
        name: Source(name=name, **facts | {"licence": licences[facts["licence"]]})
        for name, facts in table["sources"].items()
    }
