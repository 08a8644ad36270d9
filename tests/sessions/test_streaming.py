import numpy as np
import pytest
import torch

HISTORY = [3, 1, 7, 0, 5, 2, 8]


def test_step_by_step_equals_the_whole_history_at_once(any_kind, untrained):
    model = untrained(any_kind)
    state = model.start()
    for n, item in enumerate(HISTORY, start=1):
        state, scores = model.step(state, item)
        np.testing.assert_allclose(
            scores, model.score([np.array(HISTORY[:n], np.int32)])[0], atol=1e-5
        )


def test_a_step_does_not_change_the_state_it_starts_from(any_kind, untrained):
    model = untrained(any_kind)
    state, _ = model.step(model.start(), 3)
    _, first = model.step(state, 1)
    model.step(state, 7)
    _, again = model.step(state, 1)
    assert np.array_equal(first, again)


def test_what_is_remembered_does_not_grow(any_kind, untrained):
    model = untrained(any_kind.model_copy(update={"exclude_seen": False}))
    state, sizes = model.start(), []
    for item in HISTORY * 3:
        state, _ = model.step(state, item)
        past = 0 if state.memory.past is None else state.memory.past.numel()
        hidden = sum(part.numel() for layer in state.memory.hidden for part in layer)
        sizes.append(past + hidden + state.memory.means.numel())
    assert len(set(sizes[4:])) == 1


def test_long_histories_are_gone_through_in_segments(any_kind, untrained, monkeypatch):
    model = untrained(any_kind.model_copy(update={"max_history": 100}), n_items=40)
    rng = np.random.default_rng(0)
    histories = [rng.permutation(40)[:n].astype(np.int32) for n in (1, 8, 9, 30, 16, 17)]
    at_once = model.score(histories)
    monkeypatch.setattr("recsys.sessions.session_model._SEGMENT", 8)
    np.testing.assert_allclose(model.score(histories), at_once, atol=1e-5)


def test_ten_thousand_watches_take_no_more_memory_than_a_segment(tiny, untrained, monkeypatch):
    config = tiny.model_copy(update={"max_history": 10_000, "exclude_seen": False})
    model = untrained(config)
    widest = 0
    recur = model.network.recur

    def watch(items_BL, memory=None):
        nonlocal widest
        widest = max(widest, items_BL.shape[1])
        return recur(items_BL, memory)

    monkeypatch.setattr(model.network, "recur", watch)
    history = np.random.default_rng(0).integers(0, 9, 10_000).astype(np.int32)
    scores = model.score([history])[0]
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)
    assert 0 < widest <= 256


@pytest.mark.parametrize("item", [-1, 9])
def test_a_step_to_an_unknown_item_is_refused(tiny, untrained, item):
    model = untrained(tiny)
    with pytest.raises(ValueError, match=f"no item {item}: indices go from 0 to 8"):
        model.step(model.start(), item)


def test_no_gradient_is_kept(tiny, untrained):
    model = untrained(tiny)
    state, _ = model.advance(model.start(2), torch.tensor([1, 2]))
    assert not state.memory.hidden[0][0].requires_grad
