from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.errors import DataError, QueryError
from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.sessions import (
    SessionConfig,
    SessionModel,
    SessionNetwork,
    expected_calibration_error,
    export_scorer,
    from_torch,
)
from recsys.sessions.batches import pad
from recsys.vocabulary import Vocabulary

TINY = SessionConfig(
    embedding_dim=8, hidden_dim=12, epochs=2, batch_size=4, warmup_steps=5
).resolve(0)


def initialized(n_items=9, config=TINY, *, repeats=False):
    network = SessionNetwork(n_items, config, repeats=repeats)
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(n_items))
    return SessionModel(network, Vocabulary.of(range(n_items)))


def test_scores_are_log_probabilities():
    scores = initialized().score([np.array([1, 2], np.int32), np.array([3], np.int32)])
    assert scores.shape == (2, 9)
    assert np.exp(scores).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_scores_do_not_depend_on_the_batch():
    model = initialized()
    histories = [np.arange(n, dtype=np.int32) % 9 for n in (1, 8, 3, 5)]
    batched = model.score(histories, batch_size=4)
    single = np.vstack([model.score([history]) for history in histories])
    np.testing.assert_allclose(batched, single, atol=1e-5)


def test_only_the_latest_items_count():
    model = initialized(config=TINY.model_copy(update={"max_history": 3}))
    long, recent = np.array([7, 8, 1, 2, 3], np.int32), np.array([1, 2, 3], np.int32)
    open_items = [0, 4, 5, 6]
    logits, shorter = model.score([long])[0, open_items], model.score([recent])[0, open_items]
    np.testing.assert_allclose(logits - logits[0], shorter - shorter[0], atol=1e-5)


def test_all_items_of_the_history_are_excluded():
    model = initialized(config=TINY.model_copy(update={"max_history": 3}))
    score = model.score([np.array([7, 8, 1, 2, 3], np.int32)])[0]
    assert np.flatnonzero(np.isneginf(score)).tolist() == [1, 2, 3, 7, 8]
    assert np.exp(score).sum() == pytest.approx(1, abs=1e-5)


def test_items_of_the_history_can_repeat():
    model = initialized(repeats=True)
    score = model.score([np.array([1, 2], np.int32)])[0]
    assert np.isfinite(score).all()
    assert np.exp(score).sum() == pytest.approx(1, abs=1e-5)


def test_a_complete_history_gives_zero_probabilities():
    assert np.isneginf(initialized().score([np.arange(9, dtype=np.int32)])).all()


def test_order_matters():
    model = initialized()
    forward, backward = np.array([1, 2, 3], np.int32), np.array([3, 2, 1], np.int32)
    assert not np.allclose(model.score([forward]), model.score([backward]))


def test_an_empty_history_scores_by_popularity():
    model = initialized()
    model.network.reset_parameters(torch.Generator(), torch.arange(9.0))
    empty, nonempty = np.array([], np.int32), np.array([4], np.int32)
    scores = model.score([nonempty, empty, nonempty])
    shares = (np.arange(9) + 0.5) / (np.arange(9) + 0.5).sum()
    np.testing.assert_allclose(np.exp(scores[1]), shares, rtol=1e-5)
    np.testing.assert_allclose(scores[[0, 2]], model.score([nonempty, nonempty]), atol=1e-6)
    np.testing.assert_allclose(model.score([empty]), scores[1:2], atol=1e-6)


def test_unknown_items_are_ignored_with_a_warning(caplog):
    model = initialized()
    scores = model.score([np.array([-1, 3, 9, 5], np.int32), np.array([100], np.int32)])
    assert "ignored 3 interactions with items unknown to the model" in caplog.text
    np.testing.assert_allclose(scores[:1], model.score([np.array([3, 5], np.int32)]), atol=1e-6)
    np.testing.assert_allclose(scores[1:], model.score([np.array([], np.int32)]), atol=1e-6)


def test_scoring_restores_the_mode_of_the_network():
    model = initialized()
    model.network.train()
    model.score([np.array([1], np.int32)])
    assert model.network.training


def test_input_and_output_embeddings_are_tied():
    names = [name for name, _ in initialized().network.named_parameters()]
    assert [name for name in names if "embeddings" in name] == ["item_embeddings.weight"]


def test_initial_biases_are_the_popularity():
    network = SessionNetwork(3, TINY)
    network.reset_parameters(torch.Generator(), torch.tensor([7.0, 2.0, 0.0]))
    expected = torch.tensor([7.5, 2.5, 0.5]) / 10.5
    assert torch.allclose(network.item_bias.softmax(0), expected)


HISTORY = [3, 1, 7, 0, 5, 2, 8]


def test_streaming_equals_scoring_the_history(any_kind, untrained):
    model = untrained(any_kind)
    state = model.start()
    for n, item in enumerate(HISTORY, start=1):
        state, scores = model.step(state, item)
        np.testing.assert_allclose(
            scores, model.score([np.array(HISTORY[:n], np.int32)])[0], atol=1e-5
        )


