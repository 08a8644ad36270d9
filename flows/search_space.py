"""What a sweep tries out: every combination of some settings."""

from __future__ import annotations

from itertools import product
from typing import Any

from pydantic import Field, model_validator

from recsys.config import Config
from recsys.embeddings import EmbeddingConfig
from recsys.sessions import SessionConfig

Choices = dict[str, list[Any]]


class Trial(Config):
    """One combination: embeddings, or a session model."""

    name: str
    """What is told of it, as `optimizer=adam dim=32`."""
    config: EmbeddingConfig | SessionConfig


class SearchSpace(Config):
    """Choices of settings; all combinations are tried, embeddings and session models apart."""

    embeddings: Choices = Field(
        default={"optimizer": ["scaled_sgd", "sgd", "adam"], "dim": [16, 32, 64]}
    )
    """Choices of fields of `EmbeddingConfig`."""

    session_model: Choices = Field(default={})
    """Choices of fields of `SessionConfig`; none by default, for each takes a training."""

    @model_validator(mode="after")
    def _refuse_wrong_values(self) -> SearchSpace:
        if not self.trials():
            raise ValueError("there is nothing to try: give values of embedding or session")
        return self

    def trials(self) -> list[Trial]:
        """All combinations, each validated.

        Example:
            >>> search = SearchSpace(embeddings={"dim": [8, 16]}, session_model={"cell": ["gru"]})
            >>> [trial.name for trial in search.trials()]
            ['embeddings dim=8', 'embeddings dim=16', 'session_model cell=gru']
        """
        stages = (
            ("embeddings", self.embeddings, EmbeddingConfig),
            ("session_model", self.session_model, SessionConfig),
        )
        return [
            Trial(name=_name(stage, settings), config=kind.model_validate(settings))
            for stage, values, kind in stages
            for settings in _combinations(values)
        ]


def _combinations(values: Choices) -> list[dict[str, Any]]:
    if not values:
        return []
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _name(stage: str, settings: dict[str, Any]) -> str:
    return " ".join([stage, *(f"{name}={value}" for name, value in settings.items())])
