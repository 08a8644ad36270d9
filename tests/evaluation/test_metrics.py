import math

import ir_measures
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.evaluation import ranking_metrics_at_k

from recsys.baselines import fit_popularity
from recsys.data import leave_last_out, read_ratings
from recsys.evaluation import evaluate, rank
from recsys.evaluation.metrics import (
    METRICS,
    TITLES,
    coverage,
    diversity,
    find_hits,
    gini,
    hit_metrics,
    hit_rate,
    list_quality,
    mean_metrics,
    mrr,
    ndcg,
    novelty,
    serendipity,
    set_metrics,
)

# One target per prediction.

RANKS = np.array([1, 2, 3, 10, 11])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (hit_rate, 1, [1, 0, 0, 0, 0]),
        (hit_rate, 10, [1, 1, 1, 1, 0]),
        (mrr, 2, [1, 1 / 2, 0, 0, 0]),
        (mrr, 10, [1, 1 / 2, 1 / 3, 1 / 10, 0]),
        (ndcg, 2, [1, 1 / math.log2(3), 0, 0, 0]),
        (ndcg, 10, [1, 1 / math.log2(3), 1 / 2, 1 / math.log2(11), 0]),
    ],
)
def test_metrics_of_single_targets_by_hand(metric, k, expected):
    assert metric(RANKS, k).tolist() == pytest.approx(expected)


def test_means_are_over_users():
    """The user with two targets counts as much as the other."""
    metrics = mean_metrics(np.array([1, 3, 20]), np.array(["b", "a", "a"]), ks=[10])
    assert metrics["ndcg_at_10"] == (1 + (1 / 2 + 0) / 2) / 2
    assert metrics["hit_rate_at_10"] == (1 + 1 / 2) / 2


def test_means_of_users_with_one_target():
    expected = {
        "hit_rate_at_2": 1 / 3,
        "hit_rate_at_10": 2 / 3,
        "ndcg_at_2": 1 / 3,
        "ndcg_at_10": (1 + 1 / 2) / 3,
        "mrr_at_2": 1 / 3,
        "mrr_at_10": (1 + 1 / 3) / 3,
    }
    metrics = mean_metrics(np.array([1, 3, 20]), np.arange(3), ks=[2, 10])
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


@given(ranks=st.lists(st.integers(1, 50), min_size=1), k=st.integers(1, 50))
def test_metrics_lie_between_0_and_1_and_mrr_below_ndcg_below_hit_rate(ranks, k):
    ranks = np.array(ranks)
    low, middle, high = (metric(ranks, k) for metric in (mrr, ndcg, hit_rate))
    assert (low >= 0).all()
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert (high <= 1).all()


def test_every_metric_has_a_title():
    assert sorted(TITLES) == sorted(METRICS)


# Several targets per user.

LISTS = np.array([[4, 2, 0, 1], [3, 1, 2, -1], [5, 4, 3, 2]], dtype=np.int32)
RELEVANT = [np.array(items, dtype=np.int32) for items in ([2, 1, 5], [1], [0, 1])]


def hits_of(lists, relevant, n_items):
    rows = np.repeat(np.arange(len(relevant)), [len(items) for items in relevant])
    return find_hits(lists, rows, np.concatenate(relevant), n_items)


HITS = hits_of(LISTS, RELEVANT, 6)


def test_hits_are_found_in_each_users_own_list():
    is_hit, n_relevant = HITS
    assert is_hit.astype(int).tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert n_relevant.tolist() == [3, 1, 2]


AT_2, AT_4 = 1 / math.log2(3), 1 / math.log2(5)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        ("user_hit_rate", 1, [0, 0, 0]),
        ("user_hit_rate", 4, [1, 1, 0]),
        ("recall", 2, [1 / 3, 1, 0]),
        ("recall", 4, [2 / 3, 1, 0]),
        ("precision", 2, [1 / 2, 1 / 2, 0]),
        ("precision", 4, [2 / 4, 1 / 4, 0]),
        ("precision", 8, [2 / 8, 1 / 8, 0]),  # the divisor is k, even for shorter lists
        ("user_ndcg", 2, [AT_2 / (1 + AT_2), AT_2, 0]),
        ("user_ndcg", 4, [(AT_2 + AT_4) / (1 + AT_2 + 1 / 2), AT_2, 0]),
        ("user_ndcg", 8, [(AT_2 + AT_4) / (1 + AT_2 + 1 / 2), AT_2, 0]),
        ("user_mrr", 1, [0, 0, 0]),
        ("user_mrr", 4, [1 / 2, 1 / 2, 0]),
        ("map", 2, [1 / 2 / 2, 1 / 2, 0]),
        ("map", 4, [(1 / 2 + 2 / 4) / 3, 1 / 2, 0]),
    ],
)
def test_set_metrics_by_hand(metric, k, expected):
    assert hit_metrics(*HITS, k)[metric].tolist() == pytest.approx(expected)


