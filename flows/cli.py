"""The command line of the flows: `recsys train`, `refresh`, `sweep`, `recommend` and `sync`.

The options are generated from the fields of `Settings`, such as `--session-model.epochs 8`.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)
from pydantic import Field, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from flows.orchestration import flow_parameters
from flows.settings import Settings, read_settings
from recsys.cli.examples import EXAMPLES
from recsys.cli.output import output_errors
from recsys.cluster import require_dask
from recsys.config import did_you_mean
from recsys.console import printable
from recsys.data.detection import detect_layout
from recsys.errors import ConfigError, ExitCode, NetworkError, RecsysError
from recsys.storage import require_space

_MIN_BYTES = 1_000_000
"""With less room, a temporary server cannot record a flow."""

E = TypeVar("E", bound=BaseException)

_FAILED = re.compile(
    r"(Finished in state Failed\(.(Task|Flow) run encountered an exception:?"
    r"|Encountered exception during execution:"
    r"|Task run failed with exception:(?!.* - Retry )) (?P<error>\w+)\b",
    re.DOTALL,
)
"""How Prefect logs a failed task or flow."""

START_SECONDS = 300
"""How long Prefect's temporary server may take to start, at least: it needs 30 s of processor time
the first time, and a busy machine takes several times as long."""


def main(argv: Sequence[str]) -> None:
    """Run a flow, given its name and its options."""
    command, *arguments = argv
    flow: Flow[..., Any] = getattr(import_module(f"flows.{command}"), command)
    with friendly_errors():
        _refuse_torchrun(command)
        settings = parse_settings(flow, arguments)
        if settings.source is not None:  # before servers are started
            detect_layout(Path(settings.source), settings.data)
        if settings.cluster is not None:
            require_dask()
        with prefect_api():
            try:
                flow(**flow_parameters(flow, settings))
            except httpx.HTTPError as error:
                if _find_during(error, SystemExit):
                    raise SystemExit(ExitCode.TERMINATED) from None
                if cause := _find_during(error, RecsysError):  # which Prefect could not record
                    raise cause from error
                if not getattr(flow.fn, "is_finished", False):
                    require_space({PREFECT_HOME.value(): _MIN_BYTES})
                    raise NetworkError(f"the Prefect server does not answer: {error}") from error
                message = f"The run is complete; the Prefect server did not record it: {error}"
                sys.stderr.write(f"{message}\n")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)  # Prefect would try for minutes to send each of its events


def _refuse_torchrun(command: str) -> None:
    """Each process would run the flow, and all but one would wait for the lock of the first."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        processes = os.environ.get("LOCAL_WORLD_SIZE", "2")
        raise ConfigError(
            f"torchrun cannot start a flow: run `recsys {command} --runtime.processes {processes}`"
        )


def parse_settings(flow: Flow[..., Any], arguments: Sequence[str]) -> Settings:
    """Settings from command-line options, one for each field of the settings of a flow."""
    names, settings = flow.parameters.properties, Settings.model_fields
    fields: dict[str, Any] = {name: (settings[name].annotation, settings[name]) for name in names}
    help_text = "A TOML or JSON file with the same settings; options take precedence over it."
    config = Field(default=None, description=help_text)
    options = create_model("Options", __base__=BaseSettings, config=(Path | None, config), **fields)
    parser = _Parser(
        f"recsys {flow.name}",
        usage="%(prog)s [--config FILE.toml] [--source PATH] [OPTIONS]",
        description=str(flow.description).partition("\n\n")[0],
        allow_abbrev=False,
        epilog=f"Example: {EXAMPLES[flow.name][0]}" if flow.name in EXAMPLES else None,
    )
    source: CliSettingsSource[Any] = CliSettingsSource(
        options,
        root_parser=parser,
        parse_args_method=argparse.ArgumentParser.parse_args,
        cli_parse_none_str="null",
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_kebab_case=True,
    )
    try:
        given = source(args=list(arguments))()
    except SettingsError as error:
        raise ConfigError(f"{error}: {error.__cause__}") from error
    path = given.pop("config", None)
    return read_settings(Path(path) if path else None, given)


