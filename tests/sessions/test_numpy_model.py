"""The numpy model computes the same numbers as torch, for every kind of network."""

import numpy as np
import pytest

from recsys.sessions import NumpySessionModel, Weights, from_torch
from recsys.sessions.numpy_model import parameter_shapes

N_ITEMS = 40
HISTORIES = [
    np.random.default_rng(seed).integers(0, N_ITEMS, length).astype(np.int32)
    for seed, length in enumerate([3, 1, 17, 60, 2, 1, 9])
]


@pytest.fixture
def pair(any_kind, untrained):
    model = untrained(any_kind, n_items=N_ITEMS)
    return model, NumpySessionModel(from_torch(model))


def log_probability(numpy_model, state, seen):
    logits = numpy_model.logits(state.query).astype(np.float64)
    logits[seen] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def assert_same(numpy_scores, scores):
    allowed = np.isfinite(scores)
    assert np.array_equal(allowed, np.isfinite(numpy_scores))
    np.testing.assert_allclose(numpy_scores[allowed], scores[allowed], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: f"{len(history)} items")
def test_probabilities_equal_those_of_torch(pair, history):
    model, numpy_model = pair
    assert_same(
        log_probability(numpy_model, numpy_model.encode(history), history),
        model.score([history])[0],
    )


def test_an_empty_history_scores_by_popularity(pair):
    model, numpy_model = pair
    assert_same(
        log_probability(numpy_model, numpy_model.start(), []),
        model.score([np.array([], np.int32)])[0],
    )


def test_single_steps_equal_one_call(pair):
    model, numpy_model = pair
    numpy_state, state = numpy_model.start(), model.start()
    for item in HISTORIES[3]:
        numpy_model.step(numpy_state, [item])
        state, _ = model.step(state, int(item))
    at_once = numpy_model.step(numpy_model.start(), HISTORIES[3])
    np.testing.assert_allclose(
        numpy_model.logits(numpy_state.query),
        numpy_model.logits(at_once.query),
        rtol=1e-5,
        atol=1e-5,
    )
    assert numpy_state.n_steps == 60
    _, streamed = model.step(state, 5)
    numpy_model.step(numpy_state, [5])
    assert_same(log_probability(numpy_model, numpy_state, [*HISTORIES[3], 5]), streamed)


def test_a_batch_equals_single_histories(pair):
    _, numpy_model = pair
    histories = [*HISTORIES, np.array([], np.int32)]
    together = numpy_model.batch_logits(histories)
    for row, history in zip(together, histories, strict=True):
        np.testing.assert_allclose(
            row, numpy_model.logits(numpy_model.encode(history).query), rtol=1e-5, atol=1e-5
        )


def test_a_copied_state_is_independent(pair):
    _, numpy_model = pair
    state = numpy_model.encode(HISTORIES[0])
    before = numpy_model.logits(state.query)
    numpy_model.step(state.copy(), [1, 2, 3])
    assert np.array_equal(numpy_model.logits(state.query), before)
    np.testing.assert_allclose(numpy_model.logits(state.query), before)


def test_state_size_is_bounded(pair):
    model, numpy_model = pair
    state = numpy_model.start()
    sizes = [numpy_model.step(state, [step % N_ITEMS]).nbytes for step in range(300)]
    assert sizes[-1] == sizes[150]
    assert len(state.past) <= model.config.train_chunk_length


def test_parameter_shapes_equal_those_of_the_network(any_kind, untrained):
    state = untrained(any_kind, n_items=N_ITEMS).network.state_dict()
    assert parameter_shapes(any_kind, N_ITEMS) == {
        name: tuple(p.shape) for name, p in state.items()
    }


def test_wrong_shapes_or_names_are_rejected(any_kind, untrained):
    model = untrained(any_kind, n_items=N_ITEMS)
    weights = from_torch(model)
    weights.require_shapes(N_ITEMS)
    for name, array in [("item_bias", np.zeros(3)), ("unheard.of", np.zeros(1))]:
        with pytest.raises(ValueError, match=rf"{name}.* has shape \({len(array)},\)"):
            Weights(any_kind, {**weights.arrays, name: array}).require_shapes(N_ITEMS)
    fewer = {name: array for name, array in weights.arrays.items() if name != "output.bias"}
    with pytest.raises(ValueError, match=r"output\.bias.* has shape None"):
        Weights(any_kind, fewer).require_shapes(N_ITEMS)


def inputs_of(numpy_model, layer, *shape):
    width = numpy_model.config.hidden_dim if layer else numpy_model.item_embeddings_ND.shape[1]
    rng = np.random.default_rng(layer)
    return rng.standard_normal((*shape, width)).astype(np.float32)


def start_of(numpy_model, layer):
    return np.zeros((layer.n_parts, numpy_model.config.hidden_dim), np.float32)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 30])
def test_run_equals_single_steps(pair, n_steps):
    _, numpy_model = pair
    for index, layer in enumerate(numpy_model._layers):
        inputs = inputs_of(numpy_model, index, n_steps)
        state, slow = start_of(numpy_model, layer), start_of(numpy_model, layer)
        states = [layer.run(inputs[step : step + 1], slow)[0].copy() for step in range(n_steps)]
        outputs = layer.run(inputs, state)
        assert outputs.shape == (n_steps, numpy_model.config.hidden_dim)
        np.testing.assert_allclose(outputs, np.reshape(states, outputs.shape), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(state, slow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lengths", [[1], [3], [7, 7, 1], [30, 12, 12, 2]], ids=str)
def test_run_batch_equals_single_runs(pair, lengths):
    _, numpy_model = pair
    n_active = (np.array(lengths) > np.arange(lengths[0])[:, None]).sum(axis=1)
    for index, layer in enumerate(numpy_model._layers):
        inputs = inputs_of(numpy_model, index, lengths[0], len(lengths))
        together = layer.run_batch(inputs, n_active)
        assert together.shape == (lengths[0], len(lengths), numpy_model.config.hidden_dim)
        for row, length in enumerate(lengths):
            alone = layer.run(inputs[:length, row], start_of(numpy_model, layer))
            np.testing.assert_allclose(together[:length, row], alone, rtol=1e-5, atol=1e-6)
            assert not together[length:, row].any()
