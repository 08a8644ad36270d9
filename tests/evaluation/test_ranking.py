import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import DataError
from recsys.evaluation import CatalogueAdapter, DotProductScorer, measure_latency, rank
from recsys.evaluation.ranking import ITEM_BLOCK, accumulate_products
from recsys.evaluation.streaming_rank import RankAccumulator
from recsys.vocabulary import Vocabulary

N_ITEMS = 6


class Table:
    """Returns given scores, one row per history, in order."""

    def __init__(self, scores):
        self.scores = np.array(scores, dtype=np.float32)
        self.n_scored = 0

    def score(self, histories):
        start, self.n_scored = self.n_scored, self.n_scored + len(histories)
        return self.scores[start : self.n_scored].copy()


def sorted_items(scores, history, target=None):
    """All items that may be recommended, best first."""
    allowed = [item for item in range(len(scores)) if item not in history or item == target]
    return sorted(
        allowed, key=lambda item: (math.inf if math.isnan(scores[item]) else -scores[item], item)
    )


numbers = st.sampled_from([math.nan, -math.inf, -1.0, 0.0, 0.5, math.inf])
users = st.tuples(
    st.lists(numbers, min_size=N_ITEMS, max_size=N_ITEMS),
    st.lists(st.integers(0, N_ITEMS - 1), max_size=8),
    st.integers(0, N_ITEMS - 1),
)


def arrays(histories):
    return [np.array(history, dtype=np.int32) for history in histories]


@given(users=st.lists(users, min_size=1, max_size=7), batch_size=st.integers(1, 8))
def test_ranks_are_those_of_a_sort(users, batch_size):
    scores, histories, targets = zip(*users, strict=True)
    expected = [1 + sorted_items(*user).index(user[2]) for user in users]
    found = rank(Table(scores), arrays(histories), np.array(targets), batch_size=batch_size)
    assert found.ranks.tolist() == expected


@pytest.mark.parametrize(
    ("scores", "history", "target", "expected"),
    [
        ([3, 2, 1], [], 2, 3),
        ([3, 2, 1], [0], 2, 2),  # seen items are left out
        ([3, 2, 1], [0, 1, 2], 2, 1),  # except the target
        ([1, 1, 1], [], 0, 1),  # ties: lower index first
        ([1, 1, 1], [], 2, 3),
        ([1, math.nan, 2], [], 1, 3),  # NaN ranks last
        ([math.nan, 1, math.nan], [], 2, 3),
        ([math.nan, 1, math.nan], [], 1, 1),
    ],
)
def test_ranks_by_hand(scores, history, target, expected):
    ranks = rank(Table([scores]), arrays([history]), np.array([target])).ranks
    assert ranks.tolist() == [expected]
    assert ranks.dtype == np.int64


@given(
    users=st.lists(users, min_size=1, max_size=7),
    batch_size=st.integers(1, 8),
    k=st.integers(1, 8),
)
def test_lists_are_those_of_a_sort(users, batch_size, k):
    scores, histories, _ = zip(*users, strict=True)

    def top(row, history):
        return (sorted_items(row, history) + [-1] * k)[:k]

    found = rank(Table(scores), arrays(histories), k=k, batch_size=batch_size)
    assert found.recommended.tolist() == [
        top(*user) for user in zip(scores, histories, strict=True)
    ]
    unmasked = rank(Table(scores), arrays(histories), k=k, mask_seen=False, batch_size=batch_size)
    assert unmasked.recommended.tolist() == [top(row, []) for row in scores]


@given(users=st.lists(users, min_size=1, max_size=7), batch_size=st.integers(1, 8))
def test_the_position_of_a_target_in_its_list_is_its_rank(users, batch_size):
    scores, histories, targets = zip(*users, strict=True)
    ranking = rank(
        Table(scores), arrays(histories), np.array(targets), N_ITEMS, batch_size=batch_size
    )
    lists = ranking.recommended.tolist()
    positions = [1 + row.index(target) for row, target in zip(lists, targets, strict=True)]
    assert ranking.ranks.tolist() == positions


