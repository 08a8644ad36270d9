import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.embeddings import ItemEmbeddings
from recsys.embeddings.item_embeddings import top_k
from recsys.vocabulary import Vocabulary


def embeddings_of(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return ItemEmbeddings(vectors, Vocabulary.of(range(len(vectors))), loss=0.0, relative_loss=0.0)


@given(
    scores=arrays.arrays(
        np.float32, (3, 9), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    ),
    k=st.integers(0, 9),
)
def test_top_k_is_a_stable_sort_cut_off(scores, k):
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert top_k(scores, k).tolist() == expected.tolist()


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
    index, cosine = embeddings_of(vectors).neighbours(k=5, block=7)
    assert index.tolist() == np.argsort(-cosines, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(cosine, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


@pytest.mark.parametrize("n_vectors", [0, 1])
def test_an_item_that_is_alone_has_no_neighbours(n_vectors):
    vectors = np.zeros((3, 2))
    vectors[:n_vectors] = 1
    index, cosine = embeddings_of(vectors).neighbours(k=2)
    assert index.tolist() == [[-1, -1]] * 3
    assert cosine.tolist() == [[0, 0]] * 3
