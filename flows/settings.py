"""All settings of the flows, in one class that defines TOML keys, options and form fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from recsys.config import MODEL_NAME, Config, Runtime
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import DataConfig
from recsys.embeddings import EmbeddingConfig
from recsys.errors import ConfigError
from recsys.evaluation import PromotionRule
from recsys.sessions import SessionConfig

Choices = dict[str, list[Any]]
TrialConfig = EmbeddingConfig | SessionConfig


class WarmStart(Config):
    """How `refresh` continues to train the champion's session model."""

    epochs: int = Field(default=4, ge=1)
    """Training epochs; fewer are needed than from scratch."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate; lower than from scratch, so that the model keeps what it has learned."""


class SearchSpace(Config):
    """A grid of settings; embeddings and session models are searched separately."""

    embeddings: Choices = Field(
        default={"optimizer": ["scaled_sgd", "sgd", "adam"], "dim": [16, 32, 64]}
    )
    """Values for fields of `EmbeddingConfig`."""

    session_model: Choices = Field(default={})
    """Values for fields of `SessionConfig`; empty by default, since each trial is a training."""

    @model_validator(mode="after")
    def _validate_trials(self) -> SearchSpace:
        if not self.trials():
            raise ValueError("the search space is empty: set values of embeddings or session_model")
        return self

    def trials(self) -> dict[str, TrialConfig]:
        """All combinations by name, each validated. Names begin with the settings that differ.

        Example:
            >>> space = SearchSpace(embeddings={"dim": [8, 16]}, session_model={"cell": ["gru"]})
            >>> list(space.trials())
            ['dim=8 embeddings', 'dim=16 embeddings', 'session_model']
        """
        trials: dict[str, TrialConfig] = {}
        grids = [("embeddings", self.embeddings), ("session_model", self.session_model)]
        for stage, choices in grids:
            for values in product(*choices.values()) if choices else ():
                given = dict(zip(choices, values, strict=True))
                differing = [f"{key}={value}" for key, value in given.items() if choices[key][1:]]
                name = " ".join([*differing, stage])
                config_class = EmbeddingConfig if stage == "embeddings" else SessionConfig
                try:
                    trials[name] = config_class.model_validate(given)
                except ConfigError as error:
                    raise ValueError(f"{stage}.{error}") from error
        return trials


class Settings(Config):
    """The settings of all flows; each flow has some of them as parameters."""

    source: str | None = None
    """A folder or file of ratings. By default the one that the champion was trained on, read in the
    same way unless `data` is set; without a champion MovieLens latest-small or, for the very first
    training, a synthetic sample if there is no network."""

    data: DataConfig = DataConfig()
    """How the ratings are read, validated, filtered and split."""

    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    """Which interactions are positive, and which pairs of them are counted."""

    embeddings: EmbeddingConfig = EmbeddingConfig()
    """The item embeddings."""

    session_model: SessionConfig = SessionConfig()
    """The session model."""

    runtime: Runtime = Runtime()
    """Device, precision, seed, threads and memory."""

    promotion: PromotionRule = PromotionRule()
    """What a new model must show to become champion."""

    replace_champion: bool = False
    """Make the new model champion without comparing it: for a champion that cannot be loaded, is of
    another catalogue, or has learned the validation targets."""

    warm_start: WarmStart = WarmStart()
    """How `refresh` continues from the champion."""

    search: SearchSpace = SearchSpace()
    """The trials of `sweep`."""

    include_user_histories: bool | None = None
    """Store the users' histories, which are personal data, in the bundle, for `recommend_user`. By
    default `train` omits them, and `refresh` does the same as for the champion."""

    experiment: str | None = None
    """The MLflow experiment; by default it is named after the source and the protocol."""

    model_name: str = Field(default=MODEL_NAME, pattern=r"^[^/:\s][^/:\x00-\x1f]*$", max_length=250)
    """The registered model; one name per catalogue. MLflow allows no slash and no colon in it."""

    cluster: str | None = Field(default=None, coerce_numbers_to_str=True)
    """The address of a Dask scheduler, whose workers see the same paths, or a number of workers to
    start on this machine. They count, evaluate, tune baselines, run trials of a sweep and recommend
    to all users; the results are the same."""

    k: int = Field(default=10, ge=1, le=1000)
    """How many items `recommend` lists for each user."""

    day: date | None = None
    """The day whose recommendations are written; today, in UTC, by default."""

    output_dir: Path | None = None
    """Where results are written; by default `data/recommendations`."""

    @field_validator("cluster")
    @classmethod
    def _require_address(cls, cluster: str | None) -> str | None:
        if cluster is not None and not re.fullmatch(r"[1-9]\d*|[a-z]+://\S+", cluster):
            raise ValueError(
                "expected the address of a Dask scheduler, such as tcp://10.0.0.1:8786, or a "
                "number of workers"
            )
        return cluster


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of the flows; see `Config.from_file`."""
    return Settings.from_file(path, overrides)
