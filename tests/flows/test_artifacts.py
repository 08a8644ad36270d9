"""Artifacts, against a real Prefect server, and which errors are retried."""

import pytest
from prefect import flow
from prefect.context import get_run_context
from prefect.states import Failed

from flows import orchestration
from recsys.errors import DataError, NetworkError, StorageError


@pytest.fixture
def progress_of(artifacts_of):
    """The percentage of the only progress artifact of a flow run."""

    def ask(flow_run_id):
        # Prefect keeps the exception of a flow that failed as an artifact of its own.
        (artifact,) = [x for x in artifacts_of(flow_run_id) if x.type == "progress"]
        assert artifact.description == "lstm"
        return artifact.data

    return ask


@pytest.fixture
def without_delay(monkeypatch):
    monkeypatch.setattr(orchestration, "_UPDATE_SECONDS", 0.0)


def test_progress_is_shown(progress_of, without_delay):
    @flow
    def training():
        run_id, seen = get_run_context().flow_run.id, []
        with orchestration.progress("lstm", 4, "loss") as on_epoch:
            seen.append(progress_of(run_id))
            for epoch in (1, 3):
                on_epoch(epoch, {"loss": 1.0})
                seen.append(progress_of(run_id))
        return [*seen, progress_of(run_id)]

    assert training() == [0.0, 25.0, 75.0, 100.0]


def test_a_failed_run_is_not_shown_as_finished(progress_of, without_delay):
    runs = []

    @flow
    def training():
        runs.append(get_run_context().flow_run.id)
        with orchestration.progress("lstm", 4, "loss") as on_epoch:
            on_epoch(2, {"loss": 1.0})
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        training()
    assert progress_of(runs[0]) == 50.0


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (NetworkError("away"), True),
        (OSError("reset"), True),
        (StorageError("full"), False),
        (DataError("no rows"), False),
    ],
    ids=str,
)
def test_only_what_a_retry_may_help_is_retried(error, is_retried):
    assert orchestration.is_transient(None, None, Failed(data=error)) is is_retried
