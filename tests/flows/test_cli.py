"""What the terminal shows of Prefect's log."""

import io
import logging
import signal

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.logging.handlers import PrefectConsoleHandler

from flows.cli import _clean, prefect_api
from recsys.errors import DataError, ExitCode, NetworkError


@pytest.fixture
def terminal():
    """The text of a terminal that Prefect logs to."""
    text, root = io.StringIO(), logging.getLogger()
    handler = PrefectConsoleHandler(stream=text)
    root.addHandler(handler)
    yield text
    root.removeHandler(handler)
    assert not handler.filters


def fail(error, retries=0):
    """Run a flow with a task that fails; returns the message of the state."""

    @task(retries=retries)
    def read():
        raise error

    @flow
    def train():
        read()

    with prefect_api():
        state = train(return_state=True)
        with get_client(sync_client=True) as client:
            return client.read_flow_run(state.state_details.flow_run_id).state.message


def test_an_error_of_the_library_is_not_repeated_on_the_terminal(prefect_server, terminal):
    assert "line 2: no time" in fail(DataError("line 2: no time")), "Prefect's UI has it"
    assert "no time" not in terminal.getvalue()
    assert "View at http" in terminal.getvalue(), "the server stays"


def test_retries_are_told(prefect_server, terminal):
    fail(NetworkError("away"), retries=1)
    assert terminal.getvalue().count("away") == 1
    assert "NetworkError('away') - Retry 1/1 will start" in terminal.getvalue()


def test_a_bug_is_logged_in_full(prefect_server, terminal):
    fail(KeyError("no time"))
    assert terminal.getvalue().count("Finished in state Failed") == 2
    assert "Traceback" in terminal.getvalue()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_in_order_unless_it_is_ignored(monkeypatch, number):
    """Prefect's temporary server, which would go on, ends with it; `nohup` ignores SIGHUP."""

    def time_out(**_):  # no server is needed here
        raise RuntimeError("timed out")

    monkeypatch.setattr("flows.cli.get_client", time_out)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(number, signal.SIG_IGN)
        with pytest.raises(NetworkError), prefect_api():
            pass
        signal.raise_signal(number)
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(NetworkError), prefect_api():
            pass
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == ExitCode.TERMINATED
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_control_characters_of_a_source_never_reach_the_terminal():
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s: read", ("a\x1b[31mb",), None)
    assert _clean(record)
    assert record.getMessage() == "a\ufffd[31mb: read"
