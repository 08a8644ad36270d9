"""The base class of all configurations, and the runtime: device, precision, seed, memory.

Hyper-parameters are defined in the package of the stage that they configure.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from recsys.arguments import shown, to_path
from recsys.errors import ConfigError
from recsys.memory import available_memory, parse_bytes

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

_threads: ContextVar[int | None] = ContextVar("threads", default=None)
"""The limit of `Runtime.limit_threads`."""

_TYPE = re.compile(r"\[|^(int|str|float|datetime)$")
"""Types as a location of pydantic names them."""

_KEY_ERROR = re.compile(
    r"(?:\bkey\b|declaration|Invalid statement).* \(at line (\d+), column (\d+)\)"
)
"""What tomllib says of a character that cannot be in a key."""

_QUOTE_KEYS = "put keys with other letters than a-z, digits, - and _ in quotes"

_VALUE_ERROR = re.compile(r"Invalid value \(at line (\d+), column (\d+)\)")

_QUOTE_TEXT = 'put text in quotes: name = "text"'


def _as_one_type(schema: dict[str, Any]) -> None:
    """State optional settings by their type alone: forms show a switch for each alternative.

    Prefect accepts null for properties without a default.
    """
    for name, field in schema.get("properties", {}).items():
        types = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        if len(types) == 1 and "type" in types[0] and field.get("default") is None:
            texts = {key: field[key] for key in ("title", "description") if key in field}
            schema["properties"][name] = types[0] | texts


class Config(BaseModel):
    """Base class of all configurations: immutable, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra=_as_one_type,
    )

    def __init__(self, /, **settings: Any) -> None:
        with _config_errors(type(self)):
            super().__init__(**settings)

    # As of the method of pydantic itself: it still creates nested configurations without a call,
    # so that an error inside of them has its location.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Create a configuration from a dictionary.

        Raises:
            ConfigError: a key or value is invalid.
        """
        with _config_errors(cls):
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Create a configuration from JSON.

        Raises:
            ConfigError: a key or value is invalid.
        """
        with _config_errors(cls):
            return super().model_validate_json(json_data, **options)

    @classmethod
    def from_file(cls, path: Path | None, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a TOML or JSON file, if any; nested `overrides` take precedence.

        The string "null" stands for None, which TOML lacks.

        Raises:
            ConfigError: the file cannot be read, or a key or value is invalid; names file and key.
        """
        path = None if path is None else to_path(path, ConfigError)
        is_json = path is not None and path.suffix == ".json"
        try:
            values = _parse_null(_parse(_read(path), is_json)) if path else {}
            cls.model_validate(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        except FileNotFoundError as error:
            raise ConfigError(f"{path} does not exist") from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            language = "JSON" if is_json else "TOML"
            raise ConfigError(f"{path}: cannot be read as {language}: {error}") from error
        return cls.model_validate(_merge(values, overrides or {}))


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        line = content[: error.start].count(b"\n") + 1
        found = "is encoded in UTF-16" if is_utf16 else f"line {line} is not encoded in UTF-8"
        raise ConfigError(f"{found}: save the file in UTF-8") from error


def _parse(text: str, is_json: bool) -> dict[str, Any]:
    values = json.loads(text) if is_json else _parse_toml(text)
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, found {text[:20]!r}")  # noqa: TRY004
    return values


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        key, value = _KEY_ERROR.search(str(error)), _VALUE_ERROR.search(str(error))
        if not (place := key or value):
            raise
        line, column = map(int, place.groups())
        character = text.split("\n")[line - 1][column - 1 : column]
        is_text = character.strip() if value else not character.isascii()
        remedy = f"; {_QUOTE_TEXT if value else _QUOTE_KEYS}" if is_text else ""
        raise ValueError(f"{error}{remedy}") from error


def _parse_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _parse_null(item) for key, item in value.items()}
    return None if value == "null" else value


def _merge(values: Any, overrides: Any) -> Any:
    if not isinstance(values, Mapping) or not isinstance(overrides, Mapping):
        return overrides
    merged = {key: _merge(values.get(key), value) for key, value in overrides.items()}
    return {**values, **merged}


@contextmanager
def _config_errors(config: type[Config]) -> Iterator[None]:
    """Raise a `ConfigError` for invalid settings."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(_describe(error, config)) from None
    except ValueError as error:  # of an integer of thousands of digits
        raise ConfigError(f"{config.__name__}: {error}") from error


def _describe(error: ValidationError, config: type[Config]) -> str:
    """Describe invalid settings in one line: each field, its value and the reason."""
    secret = config.model_config.get("hide_input_in_errors", False)
    names = {name for kind in _subclasses(Config) for name in kind.model_fields}
    messages: dict[str, list[str]] = {}
    for fault in error.errors():
        # A location also names types, and at a union the member that was tried.
        *parents, name = [str(part) for part in fault["loc"] if not _TYPE.search(str(part))] or [""]
        field = ".".join([part for part in parents if part in names] + [name])
        if fault["type"] == "extra_forbidden":
            fault["msg"] = f"no such setting{_remedy(config, fault['loc'])}"
        elif fault["type"] == "union_tag_invalid":
            fault["msg"] = "{discriminator} must be one of {expected_tags}".format_map(fault["ctx"])
        elif fault["type"] == "union_tag_not_found":
            fault["msg"] = "{discriminator} is missing".format_map(fault["ctx"])
        value = "" if secret or fault["type"] == "missing" else f" = {shown(fault['input'])}"
        messages.setdefault(f"{field}{value}: " if field else "", []).append(fault["msg"])
    lines = [start + ", or ".join(dict.fromkeys(ends)) for start, ends in messages.items()]
    return "; ".join(lines).replace("Value error, ", "")


def _remedy(config: type[Config], location: tuple[int | str, ...]) -> str:
    """What to do about a setting that does not exist: another table, or another name."""
    *parents, name = map(str, location)
    known = [setting for setting in _names_at(config, location) if setting != name]
    tables = [*dict.fromkeys(_tables_with(config, name))]
    inner = [table for table in tables if table[: len(parents)] == tuple(parents)]
    if not inner and (similar := did_you_mean(name, known)):
        return similar
    places = " or ".join(f"[{'.'.join(table)}]" for table in inner or tables)
    return f"; write it below {places}" if places else f"; the settings are {', '.join(known)}"


def _tables_with(
    config: type[Config], name: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The tables of a configuration that have a setting, by their names from the root on."""
    if path and name in config.model_fields:
        yield path
    for part, field in config.model_fields.items():
        for nested in dict.fromkeys(_configs_of(field.annotation)):
            yield from _tables_with(nested, name, (*path, part))


def _subclasses(kind: type[Config]) -> list[type[Config]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in _subclasses(sub))]


def _names_at(config: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """The names of all settings next to the one at a location."""
    configs = [config]
    for part in location[:-1]:
        fields = [kind.model_fields[part] for kind in configs if part in kind.model_fields]
        if fields:  # else the part is the member of a union
            configs = [nested for field in fields for nested in _configs_of(field.annotation)]
    return list(dict.fromkeys(name for kind in configs for name in kind.model_fields))


def _configs_of(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for part in get_args(annotation) for config in _configs_of(part)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar, as the end of a message; empty if none is.

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        "; did you mean 'epochs'?"
    """
    from rapidfuzz import process

    best = process.extractOne(name, list(known), score_cutoff=70)
    return f"; did you mean {best[0]!r}?" if best else ""


class Runtime(Config):
    """Device, precision, seed, threads and memory of a computation.

    On CPU, the same seed, machine and number of threads give the same model.
    """

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:(0|[1-9]\d?))?)$")
    """`cpu`, `cuda`, or `cuda:1` for the second GPU. `auto` selects a GPU if there is one."""

    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Precision in which the session model is trained. `auto` selects bf16 on a CPU with bf16
    instructions, else float32. `bf16-mixed` needs a GPU of compute capability 8.0 or higher."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of all random number generators."""

    threads: int | None = Field(default=None, ge=1)
    """Number of CPU threads of torch, BLAS and this library on a machine. None means
    OMP_NUM_THREADS, or one per core. Flows train the session model with half of them, and fit the
    baselines meanwhile with the others."""

    memory_limit: str | None = Field(default=None, coerce_numbers_to_str=True)
    """Memory for counting, and for the counts while embeddings are fitted, such as `4GB`: counts
    that need more are read from the disk in every epoch. None means half of what is available."""

    processes: int = Field(default=1, ge=1)
    """Number of processes that train the session model on each machine. They share each batch, and
    the threads; on GPUs, each has one."""

    nodes: int = Field(default=1, ge=1)
    """Number of machines that train the session model, with the same number of processes each.
    `python -m recsys.sessions.worker` starts those of the others."""

    shared_folder: str | None = None
    """A folder that all machines see, through which they find each other; needed for more than
    one."""

    @model_validator(mode="after")
    def _require_consistent_processes(self) -> Self:
        if self.nodes > 1 and self.shared_folder is None:
            raise ValueError(f"nodes is {self.nodes}: set shared_folder, which all machines see")
        if self.processes > 1 and ":" in self.device:
            raise ValueError(
                f"processes is {self.processes}, but device is {self.device!r}, a single one: set "
                "it to 'cuda', and CUDA_VISIBLE_DEVICES to select GPUs"
            )
        return self

    @field_validator("memory_limit")
    @classmethod
    def _require_size(cls, size: str | None) -> str | None:
        try:
            if size is not None:
                parse_bytes(size)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return size

    def memory_bytes(self) -> int:
        """Return `memory_limit` in bytes, or half of the memory that is available now."""
        return (
            available_memory() // 2 if self.memory_limit is None else parse_bytes(self.memory_limit)
        )

    def torch_device(self) -> torch.device:
        """Return the device to compute on.

        Raises:
            ConfigError: there is no such GPU.
        """
        import torch

        n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        auto = "cuda" if n_gpus else "cpu"
        device = torch.device(auto if self.device == "auto" else self.device)
        if device.type == "cuda" and (device.index or 0) >= n_gpus:
            found = {0: "no GPU", 1: "one GPU"}.get(n_gpus, f"{n_gpus} GPUs")
            raise ConfigError(f"device is {self.device!r}, but torch finds {found}: use 'auto'")
        return device

    def torch_precision(self) -> Literal["32-true", "bf16-mixed"]:
        """Return the precision by its name in Lightning Fabric.

        Raises:
            ConfigError: there is no such GPU, or it does not compute in bf16.
        """
        import torch

        device = self.torch_device()
        if device.type == "cuda":
            if self.precision == "bf16-mixed" and torch.cuda.get_device_capability(device) < (8, 0):
                raise ConfigError(
                    f"precision is 'bf16-mixed', but the compute capability of {device} is below "
                    "8.0: use '32-true'"
                )
            return "32-true" if self.precision == "auto" else self.precision
        if self.precision != "auto":
            return self.precision
        # On a CPU without instructions for bf16, it is slower than float32. Older versions of torch
        # do not have this function.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return "bf16-mixed" if fast else "32-true"

    @contextmanager
    def limit_threads(self) -> Iterator[None]:
        """Limit torch, BLAS and `available_threads` to `threads` in the block.

        Without `threads`, the limit of the block around it stays.
        """
        import torch
        from threadpoolctl import threadpool_limits

        before = torch.get_num_threads()
        threads = self.threads or _threads.get() or before
        token = _threads.set(self.threads or _threads.get())
        torch.set_num_threads(threads)
        try:
            with threadpool_limits(threads if _threads.get() else None):
                yield
        finally:
            torch.set_num_threads(before)
            _threads.reset(token)


def available_threads(runtime: Runtime | None = None) -> int:
    """Return the number of threads to use.

    It is `Runtime.threads` if set, else that of `Runtime.limit_threads` around the call, else
    OMP_NUM_THREADS, else the number of available cores.

    Raises:
        ConfigError: OMP_NUM_THREADS is not a positive number.
    """
    if limit := (runtime and runtime.threads) or _threads.get():
        return limit
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number per nesting level
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"OMP_NUM_THREADS is {value!r}: it must be a positive number")
    return int(value)
