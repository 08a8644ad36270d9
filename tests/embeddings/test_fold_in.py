import numpy as np
import pytest
import scipy.sparse as sp

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.data import read_ratings
from recsys.embeddings import EmbeddingConfig, fit_embeddings, fold_in
from recsys.errors import DataError

CPU = Runtime(device="cpu", threads=1)


def sum_over_pairs(vectors, dense):
    errors = vectors.astype(np.float64) @ vectors.astype(np.float64).T - dense
    np.fill_diagonal(errors, 0)
    return float(np.square(errors).sum())


def test_nothing_near_fits_better():
    random = np.random.default_rng(0)
    known = random.normal(size=(20, 3)).astype(np.float32)
    x = random.poisson(2.0, 20)
    (v,) = fold_in(known, sp.csr_array(x[None]), ridge=0)
    best = np.square(known @ v - x).sum()
    for step in random.normal(size=(50, 3)) * 0.01:
        assert np.square(known @ (v + step) - x).sum() > best


def test_an_item_that_co_occurs_with_none_has_the_zero_vector():
    known = np.eye(3, dtype=np.float32)
    assert fold_in(known, sp.csr_array((1, 3))).tolist() == [[0, 0, 0]]


def test_a_ridge_shortens():
    known, row = np.eye(2, dtype=np.float32), sp.csr_array([[2, 4]])
    # VᵀV = I, of mean eigenvalue 1: (1 + 1) v = x.
    np.testing.assert_allclose(fold_in(known, row, ridge=1.0), [[1, 2]], rtol=1e-6)


def test_rows_of_another_catalogue_are_refused():
    with pytest.raises(DataError, match="4 columns, but there are 3 vectors"):
        fold_in(np.eye(3, dtype=np.float32), sp.csr_array((1, 4)))


@pytest.mark.parametrize("rank", [1, 30, 300])
def test_a_folded_in_film_is_as_good_as_one_fitted(movielens, rank):
    """Within a percent of the loss of refitting, for a blockbuster and for rarer films."""
    counts = count_cooccurrence(read_ratings(movielens))
    order = np.argsort(-counts.item_counts, kind="stable")[:600]
    X = counts.matrix[order][:, order]
    config = EmbeddingConfig(dim=16, method="spectral", tolerance=1e-5)
    known = np.delete(np.arange(len(order)), rank)
    others = fit_embeddings(X[known][:, known], config, runtime=CPU)
    folded = np.insert(others.vectors, rank, fold_in(others.vectors, X[[rank]][:, known]), axis=0)
    refitted = fit_embeddings(X, config, runtime=CPU)
    assert sum_over_pairs(folded, X.toarray()) < 1.01 * refitted.loss
