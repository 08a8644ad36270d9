"""A fit that goes on from earlier embeddings."""

import numpy as np
import pytest

from recsys.callbacks import History
from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import EmbeddingConfig, fit_embeddings
from recsys.errors import ConfigError
from recsys.vocabulary import Vocabulary

CPU = Runtime(device="cpu", threads=1)
CONFIG = EmbeddingConfig(dim=5)


@pytest.fixture(scope="module")
def counts(sample):
    return count_cooccurrence(sample, min_rating=3.5)


@pytest.fixture(scope="module")
def earlier(sample):
    """Fitted to the first nine users of ten."""
    return fit_embeddings(
        count_cooccurrence(sample.filter(sample.user_index < 0.9 * sample.n_users), min_rating=3.5),
        CONFIG,
        runtime=CPU,
    )


def test_it_starts_where_the_earlier_fit_ended_and_reaches_the_same_loss(counts, earlier):
    told = {}
    for name, start in (("cold", None), ("itself", fit_embeddings(counts, CONFIG, runtime=CPU))):
        told[name] = History()
        fitted = fit_embeddings(counts, CONFIG, start=start, runtime=CPU, on_epoch=told[name])
        assert fitted.loss_ratio < 1.01
    assert told["itself"].series("loss")[0] < told["cold"].series("loss")[0]
    assert fit_embeddings(counts, CONFIG, start=earlier, runtime=CPU).loss_ratio < 1.01


def test_vectors_stay_close_to_what_they_were(counts, earlier):
    """A fit from noise finds vectors that are turned some other way."""

    def likeness(fitted):
        return (fitted.unit_vectors() * earlier.unit_vectors()).sum(axis=1).mean()

    random = CONFIG.model_copy(update={"init": "random", "learning_rate": 0.03})
    assert likeness(fit_embeddings(counts, CONFIG, start=earlier, runtime=CPU)) > 0.9
    assert likeness(fit_embeddings(counts, random, runtime=CPU)) < 0.7


def test_vectors_are_found_by_id(earlier):
    ids = earlier.items.ids
    found = earlier.vectors_for(Vocabulary.of([int(ids[3]), int(ids[7]), 10**6]))
    assert np.array_equal(found[:2], earlier.vectors[[3, 7]])
    assert not found[2].any()


def test_another_dimension_is_refused(counts, earlier):
    with pytest.raises(ConfigError, match="has dim 5, expected 6"):
        fit_embeddings(counts, EmbeddingConfig(dim=6), start=earlier)
