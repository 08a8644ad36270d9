"""The base of all configurations, and where a computation runs: device, precision, seed, threads.

Hyper-parameters live beside the stage that they configure; what depends on the machine lives
here, apart from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.errors import ConfigError

# torch takes seconds to import, and most who read a configuration compute nothing with it.
if TYPE_CHECKING:
    import torch


MODEL_NAME = "recsys"
"""The registered model, unless a flow is told another name."""

CHAMPION_ALIAS = "champion"
"""The alias of the version in use."""

CHAMPION = f"models:/{MODEL_NAME}@{CHAMPION_ALIAS}"
"""The model in use, as the pipeline registers it."""

POLL_INTERVAL = 30.0
"""Seconds between two checks for a new champion."""


class Config(BaseModel):
    """Base of all configurations: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def format_validation_error(error: ValidationError) -> str:
    """What is wrong with some settings, in a line: each field, its value, and why not."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r}: {fault['msg']}"
        for fault in error.errors()
    )


class Runtime(Config):
    """Device, precision, seed and threads of a computation.

    The same seed on the same machine, with the same number of threads, gives the same model
    on CPU.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""

    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Arithmetic in which the session model is trained; `auto` is bf16 on a GPU and on a CPU that
    has instructions for it, else float32."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Every random number is drawn from generators seeded with this."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads; by default, what torch takes by itself."""

    def torch_device(self) -> torch.device:
        """The device to compute on.

        Raises:
            ConfigError: a GPU is asked for and there is none.
        """
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ConfigError("device 'cuda' was asked for, but torch sees no GPU: use 'auto'")
        return torch.device("cuda" if available and self.device != "cpu" else "cpu")

    def torch_precision(self) -> Literal["32-true", "bf16-mixed"]:
        """The arithmetic to compute in, as Lightning Fabric names it."""
        if self.precision != "auto":
            return self.precision
        fast = self.torch_device().type == "cuda" or _cpu_has_bf16()
        return "bf16-mixed" if fast else "32-true"

    @contextmanager
    def limit_threads(self) -> Iterator[None]:
        """Hold torch to `threads` within the block; the number before is put back after it."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies matrices of bf16 by itself; without, it would be slower so."""
    import torch

    # Older versions of torch do not tell.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def available_threads(runtime: Runtime | None = None) -> int:
    """How many threads to compute with.

    `Runtime.threads` where it is set, else OMP_NUM_THREADS, else the cores that this process
    may run on.
    """
    if runtime is not None and runtime.threads is not None:
        return runtime.threads
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number for each level
    if not named:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not named.isdecimal() or int(named) < 1:
        raise ConfigError(f"OMP_NUM_THREADS is {named!r}: it must be a number, 1 or higher")
    return int(named)
