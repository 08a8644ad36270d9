"""Reading parameters that an earlier version of this library saved."""

from __future__ import annotations

from typing import Any

from torch import nn


def read_earlier_form(
    network: nn.Module, state: dict[str, Any], prefix: str, *_others: object
) -> None:
    """Let parameters load that were saved when there was one LSTM and nothing beside it.

    What was not there adds nothing as long as it is new.
    """
    earlier = [name for name in state if name.startswith(f"{prefix}lstm.")]
    if not earlier:
        return
    for name in earlier:
        state[name.replace("lstm.", "layers.0.", 1)] = state.pop(name)
    state[f"{prefix}log_popularity"] = state[f"{prefix}item_bias"].log_softmax(0)
    for name, tensor in network.state_dict().items():
        state.setdefault(f"{prefix}{name}", tensor)
