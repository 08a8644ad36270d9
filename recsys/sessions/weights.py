"""The parameters of a session model as plain arrays, and the model made from them again.

Only making the model needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.sessions.config import KEY_DIM, SessionConfig
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from recsys.sessions.session_model import SessionModel


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of a session model."""

    config: SessionConfig
    arrays: Mapping[str, NDArray[Any]]
    """By the names that they have in `SessionNetwork.state_dict()`."""


def shapes_of(config: SessionConfig, n_items: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a network of this configuration, and their shapes."""
    d, h = config.embedding_dim or 0, config.hidden_dim
    shapes: dict[str, tuple[int, ...]] = {
        "item_embeddings.weight": (n_items + 1, d),
        "item_bias": (n_items,),
        "log_popularity": (n_items,),
        "temperature": (),
        "shortcut.weight": (d, (1 + len(config.ema_half_lives)) * d),
        **_affine("input_norm", d),
        **_affine("output", d, h),
    }
    if config.attention:
        for part, rows in (("key", KEY_DIM), ("query", KEY_DIM), ("value", d)):
            shapes |= _affine(f"attention.{part}", rows, h)
    if config.feed_forward:
        inner = config.feed_forward * d
        shapes |= _affine("feed_forward.norm", d)
        shapes |= _affine("feed_forward.expand", inner, d)
        shapes |= _affine("feed_forward.contract", d, inner)
    gates = _GATES[config.cell] * h
    for layer in range(config.n_layers):
        for kind, columns in (("ih", h if layer else d), ("hh", h)):
            shapes[f"layers.{layer}.weight_{kind}_l0"] = (gates, columns)
            shapes[f"layers.{layer}.bias_{kind}_l0"] = (gates,)
    return shapes


_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _affine(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def of_today(weights: Weights, items: Vocabulary) -> Weights:
    """The same parameters under today's names, checked against the configuration.

    Raises:
        ValueError: they are not those of a network of this configuration and catalogue.
    """
    if any(name.startswith("lstm.") for name in weights.arrays):
        weights = from_torch(to_torch(weights, items))  # an earlier form, which torch's side reads
    wanted = shapes_of(weights.config, len(items))
    for name in sorted(wanted.keys() | weights.arrays.keys()):
        found = weights.arrays[name].shape if name in weights.arrays else None
        if found != wanted.get(name):
            raise ValueError(
                f"the session model's parameter {name!r} has shape {found}, where its "
                f"configuration and catalogue ask for {wanted.get(name)}"
            )
    return weights


def from_torch(model: SessionModel) -> Weights:
    """The parameters of a model; on a CPU they share its memory."""
    state = model.network.state_dict()
    return Weights(model.config, {name: p.detach().cpu().numpy() for name, p in state.items()})


def to_torch(
    weights: Weights, items: Vocabulary, device: torch.device | None = None
) -> SessionModel:
    """The model that has these parameters.

    Raises:
        RuntimeError: the parameters are not those of a network of this configuration and
            catalogue.
    """
    import torch

    from recsys.sessions.network import SessionNetwork
    from recsys.sessions.session_model import SessionModel

    network = SessionNetwork(len(items), weights.config)
    # Copies: arrays that were read from a file may not be written to, and a network may learn.
    network.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in weights.arrays.items()}
    )
    return SessionModel(network.to(device or torch.device("cpu")).eval(), items)
