"""Approximate neighbours compared with exact ones."""

import numpy as np
import pytest

from recsys.embeddings import ItemEmbeddings, neighbours
from recsys.embeddings.neighbours import approximate_knn, knn, recall
from recsys.errors import ConfigError
from recsys.vocabulary import Vocabulary

needs_faiss = pytest.mark.skipif(not neighbours.has_faiss(), reason="faiss is not installed")


def clustered(n_vectors, dim=16):
    """Vectors of different lengths around a hundred centres; some are zero."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(100, dim))[random.integers(0, 100, n_vectors)]
    vectors = centres + 0.7 * random.normal(size=(n_vectors, dim))
    vectors *= random.lognormal(size=(n_vectors, 1))
    vectors[::97] = 0
    return vectors.astype(np.float32)


def embeddings_of(vectors):
    return ItemEmbeddings(vectors, Vocabulary(np.arange(len(vectors))), 0.0, 0.0)


@needs_faiss
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_approximate_search_reaches_the_target_recall(similarity):
    vectors = clustered(5_000)
    (index, score), reached = approximate_knn(vectors, 10, similarity=similarity)
    rows = np.arange(1, 5_000, 10)  # mostly not in the sample of the recall
    exact, exact_score = knn(
        vectors[rows], vectors, 10, exclude_BE=rows[:, None], similarity=similarity
    )
    assert 0.95 <= recall(index[rows], exact) < 1
    assert reached >= 0.95
    assert (index[rows, 0] == exact[:, 0]).mean() > 0.9
    same = index[rows] == exact
    np.testing.assert_allclose(score[rows][same], exact_score[same], rtol=1e-5)


@needs_faiss
def test_target_recall_of_one_finds_all_neighbours():
    vectors = clustered(2_000)
    (index, score), reached = approximate_knn(vectors, 5, target_recall=1.0)
    exact, exact_score = embeddings_of(vectors).neighbours(5, approximate=False)
    assert reached == 1.0
    assert recall(index, exact) > 0.999
    np.testing.assert_allclose(score, exact_score, atol=1e-5)
    assert (index[::97] == -1).all()
    assert (score[::97] == 0).all()
    assert not (index == np.arange(2_000)[:, None]).any()


@needs_faiss
@pytest.mark.parametrize("n_vectors", [1, 2, 5])
def test_few_vectors_have_fewer_neighbours(n_vectors):
    vectors = np.eye(n_vectors, dtype=np.float32) + 1
    (index, _), _ = approximate_knn(vectors, 4)
    assert (np.count_nonzero(index >= 0, axis=1) == min(n_vectors - 1, 4)).all()


@needs_faiss
def test_zero_vectors_have_no_neighbours():
    (index, score), _ = approximate_knn(np.zeros((3, 2), np.float32), 2)
    assert index.tolist() == [[-1, -1]] * 3
    assert score.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("n_items", "installed", "expected"), [(8, True, True), (8, False, False), (7, True, False)]
)
def test_approximate_search_is_the_default_for_many_items_if_faiss_is_installed(
    monkeypatch, n_items, installed, expected
):
    asked = []
    module = "recsys.embeddings.neighbours"
    monkeypatch.setattr(f"{module}.ANN_THRESHOLD", 7)
    monkeypatch.setattr(f"{module}.has_faiss", lambda: installed)
    monkeypatch.setattr(
        f"{module}.approximate_knn",
        lambda vectors, k, similarity: asked.append(len(vectors)) or ((None, None), 1.0),
    )
    embeddings_of(np.ones((n_items, 2), np.float32)).neighbours(2)
    assert asked == [n_items] * expected


def test_missing_faiss_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(neighbours, "has_faiss", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[ann\]'"):
        approximate_knn(np.ones((3, 2), np.float32), 1)


def test_recall_ignores_padding():
    assert recall(np.array([[3, 1], [2, 0]]), np.array([[1, 2], [-1, -1]])) == 0.5
    assert recall(np.array([[-1]]), np.array([[-1]])) == 1.0
