from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.config import Runtime
from recsys.data import read_ratings
from recsys.errors import ConfigError, DataError, TrainingError
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork, fit_session_model
from recsys.vocabulary import Vocabulary

TINY = SessionConfig(
    embedding_dim=8, hidden_dim=12, epochs=2, batch_size=4, warmup_steps=5
).resolve(0)
CPU = Runtime(device="cpu", threads=1)


def cycles(n_users=30, n_items=12):
    """Everyone watches once round the same cycle, from one start or another."""
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


def untrained(n_items=9, config=TINY):
    network = SessionNetwork(n_items, config)
    network.initialise(torch.Generator().manual_seed(0), torch.ones(n_items))
    return SessionModel(network, Vocabulary.of(range(n_items)))


def test_scores_are_log_probabilities_of_the_whole_catalogue():
    scores = untrained().score([np.array([1, 2], np.int32), np.array([3], np.int32)])
    assert scores.shape == (2, 9)
    assert np.exp(scores).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_a_score_does_not_depend_on_the_company_in_its_batch():
    model = untrained()
    histories = [np.arange(n, dtype=np.int32) % 9 for n in (1, 8, 3, 5)]
    together = model.score(histories, batch_size=4)
    alone = np.vstack([model.score([history]) for history in histories])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_only_the_latest_watches_count():
    model = untrained(config=TINY.model_copy(update={"max_history": 3}))
    long, recent = np.array([7, 8, 1, 2, 3], np.int32), np.array([1, 2, 3], np.int32)
    open_items = [0, 4, 5, 6]
    logits, shorter = model.score([long])[0, open_items], model.score([recent])[0, open_items]
    np.testing.assert_allclose(logits - logits[0], shorter - shorter[0], atol=1e-5)


def test_all_watched_items_are_out_of_the_running_however_long_ago():
    model = untrained(config=TINY.model_copy(update={"max_history": 3}))
    score = model.score([np.array([7, 8, 1, 2, 3], np.int32)])[0]
    assert np.flatnonzero(np.isneginf(score)).tolist() == [1, 2, 3, 7, 8]
    assert np.exp(score).sum() == pytest.approx(1, abs=1e-5)


def test_watched_items_stay_in_the_running_where_they_come_again():
    model = untrained(config=TINY.model_copy(update={"exclude_seen": False}))
    score = model.score([np.array([1, 2], np.int32)])[0]
    assert np.isfinite(score).all()
    assert np.exp(score).sum() == pytest.approx(1, abs=1e-5)


def test_whoever_has_seen_everything_gets_probability_zero_for_all():
    assert np.isneginf(untrained().score([np.arange(9, dtype=np.int32)])).all()


def test_the_order_of_the_watches_counts():
    model = untrained()
    forth, back = np.array([1, 2, 3], np.int32), np.array([3, 2, 1], np.int32)
    assert not np.allclose(model.score([forth]), model.score([back]))


def test_an_empty_history_is_answered_by_popularity():
    model = untrained()
    model.network.initialise(torch.Generator(), torch.arange(9.0))
    nothing, something = np.array([], np.int32), np.array([4], np.int32)
    scores = model.score([something, nothing, something])
    shares = (np.arange(9) + 0.5) / (np.arange(9) + 0.5).sum()
    np.testing.assert_allclose(np.exp(scores[1]), shares, rtol=1e-5)
    np.testing.assert_allclose(scores[[0, 2]], model.score([something, something]), atol=1e-6)
    np.testing.assert_allclose(model.score([nothing]), scores[1:2], atol=1e-6)


def test_unknown_items_are_left_out_and_reported(caplog):
    model = untrained()
    scores = model.score([np.array([-1, 3, 9, 5], np.int32), np.array([100], np.int32)])
    assert "3 watches are of items that the model does not know" in caplog.text
    np.testing.assert_allclose(scores[:1], model.score([np.array([3, 5], np.int32)]), atol=1e-6)
    np.testing.assert_allclose(scores[1:], model.score([np.array([], np.int32)]), atol=1e-6)


def test_scoring_leaves_the_mode_of_the_network_as_it_was():
    model = untrained()
    model.network.train()
    model.score([np.array([1], np.int32)])
    assert model.network.training


def test_dropout_masks_are_the_same_at_every_step():
    network = untrained().network.train()
    dropped = network._lock_dropout(torch.ones(5, 7, 8), 0.5)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_input_and_output_share_their_vectors():
    names = [name for name, _ in untrained().network.named_parameters()]
    assert [name for name in names if "embeddings" in name] == ["item_embeddings.weight"]


