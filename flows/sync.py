"""Send the runs that were recorded while MLflow did not answer."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from prefect import get_run_logger

from flows.cli import main
from flows.orchestration import pipeline_flow, training_lock
from flows.settings import Settings
from flows.tasks.pending import Sent, send
from recsys import tracking
from recsys.errors import NetworkError, RecsysError, TrackingError


@pipeline_flow("replace_champion")
def sync(settings: Settings) -> list[Sent]:
    """Send the runs in `mlflow/pending`, oldest first, and judge their models against the champion.

    Raises:
        NetworkError: MLflow does not answer. What was not sent stays.
        TrackingError: a run cannot be sent, such as one whose model is of another catalogue.
    """
    log = get_run_logger()
    results: list[Sent | None] = []
    failed: list[str] = []
    with training_lock():  # runs that are being recorded hold it
        for folder in sorted(tracking.PENDING.glob("*/"), key=_recorded_at):
            try:
                results.append(send(folder, replace_champion=settings.replace_champion))
            except NetworkError:
                raise
            except (RecsysError, OSError) as error:  # the others are sent all the same
                failed.append(f"{folder} was not sent: {error}")
    sent = [result for result in results if result is not None]
    log.info("%d runs were sent, %d of them with a model.", len(results), len(sent))
    if failed:
        raise TrackingError("; ".join(failed))
    return sent


def _recorded_at(folder: Path) -> float:
    """When a run was recorded: that of the oldest file, since sending a part of it adds one."""
    with suppress(OSError):  # of a folder that cannot be read; sending it will say so
        return min((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    return 0.0


if __name__ == "__main__":
    main(["sync", *sys.argv[1:]])
