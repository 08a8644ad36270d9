"""Similarity queries and fold-in."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.data import read_ratings
from recsys.embeddings import EmbeddingConfig, ItemEmbeddings, fit_embeddings, fold_in
from recsys.embeddings.neighbours import knn
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


def embeddings_of(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return ItemEmbeddings(vectors, Vocabulary.of(range(len(vectors))), loss=0.0, relative_loss=0.0)


def test_unit_vectors():
    unit = embeddings_of([[3, 4], [0, 0], [0, -2]]).unit_vectors()
    np.testing.assert_allclose(unit, [[3 / 5, 4 / 5], [0, 0], [0, -1]], rtol=1e-6)
    assert unit.dtype == np.float32


# Along the axes, so that cosines are exactly -1, 0 or 1 and most of them are equal.
along_axes = st.lists(
    st.sampled_from([(1, 0), (3, 0), (-2, 0), (0, 1), (0, -1), (0, 0)]), min_size=1, max_size=9
)


@given(vectors=along_axes, k=st.integers(1, 10), block=st.integers(1, 10))
def test_neighbours_by_cosine_with_ties_by_index(vectors, k, block):
    unit = np.sign(vectors)
    index, cosine = embeddings_of(vectors).neighbours(k, block)
    for item in range(len(vectors)):
        others = [i for i in range(len(vectors)) if i != item and unit[i].any()]
        if not unit[item].any():
            others = []
        nearest = sorted(others, key=lambda i: (-(unit[item] @ unit[i]), i))[:k]
        filling = k - len(nearest)
        assert index[item].tolist() == nearest + [-1] * filling
        assert cosine[item].tolist() == [unit[item] @ unit[i] for i in nearest] + [0] * filling


def test_neighbours_of_any_vectors():
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    index, cosine = embeddings_of(vectors).neighbours(k=5, block_size=7)
    assert index.tolist() == np.argsort(-cosines, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(cosine, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


@pytest.mark.parametrize("n_vectors", [0, 1])
def test_neighbours_of_a_single_item_are_padding(n_vectors):
    vectors = np.zeros((3, 2))
    vectors[:n_vectors] = 1
    index, cosine = embeddings_of(vectors).neighbours(k=2)
    assert index.tolist() == [[-1, -1]] * 3
    assert cosine.tolist() == [[0, 0]] * 3


def test_neighbours_by_dot_product_favour_long_vectors():
    embeddings = embeddings_of([[1, 0], [1, 0.1], [9, 9]])
    assert embeddings.neighbours(k=1)[0][0].tolist() == [1]
    index, dot = embeddings.neighbours(k=1, similarity="dot")
    assert index[0].tolist() == [2]
    assert dot[0].tolist() == [9]


def test_knn_excludes_indices():
    vectors = np.eye(4, dtype=np.float32)
    queries = np.array([[4, 3, 2, 1], [0, 0, 0, 0]], dtype=np.float32)
    index, dot = knn(queries, vectors, 3, exclude_BE=np.array([[0, 2], [1, -1]]), similarity="dot")
    assert index.tolist() == [[1, 3, -1], [-1, -1, -1]]
    assert dot.tolist() == [[3, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("n_vectors", [0, 3, 1000])
@pytest.mark.parametrize("k", [0, 2, 2000])
def test_knn_with_any_k_and_number_of_vectors(n_vectors, k):
    vectors = np.random.default_rng(0).normal(size=(n_vectors, 4)).astype(np.float32)
    queries = np.ones((2, 4), dtype=np.float32)
    index, score = knn(queries, vectors, k, similarity="dot")
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    assert index.shape == score.shape == (2, k)
    assert np.array_equal(index[:, : expected.shape[1]], expected)
    assert (index[:, expected.shape[1] :] == -1).all()


def test_analogy():
    # king, man, woman, queen, and an unrelated item
    embeddings = embeddings_of([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 0.5, 0.5]])
    index, cosine = embeddings.analogy(0, 1, 2, k=2)
    assert index.tolist() == [3, 4]
    query = np.array([1 / np.sqrt(2), 1 / np.sqrt(2) - 1, 1])
    expected = query @ [1, 0, 1] / np.linalg.norm(query) / np.sqrt(2)
    assert cosine[0] == pytest.approx(expected, rel=1e-6)


def test_user_vector_is_the_mean_of_the_last_items():
    embeddings = embeddings_of([[3, 0], [0, 5], [0, 0], [-1, 0]])
    assert embeddings.user_vector(np.array([0, 1])).tolist() == [0.5, 0.5]
    assert embeddings.user_vector(np.array([3, 0, 1]), last=2).tolist() == [0.5, 0.5]
    assert embeddings.user_vector(np.array([1]), last=5).tolist() == [0, 1]
    assert embeddings.user_vector(np.array([], dtype=np.int32)).tolist() == [0, 0]
    index, _ = embeddings.similar_to_history(np.array([0]), k=3)
    assert index.tolist() == [1, 3, -1]


def test_loss_ratio():
    assert embeddings_of([[1]]).loss_ratio is None
    vectors, items = np.ones((1, 1), np.float32), Vocabulary.of([1])
    assert ItemEmbeddings(vectors, items, 3.0, 0.1, optimum_loss=2.0).loss_ratio == 1.5
    assert ItemEmbeddings(vectors, items, 0.0, 0.0, optimum_loss=0.0).loss_ratio == 1.0


CPU = Runtime(device="cpu", threads=1)
FOLD_IN_CONFIG = EmbeddingConfig(dim=16, method="spectral", tolerance=1e-5)


def sum_over_pairs(vectors, dense):
    errors = vectors.astype(np.float64) @ vectors.astype(np.float64).T - dense
    np.fill_diagonal(errors, 0)
    return float(np.square(errors).sum())


def test_fold_in_is_a_local_optimum():
    random = np.random.default_rng(0)
    known = random.normal(size=(20, 3)).astype(np.float32)
    x = random.poisson(2.0, 20)
    (v,) = fold_in(known, sp.csr_array(x[None]), ridge=0)
    best = np.square(known @ v - x).sum()
    for step in random.normal(size=(50, 3)) * 0.01:
        assert np.square(known @ (v + step) - x).sum() > best


def test_fold_in_of_an_item_without_co_occurrence_is_zero():
    known = np.eye(3, dtype=np.float32)
    assert fold_in(known, sp.csr_array((1, 3))).tolist() == [[0, 0, 0]]


def test_ridge_shrinks_the_vector():
    known, row = np.eye(2, dtype=np.float32), sp.csr_array([[2, 4]])
    # VᵀV = I, of mean eigenvalue 1: (1 + 1) v = x.
    np.testing.assert_allclose(fold_in(known, row, ridge=1.0), [[1, 2]], rtol=1e-6)


def test_fold_in_rejects_a_wrong_number_of_columns():
    with pytest.raises(DataError, match="4 columns, but there are 3 vectors"):
        fold_in(np.eye(3, dtype=np.float32), sp.csr_array((1, 4)))


@pytest.fixture(scope="module")
def popular_counts(movielens):
    """Counts of the 600 most popular items, in descending order of popularity."""
    counts = count_cooccurrence(read_ratings(movielens))
    order = np.argsort(-counts.item_counts, kind="stable")[:600]
    return counts.matrix[order][:, order]


@pytest.fixture(scope="module")
def refitted_loss(popular_counts):
    return fit_embeddings(popular_counts, FOLD_IN_CONFIG, runtime=CPU).loss


@pytest.mark.parametrize("rank", [1, 30, 300])
def test_fold_in_is_as_good_as_refitting(popular_counts, refitted_loss, rank):
    """Within 1 % of the loss of refitting, for popular and for rare items."""
    X = popular_counts
    known = np.delete(np.arange(X.shape[0]), rank)
    fitted = fit_embeddings(X[known][:, known], FOLD_IN_CONFIG, runtime=CPU)
    folded = np.insert(fitted.vectors, rank, fold_in(fitted.vectors, X[[rank]][:, known]), axis=0)
    assert sum_over_pairs(folded, X.toarray()) < 1.01 * refitted_loss
