"""Properties of every baseline."""

import dataclasses

import numpy as np
import pytest

from recsys.baselines import BASELINES, default_baselines, fit_baseline, fit_popularity
from recsys.config import Config, Runtime
from recsys.errors import ConfigError, DataError
from recsys.evaluation import evaluate
from recsys.vocabulary import Vocabulary

CPU = Runtime(device="cpu", threads=1, seed=3)


class RandomScorer:
    """Random scores."""

    def __init__(self, n_items):
        self.n_items = n_items
        self.rng = np.random.default_rng(0)

    def score(self, histories):
        return self.rng.random((len(histories), self.n_items), dtype=np.float32)


@pytest.fixture(scope="module")
def item_vectors(sample_split):
    """The spectral embedding of the sample's co-occurrence: better than random."""
    matrix = sample_split.train.user_item_matrix().toarray().astype(float)
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return (vectors[:, -8:] * np.sqrt(values[-8:])).astype(np.float32)


@pytest.fixture(scope="module", params=sorted(BASELINES))
def fit(request, item_vectors):
    def fit(interactions, runtime):
        return fit_baseline(
            request.param, interactions, item_vectors=item_vectors, runtime=runtime
        ).model

    return fit


@pytest.fixture(scope="module")
def model(fit, sample_split):
    return fit(sample_split.train, CPU)


@pytest.fixture(scope="module")
def histories(sample_split):
    return sample_split.histories("test")


def test_scores_are_finite_float32_for_every_item(model, histories, sample_split):
    scores = model.score(histories[:5])
    assert scores.shape == (5, sample_split.interactions.n_items)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores != scores[:, :1]).any(), "not all items are alike"


def test_scores_do_not_depend_on_the_batch(model, histories):
    alone = np.vstack([model.score([history]) for history in histories])
    np.testing.assert_allclose(model.score(histories), alone, atol=1e-5)
    np.testing.assert_allclose(model.score(histories[::-1])[::-1], alone, atol=1e-5)


def test_same_seed_gives_the_same_scores(fit, model, histories, sample_split):
    again = fit(sample_split.train, CPU)
    assert np.array_equal(again.score(histories), model.score(histories))


def test_scores_are_a_new_array(model, histories):
    scores = model.score(histories)
    before = scores.copy()
    scores[:] = np.nan
    assert np.array_equal(model.score(histories), before)


def test_empty_history_and_empty_batch(model, sample_split):
    n_items = sample_split.interactions.n_items
    assert np.isfinite(model.score([np.array([], np.int32)])).all()
    assert model.score([]).shape == (0, n_items)


def test_fit_and_score_do_not_modify_the_interactions(fit, sample):
    before = sample.item_index.copy()
    histories = [sample.history(user) for user in range(sample.n_users)]
    fit(sample, CPU).score(histories)
    assert np.array_equal(sample.item_index, before)


def test_better_than_random(model, sample_split):
    random = evaluate(RandomScorer(sample_split.interactions.n_items), sample_split)
    report = evaluate(model, sample_split)
    assert report.metrics["ndcg_at_10"] > 1.5 * random.metrics["ndcg_at_10"]


def test_default_configuration_without_validation(sample_split):
    fitted = fit_baseline("item-knn", sample_split.train)
    assert fitted.config == BASELINES["item-knn"].configs[0]
    assert fitted.trials == ()


@pytest.mark.parametrize("wanted", range(len(BASELINES["item-knn"].configs)))
def test_best_configuration_is_used(sample_split, wanted):
    seen = []

    def validate(model):
        seen.append(model)
        return 1.0 if len(seen) == wanted + 1 else 0.5

    fitted = fit_baseline("item-knn", sample_split.train, validate=validate)
    assert fitted.config == BASELINES["item-knn"].configs[wanted]
    assert fitted.model is seen[wanted]
    assert [score for _, score in fitted.trials].index(1.0) == wanted
    assert [config for config, _ in fitted.trials] == list(BASELINES["item-knn"].configs)


def test_first_of_equal_configurations_is_used(sample_split):
    fitted = fit_baseline("item-knn", sample_split.train, validate=lambda model: 0.0)
    assert fitted.config == BASELINES["item-knn"].configs[0]


def test_unknown_baseline_error_lists_the_names(sample):
    with pytest.raises(
        ConfigError, match="unknown baseline 'best': choose one of popularity, recent"
    ):
        fit_baseline("best", sample)


def test_item_vectors_of_another_catalogue_are_rejected(sample):
    vectors = np.ones((59, 3), dtype=np.float32)
    with pytest.raises(ConfigError, match="of another catalogue: 59 for 60 ids such as"):
        fit_baseline("mean-embedding", sample, item_vectors=vectors)


def test_mean_embedding_needs_item_vectors(sample):
    with pytest.raises(ConfigError, match="needs item vectors"):
        fit_baseline("mean-embedding", sample)


def test_recent_popularity_needs_timestamps(sample):
    with pytest.raises(DataError, match="timestamp"):
        fit_baseline("recent-popularity", dataclasses.replace(sample, timestamp=None))


def test_default_baselines_omit_ease_for_large_data(sample):
    assert "ease" in default_baselines(sample)
    many = Vocabulary(np.arange(6_000))
    offsets = np.pad(sample.user_offsets, (0, 6_000 - sample.n_users), mode="edge")
    users = dataclasses.replace(sample, users=many, user_offsets=offsets)
    assert "ease" in default_baselines(users)
    assert "ease" not in default_baselines(dataclasses.replace(users, items=many))
    assert set(default_baselines(sample)) <= set(BASELINES)


def test_the_users_own_items_are_ranked_first_where_items_repeat(sample):
    repeating = dataclasses.replace(sample, repeats=True)
    own = {"user-recent", "user-frequent"}
    assert own <= set(default_baselines(repeating))
    assert not own & set(default_baselines(sample))
    popular = np.argsort(-fit_popularity(sample).counts, kind="stable").tolist()
    a, b, c = (popular[position] for position in (7, 3, 9))
    history = np.array([a, b, a, c], np.int32)
    rest = [item for item in popular if item not in (a, b, c)]
    for name, expected in (("user-recent", [c, a, b]), ("user-frequent", [a, c, b])):
        (scores,) = fit_baseline(name, repeating).model.score([history])
        assert np.argsort(-scores, kind="stable").tolist() == expected + rest
        (scores,) = fit_baseline(name, repeating).model.score([history[:0]])
        assert np.argsort(-scores, kind="stable").tolist() == popular


@pytest.mark.parametrize("name", BASELINES)
def test_configurations_are_distinct(name):
    configs = BASELINES[name].configs
    assert all(isinstance(config, Config) for config in configs)
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