# Scorers whose scores are dot products.


class Dots:
    """Scores with given item and user vectors, whatever the histories."""

    def __init__(self, item_vectors, users):
        self.item_vectors = np.asarray(item_vectors, dtype=np.float32)
        self.users = np.asarray(users, dtype=np.float32)
        self.n_scored = 0

    def user_vectors(self, histories):
        start, self.n_scored = self.n_scored, self.n_scored + len(histories)
        return self.users[start : self.n_scored]

    def score(self, histories):
        return self.user_vectors(histories) @ self.item_vectors.T


class ScoresOnly:
    """The same scores, without the vectors."""

    def __init__(self, model):
        self.score = model.score


@given(data=st.data(), n_items=st.integers(1, 2 * ITEM_BLOCK + 3), n=st.integers(1, 9))
def test_blockwise_ranks_and_lists_are_those_of_a_sort(data, n_items, n):
    # Sums of small integers are exact in any order, and there are many ties.
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
    for row, history, target, found_rank, top in zip(
        scores.tolist(),
        [history.tolist() for history in histories],
        targets.tolist(),
        found.ranks,
        found.recommended,
        strict=True,
    ):
        order = sorted_items(row, history, target)
        assert found_rank == 1 + order.index(target)
        assert top.tolist() == (order + [-1] * 4)[:4]


