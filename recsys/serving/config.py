"""What the HTTP server can be told, and the bounds that are part of its interface."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr

MAX_HISTORY = 500
"""How many watches a request may hold, and how many a live session remembers by name."""

MAX_K = 200
"""How many items one answer may have."""

MAX_STEPS = 20
MAX_BEAM_WIDTH = 32
MAX_NAME = 300
"""Letters of a title, an id or a query."""

MAX_PLACES = 5000
"""How many items the map may show."""


MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells workers where to keep their numbers, so that each can tell those of all.
Its name is prometheus_client's, which looks for it when it is imported."""


class ServingConfig(BaseModel):
    """Limits and access of one server. Counts hold for each worker process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(None, min_length=16)
    """What clients must send as `Authorization: Bearer …`; None lets everybody in."""
    max_body_bytes: int = Field(256 * 1024, ge=1024)
    """Larger requests get 413."""
    body_seconds: float = Field(10.0, gt=0)
    """A body that takes longer to arrive gets 408."""
    max_concurrency: int = Field(200, ge=1)
    """Requests beyond this many at once get 503."""
    rate: float | None = Field(None, gt=0)
    """Requests a second of one client address; more get 429. None sets no limit."""
    burst: int = Field(50, ge=1)
    """How many requests a client may send at once after a pause."""
    max_sessions: int = Field(100_000, ge=1)
    """Live sessions; the least recently used make room for new ones. For all workers together."""
    session_seconds: float = Field(3600.0, gt=0)
    """A session that is left alone for so long is forgotten."""
    session_store: str = ":memory:"
    """The SQLite file in which workers share their sessions."""
