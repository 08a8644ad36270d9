import numpy as np
import pytest

from recsys.embeddings import ItemEmbeddings, pca_plane, project_items
from recsys.embeddings.projection import COLOURS, by_frequency
from recsys.vocabulary import Vocabulary


def embeddings_of(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return ItemEmbeddings(vectors, Vocabulary.of(range(len(vectors))), loss=0.0, relative_loss=0.0)


@pytest.fixture(scope="module")
def three_groups():
    """Eight items around each of three axes."""
    noise = np.random.default_rng(0).normal(scale=0.05, size=(24, 3))
    return embeddings_of(np.repeat(np.eye(3), 8, axis=0) + noise)


def test_tsne_preserves_nearest_neighbours(three_groups):
    positions = project_items(three_groups, np.arange(24))
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 8 == np.arange(24) // 8).all()


def test_tsne_is_reproducible_and_uses_only_the_given_items(three_groups):
    items = np.array([20, 3, 8, 1, 2])
    positions = project_items(three_groups, items, seed=1)
    alone = project_items(embeddings_of(three_groups.vectors[items]), np.arange(5), seed=1)
    assert positions.shape == (5, 2)
    assert positions.dtype == np.float32
    assert np.array_equal(positions, alone)


@pytest.mark.parametrize(
    "vectors", [[[1, 2], [2, 1]], [[1], [2], [3], [4]], [[1, 1]] * 6], ids=["two", "1-d", "equal"]
)
def test_tsne_corner_cases(vectors):
    positions = project_items(embeddings_of(vectors), np.arange(len(vectors)))
    assert positions.shape == (len(vectors), 2)
    assert np.isfinite(positions).all()


def test_pca_maximises_the_variance(three_groups):
    plane = project_items(three_groups, np.arange(24), method="pca")
    unit = three_groups.unit_vectors().astype(float)
    variances = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
    np.testing.assert_allclose(np.cov(plane.T), np.diag(variances[:2]), atol=1e-6)


def test_pca_of_one_dimensional_vectors_has_one_axis():
    plane = project_items(embeddings_of([[1], [-2], [3]]), np.arange(3), method="pca")
    assert plane[:, 1].tolist() == [0, 0, 0]
    assert plane[1, 0] * plane[0, 0] < 0


def test_groups_are_sorted_by_frequency_and_colours_are_distinct():
    assert by_frequency(["b", "c", "a", "c", "", "b"]) == ["b", "c", "", "a"]
    rgb = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in COLOURS])
    distances = np.linalg.norm(rgb[:, None] - rgb, axis=2) + np.eye(len(rgb)) * 1000
    assert distances.min() > 40
    assert (rgb.sum(axis=1) < 600).all(), "each is seen on white"


def test_pca_axes_are_fitted_to_the_given_rows(three_groups):
    vectors = three_groups.unit_vectors()
    rows = np.arange(0, 24, 2)
    plane = pca_plane(vectors, rows)
    np.testing.assert_allclose(np.abs(plane[rows]), np.abs(pca_plane(vectors[rows])), atol=1e-6)
    assert plane.shape == (24, 2)
    assert (plane.max(axis=0) == np.abs(plane).max(axis=0)).all()


def test_pca_of_equal_vectors_is_zero():
    assert pca_plane(np.full((3, 4), 0.1, np.float32)).tolist() == [[0, 0]] * 3
