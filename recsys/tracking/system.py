"""Load of processor, memory, disk, network and GPU during a run, where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


@contextmanager
def system_metrics(tracking_uri: str, run_id: str) -> Iterator[None]:
    """Record the load while the block lasts, if `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is true.

    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` tells how often, in seconds; the default is ten.
    """
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield
        return
    monitor = SystemMetricsMonitor(run_id, tracking_uri=tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
