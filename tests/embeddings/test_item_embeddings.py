import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.embeddings import ItemEmbeddings
from recsys.embeddings.neighbours import knn
from recsys.vocabulary import Vocabulary


def embeddings_of(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return ItemEmbeddings(vectors, Vocabulary.of(range(len(vectors))), loss=0.0, relative_loss=0.0)


def test_unit_vectors_have_length_one_and_zero_stays_zero():
    unit = embeddings_of([[3, 4], [0, 0], [0, -2]]).unit_vectors()
    np.testing.assert_allclose(unit, [[3 / 5, 4 / 5], [0, 0], [0, -1]], rtol=1e-6)
    assert unit.dtype == np.float32


# Along the axes, so that cosines are exactly -1, 0 or 1 and most of them are equal.
along_axes = st.lists(
    st.sampled_from([(1, 0), (3, 0), (-2, 0), (0, 1), (0, -1), (0, 0)]), min_size=1, max_size=9
)


@given(vectors=along_axes, k=st.integers(1, 10), block=st.integers(1, 10))
def test_neighbours_are_the_nearest_by_cosine_ties_by_index(vectors, k, block):
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
def test_an_item_that_is_alone_has_no_neighbours(n_vectors):
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


def test_queries_leave_out_what_they_are_told_to():
    vectors = np.eye(4, dtype=np.float32)
    queries = np.array([[4, 3, 2, 1], [0, 0, 0, 0]], dtype=np.float32)
    index, dot = knn(queries, vectors, 3, exclude_BE=np.array([[0, 2], [1, -1]]), similarity="dot")
    assert index.tolist() == [[1, 3, -1], [-1, -1, -1]]
    assert dot.tolist() == [[3, 1, 0], [0, 0, 0]]


def test_an_analogy_adds_what_sets_one_item_apart_from_another():
    # king, man, woman, queen, and one that is none of them
    embeddings = embeddings_of([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 0.5, 0.5]])
    index, cosine = embeddings.analogy(0, 1, 2, k=2)
    assert index.tolist() == [3, 4]
    query = np.array([1 / np.sqrt(2), 1 / np.sqrt(2) - 1, 1])
    expected = query @ [1, 0, 1] / np.linalg.norm(query) / np.sqrt(2)
    assert cosine[0] == pytest.approx(expected, rel=1e-6)


def test_a_user_is_the_mean_of_what_was_watched_last():
    embeddings = embeddings_of([[3, 0], [0, 5], [0, 0], [-1, 0]])
    assert embeddings.user_vector(np.array([0, 1])).tolist() == [0.5, 0.5]
    assert embeddings.user_vector(np.array([3, 0, 1]), last=2).tolist() == [0.5, 0.5]
    assert embeddings.user_vector(np.array([1]), last=5).tolist() == [0, 1]
    assert embeddings.user_vector(np.array([], dtype=np.int32)).tolist() == [0, 0]
    index, _ = embeddings.similar_to_history(np.array([0]), k=3)
    assert index.tolist() == [1, 3, -1]


def test_how_far_from_the_optimum_is_told_where_it_is_known():
    assert embeddings_of([[1]]).loss_ratio is None
    vectors, items = np.ones((1, 1), np.float32), Vocabulary.of([1])
    assert ItemEmbeddings(vectors, items, 3.0, 0.1, optimum_loss=2.0).loss_ratio == 1.5
    assert ItemEmbeddings(vectors, items, 0.0, 0.0, optimum_loss=0.0).loss_ratio == 1.0
