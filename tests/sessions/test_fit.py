from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.config import Runtime
from recsys.data import read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.errors import ConfigError, DataError, TrainingError
from recsys.sessions import (
    SessionConfig,
    SessionModel,
    SessionNetwork,
    fit_session_model,
    loss,
    training_digest,
)
from recsys.sessions.fit import PER_ITEM
from recsys.vocabulary import Vocabulary

TINY = SessionConfig(
    embedding_dim=8, hidden_dim=12, epochs=2, batch_size=4, warmup_steps=5
).resolve(0)
CPU = Runtime(device="cpu", threads=1)


def cycles(n_users=30, n_items=12):
    """Every user goes once through the same cycle of items, from different starts."""
    rows = [(u, (u + step) % n_items) for u in range(n_users) for step in range(n_items)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))


LEARNING = TINY.model_copy(
    update={
        "epochs": 40,
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "item_dropout": 0.0,
    }
)


def test_model_learns_a_cycle():
    interactions = cycles()
    model = fit_session_model(interactions, LEARNING, runtime=CPU)
    successors = [int(model.score([np.array([i], np.int32)])[0].argmax()) for i in range(12)]
    assert successors == [(i + 1) % 12 for i in range(12)]


def test_the_seed_determines_the_model():
    interactions = cycles()
    first, again, other = (
        fit_session_model(interactions, TINY, runtime=CPU.model_copy(update={"seed": seed})).network
        for seed in (1, 1, 2)
    )
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    assert not torch.equal(first.item_embeddings.weight, other.item_embeddings.weight)


def test_a_fit_restores_the_global_random_state_and_thread_count():
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fit_session_model(cycles(), TINY, runtime=CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_on_epoch_gets_validation_metrics():
    history = []
    fit_session_model(
        cycles(),
        TINY,
        runtime=CPU,
        on_epoch=lambda epoch, metrics: history.append((epoch, metrics)),
        validate=lambda model: {"n_scores": len(model.score([np.array([0], np.int32)])[0])},
    )
    assert [epoch for epoch, _ in history] == [1, 2]
    assert all(metrics["n_scores"] == 12 for _, metrics in history)
    assert history[1][1]["train_loss"] < history[0][1]["train_loss"] < np.log(12) * 1.2


def test_the_padding_embedding_stays_zero():
    network = fit_session_model(cycles(), TINY, runtime=CPU).network
    assert not network.item_embeddings.weight[-1].any()


def test_repeated_items_are_refused_unless_the_data_repeats():
    interactions = cycles()
    item_index = interactions.item_index.copy()
    item_index[3] = item_index[1]
    interactions = replace(interactions, item_index=item_index)
    with pytest.raises(DataError, match="user 0 has more than one interaction with item 1: read"):
        fit_session_model(interactions, TINY, runtime=CPU)
    assert fit_session_model(replace(interactions, repeats=True), TINY, runtime=CPU).repeats


def test_frozen_embeddings_do_not_change():
    embeddings = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    config = TINY.model_copy(update={"freeze_item_embeddings": True})
    network = fit_session_model(cycles(), config, item_embeddings=embeddings, runtime=CPU).network
    ratio = network.item_embeddings.weight[:12].detach().numpy() / embeddings
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


@pytest.mark.parametrize("columns", [3, 8, 20])
def test_pretrained_embeddings_are_scaled_and_truncated(columns):
    network = SessionNetwork(9, TINY)
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(9))
    given = torch.randn(9, columns)
    network.load_item_embeddings(given)
    width = min(columns, 8)
    ratio = network.item_embeddings.weight[:9, :width] / given[:, :width]
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)


def test_embeddings_of_another_catalogue_are_rejected():
    with pytest.raises(ConfigError, match="5 item embeddings for 12 items"):
        fit_session_model(cycles(), TINY, item_embeddings=np.ones((5, 4), np.float32), runtime=CPU)


def diverged(**settings):
    config = TINY.model_copy(update={"warmup_steps": 0, "gradient_clip": 1e9, **settings})
    with pytest.raises(TrainingError, match=r"lower learning_rate \(now") as stopped:
        fit_session_model(cycles(), config, runtime=CPU)
    return str(stopped.value)


def test_a_training_that_diverges_stops():
    assert "the loss is" in (message := diverged(learning_rate=30.0, epochs=20))
    assert "that of a random guess 2.485" in message


def test_a_last_step_that_gives_no_numbers_stops():
    """The only loss is that before the step."""
    message = diverged(learning_rate=1e39, epochs=1, batch_size=1000)
    assert "the parameters are not finite numbers after epoch 1" in message


def test_random_init_ignores_embeddings():
    interactions = cycles()
    embeddings = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    config = TINY.model_copy(update={"item_embedding_init": "random"})
    ignored = fit_session_model(interactions, config, item_embeddings=embeddings, runtime=CPU)
    absent = fit_session_model(interactions, config, runtime=CPU)
    assert torch.equal(
        ignored.network.item_embeddings.weight, absent.network.item_embeddings.weight
    )