@pytest.mark.parametrize("dim", [1, 3, 17, 64, 129])
@pytest.mark.parametrize(("n", "threads"), [(1, 1), (5, 1), (150, 2), (1100, 1)])
def test_equal_vectors_are_ordered_by_index(dim, n, threads, monkeypatch):
    """An item and its copy score the same to the last bit, whatever the order of summation."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    rng = np.random.default_rng(0)
    vector_of = rng.integers(0, 130, 2 * ITEM_BLOCK + 77)
    items = rng.standard_normal((130, dim)).astype(np.float32)[vector_of]
    users = rng.standard_normal((n, dim)).astype(np.float32)
    targets = rng.integers(0, len(vector_of), n).astype(np.int32)
    found = rank(Dots(items, users), [np.empty(0, np.int32)] * n, targets, k=len(vector_of))
    # All copies of a vector are adjacent, in the order of their index.
    vectors = vector_of[found.recommended]
    same = vectors[:, 1:] == vectors[:, :-1]
    assert np.all((np.diff(found.recommended, axis=1) > 0) | ~same)
    assert np.all(1 + np.sum(~same, axis=1) == len(np.unique(vector_of)))
    # The score of a target, computed separately, is the one that it has in its block.
    positions = 1 + np.argmax(found.recommended == targets[:, None], axis=1)
    assert np.array_equal(found.ranks, positions)


def test_blockwise_and_whole_scores_agree():
    rng = np.random.default_rng(0)
    n, n_items = 700, 3 * ITEM_BLOCK + 5
    model = Dots(rng.standard_normal((n_items, 8)), rng.standard_normal((n, 8)))
    histories = [rng.integers(0, n_items, 20).astype(np.int32) for _ in range(n)]
    targets = rng.integers(0, n_items, n).astype(np.int32)
    blockwise = rank(model, histories, targets, k=10)
    model.n_scored = 0
    whole = rank(ScoresOnly(model), histories, targets, k=10, batch_size=n)
    assert np.mean(blockwise.ranks == whole.ranks) > 0.999
    assert np.mean(blockwise.recommended == whole.recommended) > 0.999


@pytest.mark.parametrize("wrap", [lambda model: model, ScoresOnly], ids=["blocks", "whole"])
@pytest.mark.parametrize("max_rank", [1, 10, 10_000])
def test_ranks_up_to_max_rank_are_exact(wrap, max_rank):
    rng = np.random.default_rng(1)
    n, n_items = 300, 4 * ITEM_BLOCK + 9
    model = Dots(rng.integers(-3, 4, (n_items, 5)), rng.integers(-3, 4, (n, 5)))
    histories = [rng.integers(0, n_items, 50).astype(np.int32) for _ in range(n)]
    targets = rng.integers(0, n_items, n).astype(np.int32)
    targets[:150] = rank(model, histories, targets, k=20).recommended[:150, rng.integers(0, 20)]
    results = []
    for limit in (None, max_rank):
        model.n_scored = 0
        results.append(rank(wrap(model), histories, targets, max_rank=limit, batch_size=n).ranks)
    assert np.array_equal(results[1], np.minimum(results[0], max_rank + 1))
    assert (results[0] <= 20).sum() > 100


def test_few_scores_are_computed_for_targets_beyond_max_rank():
    n_computed = []

    class Counted(np.ndarray):
        def __matmul__(self, other):
            n_computed.append(self.shape[0] * other.shape[1])
            return np.asarray(self) @ np.asarray(other)

    rng = np.random.default_rng(2)
    n, n_items = 200, 20 * ITEM_BLOCK
    users = rng.standard_normal((n, 4)).astype(np.float32).view(Counted)
    vectors = rng.standard_normal((n_items, 4)).astype(np.float32)
    targets = rng.integers(0, n_items, n).astype(np.int32)
    accumulator = RankAccumulator([np.empty(0, np.int32)] * n, targets, max_rank=10)
    accumulate_products(vectors, users, accumulator)
    assert sum(n_computed) < 0.3 * n * n_items


# Models of another catalogue.


class Recorder:
    """Scores item i for the b-th history with 10 b + i, and records the histories."""

    def __init__(self, n_items):
        self.n_items = n_items
        self.histories = []

    def score(self, histories):
        self.histories = [history.tolist() for history in histories]
        rows = 10 * np.arange(len(histories), dtype=np.float32)
        return rows[:, None] + np.arange(self.n_items, dtype=np.float32)


def adapted_scores(model_items, data_items, *histories):
    """The histories that the model received, and the scores that the adapter returned."""
    model = Recorder(len(model_items))
    adapter = CatalogueAdapter(model, Vocabulary.of(model_items), Vocabulary.of(data_items))
    scores = adapter.score(arrays(histories))
    assert scores.dtype == np.float32
    return model.histories, scores.tolist()


LOWEST = -np.inf


def test_items_are_matched_by_id():
    # Of the data's items b c d e, the model knows b and d, as 1 and 2.
    received, scores = adapted_scores("abdf", "bcde", [2, 1, 0], [0])
    assert received == [[2, 1], [1]]
    assert scores == [[1, LOWEST, 2, LOWEST], [11, LOWEST, 12, LOWEST]]


def test_a_history_of_unknown_items_scores_all_items_lowest():
    received, scores = adapted_scores("abdf", "bcde", [1, 3], [0], [])
    assert received == [[1]]
    assert scores == [[LOWEST] * 4, [1, LOWEST, 2, LOWEST], [LOWEST] * 4]


def test_a_model_that_knows_no_item_is_not_called():
    received, scores = adapted_scores("xyz", "abcd", [0], [1])
    assert received == []
    assert scores == [[LOWEST] * 4] * 2


def test_the_same_catalogue_changes_nothing():
    received, scores = adapted_scores("abc", "abc", [2, 0], [1])
    assert received == [[2, 0], [1]]
    assert scores == [[0, 1, 2], [10, 11, 12]]


# Latency.


class Slow:
    """Takes 2 ms; 200 ms on the first call and for long histories."""

    def __init__(self):
        self.n_calls = 0

    def __call__(self, history):
        self.n_calls += 1
        slow = self.n_calls == 1 or len(history) > 50
        time.sleep(0.2 if slow else 0.002)


def test_latency_ignores_the_first_call_and_outliers_above_the_quantile():
    histories = [np.zeros(2, np.int32)] * 40 + [np.zeros(60, np.int32)]
    assert 2 <= measure_latency(Slow(), histories) < 100
    assert measure_latency(Slow(), histories, quantile=1.0) >= 200


def test_latency_without_histories_is_rejected():
    with pytest.raises(DataError, match="no histories"):
        measure_latency(Slow(), [])
