"""What every baseline must do, whatever it computes."""

import numpy as np
import pytest

from recsys.baselines import BASELINES
from recsys.config import Runtime
from recsys.evaluation import evaluate

CPU = Runtime(device="cpu", threads=1, seed=3)


class Guessing:
    """Scores at random."""

    def __init__(self, n_items):
        self.n_items = n_items
        self.rng = np.random.default_rng(0)

    def score(self, histories):
        return self.rng.random((len(histories), self.n_items), dtype=np.float32)


@pytest.fixture(scope="module", params=sorted(BASELINES))
def fit(request):
    return BASELINES[request.param]


@pytest.fixture(scope="module")
def model(fit, sample_split):
    return fit(sample_split.train, CPU)


@pytest.fixture(scope="module")
def histories(sample_split):
    return sample_split.histories("test")


def test_there_is_a_finite_float_score_for_every_item(model, histories, sample_split):
    scores = model.score(histories[:5])
    assert scores.shape == (5, sample_split.interactions.n_items)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores != scores[:, :1]).any(), "not all items are alike"


def test_a_score_does_not_depend_on_the_company_in_its_batch(model, histories):
    alone = np.vstack([model.score([history]) for history in histories])
    np.testing.assert_allclose(model.score(histories), alone, atol=1e-5)
    np.testing.assert_allclose(model.score(histories[::-1])[::-1], alone, atol=1e-5)


def test_the_same_seed_gives_the_same_scores(fit, model, histories, sample_split):
    again = fit(sample_split.train, CPU)
    assert np.array_equal(again.score(histories), model.score(histories))


def test_scores_are_the_callers_to_change(model, histories):
    scores = model.score(histories)
    before = scores.copy()
    scores[:] = np.nan
    assert np.array_equal(model.score(histories), before)


def test_an_empty_history_and_an_empty_batch_have_scores(model, sample_split):
    n_items = sample_split.interactions.n_items
    assert np.isfinite(model.score([np.array([], np.int32)])).all()
    assert model.score([]).shape == (0, n_items)


def test_fitting_and_scoring_change_neither_interactions_nor_histories(fit, sample):
    before = sample.item_index.copy()
    histories = [sample.history(user) for user in range(sample.n_users)]
    fit(sample, CPU).score(histories)
    assert np.array_equal(sample.item_index, before)


def test_it_beats_guessing(model, sample_split):
    guessing = evaluate(Guessing(sample_split.interactions.n_items), sample_split)
    report = evaluate(model, sample_split)
    assert report.metrics["ndcg_at_10"] > 1.5 * guessing.metrics["ndcg_at_10"]
