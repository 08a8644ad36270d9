"""Training that begins where an earlier model ended, on a catalogue that may have changed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.sessions.network import SessionNetwork
from recsys.sessions.session_model import SessionModel
from recsys.vocabulary import Vocabulary

PER_ITEM = ("item_embeddings.weight", "item_bias")
"""The parameters with a row per item; a row past the last is the padding."""
_OF_THE_DATA = ("log_popularity", "temperature")


@torch.no_grad()
def start_from(network: SessionNetwork, items: Vocabulary, earlier: SessionModel) -> None:
    """Copy what an earlier model has learned; items are told apart by their ids.

    What an item that it does not know starts with says nothing but its popularity: the vector
    is zero, the bias stays as it was initialised.

    Args:
        network: initialised, of these items; changed in place.
        items: what the network is to know.
        earlier: the model to go on from.

    Raises:
        ConfigError: the two are not built alike.
    """
    place = torch.from_numpy(earlier.items.indices(items.ids)).long()
    known = place >= 0
    own, learned = network.state_dict(), earlier.network.state_dict()
    _require_alike(own, learned)
    for name, target in own.items():
        source = learned[name].to(target.device)
        if name in PER_ITEM:
            target[: len(items)][known] = source[place[known]]
        elif name not in _OF_THE_DATA:
            target.copy_(source)
    network.item_embeddings.weight[: len(items)][~known] = 0.0


def parameters_digest(model: SessionModel) -> str:
    """Hex SHA-256 of the parameters of a model."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _require_alike(own: dict[str, Tensor], learned: dict[str, Tensor]) -> None:
    """Raise unless both have the same parameters, of the same shapes but for the items."""
    shapes = [
        {
            name: tuple(tensor.shape[1:] if name in PER_ITEM else tensor.shape)
            for name, tensor in state.items()
            if name not in _OF_THE_DATA
        }
        for state in (own, learned)
    ]
    if shapes[0] != shapes[1]:
        differing = sorted(
            name for name in {*shapes[0], *shapes[1]} if shapes[0].get(name) != shapes[1].get(name)
        )
        raise ConfigError(
            "the model to start from is built otherwise, as its "
            f"{', '.join(differing[:3])} tell: pass a configuration with the same cell, sizes, "
            "layers and attention, or train from the beginning"
        )
