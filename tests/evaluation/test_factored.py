"""Scores made block by block give what scores made at once give, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation import DotProductScorer, rank
from recsys.evaluation.factored import ITEMS, ItemBlocks
from recsys.evaluation.standing import Standing


class Dots:
    """The vector of a history is the sum of those of its items, and one of its own."""

    def __init__(self, item_vectors, own):
        self.item_vectors = np.asarray(item_vectors, dtype=np.float32)
        self.own = np.asarray(own, dtype=np.float32)
        self.asked = 0

    def user_vectors(self, histories):
        start, self.asked = self.asked, self.asked + len(histories)
        return self.own[start : self.asked]

    def score(self, histories):
        return self.user_vectors(histories) @ self.item_vectors.T


class AtOnce:
    """The same scores, of which nothing is known."""

    def __init__(self, model):
        self.score = model.score


def in_order(scores, history, target):
    """All items that take part, best first."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable").tolist()
    return [item for item in order if item == target or item not in history]


@given(data=st.data(), n_items=st.integers(1, 2 * ITEMS + 3), n=st.integers(1, 9))
def test_ranks_and_lists_are_those_of_a_sort(data, n_items, n):
    # Whole numbers are added exactly in any order, so that there are many ties.
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    items, users = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n_items, n))
    if data.draw(st.booleans()):
        items[rng.random(items.shape) < 0.02] = data.draw(st.sampled_from([np.nan, np.inf]))
    histories = [rng.integers(0, n_items, rng.integers(0, 9)).astype(np.int32) for _ in range(n)]
    targets = rng.integers(0, n_items, n).astype(np.int32)
    model = Dots(items, users)
    assert isinstance(model, DotProductScorer)
    found = rank(model, histories, targets, k=4, batch_size=data.draw(st.integers(1, 9)))
    with np.errstate(invalid="ignore"):
        scores = users @ items.T
    for row, history, target, place, top in zip(
        scores, histories, targets, found.ranks, found.recommended, strict=True
    ):
        order = in_order(row, history, target)
        assert place == 1 + order.index(target)
        assert top.tolist() == (order + [-1] * 4)[:4]


@pytest.mark.parametrize("dim", [1, 3, 17, 64, 129])
@pytest.mark.parametrize(("n", "threads"), [(1, 1), (5, 1), (150, 2), (1100, 1)])
def test_of_equal_vectors_the_lower_index_is_first(dim, n, threads, monkeypatch):
    """To the last bit: an item and its copy must not differ by how they are added up."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    rng = np.random.default_rng(0)
    which = rng.integers(0, 130, 2 * ITEMS + 77)
    items = rng.standard_normal((130, dim)).astype(np.float32)[which]
    users = rng.standard_normal((n, dim)).astype(np.float32)
    targets = rng.integers(0, len(which), n).astype(np.int32)
    found = rank(Dots(items, users), [np.empty(0, np.int32)] * n, targets, k=len(which))
    # Copies stand in the order of their index, all of one vector together.
    vectors = which[found.recommended]
    same = vectors[:, 1:] == vectors[:, :-1]
    assert np.all((np.diff(found.recommended, axis=1) > 0) | ~same)
    assert np.all(1 + np.sum(~same, axis=1) == len(np.unique(which)))
    # A target's own score, which is made apart, is the one that it has among all.
    places = 1 + np.argmax(found.recommended == targets[:, None], axis=1)
    assert np.array_equal(found.ranks, places)


def test_both_ways_agree_on_many():
    rng = np.random.default_rng(0)
    n, n_items = 700, 3 * ITEMS + 5
    model = Dots(rng.standard_normal((n_items, 8)), rng.standard_normal((n, 8)))
    histories = [rng.integers(0, n_items, 20).astype(np.int32) for _ in range(n)]
    targets = rng.integers(0, n_items, n).astype(np.int32)
    blockwise = rank(model, histories, targets, k=10)
    model.asked = 0
    whole = rank(AtOnce(model), histories, targets, k=10, batch_size=n)
    assert np.mean(blockwise.ranks == whole.ranks) > 0.999
    assert np.mean(blockwise.recommended == whole.recommended) > 0.999


@pytest.mark.parametrize("way", [lambda model: model, AtOnce], ids=["in blocks", "at once"])
@pytest.mark.parametrize("within", [1, 10, 10_000])
def test_ranks_within_so_many_places_are_the_ranks_up_to_there(way, within):
    rng = np.random.default_rng(1)
    n, n_items = 300, 4 * ITEMS + 9
    model = Dots(rng.integers(-3, 4, (n_items, 5)), rng.integers(-3, 4, (n, 5)))
    histories = [rng.integers(0, n_items, 50).astype(np.int32) for _ in range(n)]
    targets = rng.integers(0, n_items, n).astype(np.int32)
    targets[:150] = rank(model, histories, targets, k=20).recommended[:150, rng.integers(0, 20)]
    results = []
    for limit in (None, within):
        model.asked = 0
        results.append(rank(way(model), histories, targets, within=limit, batch_size=n).ranks)
    assert np.array_equal(results[1], np.minimum(results[0], within + 1))
    assert (results[0] <= 20).sum() > 100


def test_few_scores_are_made_of_users_whose_target_is_far_behind():
    made = []

    class Counted(np.ndarray):
        def __matmul__(self, other):
            made.append(self.shape[0] * other.shape[1])
            return np.asarray(self) @ np.asarray(other)

    rng = np.random.default_rng(2)
    n, n_items = 200, 20 * ITEMS
    users = rng.standard_normal((n, 4)).astype(np.float32).view(Counted)
    items = ItemBlocks.of(rng.standard_normal((n_items, 4)).astype(np.float32))
    targets = rng.integers(0, n_items, n).astype(np.int32)
    items.rank(users, Standing([np.empty(0, np.int32)] * n, targets, within=10))
    assert sum(made) < 0.3 * n * n_items
