"""The configuration of the HTTP server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from recsys.config import POLL_INTERVAL, Config

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that prometheus_client reads on import: where workers share metrics."""


class ServingConfig(Config):
    """Address, access and limits of a server."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to bind. 0 selects a free port, which is logged."""
    workers: int = Field(1, ge=1, le=64)
    """Number of worker processes."""
    proxies: str = ""
    """Comma-separated addresses of proxies whose `X-Forwarded-For` is trusted."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`info` logs every request, `warning` only problems."""
    api_key: SecretStr | None = Field(None, min_length=16)
    """Key that clients send as `Authorization: Bearer …`. None disables authentication."""
    max_body_bytes: int = Field(256 * 1024, ge=1024)
    """Maximum size of a request body in bytes. Larger requests get status 413."""
    body_timeout: float = Field(10.0, gt=0)
    """Seconds in which a request body must arrive. Slower requests get status 408."""
    max_concurrency: int = Field(200, ge=1)
    """Maximum number of concurrent requests per worker. More get status 503."""
    rate: float | None = Field(None, gt=0)
    """Requests per second allowed for each client address, per worker. More get status 429."""
    burst: int = Field(50, ge=1)
    """Requests that a client may send at once before `rate` applies."""
    max_sessions: int = Field(100_000, ge=1)
    """Maximum number of live sessions over all workers. The least recently used are evicted."""
    session_ttl: float = Field(3600.0, gt=0)
    """Seconds after which an idle session expires."""
    session_store: str = ":memory:"
    """SQLite file in which workers share their sessions."""
    poll_interval: float = Field(POLL_INTERVAL, gt=0)
    """Seconds between two checks for a new champion."""
