"""The command line of the HTTP server: `recsys serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys.errors import ConfigError, requires

app = typer.Typer()

_CHAMPION = "models:/recsys@champion"


@app.command()
def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="A bundle folder, models:/<name>@<alias>, models:/<name>/<version> or runs:/<id>."
        ),
    ] = _CHAMPION,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RECSYS_API_KEY",
            help="What clients must send as `Authorization: Bearer …`. Rather set the variable: "
            "options can be read by others on this machine.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second of one client address, per worker.")
    ] = None,
    burst: Annotated[int, typer.Option(help="How many a client may send at once.")] = 50,
    concurrency: Annotated[int, typer.Option(help="Requests at once, per worker.")] = 200,
    max_body: Annotated[int, typer.Option(help="Bytes of a request.")] = 256 * 1024,
    sessions: Annotated[int, typer.Option(help="Live sessions, at most.")] = 100_000,
    session_minutes: Annotated[float, typer.Option(help="How long a silent one is kept.")] = 60,
    refresh: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks for a new champion.")
    ] = 30,
    proxies: Annotated[
        str, typer.Option(help="Addresses of proxies whose X-Forwarded-For counts, with commas.")
    ] = "",
    log_level: Annotated[str, typer.Option(help="info logs every request; warning, errors.")] = (
        "info"
    ),
) -> None:
    """Answer over HTTP, and show the page at /, until stopped."""
    import logging

    from pydantic import ValidationError

    with requires("serve"):
        from recsys.serving.config import ServingConfig
        from recsys.serving.server import serve as serve_until_stopped
    if log_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(f"--log-level is {log_level!r}: it has to be info, warning or error")
    try:
        config = ServingConfig.model_validate(
            {
                "api_key": api_key or None,
                "rate": rate,
                "burst": burst,
                "max_concurrency": concurrency,
                "max_body_bytes": max_body,
                "max_sessions": sessions,
                "session_ttl": 60 * session_minutes,
            }
        )
    except ValidationError as error:
        # Not str(error), which shows the value: it may be the key.
        told = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(told) from None
    from recsys.loading import AutoReloader

    with AutoReloader(model, refresh) as following:
        serve_until_stopped(
            lambda: following.recommender,
            config,
            source=model,
            host=host,
            port=port,
            workers=workers,
            log_level=log_level,
            proxies=proxies,
        )
