"""The replacement of the recommender."""

from threading import Event

from recsys.recommender import Recommender
from recsys.serving import ServingConfig
from recsys.serving.state import AppState, LoadedModel


def test_previous_model_answers_until_the_new_one_is_prepared(rec, bundle, monkeypatch):
    given, make, may_go = [rec], LoadedModel.from_recommender, Event()
    state = AppState(lambda: given[0], ServingConfig(), "a test")

    def make_slowly(recommender):
        assert may_go.wait(30)
        return make(recommender)

    monkeypatch.setattr(LoadedModel, "from_recommender", make_slowly)
    given[0] = Recommender(bundle)
    for _ in range(3):
        assert state.model.recommender is rec
    may_go.set()
    state._loader.join(30)
    assert state.model.recommender is given[0]


def test_a_model_that_cannot_be_prepared_is_one_log_record(rec, bundle, monkeypatch, caplog):
    def fail(_):
        raise TypeError("not a title")

    given = [rec]
    state = AppState(lambda: given[0], ServingConfig(), "a test")
    monkeypatch.setattr(LoadedModel, "from_recommender", fail)
    given[0] = Recommender(bundle, digest="abc")
    for _ in range(3):
        assert state.model.recommender is rec
        state._loader.join(30)
    (record,) = caplog.records
    assert record.getMessage() == "version abc cannot answer, still using the previous one"
    assert record.exc_info[0] is TypeError
