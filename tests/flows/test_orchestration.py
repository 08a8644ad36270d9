"""Work alongside the training: what happens if one of the two fails."""

import threading

import pytest

from flows.orchestration import alongside


@pytest.mark.parametrize("in_thread", [True, False])
def test_work_is_done_during_or_after_the_block(in_thread):
    threads, begun = [], threading.Event()

    def work(check):
        check()
        begun.set()
        threads.append(threading.current_thread())
        return "done"

    with alongside(work, in_thread=in_thread) as future:
        assert begun.wait(10 if in_thread else 0) == in_thread
    assert future.result() == "done"
    assert (threads[0] is threading.current_thread()) != in_thread


def test_work_stops_if_the_block_fails():
    checked = threading.Event()

    def work(check):
        while True:
            check()
            checked.set()

    def fail():
        with alongside(work):
            checked.wait()
            raise RuntimeError("the training diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        fail()


@pytest.mark.parametrize("in_thread", [True, False])
def test_an_error_of_the_work_is_raised_after_the_block(in_thread):
    reached = False

    def work(check):
        raise ValueError("singular matrix")

    def run():
        nonlocal reached
        with alongside(work, in_thread=in_thread) as future:
            reached = True
        future.result()

    with pytest.raises(ValueError, match="singular"):
        run()
    assert reached
