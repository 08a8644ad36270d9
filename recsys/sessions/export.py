"""The scoring of a session model as a program that runs without this library.

`torch.export` writes the computation and its parameters to one `.pt2` file, which
`torch.export.load` reads anywhere torch is, and AOTInductor compiles for C++. It is made for
others to run: recsys itself reads bundles, never such files.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.sessions.network import SessionNetwork
from recsys.sessions.session_model import SessionModel
from recsys.storage import atomic_file


class _Scorer(nn.Module):
    """`SessionModel.score` on a padded batch."""

    def __init__(self, network: SessionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        steps, _ = self.network.recur(items_BL)
        logits_BN = self.network.logits(self.network.read_out_at(lengths_B - 1, steps))
        logits_BN = logits_BN / self.network.temperature
        if self.network.config.exclude_seen:
            # Padding marks a column of its own, beyond the last item.
            seen_BN = torch.zeros_like(logits_BN[:, :1]).expand(-1, self.network.n_items + 1)
            seen_BN = seen_BN.scatter(1, items_BL, 1.0)[:, :-1]
            logits_BN = logits_BN.masked_fill(seen_BN > 0, -torch.inf)
        return logits_BN.log_softmax(1)


def export_scorer(model: SessionModel, path: Path, length: int = 50) -> Path:
    """Write the scoring of histories as a `.pt2` file, atomically.

    The program takes `items` (int64, [B, length], padded at the end with `n_items`) and `lengths`
    (int64, [B], from one to `length`) and gives log-probabilities (float32, [B, n_items]), equal
    to those of `SessionModel.score`. The number of histories is free; their greatest length is
    fixed, because torch writes out the steps of a recurrent network one by one.

    Args:
        model: a trained model; it is not changed.
        path: where the file shall be; its name ends in `.pt2`.
        length: how many watches, at most, a history has.
    """
    scorer = _Scorer(model.network).eval()
    device = model.network.item_bias.device
    items_BL = torch.zeros(2, length, dtype=torch.int64, device=device)
    lengths_B = torch.ones(2, dtype=torch.int64, device=device)
    free = {0: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        # A recurrent layer lays its weights out anew; torch need not tell.
        warnings.filterwarnings("ignore", "The tensor attributes? self.network.layers")
        program = torch.export.export(
            scorer, (items_BL, lengths_B), dynamic_shapes={"items_BL": free, "lengths_B": free}
        )
    with atomic_file(path) as draft:
        torch.export.save(program, draft)
    return path
