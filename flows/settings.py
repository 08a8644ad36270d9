"""The settings of a training run, from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.search_space import SearchSpace
from recsys.config import Config, Runtime, format_validation_error
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import DataConfig
from recsys.embeddings import EmbeddingConfig
from recsys.errors import ConfigError
from recsys.sessions import SessionConfig


class Settings(Config):
    """Everything that flows can be told in a file; what is left out has its default."""

    data: DataConfig = DataConfig()
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    embeddings: EmbeddingConfig = EmbeddingConfig()
    session_model: SessionConfig = SessionConfig()
    runtime: Runtime = Runtime()
    search: SearchSpace = SearchSpace()
    """What the flow `sweep` tries out."""
    include_user_histories: bool | None = None
    """Whether bundles hold the users' histories, which are personal data."""
    experiment: str | None = None
    model_name: str = "recsys"

    def of_train(self) -> dict[str, Any]:
        """The parameters of the flow `train`."""
        return {name: value for name, value in self if name != "search"}


def read_settings(path: Path | None) -> Settings:
    """Read settings from a TOML file with a table per stage; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, or names something that is not there or cannot be.
    """
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(f"{path}: {format_validation_error(error)}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
