"""The settings of a training run, from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from recsys.config import Config, Runtime, faults_of
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import ReadingConfig
from recsys.embeddings import EmbeddingConfig
from recsys.errors import ConfigError
from recsys.sessions import SessionConfig


class TrainSettings(Config):
    """Everything that a training run can be told; what is left out has its default."""

    reading: ReadingConfig = ReadingConfig()
    counting: CooccurrenceConfig = CooccurrenceConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    session: SessionConfig = SessionConfig()
    runtime: Runtime = Runtime()
    experiment: str = "recsys"
    model_name: str = "recsys"


def read_settings(path: Path | None) -> TrainSettings:
    """Read settings from a TOML file with a table per stage; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, or names something that is not there or cannot be.
    """
    if path is None:
        return TrainSettings()
    try:
        return TrainSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(f"{path}: {faults_of(error)}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
