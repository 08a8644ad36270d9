"""The base class of all configurations, and the runtime: device, precision, seed and threads.

Hyper-parameters are defined in the package of the stage that they configure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.errors import ConfigError

if TYPE_CHECKING:
    import torch  # takes seconds to import

MODEL_NAME = "recsys"
"""Default name of the registered model."""

CHAMPION_ALIAS = "champion"
"""Alias of the version in use."""

CHAMPION = f"models:/{MODEL_NAME}@{CHAMPION_ALIAS}"
"""URI of the version in use."""

POLL_INTERVAL = 30.0
"""Seconds between two checks for a new champion."""

_TYPE_NAME = r"\[|^(int|str|float|datetime)$"


class Config(BaseModel):
    """Base class of all configurations: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def format_validation_error(error: ValidationError) -> str:
    """Describe invalid settings in one line: each field, its value and the reason."""
    messages: dict[str, list[str]] = {}
    for fault in error.errors():
        field, names = _locate(error.title, fault["loc"])
        if fault["type"] == "extra_forbidden":
            fault["msg"] = "no such setting" + did_you_mean(field.split(".")[-1], names)
        value = "" if fault["type"] == "missing" else f" = {fault['input']!r}"
        messages.setdefault(f"{field}{value}: " if field else "", []).append(fault["msg"])
    lines = [start + ", or ".join(dict.fromkeys(ends)) for start, ends in messages.items()]
    return "; ".join(lines).replace("Value error, ", "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar, as the end of a message; empty if none is.

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        "; did you mean 'epochs'?"
    """
    from rapidfuzz import process

    best = process.extractOne(name, list(known), score_cutoff=70)
    return f"; did you mean {best[0]!r}?" if best else ""


def _locate(model: str, location: tuple[int | str, ...]) -> tuple[str, set[str]]:
    """The name of a setting, without the members of unions, and the names of its siblings."""
    configs = {config for config in _subclasses(Config) if config.__name__ == model}
    parts, names = [], set[str]()
    for depth, part in enumerate(location, start=1):
        fields = [field for config in configs for field in config.model_fields.items()]
        names = {name for name, _ in fields}
        kinds = [field.annotation for name, field in fields if name == part]
        if kinds:
            configs = {config for config in _subclasses(Config) if config in _members(kinds)}
        elif (configs and depth < len(location)) or re.search(
            r"\[|^(int|str|datetime)$", str(part)
        ):
            continue  # the tag of a class, or a type
        parts.append(str(part))
    return ".".join(parts), names


def _members(kinds: Iterable[Any]) -> set[Any]:
    """Types, and the members of those that are unions or generic."""
    return {member for kind in kinds for member in (kind, *_members(get_args(kind)))}


def _subclasses(kind: type[Config]) -> set[type[Config]]:
    return {kind, *(leaf for sub in kind.__subclasses__() for leaf in _subclasses(sub))}


def spell_settings(message: str, spelling: Mapping[str, str]) -> str:
    """Replace the settings in a message, which are written as `name=` or `name = value`.

    Args:
        message: A message of the library.
        spelling: What a reader calls a setting: an option such as `--time-unit`, the start of one
            such as `--policy duplicate=`, or a longer name. `name[]` is for lists.

    Example:
        >>> spelling = {"columns": "--column", "scale": "--scale"}
        >>> spell_settings("no column 'user': map it with columns=", spelling)
        "no column 'user': map it with --column"
        >>> spell_settings("set scale = [1, 10]", spelling)
        'set --scale 1 10'
    """

    def replace(match: re.Match[str]) -> str:
        name, equals, value = match.groups(default="")
        is_list = value.startswith("[")
        spelt = spelling.get(f"{name}[]" if is_list else name, spelling[name])
        # The name of a check also stands alone, and a single word such as `files` in prose.
        if not equals and ("_" not in name or spelt[-1] == "="):
            return match[0]
        if not spelt.startswith("--"):
            return f"{spelt}{equals}{value}"
        if value[:1] in ("[", "{"):
            value = re.sub(r"[][{}\"' ]", "", value)
            value = value if f"{name}[]" in spelling else value.replace(",", " ")
        return f"{spelt} {value}".replace("= ", "=").rstrip()

    names = "|".join(name for name in spelling if name.isidentifier())
    pattern = rf"(?<![\w.-])({names})\b(?:( ?= ?)(\[.*?\]|\{{.*?\}}|'.*?'|\".*?\"|[\w.-]*))?"
    return re.sub(pattern, replace, message)


class Runtime(Config):
    """Device, precision, seed and threads of a computation.

    On CPU, the same seed, machine and number of threads give the same model.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` selects a GPU if there is one."""

    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Precision in which the session model is trained. `auto` selects bf16 on a GPU and on a CPU
    with bf16 instructions, else float32."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of all random number generators."""

    threads: int | None = Field(default=None, ge=1)
    """Number of CPU threads. None leaves it to torch."""

    def torch_device(self) -> torch.device:
        """Return the device to compute on.

        Raises:
            ConfigError: `device` is "cuda" and there is no GPU.
        """
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ConfigError("device is 'cuda', but torch finds no GPU: use 'auto'")
        return torch.device("cuda" if available and self.device != "cpu" else "cpu")

    def torch_precision(self) -> Literal["32-true", "bf16-mixed"]:
        """Return the precision by its name in Lightning Fabric."""
        import torch

        if self.precision != "auto":
            return self.precision
        if self.torch_device().type == "cuda":
            return "bf16-mixed"
        # On a CPU without instructions for bf16, it is slower than float32. Older versions of torch
        # do not have this function.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return "bf16-mixed" if fast else "32-true"

    @contextmanager
    def limit_threads(self) -> Iterator[None]:
        """Limit torch to `threads` for the duration of the block."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def available_threads(runtime: Runtime | None = None) -> int:
    """Return `Runtime.threads` if set, else OMP_NUM_THREADS, else the number of available cores.

    Raises:
        ConfigError: OMP_NUM_THREADS is not a positive number.
    """
    if runtime is not None and runtime.threads is not None:
        return runtime.threads
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number per nesting level
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"OMP_NUM_THREADS is {value!r}: it must be a positive number")
    return int(value)
