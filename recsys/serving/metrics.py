"""What is counted, for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

from recsys.serving.config import MULTIPROCESS

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._together = MULTIPROCESS in os.environ
        self.requests = Counter(
            "recsys_requests_total",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "recsys_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "recsys_requests_in_flight",
            "Requests being answered.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.sessions = Gauge(
            "recsys_live_sessions",
            "Sessions that go on.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self.loaded = Gauge(
            "recsys_model_loaded_timestamp_seconds",
            "When the model in use was loaded.",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        if not self._together:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """All numbers, of all workers, in Prometheus' text format."""
        registry = self._registry
        if self._together:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