def _find_during(error: BaseException | None, kind: type[E]) -> E | None:
    """Return the error of a kind that was handled when another one was raised, if there is one."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__context__
    return None


class _Parser(argparse.ArgumentParser):
    """Suggests an option for one that does not exist, and omits defaults that say nothing."""

    def format_help(self) -> str:
        nothing = r"\s*\((ifdef:\s+required|default:\s+(None|null|\{\}|\(\)))\)"
        return re.sub(rf"{nothing}|default: null \(undefined\)\s*", "", super().format_help())

    def error(self, message: str) -> NoReturn:
        name = message.removeprefix("unrecognized arguments: ").partition(" ")[0].partition("=")[0]
        if name != message:
            message += did_you_mean(name, self._option_string_actions)
        super().error(message)


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Exit with one line instead of a traceback on errors of the library and on Ctrl-C."""
    logging.raiseExceptions = False  # Prefect would print each line that its server did not take
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_drop_traceback)
    try:
        with output_errors():
            yield
    except RecsysError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(ExitCode.ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. The next run resumes after the latest epoch.\n")
        sys.exit(ExitCode.INTERRUPTED)
    except SystemExit as error:
        if error.code == ExitCode.TERMINATED:
            sys.stderr.write("Terminated. The next run resumes after the latest epoch.\n")
        raise


def _drop_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], RecsysError | httpx.HTTPError):
        record.exc_info = None
    return True


@contextmanager
def prefect_api() -> Iterator[None]:
    """Use one Prefect server for all processes of a flow: the configured or a temporary one.

    The temporary server starts with SIGINT blocked, which it inherits: a terminal sends Ctrl-C to
    all of its processes, and a flow that cannot report its end to the server retries for minutes.
    Prefect stops the server when this program exits normally; SIGTERM is handled as such an exit,
    and so is SIGHUP, which a terminal sends when it is closed.
    """
    is_temporary = not PREFECT_API_URL.value()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as below `nohup`
            signal.signal(number, lambda *_: sys.exit(ExitCode.TERMINATED))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        current = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        settings = {
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: max(current, START_SECONDS),
            PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",  # what fails is told by the flow, in a line
        }
        with temporary_settings(settings), get_client(sync_client=True) as client:
            address = str(client.api_url)
            client.hello()
    except httpx.HTTPError as error:
        raise NetworkError(
            f"the Prefect server at {address} does not respond ({error}): start it with "
            "`make server`, or unset PREFECT_API_URL to run without it"
        ) from error
    except RuntimeError as error:  # of Prefect, which adds the output of the server
        raise NetworkError(
            f"Prefect's temporary server did not start ({error}); try again, or wait longer with "
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    links = [_is_no_link] if is_temporary else []  # which are dead once the server has stopped
    filters = _terminal_filters(_is_news, _clean, *links)
    with temporary_settings({PREFECT_API_URL: address}), filters:
        yield


@contextmanager
def _terminal_filters(*filters: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Leave out lines on the terminal; Prefect's UI has them."""
    handlers = [x for x in logging.getLogger().handlers if isinstance(x, PrefectConsoleHandler)]
    for handler, filter_ in product(handlers, filters):
        handler.addFilter(filter_)
    try:
        yield
    finally:
        for handler, filter_ in product(handlers, filters):
            handler.removeFilter(filter_)


def _clean(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def _is_no_link(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("View at http")


def _is_news(record: logging.LogRecord) -> bool:
    """False if a line repeats an error of the library, which `friendly_errors` prints at the end.

    Prefect logs the error of a failed flow up to four times.
    """
    repeated = _FAILED.match(record.getMessage())
    return repeated is None or repeated["error"] not in _names_of(RecsysError)


def _names_of(kind: type[Exception]) -> set[str]:
    return {kind.__name__}.union(*map(_names_of, kind.__subclasses__()))
