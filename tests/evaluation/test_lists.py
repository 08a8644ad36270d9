import math

import ir_measures
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.evaluation import ranking_metrics_at_k

from recsys.evaluation import SET_METRICS, find_hits, rank, top_items
from recsys.evaluation.metrics import METRICS

LISTS = np.array([[4, 2, 0, 1], [3, 1, 2, -1], [5, 4, 3, 2]], dtype=np.int32)
RELEVANT = [np.array(items, dtype=np.int32) for items in ([2, 1, 5], [1], [0, 1])]
HITS = find_hits(LISTS, RELEVANT, 6)


def test_hits_are_found_in_their_own_users_list():
    assert HITS.is_hit.astype(int).tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert HITS.n_relevant.tolist() == [3, 1, 2]


AT_2, AT_4 = 1 / math.log2(3), 1 / math.log2(5)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        ("hit_rate", 1, [0, 0, 0]),
        ("hit_rate", 4, [1, 1, 0]),
        ("recall", 2, [1 / 3, 1, 0]),
        ("recall", 4, [2 / 3, 1, 0]),
        ("precision", 2, [1 / 2, 1 / 2, 0]),
        ("precision", 4, [2 / 4, 1 / 4, 0]),
        ("precision", 8, [2 / 8, 1 / 8, 0]),  # a list shorter than k does not help
        ("ndcg", 2, [AT_2 / (1 + AT_2), AT_2, 0]),
        ("ndcg", 4, [(AT_2 + AT_4) / (1 + AT_2 + 1 / 2), AT_2, 0]),
        ("ndcg", 8, [(AT_2 + AT_4) / (1 + AT_2 + 1 / 2), AT_2, 0]),
        ("mrr", 1, [0, 0, 0]),
        ("mrr", 4, [1 / 2, 1 / 2, 0]),
        ("map", 2, [1 / 2 / 2, 1 / 2, 0]),
        ("map", 4, [(1 / 2 + 2 / 4) / 3, 1 / 2, 0]),
    ],
)
def test_by_hand(metric, k, expected):
    assert SET_METRICS[metric](HITS, k).tolist() == pytest.approx(expected)


def test_somebody_without_a_right_item_is_an_error():
    with pytest.raises(ValueError, match="user 1 of 2 has no right item"):
        find_hits(LISTS[:2], [RELEVANT[0], np.array([], np.int32)], 6)


class Factors(MatrixFactorizationBase):
    """Scores of implicit's own kind."""

    def __init__(self, user_factors, item_factors):
        super().__init__(num_threads=1)
        self.user_factors, self.item_factors = user_factors, item_factors

    def fit(self, *_args, **_settings): ...

    def save(self, *_args): ...

    def score(self, histories):
        return self.user_factors[: len(histories)] @ self.item_factors.T


def case(seed, n_users=30, n_items=25):
    """Random scores without ties, histories, and right items that are not in them."""
    rng = np.random.default_rng(seed)
    model = Factors(
        rng.standard_normal((n_users, 6)).astype(np.float32),
        rng.standard_normal((n_items, 6)).astype(np.float32),
    )
    shuffled = [rng.permutation(n_items).astype(np.int32) for _ in range(n_users)]
    histories = [items[: rng.integers(0, 9)] for items in shuffled]
    relevant = [np.sort(items[9 : 9 + rng.integers(1, 9)]) for items in shuffled]
    return model, histories, relevant


def matrix(rows, n_items):
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    values = np.ones(len(users), dtype=np.float32)
    return sp.csr_matrix((values, (users, np.concatenate(rows))), shape=(len(rows), n_items))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_are_those_of_implicit(seed, k):
    model, histories, relevant = case(seed)
    lists = top_items(model, histories, k, batch_size=100)
    hits = find_hits(lists, relevant, 25)
    peer = ranking_metrics_at_k(
        model, matrix(histories, 25), matrix(relevant, 25), K=k, show_progress=False, num_threads=1
    )
    assert SET_METRICS["map"](hits, k).mean() == pytest.approx(peer["map"], rel=1e-5)
    assert SET_METRICS["ndcg"](hits, k).mean() == pytest.approx(peer["ndcg"], rel=1e-5)
    # What implicit calls precision is all hits over all that could have been hit.
    attainable = np.minimum(hits.n_relevant, k).sum()
    assert hits.is_hit.sum() / attainable == pytest.approx(peer["precision"], rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_are_those_of_trec_eval(seed, k):
    model, histories, relevant = case(seed)
    lists = top_items(model, histories, 10, batch_size=100)
    hits = find_hits(lists, relevant, 25)
    qrels = {f"u{at}": {str(item): 1 for item in row} for at, row in enumerate(relevant)}
    run = {
        f"u{at}": {str(item): float(-place) for place, item in enumerate(row)}
        for at, row in enumerate(lists)
    }
    measures = {
        "hit_rate": ir_measures.Success @ k,
        "recall": ir_measures.R @ k,
        "precision": ir_measures.P @ k,
        "ndcg": ir_measures.nDCG @ k,
        "mrr": ir_measures.RR @ k,
        "map": ir_measures.AP @ k,
    }
    peer = ir_measures.calc_aggregate(measures.values(), qrels, run)
    ours = {name: SET_METRICS[name](hits, k) for name in measures}
    # trec_eval divides by all right items, even where more than k cannot be found.
    ours["map"] *= np.minimum(hits.n_relevant, k) / hits.n_relevant
    assert {name: values.mean() for name, values in ours.items()} == pytest.approx(
        {name: peer[measure] for name, measure in measures.items()}, rel=1e-6
    )


@given(
    scores=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=7, max_size=7), min_size=1
    ),
    targets=st.integers(0, 6),
    k=st.integers(1, 9),
)
def test_with_one_right_item_they_are_the_metrics_of_its_rank(scores, targets, k):
    class Table:
        def score(self, histories):
            return np.array(scores, dtype=np.float32)

    wanted = np.full(len(scores), targets, dtype=np.int32)
    nothing = [np.empty(0, np.int32)] * len(scores)
    ranking = rank(Table(), nothing, wanted, k, batch_size=10_000)
    hits = find_hits(ranking.recommended, [wanted[:1]] * len(scores), 7)
    for ours, theirs in (("hit_rate", "hit_rate"), ("recall", "hit_rate"), ("mrr", "mrr"),
                         ("map", "mrr"), ("ndcg", "ndcg")):  # fmt: skip
        by_rank = METRICS[theirs](ranking.ranks, k)
        np.testing.assert_allclose(SET_METRICS[ours](hits, k), by_rank, rtol=1e-12)
