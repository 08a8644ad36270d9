from itertools import permutations

import numpy as np
import pytest

from recsys.errors import QueryError
from recsys.sessions import NumpySessionModel, beam_search, from_torch
from recsys.sessions.decode import search_beams


def log_probability(model, history, items):
    """Of a sequence, from full scorings of each of its prefixes."""
    total, prefix = 0.0, list(history)
    for item in items:
        total += float(model.score([np.array(prefix, np.int32)])[0, item])
        prefix.append(item)
    return total


@pytest.mark.parametrize("history", [[], [4, 0]], ids=str)
def test_a_wide_beam_is_exhaustive(any_kind, untrained, history):
    model = untrained(any_kind, n_items=5)
    left = [item for item in range(5) if item not in history]
    every = sorted(
        ((log_probability(model, history, items), items) for items in permutations(left, 3)),
        reverse=True,
    )
    found = beam_search(model, history, 3, beam_width=1000)
    assert len(found) == len(every)
    for sequence, (expected, _) in zip(found, every, strict=True):
        assert sequence.log_probability == pytest.approx(expected, abs=1e-4)
    assert found[0].items == every[0][1]
    assert np.exp([sequence.log_probability for sequence in found]).sum() == pytest.approx(
        1, abs=1e-4
    )


def test_no_item_occurs_twice_unless_the_model_repeats_items(tiny, untrained):
    for sequence in beam_search(untrained(tiny), [4, 0], 5, beam_width=20):
        assert len({4, 0, *sequence.items}) == 7
    found = beam_search(untrained(tiny, repeats=True), [4, 0], 2, beam_width=1000)
    assert len(found) == 81, "every pair of items, with repeats"
    total = np.exp([sequence.log_probability for sequence in found]).sum()
    assert total == pytest.approx(1, abs=1e-4)


def test_sequences_are_sorted_and_a_wider_beam_is_no_worse(tiny, untrained):
    model = untrained(tiny)
    best = [beam_search(model, [4], 4, width)[0].log_probability for width in (1, 2, 8, 10_000)]
    assert best[-1] >= max(best) - 1e-5
    found = [w.log_probability for w in beam_search(model, [4], 4, 8)]
    assert found == sorted(found, reverse=True)


def test_invalid_lengths_and_histories_are_rejected(tiny, untrained):
    model = untrained(tiny)
    with pytest.raises(QueryError, match="length is 8: it must be 1 to 7"):
        beam_search(model, [1, 2], 8)
    with pytest.raises(QueryError, match="length is 0"):
        beam_search(model, [1, 2], 0)
    with pytest.raises(QueryError, match="beam_width is 0"):
        beam_search(model, [1], 2, beam_width=0)
    with pytest.raises(QueryError, match="history contains 9: indices are 0 to 8"):
        beam_search(model, [9], 1)


@pytest.mark.parametrize("history", [[], [4, 0, 7]], ids=str)
@pytest.mark.parametrize("repeats", [True, False])
def test_torch_and_numpy_find_the_same_sequences(any_kind, untrained, history, repeats):
    model = untrained(any_kind, repeats=repeats)
    numpy_model = NumpySessionModel(from_torch(model))
    found, expected = (beam_search(m, history, 3, beam_width=5) for m in (numpy_model, model))
    assert [sequence.items for sequence in found] == [sequence.items for sequence in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.log_probabilities, theirs.log_probabilities, atol=1e-5)


def test_a_beam_of_one_takes_the_best_item_at_every_step(tiny, untrained):
    model = untrained(tiny)
    prefix = [4, 0]
    for _ in range(4):
        prefix.append(int(model.score([np.array(prefix, np.int32)])[0].argmax()))
    (sequence,) = beam_search(model, [4, 0], 4, beam_width=1)
    assert list(sequence.items) == prefix[2:]
    expected = log_probability(model, [4, 0], sequence.items)
    assert sequence.log_probability == pytest.approx(expected, abs=1e-4)


def test_only_allowed_items_occur_and_sequences_end_when_none_is_left(tiny, untrained):
    model = untrained(tiny)
    allowed = np.isin(np.arange(9), [2, 3, 4])
    found = search_beams(model.sequences(np.array([4])), 5, 8, allowed)
    assert sorted(sequence.items for sequence in found) == [(2, 3), (3, 2)]
    assert not search_beams(model.sequences(np.array([4])), 5, 8, ~allowed & False)
