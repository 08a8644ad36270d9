"""Training that goes on from an earlier model."""

import numpy as np
import pytest
import torch

from recsys.data import read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.errors import ConfigError
from recsys.sessions import SessionConfig, SessionNetwork, fit_session_model, training_digest
from recsys.sessions.warm_start import PER_ITEM

CONFIG = SessionConfig(embedding_dim=8, hidden_dim=12, epochs=4, warmup_steps=5, feed_forward=2)
BARELY = CONFIG.model_copy(update={"epochs": 1, "learning_rate": 1e-9})


@pytest.fixture(scope="module")
def logs():
    """A log, and the same log without the items that have an odd id."""
    ratings, _ = synthesise_ratings(SyntheticConfig(n_users=60, n_items=40, mean_events=15))
    return read_ratings(ratings), read_ratings(ratings[ratings["item_id"] % 2 == 0])


@pytest.fixture(scope="module")
def earlier(logs):
    return fit_session_model(logs[1], CONFIG)


def losses(log, config, **options):
    told = []
    model = fit_session_model(
        log, config, on_epoch=lambda _, metrics: told.append(metrics["train_loss"]), **options
    )
    return model, told


def test_it_goes_on_where_the_earlier_model_stood(logs, earlier):
    """At a learning rate of next to nothing, the scores are those of the earlier model."""
    model, _ = losses(logs[1], BARELY, start=earlier)
    history = [logs[1].history(0)]
    assert np.allclose(model.score(history), earlier.score(history), atol=1e-3)
    _, cold = losses(logs[1], CONFIG)
    _, warm = losses(logs[1], CONFIG, start=earlier)
    assert warm[0] < cold[0]


def test_items_are_told_apart_by_id_and_new_ones_start_by_their_popularity(logs, earlier):
    whole, _ = logs
    model, _ = losses(whole, BARELY, start=earlier)
    place = earlier.items.indices(whole.items.ids)
    known = place >= 0
    assert known.sum() < len(known)
    ours = model.network.item_embeddings.weight[: whole.n_items].detach().numpy()
    theirs = earlier.network.item_embeddings.weight.detach().numpy()
    assert np.allclose(ours[known], theirs[place[known]], atol=1e-5)
    assert np.allclose(ours[~known], 0, atol=1e-5)
    bias = model.network.item_bias.detach()
    assert torch.allclose(bias[~known], model.network.log_popularity[~known], atol=1e-5)


def test_every_parameter_with_a_row_per_item_is_named():
    """Whoever adds one has to say here that its rows are to be found by id."""
    n_items = 977
    network = SessionNetwork(n_items, CONFIG.resolve(0))
    sized = {
        name
        for name, parameter in network.named_parameters()
        if n_items in parameter.shape or n_items + 1 in parameter.shape
    }
    assert sized == set(PER_ITEM)


def test_another_build_is_refused(logs, earlier):
    other = CONFIG.model_copy(update={"hidden_dim": 16})
    with pytest.raises(ConfigError, match="built otherwise"):
        fit_session_model(logs[1], other, start=earlier)


def test_the_digest_tells_trainings_apart(logs, earlier):
    log, other = logs
    vectors = np.ones((log.n_items, 8), dtype=np.float32)
    digests = {
        training_digest(log, CONFIG),
        training_digest(other, CONFIG),
        training_digest(log, BARELY),
        training_digest(log, CONFIG, item_embeddings=vectors),
        training_digest(log, CONFIG, start=earlier),
    }
    assert len(digests) == 5
    assert training_digest(log, CONFIG) in digests
