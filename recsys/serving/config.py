"""The configuration of the HTTP server."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator

from recsys.config import POLL_INTERVAL, Config

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that prometheus_client reads on import: where workers share metrics."""


def listed(value: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _key(value: SecretStr) -> SecretStr:
    """A key as it is compared: without white space around it, as HTTP sends values of headers."""
    key = value.get_secret_value().strip()
    if len(key) < 16 or not (key.isascii() and key.isprintable()):
        raise ValueError("a key must have at least 16 characters, all of them printable ASCII")
    return SecretStr(key)


class ServingConfig(Config):
    """Address, access and limits of a server."""

    model_config = ConfigDict(hide_input_in_errors=True)  # the key may be among it

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to bind. 0 selects a free port, which is logged."""
    workers: int = Field(1, ge=1, le=64)
    """Number of worker processes."""
    proxies: str = ""
    """Comma-separated addresses or networks of proxies whose `X-Forwarded-For` is trusted."""
    hosts: str = ""
    """Comma-separated host names under which requests are answered. Empty allows any."""
    origins: str = ""
    """Comma-separated origins whose pages may send requests (CORS), such as https://example.org."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`info` logs every request, `warning` only problems."""
    api_key: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """Key that clients send as `Authorization: Bearer …`. None disables authentication."""
    max_body_bytes: int = Field(256 * 1024, ge=1024)
    """Maximum size of a request body in bytes. Larger requests get status 413."""
    body_timeout: float = Field(10.0, gt=0)
    """Seconds in which a request must arrive. Slower bodies get status 408; connections are closed
    five seconds later, and if a client does not read a response for as long."""
    max_connections: int = Field(900, ge=1)
    """Maximum number of connections per worker. More are closed at once."""
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

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for proxy in listed(value):
            ip_network(proxy, strict=False)  # not `*`: then clients choose their address
        return value