def test_data_without_sequences_is_rejected():
    interactions = read_ratings(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]}))
    with pytest.raises(DataError, match="no user has two interactions"):
        fit_session_model(interactions, TINY)


def test_a_diverging_loss_names_the_remedy():
    config = TINY.model_copy(update={"learning_rate": 1e30, "gradient_clip": 1e30})
    with pytest.raises(TrainingError, match="lower learning_rate"):
        fit_session_model(cycles(), config, runtime=CPU)


SMALL = SessionConfig(embedding_dim=8, hidden_dim=12, epochs=4, warmup_steps=5, feed_forward=2)
BARELY = SMALL.model_copy(update={"epochs": 1, "learning_rate": 1e-9})


@pytest.fixture(scope="module")
def datasets():
    """Interactions, and the same without items with an odd id."""
    ratings, _ = synthesise_ratings(SyntheticConfig(n_users=60, n_items=40, mean_events=15))
    return read_ratings(ratings), read_ratings(ratings[ratings["item_id"] % 2 == 0])


@pytest.fixture(scope="module")
def earlier(datasets):
    return fit_session_model(datasets[1], SMALL)


def losses(interactions, config, **options):
    train_losses = []
    model = fit_session_model(
        interactions,
        config,
        on_epoch=lambda _, metrics: train_losses.append(metrics["train_loss"]),
        **options,
    )
    return model, train_losses


def test_warm_start_continues_from_the_earlier_model(datasets, earlier):
    """With a negligible learning rate, the scores are those of the earlier model."""
    model, _ = losses(datasets[1], BARELY, start=earlier)
    history = [datasets[1].history(0)]
    assert np.allclose(model.score(history), earlier.score(history), atol=1e-3)
    _, cold = losses(datasets[1], SMALL)
    _, warm = losses(datasets[1], SMALL, start=earlier)
    assert warm[0] < cold[0]


def test_warm_start_matches_items_by_id(datasets, earlier):
    interactions, _ = datasets
    model, _ = losses(interactions, BARELY, start=earlier)
    index = earlier.items.indices(interactions.items.ids)
    known = index >= 0
    assert known.sum() < len(known)
    ours = model.network.item_embeddings.weight[: interactions.n_items].detach().numpy()
    theirs = earlier.network.item_embeddings.weight.detach().numpy()
    assert np.allclose(ours[known], theirs[index[known]], atol=1e-5)
    assert np.allclose(ours[~known], 0, atol=1e-5)
    bias = model.network.item_bias.detach()
    assert torch.allclose(bias[~known], model.network.log_popularity[~known], atol=1e-5)


def test_every_parameter_with_a_row_per_item_is_listed():
    """Rows of listed parameters are matched by item id."""
    n_items = 977
    network = SessionNetwork(n_items, SMALL.resolve(0))
    sized = {
        name
        for name, parameter in network.named_parameters()
        if n_items in parameter.shape or n_items + 1 in parameter.shape
    }
    assert sized == set(PER_ITEM)


def test_another_architecture_is_rejected(datasets, earlier):
    other = SMALL.model_copy(update={"hidden_dim": 16})
    with pytest.raises(ConfigError, match="has another architecture"):
        fit_session_model(datasets[1], other, start=earlier)


def test_a_start_of_another_catalogue_is_rejected(datasets, earlier):
    items = Vocabulary(earlier.items.ids + 1000)
    foreign = SessionModel(earlier.network, items)
    with pytest.raises(ConfigError, match=r"knows none of the \d+ ids such as .* but \d+ ids such"):
        fit_session_model(datasets[1], SMALL, start=foreign)


def test_the_digest_distinguishes_trainings(datasets, earlier):
    interactions, other = datasets
    vectors = np.ones((interactions.n_items, 8), dtype=np.float32)
    digests = {
        training_digest(interactions, SMALL),
        training_digest(other, SMALL),
        training_digest(interactions, BARELY),
        training_digest(interactions, SMALL, item_embeddings=vectors),
        training_digest(interactions, SMALL, start=earlier),
    }
    assert len(digests) == 5
    assert training_digest(interactions, SMALL) in digests


def test_two_threads_of_the_loss_give_the_same_model(monkeypatch):
    monkeypatch.setitem(loss._CHUNK_BYTES, "cpu", 4 * 12 * 8)  # eight predictions

    def parameters(loss_threads):
        model = fit_session_model(cycles(), TINY, runtime=CPU, loss_threads=loss_threads)
        return [tensor.numpy().tobytes() for tensor in model.network.state_dict().values()]

    assert parameters(2) == parameters(1)
    with pytest.raises(ConfigError, match="loss_threads is 3"):
        parameters(3)