def test_a_target_that_occurs_twice_counts_once():
    is_hit, n_relevant = hits_of(LISTS[:1], [np.array([2, 1, 2], np.int32)], 6)
    assert is_hit.tolist() == [[False, True, False, True]]
    assert n_relevant.tolist() == [2]


def test_set_metrics_use_the_list_before_the_first_target_of_each_user():
    lists = np.array([[3, 1], [9, 9], [5, 2]], dtype=np.int32)
    means = set_metrics(lists, np.array([7, 7, 8]), np.array([1, 2, 5], np.int32), n_items=10)
    assert means["recall_at_2"] == (1 / 2 + 1) / 2
    assert means["precision_at_2"] == (1 / 2 + 1 / 2) / 2


class Factors(MatrixFactorizationBase):
    """The scores of a model of implicit."""

    def __init__(self, user_factors, item_factors):
        super().__init__(num_threads=1)
        self.user_factors, self.item_factors = user_factors, item_factors

    def fit(self, *_args, **_settings): ...

    def save(self, *_args): ...

    def score(self, histories):
        return self.user_factors[: len(histories)] @ self.item_factors.T


def random_case(seed, n_users=30, n_items=25):
    """Random scores without ties, histories, and relevant items outside the histories."""
    rng = np.random.default_rng(seed)
    model = Factors(
        rng.standard_normal((n_users, 6)).astype(np.float32),
        rng.standard_normal((n_items, 6)).astype(np.float32),
    )
    shuffled = [rng.permutation(n_items).astype(np.int32) for _ in range(n_users)]
    histories = [items[: rng.integers(0, 9)] for items in shuffled]
    relevant = [np.sort(items[9 : 9 + rng.integers(1, 9)]) for items in shuffled]
    return model, histories, relevant


def csr_matrix(rows, n_items):
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    values = np.ones(len(users), dtype=np.float32)
    return sp.csr_matrix((values, (users, np.concatenate(rows))), shape=(len(rows), n_items))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_set_metrics_agree_with_implicit(seed, k):
    model, histories, relevant = random_case(seed)
    lists = rank(model, histories, k=k, batch_size=100).recommended
    hits = hits_of(lists, relevant, 25)
    metrics = hit_metrics(*hits, k)
    train, test = csr_matrix(histories, 25), csr_matrix(relevant, 25)
    peer = ranking_metrics_at_k(model, train, test, K=k, show_progress=False, num_threads=1)
    assert metrics["map"].mean() == pytest.approx(peer["map"], rel=1e-5)
    assert metrics["user_ndcg"].mean() == pytest.approx(peer["ndcg"], rel=1e-5)
    # implicit defines precision as all hits / all possible hits.
    attainable = np.minimum(hits[1], k).sum()
    assert hits[0].sum() / attainable == pytest.approx(peer["precision"], rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_set_metrics_agree_with_trec_eval(seed, k):
    model, histories, relevant = random_case(seed)
    lists = rank(model, histories, k=10, batch_size=100).recommended
    hits = hits_of(lists, relevant, 25)
    qrels = {f"u{user}": {str(item): 1 for item in row} for user, row in enumerate(relevant)}
    run = {
        f"u{user}": {str(item): float(-position) for position, item in enumerate(row)}
        for user, row in enumerate(lists)
    }
    measures = {
        "user_hit_rate": ir_measures.Success @ k,
        "recall": ir_measures.R @ k,
        "precision": ir_measures.P @ k,
        "user_ndcg": ir_measures.nDCG @ k,
        "user_mrr": ir_measures.RR @ k,
        "map": ir_measures.AP @ k,
    }
    peer = ir_measures.calc_aggregate(measures.values(), qrels, run)
    ours = hit_metrics(*hits, k)
    # trec_eval divides by all relevant items, even if there are more than k.
    ours["map"] *= np.minimum(hits[1], k) / hits[1]
    assert {name: values.mean() for name, values in ours.items()} == pytest.approx(
        {name: peer[measure] for name, measure in measures.items()}, rel=1e-6
    )


@given(
    scores=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=7, max_size=7), min_size=1
    ),
    target=st.integers(0, 6),
    k=st.integers(1, 9),
)
def test_set_metrics_of_one_relevant_item_equal_the_metrics_of_its_rank(scores, target, k):
    class Table:
        def score(self, histories):
            return np.array(scores, dtype=np.float32)

    targets = np.full(len(scores), target, dtype=np.int32)
    histories = [np.empty(0, np.int32)] * len(scores)
    ranking = rank(Table(), histories, targets, k, batch_size=10_000)
    hits = hits_of(ranking.recommended, [targets[:1]] * len(scores), 7)
    for set_metric, metric in (
        ("user_hit_rate", "hit_rate"),
        ("recall", "hit_rate"),
        ("user_mrr", "mrr"),
        ("map", "mrr"),
        ("user_ndcg", "ndcg"),
    ):
        expected = METRICS[metric](ranking.ranks, k)
        np.testing.assert_allclose(hit_metrics(*hits, k)[set_metric], expected, rtol=1e-12)


