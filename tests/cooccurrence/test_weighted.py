"""Counts of events with weights: X_ij = Σ_u w_ui·w_uj, exactly."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Runtime
from recsys.cooccurrence import (
    WeightingConfig,
    Window,
    count_cooccurrence,
    count_neighbours,
    keep_top_k,
    save_cooccurrence,
    update_cooccurrence,
    weight,
)
from recsys.data import read_ratings
from recsys.errors import ConfigError, DataError
from recsys.recommender.bundle import PairCounts

WEIGHTS = {"view": 0.1, "cart": 0.5, "buy": 1.0, "peek": 0.0, "gift": 2.0375}


def log_of(rows, **options):
    """Read (user, item, kind) in order; all repeats are kept, and all kinds form the histories."""
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "event"])
    options = {"events": WEIGHTS, "repeats": "allow", "sequence_events": ["peek", *WEIGHTS][1:]}
    return read_ratings(table, **options, on_report=lambda report: None)


def restate(log):
    """The numerators of X, as exact fractions, and W, [n_users, n_items]."""
    w = np.full((log.n_users, log.n_items), Fraction(0), dtype=object)
    weights = np.ones(len(log)) if log.weight is None else log.weight
    for user, item, value in zip(log.user_index, log.item_index, weights, strict=True):
        w[user, item] = max(w[user, item], Fraction(str(value)))
    x = w.T @ w
    squares = np.diagonal(x).copy()
    np.fill_diagonal(x, Fraction(0))
    return w, x, squares


logs = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 8), st.sampled_from(sorted(WEIGHTS))),
    min_size=2,
    max_size=60,
).filter(lambda rows: any(WEIGHTS[kind] for *_, kind in rows))


@given(logs)
def test_each_count_is_the_float_nearest_to_the_exact_sum(rows):
    log = log_of(rows)
    counts = count_cooccurrence(log)
    w, x, squares = restate(log)
    assert counts.matrix.toarray().tolist() == x.astype(np.float64).tolist()
    assert (counts.matrix.data > 0).all()
    assert counts.matrix.has_sorted_indices
    assert counts.item_counts.tolist() == (w > 0).sum(axis=0).tolist()
    sums, columns, total, lengths = counts.marginals()
    assert sums.tolist() == columns.tolist() == w.sum(axis=0).astype(float).tolist()
    assert lengths.tolist() == squares.astype(float).tolist()
    assert total == log.n_users


@pytest.fixture(scope="module")
def shop():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 80, 3000), np.minimum(rng.geometric(0.03, 3000), 150)
    kinds = rng.choice(["view", "cart", "buy"], 3000, p=[0.8, 0.15, 0.05])
    return log_of(list(zip(users.tolist(), items.tolist(), kinds, strict=True)))


def test_blocks_threads_and_a_memory_limit_change_nothing(shop, tmp_path, monkeypatch):
    expected = count_cooccurrence(shop)
    monkeypatch.setattr("recsys.cooccurrence.planner.BLOCK_ENTRIES", 500)
    threads = count_cooccurrence(shop, runtime=Runtime(threads=3))
    blocks = count_cooccurrence(shop, folder=tmp_path / "counts", memory_limit="2MB")
    assert len(blocks.parts) > 3
    for found in (threads, blocks.load()):
        assert (found.matrix != expected.matrix).nnz == 0
        assert found.matrix.dtype == np.float64
        assert found.item_counts.tolist() == expected.item_counts.tolist()
        for a, b in zip(found.marginals(), expected.marginals(), strict=True):
            assert np.array_equal(a, b)
    for name in ("cosine", "ppmi"):
        config = WeightingConfig(name=name)
        similar = keep_top_k(weight(expected, config), 5)
        assert (blocks.neighbours(5, config) != similar).nnz == 0
        assert (count_neighbours(shop, 5, config) != similar).nnz == 0


def test_similarities_are_those_of_vectors(shop):
    w, _, _ = restate(shop)
    w = w.astype(float)
    counts = count_cooccurrence(shop)
    rows, columns = counts.matrix.nonzero()
    x, squares, sums = w.T @ w, (w**2).sum(axis=0), w.sum(axis=0)
    a, b, p, q = squares[rows], squares[columns], sums[rows], sums[columns]
    x = x[rows, columns]
    expected = {
        "cosine": x / np.sqrt(a * b),
        "jaccard": x / (a + b - x),
        "conditional": x / p,
        "overlap": x / np.minimum(p, q),
        "lift": x * len(w) / (p * q),
    }
    for name, values in expected.items():
        found = weight(counts, WeightingConfig(name=name)).toarray()[rows, columns]
        assert found == pytest.approx(values, rel=1e-6)
    assert expected["cosine"].max() <= 1 + 1e-12
    assert expected["jaccard"].max() <= 1 + 1e-12


def test_weights_of_one_are_no_weights():
    rows = [(1, 1, "buy"), (1, 2, "buy"), (2, 1, "buy"), (2, 2, "view"), (3, 3, "buy")]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "event"])
    log = read_ratings(
        table, events={"view": 1}, sequence_events=["view", "buy"], on_report=lambda report: None
    )
    assert count_cooccurrence(log).matrix.dtype == np.int32


def test_what_has_no_weights_refuses_them(shop, tmp_path):
    counts = count_cooccurrence(shop)
    with pytest.raises(ConfigError, match="a window counts pairs of events without weights"):
        count_cooccurrence(shop, window=Window(size=2))
    assert count_cooccurrence(shop.sequence(), window=Window(size=2)).matrix.nnz
    with pytest.raises(ConfigError, match="cannot be updated: count `new` again"):
        update_cooccurrence(counts, shop, shop)
    with pytest.raises(ConfigError, match="weighted counts cannot be saved from memory"):
        save_cooccurrence(counts, tmp_path / "counts")
    assert PairCounts.from_cooccurrence(counts) is None


def test_events_that_do_not_count_are_refused():
    with pytest.raises(DataError, match="no event counts"):
        count_cooccurrence(log_of([(1, 1, "peek"), (1, 2, "peek")]))
