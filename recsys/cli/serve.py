"""`recsys serve`: the HTTP server."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from recsys.cli.recommend import MODEL_HELP
from recsys.config import CHAMPION
from recsys.errors import ConfigError, requires
from recsys.serving.config import ServingConfig

app = typer.Typer()

_DEFAULTS = ServingConfig()


def _setting(name: str) -> Any:
    """An option that sets a field of `ServingConfig`."""
    return typer.Option(help=ServingConfig.model_fields[name].description)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = CHAMPION,
    host: Annotated[str, typer.Option(help="The address to bind.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to bind; 0 selects a free one.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="The number of worker processes.")
    ] = 1,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RECSYS_API_KEY",
            help="Key that clients send as `Authorization: Bearer …`. Prefer the environment "
            "variable: other users of this machine can read command lines.",
        ),
    ] = None,
    rate: Annotated[float | None, _setting("rate")] = _DEFAULTS.rate,
    burst: Annotated[int, _setting("burst")] = _DEFAULTS.burst,
    max_concurrency: Annotated[int, _setting("max_concurrency")] = _DEFAULTS.max_concurrency,
    max_body_bytes: Annotated[int, _setting("max_body_bytes")] = _DEFAULTS.max_body_bytes,
    max_sessions: Annotated[int, _setting("max_sessions")] = _DEFAULTS.max_sessions,
    session_ttl: Annotated[float, _setting("session_ttl")] = _DEFAULTS.session_ttl,
    poll_interval: Annotated[float, _setting("poll_interval")] = _DEFAULTS.poll_interval,
    proxies: Annotated[
        str,
        typer.Option(help="Comma-separated addresses of proxies whose X-Forwarded-For is trusted."),
    ] = "",
    log_level: Annotated[
        str, typer.Option(help="`info` logs every request, `warning` only problems.")
    ] = "info",
) -> None:
    """Serve recommendations over HTTP, with a demo page at /."""
    with requires("serve"):
        from recsys.serving.server import serve as run_server

    from recsys.loading import AutoReloader

    if log_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(f"--log-level is {log_level!r}: use info, warning or error")
    try:
        config = ServingConfig.model_validate(
            {
                "api_key": api_key or None,
                "rate": rate,
                "burst": burst,
                "max_concurrency": max_concurrency,
                "max_body_bytes": max_body_bytes,
                "max_sessions": max_sessions,
                "session_ttl": session_ttl,
                "poll_interval": poll_interval,
            }
        )
    except ValidationError as error:
        # Not str(error), which contains the values: one may be the key.
        faults = (f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise ConfigError("; ".join(faults)) from None
    with AutoReloader(model, config.poll_interval) as reloader:
        run_server(
            lambda: reloader.recommender,
            config,
            source=model,
            host=host,
            port=port,
            workers=workers,
            log_level=log_level,
            proxies=proxies,
        )