# Beyond accuracy.

SHORT_LISTS = np.array([[0, 1], [0, 2], [0, -1]], dtype=np.int32)


def test_coverage_is_the_share_of_items_recommended_to_anyone():
    assert coverage(SHORT_LISTS, 5) == 3 / 5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1, 1, 1, 1], 0),
        ([4, 0, 0, 0], 3 / 4),
        ([1, 3], 1 / 4),
        # Differences of all pairs: 2 + 2 + 3 + 3 + 0 + 1 + 1 + 1 + 1 + 0 = 14; the mean is 1.
        ([3, 1, 1, 0, 0], 2 * 14 / (2 * 5 * 5)),
    ],
)
def test_gini_by_hand(counts, expected):
    lists = np.repeat(np.arange(len(counts)), counts).astype(np.int32)[:, None]
    assert gini(lists, len(counts)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_gini_is_half_the_relative_mean_difference(items):
    counts = np.bincount(items, minlength=7)
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert gini(np.array(items, dtype=np.int32)[:, None], 7) == pytest.approx(expected)


def test_novelty_by_hand():
    popularity = np.array([1 / 2, 1 / 4, 0])
    # Item 0, three times, has 1 bit and item 1 has 2; item 2 has 3, as if it had one of 8 users.
    assert novelty(SHORT_LISTS, popularity, n_users=8) == pytest.approx((3 * 1 + 2 + 3) / 5)


@given(
    lists=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3, unique=True), min_size=1),
    seed=st.integers(0, 5),
)
def test_diversity_is_the_mean_distance_of_pairs(lists, seed):
    vectors = np.random.default_rng(seed).standard_normal((5, 3))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.mean(
        [np.mean([1 - units[i] @ units[j] for i in row for j in row if i != j]) for row in lists]
    )
    lists = np.array(lists, dtype=np.int32)
    assert diversity(lists, vectors) == pytest.approx(expected)
    padded = np.hstack([lists, np.full((len(lists), 1), -1, np.int32)])
    assert diversity(padded, vectors) == pytest.approx(expected)


def test_an_item_without_a_vector_has_cosine_zero():
    assert diversity(np.array([[0, 1]], np.int32), np.array([[1.0, 0], [0, 0]])) == 1.0


def test_serendipity_counts_targets_that_popularity_misses():
    ranks, popularity_ranks = np.array([1, 2, 3, 9]), np.array([1, 9, 4, 1])
    assert serendipity(ranks, popularity_ranks, 3) == 2 / 4  # the second and the third
    with pytest.raises(ValueError, match="4 ranks, but 3 by popularity"):
        serendipity(ranks, popularity_ranks[:3], 3)


def test_list_quality_names_the_length_of_the_lists():
    # Two users interacted with item 0 and one with item 1; the third user is filtered out.
    log = read_ratings(pd.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [0, 1, 0, 2]}))
    train = log.filter(log.user_index < 2)
    expected = {
        "coverage_at_2": 1,
        "gini_at_2": (2 * 2 * 2) / (2 * 9 * 5 / 3),
        "popularity_at_2": (3 * 1 + 1 / 2 + 0) / 5,
        "novelty_at_2": -(3 * math.log2(1) + math.log2(1 / 2) + math.log2(1 / 2)) / 5,
    }
    assert list_quality(SHORT_LISTS, train) == pytest.approx(expected)
    vectors = np.eye(3, dtype=np.float32)
    assert list_quality(SHORT_LISTS, train, vectors) == pytest.approx(
        expected | {"diversity_at_2": 1}
    )


def test_a_user_who_repeats_an_item_counts_once():
    rows = [("a", item) for item in "xxxyxy"] + [("b", item) for item in "xzxx"]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]), repeats="allow")
    split = leave_last_out(log)  # of a, xxxy is in train; of b, xz
    quality = evaluate(fit_popularity(split.train), split).list_quality
    # Both lists are x, y, z: x has both users, y and z one of two.
    assert quality["popularity_at_10"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert quality["novelty_at_10"] == pytest.approx((0 + 1 + 1) / 3)
