from itertools import permutations

import numpy as np
import pytest

from recsys.sessions.generate import _nucleus, beam_search, greedy, sample


def log_probability(model, history, items):
    """Of a sequence, one full scoring of the history so far at a time."""
    total, so_far = 0.0, list(history)
    for item in items:
        total += float(model.score([np.array(so_far, np.int32)])[0, item])
        so_far.append(item)
    return total


@pytest.mark.parametrize("history", [[], [4, 0]], ids=str)
def test_a_wide_beam_finds_what_brute_force_finds(any_kind, untrained, history):
    model = untrained(any_kind, n_items=5)
    left = [item for item in range(5) if item not in history]
    every = sorted(
        ((log_probability(model, history, items), items) for items in permutations(left, 3)),
        reverse=True,
    )
    found = beam_search(model, history, 3, beam_width=1000)
    assert len(found) == len(every)
    for watch_list, (expected, _) in zip(found, every, strict=True):
        assert watch_list.log_probability == pytest.approx(expected, abs=1e-4)
    assert found[0].items == every[0][1]
    assert np.exp([w.log_probability for w in found]).sum() == pytest.approx(1, abs=1e-4)


def test_nothing_comes_twice_even_where_the_model_would_repeat(tiny, untrained):
    model = untrained(tiny.model_copy(update={"exclude_seen": False}))
    for watch_list in beam_search(model, [4, 0], 5, beam_width=20):
        assert len({4, 0, *watch_list.items}) == 7


def test_beams_come_best_first_and_a_wider_beam_is_no_worse(tiny, untrained):
    model = untrained(tiny)
    best = [beam_search(model, [4], 4, width)[0].log_probability for width in (1, 2, 8, 10_000)]
    assert best[-1] >= max(best) - 1e-5
    found = [w.log_probability for w in beam_search(model, [4], 4, 8)]
    assert found == sorted(found, reverse=True)


def test_greedy_takes_the_best_at_every_step(tiny, untrained):
    model = untrained(tiny)
    so_far = [4, 0]
    for _ in range(4):
        so_far.append(int(model.score([np.array(so_far, np.int32)])[0].argmax()))
    watch_list = greedy(model, [4, 0], 4)
    assert list(watch_list.items) == so_far[2:]
    expected = log_probability(model, [4, 0], watch_list.items)
    assert watch_list.log_probability == pytest.approx(expected, abs=1e-4)


def test_samples_come_as_often_as_they_are_probable(tiny, untrained):
    model = untrained(tiny, n_items=5)
    rng = np.random.default_rng(0)
    drawn = [sample(model, [2], 2, rng) for _ in range(400)]
    exact = {w.items: w.log_probability for w in beam_search(model, [2], 2, 100)}
    for items, expected in exact.items():
        share = np.mean([w.items == items for w in drawn])
        assert share == pytest.approx(np.exp(expected), abs=0.08)
    for watch_list in drawn[:20]:
        assert watch_list.log_probability == pytest.approx(exact[watch_list.items], abs=1e-5)


def test_a_low_temperature_or_a_small_nucleus_is_greedy(tiny, untrained):
    model = untrained(tiny)
    rng = np.random.default_rng(0)
    best = greedy(model, [4], 3).items
    assert sample(model, [4], 3, rng, temperature=1e-3).items == best
    assert sample(model, [4], 3, rng, top_p=1e-6).items == best


def test_the_nucleus_is_the_fewest_items_that_reach_top_p():
    logits = np.log([0.1, 0.5, 0.25, 0.15])
    np.testing.assert_allclose(_nucleus(logits, 0.6), [0, 2 / 3, 1 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(_nucleus(logits, 0.5), [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(_nucleus(logits, 1.0), [0.1, 0.5, 0.25, 0.15], atol=1e-12)


def test_the_same_seed_draws_the_same(tiny, untrained):
    model = untrained(tiny)
    drawn = [sample(model, [1], 5, np.random.default_rng(7)) for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_p": 1.1}, r"top_p 1\.1"),
    ],
)
def test_strange_settings_of_chance_are_refused(tiny, untrained, settings, message):
    with pytest.raises(ValueError, match=message):
        sample(untrained(tiny), [1], 2, np.random.default_rng(0), **settings)


def test_strange_lengths_and_histories_are_refused(tiny, untrained):
    model = untrained(tiny)
    with pytest.raises(ValueError, match="there are 7 items left"):
        beam_search(model, [1, 2], 8)
    with pytest.raises(ValueError, match="n_watches is 0"):
        greedy(model, [1, 2], 0)
    with pytest.raises(ValueError, match="beam_width is 0"):
        beam_search(model, [1], 2, beam_width=0)
    with pytest.raises(ValueError, match="holds 9, which is no item"):
        greedy(model, [9], 1)
