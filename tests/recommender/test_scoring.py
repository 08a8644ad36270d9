import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys.cooccurrence import top_k
from recsys.recommender.scoring import diversify


def slowly(scores, k):
    order = np.argsort(-scores, kind="stable")
    return [item for item in order if scores[item] > -np.inf][:k]


@given(
    arrays(np.float32, (3, 9), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])),
    st.integers(0, 12),
)
def test_top_k_equals_stable_sort(scores, k):
    row, item = top_k(scores, k)
    for index in range(3):
        assert item[row == index].tolist() == slowly(scores[index], k)


@pytest.mark.parametrize("n_items", [511, 512, 513, 2000, 20_001])
@pytest.mark.parametrize("k", [0, 1, 10, 40])
@pytest.mark.parametrize("levels", [5, 10**6])
def test_top_k_of_many_items_with_and_without_ties(n_items, k, levels):
    rng = np.random.default_rng(n_items)
    scores = rng.integers(0, levels, (4, n_items)).astype(np.float32)
    scores[:, rng.random(n_items) < 0.3] = -np.inf
    scores[2] = -np.inf
    row, item = top_k(scores, k)
    for index in range(4):
        assert item[row == index].tolist() == slowly(scores[index], k)


def test_diversify_by_hand():
    unit = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)
    relevance = np.array([1.0, 0.9, 0.5, 0.0], dtype=np.float32)
    # After 0: 0.7 · 0.9 − 0.3 · 0.8 = 0.39, 0.7 · 0.5 = 0.35, 0 (a negative cosine is no likeness)
    assert diversify(relevance, unit, 4, diversity=0.3).tolist() == [0, 1, 2, 3]
    # 0.5 · 0.9 − 0.5 · 0.8 = 0.05, 0.5 · 0.5 = 0.25, 0; then 0.05 and 0
    assert diversify(relevance, unit, 3, diversity=0.5).tolist() == [0, 2, 1]
    assert diversify(relevance, unit, 4, diversity=0.0).tolist() == [0, 1, 2, 3]
