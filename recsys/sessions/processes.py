"""One training over one process or several (data-parallel, started by `torchrun`)."""

from __future__ import annotations

import logging
import os
from typing import TypeVar

import torch
from torch import Tensor

from recsys.config import Runtime

_Batch = TypeVar("_Batch")


class Processes:
    """The processes that train together; each has the whole data and learns from its share.

    `torchrun` tells each process its number and how many there are, in RANK and WORLD_SIZE.
    After every step the gradients are averaged (torch's DistributedDataParallel). The first
    process alone writes checkpoints; only its dropout goes on where a checkpoint stood.
    """

    def __init__(self, runtime: Runtime) -> None:
        from lightning_fabric import Fabric  # slow to import: not for those who only score

        # It would print which precision it was asked for.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.n = int(os.environ.get("WORLD_SIZE", "1"))
        self.fabric = Fabric(
            accelerator=runtime.torch_device().type,
            devices=self.n if self.n > 1 else 1,
            strategy="ddp" if self.n > 1 else "auto",
            precision=runtime.torch_precision(),
        )
        if self.n > 1:
            self.fabric.launch()
            # Each process draws its own dropout; the data order is the same in all of them.
            torch.manual_seed(runtime.seed + self.fabric.global_rank)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.fabric.global_rank == 0

    def own_share(self, batches: list[_Batch]) -> list[_Batch]:
        """Every n-th batch; as many for each process, so that a few may be learned twice."""
        n_steps = -(-len(batches) // self.n)
        rank = self.fabric.global_rank
        return [batches[(step * self.n + rank) % len(batches)] for step in range(n_steps)]

    def sum_over(self, total: Tensor, count: int) -> tuple[Tensor, int]:
        """The sums of a tensor and of a count over all processes."""
        if self.n == 1:
            return total, count
        both = self.fabric.all_reduce(
            torch.stack([total, total.new_tensor(count)]), reduce_op="sum"
        )
        return both[0], int(both[1])
