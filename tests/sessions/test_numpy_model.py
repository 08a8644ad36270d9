"""The model in numpy gives the numbers that torch gives, for every kind of network."""

import numpy as np
import pytest

from recsys.sessions import NumpySessionModel, from_torch, to_torch
from recsys.sessions.weights import Weights, of_today, shapes_of

N_ITEMS = 40
HISTORIES = [
    np.random.default_rng(seed).integers(0, N_ITEMS, length).astype(np.int32)
    for seed, length in enumerate([3, 1, 17, 60, 2, 1, 9])
]


@pytest.fixture
def pair(any_kind, untrained):
    model = untrained(any_kind, n_items=N_ITEMS)
    model.network.temperature.fill_(1.7)
    return model, NumpySessionModel(from_torch(model))


def log_probability(light, memory, seen):
    logits = light.logits(memory).astype(np.float64)
    logits[seen] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def assert_same(light_scores, scores):
    possible = np.isfinite(scores)
    assert np.array_equal(possible, np.isfinite(light_scores))
    np.testing.assert_allclose(light_scores[possible], scores[possible], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: f"{len(history)} watches")
def test_a_history_has_the_probabilities_that_torch_gives_it(pair, history):
    model, light = pair
    assert_same(log_probability(light, light.encode(history), history), model.score([history])[0])


def test_an_empty_history_is_answered_by_popularity(pair):
    model, light = pair
    assert_same(log_probability(light, light.start(), []), model.score([np.array([], np.int32)])[0])


def test_film_by_film_or_all_at_once_is_the_same(pair):
    model, light = pair
    memory, state = light.start(), model.start()
    for item in HISTORIES[3]:
        light.step(memory, [item])
        state, _ = model.step(state, int(item))
    at_once = light.step(light.start(), HISTORIES[3])
    np.testing.assert_allclose(light.logits(memory), light.logits(at_once), rtol=1e-5, atol=1e-5)
    assert memory.n_steps == 60
    _, streamed = model.step(state, 5)
    light.step(memory, [5])
    assert_same(log_probability(light, memory, [*HISTORIES[3], 5]), streamed)


def test_a_batch_is_as_its_histories_one_by_one(pair):
    _, light = pair
    histories = [*HISTORIES, np.array([], np.int32)]
    together = light.batch_logits(histories)
    for row, history in zip(together, histories, strict=True):
        np.testing.assert_allclose(row, light.logits(light.encode(history)), rtol=1e-5, atol=1e-5)


def test_a_copied_memory_goes_its_own_way(pair):
    _, light = pair
    memory = light.encode(HISTORIES[0])
    before = light.logits(memory)
    light.step(memory.copy(), [1, 2, 3])
    assert np.array_equal(light.logits(memory), before)
    np.testing.assert_allclose(light.logits(memory), before)


def test_memory_is_bounded_by_the_window(pair):
    model, light = pair
    memory = light.start()
    sizes = [light.step(memory, [step % N_ITEMS]).nbytes for step in range(300)]
    assert sizes[-1] == sizes[150]
    assert len(memory.past_PM) <= model.config.train_chunk_length


def test_the_shapes_are_those_of_the_network(any_kind, untrained):
    state = untrained(any_kind, n_items=N_ITEMS).network.state_dict()
    assert shapes_of(any_kind, N_ITEMS) == {name: tuple(p.shape) for name, p in state.items()}


def test_parameters_of_another_shape_or_name_are_refused(any_kind, untrained):
    model = untrained(any_kind, n_items=N_ITEMS)
    weights = from_torch(model)
    assert of_today(weights, model.items) is weights
    for name, array in [("item_bias", np.zeros(3)), ("unheard.of", np.zeros(1))]:
        with pytest.raises(ValueError, match=rf"{name}.* has shape \({len(array)},\)"):
            of_today(Weights(any_kind, {**weights.arrays, name: array}), model.items)
    fewer = {name: array for name, array in weights.arrays.items() if name != "output.bias"}
    with pytest.raises(ValueError, match=r"output\.bias.* has shape None"):
        of_today(Weights(any_kind, fewer), model.items)


def test_the_earlier_form_is_brought_up_to_date(untrained, tiny):
    model = untrained(tiny, n_items=N_ITEMS)
    arrays = {
        name.replace("layers.0.", "lstm."): array
        for name, array in from_torch(model).arrays.items()
        if not name.startswith(("shortcut", "log_popularity", "temperature"))
    }
    today = of_today(Weights(tiny, arrays), model.items)
    assert_same(
        log_probability(
            NumpySessionModel(today), NumpySessionModel(today).encode(HISTORIES[0]), HISTORIES[0]
        ),
        to_torch(today, model.items).score([HISTORIES[0]])[0],
    )


def inputs_of(light, layer, *shape):
    width = light.config.hidden_dim if layer else light.item_embeddings_ND.shape[1]
    rng = np.random.default_rng(layer)
    return rng.standard_normal((*shape, width)).astype(np.float32)


def start_of(light, cell):
    return np.zeros((cell.n_parts, light.config.hidden_dim), np.float32)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 30])
def test_a_run_of_a_layer_is_its_steps_one_by_one(pair, n_steps):
    _, light = pair
    for layer, cell in enumerate(light._cells):
        inputs = inputs_of(light, layer, n_steps)
        state, slow = start_of(light, cell), start_of(light, cell)
        states = [cell.run(inputs[step : step + 1], slow)[0].copy() for step in range(n_steps)]
        outputs = cell.run(inputs, state)
        assert outputs.shape == (n_steps, light.config.hidden_dim)
        np.testing.assert_allclose(outputs, np.reshape(states, outputs.shape), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(state, slow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lengths", [[1], [3], [7, 7, 1], [30, 12, 12, 2]], ids=str)
def test_several_sequences_through_a_layer_are_each_of_them_alone(pair, lengths):
    _, light = pair
    n_going = (np.array(lengths) > np.arange(lengths[0])[:, None]).sum(axis=1)
    for layer, cell in enumerate(light._cells):
        inputs = inputs_of(light, layer, lengths[0], len(lengths))
        together = cell.run_many(inputs, n_going)
        assert together.shape == (lengths[0], len(lengths), light.config.hidden_dim)
        for row, length in enumerate(lengths):
            alone = cell.run(inputs[:length, row], start_of(light, cell))
            np.testing.assert_allclose(together[:length, row], alone, rtol=1e-5, atol=1e-6)
            assert not together[length:, row].any()
