"""`recsys serve`: the HTTP server."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from recsys.cli.recommend import MODEL_HELP
from recsys.config import CHAMPION
from recsys.errors import requires
from recsys.serving.config import ServingConfig

app = typer.Typer()

_DEFAULTS = ServingConfig()
_KEY_VARIABLE = "RECSYS_API_KEY"


def _setting(name: str) -> Any:
    """An option that sets a field of `ServingConfig`."""
    return typer.Option(help=ServingConfig.model_fields[name].description)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = CHAMPION,
    host: Annotated[str, _setting("host")] = _DEFAULTS.host,
    port: Annotated[int, _setting("port")] = _DEFAULTS.port,
    workers: Annotated[int, _setting("workers")] = _DEFAULTS.workers,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=_KEY_VARIABLE,
            help="Key that clients send as `Authorization: Bearer …`. Prefer the environment "
            "variable: other users of this machine can read command lines.",
        ),
    ] = None,
    rate: Annotated[float | None, _setting("rate")] = _DEFAULTS.rate,
    burst: Annotated[int, _setting("burst")] = _DEFAULTS.burst,
    max_concurrency: Annotated[int, _setting("max_concurrency")] = _DEFAULTS.max_concurrency,
    max_body_bytes: Annotated[int, _setting("max_body_bytes")] = _DEFAULTS.max_body_bytes,
    body_timeout: Annotated[float, _setting("body_timeout")] = _DEFAULTS.body_timeout,
    max_sessions: Annotated[int, _setting("max_sessions")] = _DEFAULTS.max_sessions,
    session_ttl: Annotated[float, _setting("session_ttl")] = _DEFAULTS.session_ttl,
    poll_interval: Annotated[float, _setting("poll_interval")] = _DEFAULTS.poll_interval,
    max_connections: Annotated[int, _setting("max_connections")] = _DEFAULTS.max_connections,
    hosts: Annotated[str, _setting("hosts")] = _DEFAULTS.hosts,
    origins: Annotated[str, _setting("origins")] = _DEFAULTS.origins,
    proxies: Annotated[str, _setting("proxies")] = _DEFAULTS.proxies,
    log_level: Annotated[str, _setting("log_level")] = _DEFAULTS.log_level,
) -> None:
    """Serve recommendations over HTTP, with a demo page at /."""
    options = {
        name: value for name, value in locals().items() if name in ServingConfig.model_fields
    }
    with requires("serve"):
        from recsys.serving.server import serve as run_server

    from recsys.loading import AutoReloader

    # Typer takes an empty variable for a missing one, which would publish the server.
    config = ServingConfig.model_validate(
        options | {"api_key": os.environ.get(_KEY_VARIABLE) if api_key is None else api_key}
    )
    with AutoReloader(model, config.poll_interval) as reloader:
        run_server(lambda: reloader.recommender, config, source=model)