def test_biases_start_at_the_popularity():
    network = SessionNetwork(3, TINY)
    network.initialise(torch.Generator(), torch.tensor([7.0, 2.0, 0.0]))
    expected = torch.tensor([7.5, 2.5, 0.5]) / 10.5
    assert torch.allclose(network.item_bias.softmax(0), expected)


def test_it_learns_a_cycle_that_it_has_seen():
    log = cycles()
    model = fit_session_model(log, LEARNING, runtime=CPU)
    successors = [int(model.score([np.array([i], np.int32)])[0].argmax()) for i in range(12)]
    assert successors == [(i + 1) % 12 for i in range(12)]


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    log = cycles()
    first, again, other = (
        fit_session_model(log, TINY, runtime=CPU.model_copy(update={"seed": seed})).network
        for seed in (1, 1, 2)
    )
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    assert not torch.equal(first.item_embeddings.weight, other.item_embeddings.weight)


def test_a_fit_leaves_the_global_random_state_and_thread_count_alone():
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fit_session_model(cycles(), TINY, runtime=CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_each_epoch_is_told_with_validation_metrics():
    told = []
    fit_session_model(
        cycles(),
        TINY,
        runtime=CPU,
        on_epoch=lambda epoch, metrics: told.append((epoch, metrics)),
        validate=lambda model: {"n_scores": len(model.score([np.array([0], np.int32)])[0])},
    )
    assert [epoch for epoch, _ in told] == [1, 2]
    assert all(metrics["n_scores"] == 12 for _, metrics in told)
    assert told[1][1]["train_loss"] < told[0][1]["train_loss"] < np.log(12) * 1.2


def test_the_padding_vector_stays_zero():
    network = fit_session_model(cycles(), TINY, runtime=CPU).network
    assert not network.item_embeddings.weight[-1].any()


def test_repeated_watches_need_the_option(tmp_path):
    log = cycles()
    item_index = log.item_index.copy()
    item_index[3] = item_index[1]
    log = replace(log, item_index=item_index)
    with pytest.raises(DataError, match="user 0 has watched item 1 more than once: set"):
        fit_session_model(log, TINY, runtime=CPU)
    fit_session_model(log, TINY.model_copy(update={"exclude_seen": False}), runtime=CPU)


def test_frozen_vectors_stay_as_they_start():
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    config = TINY.model_copy(update={"freeze_item_embeddings": True})
    network = fit_session_model(cycles(), config, item_embeddings=vectors, runtime=CPU).network
    ratio = network.item_embeddings.weight[:12].detach().numpy() / vectors
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


@pytest.mark.parametrize("columns", [3, 8, 20])
def test_vectors_start_from_the_embeddings(columns):
    network = untrained().network
    given = torch.randn(9, columns)
    network.load_item_embeddings(given)
    width = min(columns, 8)
    ratio = network.item_embeddings.weight[:9, :width] / given[:, :width]
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)


def test_embeddings_of_another_catalogue_are_refused():
    with pytest.raises(ConfigError, match="5 item embeddings for 12 items"):
        fit_session_model(cycles(), TINY, item_embeddings=np.ones((5, 4), np.float32), runtime=CPU)


def test_random_vectors_by_option():
    log = cycles()
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    config = TINY.model_copy(update={"item_embedding_init": "random"})
    ignored = fit_session_model(log, config, item_embeddings=vectors, runtime=CPU)
    absent = fit_session_model(log, config, runtime=CPU)
    assert torch.equal(
        ignored.network.item_embeddings.weight, absent.network.item_embeddings.weight
    )


def test_data_without_sequences_is_refused():
    log = read_ratings(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]}))
    with pytest.raises(DataError, match="no user has two watches"):
        fit_session_model(log, TINY)


def test_a_diverging_loss_is_told_with_the_remedy():
    config = TINY.model_copy(update={"learning_rate": 1e30, "gradient_clip": 1e30})
    with pytest.raises(TrainingError, match="lower learning_rate"):
        fit_session_model(cycles(), config, runtime=CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_learns_the_cycle_too():
    model = fit_session_model(cycles(), LEARNING, runtime=Runtime(device="cuda"))
    successors = [int(model.score([np.array([i], np.int32)])[0].argmax()) for i in range(12)]
    assert successors == [(i + 1) % 12 for i in range(12)]
