"""The replacement of the recommender."""

from contextlib import contextmanager
from threading import Event

from recsys.recommender import Recommender
from recsys.serving import ServingConfig
from recsys.serving.state import AppState, LoadedModel
from tests.serving.conftest import wait_until


@contextmanager
def opened(given):
    """The state of a server that answers with the recommender in a list."""
    state = AppState(lambda: given[0], ServingConfig(), "a test")
    state.open()
    try:
        yield state
    finally:
        state.close()


def test_the_new_model_answers_once_it_is_prepared(rec, bundle, monkeypatch):
    """Without a request in between: the first one after a long time gets the new model."""
    given, make, has_begun, may_go = [rec], LoadedModel.from_recommender, Event(), Event()

    def make_slowly(recommender):
        has_begun.set()
        assert may_go.wait(30)
        return make(recommender)

    with opened(given) as state:
        monkeypatch.setattr(LoadedModel, "from_recommender", make_slowly)
        given[0] = Recommender(bundle)
        assert has_begun.wait(30)
        assert state.model.recommender is rec
        may_go.set()
        wait_until(lambda: state._model.recommender is given[0])
        assert state.model.recommender is given[0]


def test_a_model_that_cannot_be_prepared_is_one_log_record(rec, bundle, monkeypatch, caplog):
    n_tries = 0

    def fail(_):
        nonlocal n_tries
        n_tries += 1
        raise TypeError("not a title")

    given, make = [rec], LoadedModel.from_recommender
    with opened(given) as state:
        monkeypatch.setattr(LoadedModel, "from_recommender", fail)
        given[0] = Recommender(bundle, digest="abc")
        wait_until(lambda: caplog.records)
        monkeypatch.setattr(LoadedModel, "from_recommender", make)
        given[0] = Recommender(bundle, digest="def")
        wait_until(lambda: state.model.recommender is given[0])
    assert n_tries == 1
    (record,) = caplog.records
    assert record.getMessage() == "version abc cannot answer, still using the previous one"
    assert record.exc_info[0] is TypeError