def test_a_step_does_not_change_its_input_state(any_kind, untrained):
    model = untrained(any_kind)
    state, _ = model.step(model.start(), 3)
    _, first = model.step(state, 1)
    model.step(state, 7)
    _, again = model.step(state, 1)
    assert np.array_equal(first, again)


def test_the_state_does_not_grow(any_kind, untrained):
    model = untrained(any_kind, repeats=True)
    state, sizes = model.start(), []
    for item in HISTORY * 3:
        state, _ = model.step(state, item)
        past = 0 if state.network.past is None else state.network.past.numel()
        hidden = sum(part.numel() for layer in state.network.hidden for part in layer)
        sizes.append(past + hidden + state.network.emas.numel())
    assert len(set(sizes[4:])) == 1


def test_long_histories_are_scored_in_segments(any_kind, untrained, monkeypatch):
    model = untrained(any_kind.model_copy(update={"max_history": 100}), n_items=40)
    rng = np.random.default_rng(0)
    histories = [rng.permutation(40)[:n].astype(np.int32) for n in (1, 8, 9, 30, 16, 17)]
    at_once = model.score(histories)
    monkeypatch.setattr("recsys.sessions.model._SEGMENT", 8)
    np.testing.assert_allclose(model.score(histories), at_once, atol=1e-5)


def test_memory_is_bounded_by_a_segment(tiny, untrained, monkeypatch):
    model = untrained(tiny.model_copy(update={"max_history": 10_000}), repeats=True)
    widest = 0
    run_rnn = model.network.run_rnn

    def record(items_BL, state=None):
        nonlocal widest
        widest = max(widest, items_BL.shape[1])
        return run_rnn(items_BL, state)

    monkeypatch.setattr(model.network, "run_rnn", record)
    history = np.random.default_rng(0).integers(0, 9, 10_000).astype(np.int32)
    scores = model.score([history])[0]
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)
    assert 0 < widest <= 256


@pytest.mark.parametrize("item", [-1, 9])
def test_a_step_to_an_unknown_item_is_rejected(tiny, untrained, item):
    model = untrained(tiny)
    with pytest.raises(QueryError, match=f"item is {item}: it must be an integer from 0 to 8"):
        model.step(model.start(), item)


def test_no_gradient_is_stored(tiny, untrained):
    model = untrained(tiny)
    state, _ = model.step_batch(model.start(2), torch.tensor([1, 2]))
    assert not state.network.hidden[0][0].requires_grad


@pytest.mark.parametrize(("options", "repeats"), [({}, False), ({"feed_forward": 0}, True)])
def test_the_exported_program_equals_the_model(tiny, options, repeats, untrained, tmp_path):
    model = untrained(tiny.model_copy(update=options), repeats=repeats)
    path = export_scorer(model, tmp_path / "scorer.pt2", length=8)
    program = torch.export.load(path).module()
    rng = np.random.default_rng(0)
    for lengths in ([1, 4], [8, 3, 2, 6], [2]):
        histories = [rng.permutation(9)[:n].astype(np.int32) for n in lengths]
        items = torch.full((len(histories), 8), 9)
        padded = torch.from_numpy(pad(histories, 9))
        items[:, : padded.shape[1]] = padded
        scores = program(items, torch.tensor(lengths)).detach().numpy()
        np.testing.assert_allclose(scores, model.score(histories), atol=1e-5)


def test_a_bundle_stores_every_kind_of_model(bundle, any_kind, untrained, tmp_path):
    network = untrained(any_kind, n_items=len(bundle.items)).network
    model = SessionModel(network, bundle.items)
    folder = save_bundle(replace(bundle, weights=from_torch(model)), tmp_path / "bundle")
    loaded = load_bundle(folder).session_model
    assert loaded.config == any_kind
    histories = [np.array([3, 1, 2], np.int32), np.array([], np.int32)]
    assert np.array_equal(loaded.score(histories), model.score(histories))
    _, streamed = loaded.step(loaded.start(), 3)
    np.testing.assert_allclose(streamed, model.score([np.array([3], np.int32)])[0], atol=1e-5)


def test_calibration_error_by_hand():
    probabilities = [[0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]]
    scores, targets = np.log(np.array(probabilities, np.float32)), np.array([0, 1, 1, 1])
    # Two bins of 0.5: all four in the upper one, three right, mean probability 0.75.
    assert expected_calibration_error(scores, targets, 2) == pytest.approx(0, abs=1e-6)
    # Five bins of 0.2: 0.6 and 0.7 in one, both right; 0.8 and 0.9 in another, one of them right.
    expected = (abs(2 - 1.3) + abs(1 - 1.7)) / 4
    assert expected_calibration_error(scores, targets, 5) == pytest.approx(expected)


def test_seen_targets_do_not_count_for_calibration(untrained, tiny):
    histories = [np.array(history, np.int32) for history in ([1], [2], [4, 5])]
    scores, targets = untrained(tiny).score(histories), np.array([3, 0, 4])
    error = expected_calibration_error(scores[:2], targets[:2])
    assert expected_calibration_error(scores, targets) == error
    with pytest.raises(DataError, match="nothing to calibrate on"):
        expected_calibration_error(scores[2:], targets[2:])
