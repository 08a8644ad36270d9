"""What happens when another recommender takes over."""

from threading import Event

from recsys.recommender import Recommender
from recsys.serving import ServingConfig
from recsys.serving.deployment import Deployment, Model


def test_the_one_before_answers_until_all_is_made_from_the_next(rec, bundle, monkeypatch):
    given, make, may_go = [rec], Model.of, Event()
    deployment = Deployment(lambda: given[0], ServingConfig(), "a test")

    def make_slowly(recommender):
        assert may_go.wait(30)
        return make(recommender)

    monkeypatch.setattr(Model, "of", make_slowly)
    given[0] = Recommender(bundle)
    for _ in range(3):
        assert deployment.model.recommender is rec
    may_go.set()
    deployment._renewal.join(30)
    assert deployment.model.recommender is given[0]
