import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.baselines import EASE, EASEConfig, Recency, WideEASE, ease, fit_ease
from recsys.errors import ConfigError


def ridge_per_item(matrix, regularization):
    """B, column by column: each item regressed on all others (ridge), Steck 2019, equation 3."""
    n_items = matrix.shape[1]
    weights = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = np.arange(n_items) != item
        x = matrix[:, others]
        gram = x.T @ x + regularization * np.eye(n_items - 1)
        weights[others, item] = np.linalg.solve(gram, x.T @ matrix[:, item])
    return weights


@pytest.fixture(scope="module")
def few_users(sample):
    """The first 20 of the 80 users: fewer than there are items."""
    return sample.filter(sample.user_index < 20).compact()


@pytest.mark.parametrize("regularization", [1.0, 50.0])
@pytest.mark.parametrize(("interactions", "kind"), [("sample", EASE), ("few_users", WideEASE)])
@pytest.mark.parametrize("recency", [Recency(), Recency(last=3, decay=0.5)], ids=["all", "late"])
def test_scores_equal_a_ridge_regression_per_item(
    request, interactions, kind, regularization, recency
):
    interactions = request.getfixturevalue(interactions)
    model = fit_ease(interactions, EASEConfig(regularization=regularization, recency=recency))
    assert type(model) is kind
    weights = ridge_per_item(
        interactions.user_item_matrix().toarray().astype(float), regularization
    )
    history = interactions.history(3)
    x = np.zeros(interactions.n_items)
    for age, item in enumerate(history[::-1][: recency.last]):
        x[item] = recency.decay**age
    np.testing.assert_allclose(model.score([history])[0], x @ weights, rtol=1e-4, atol=1e-5)


def test_too_large_matrix_is_rejected(sample):
    with pytest.raises(ConfigError, match=r"item \(60\) or user \(80\), .* exceed 59"):
        fit_ease(sample, EASEConfig(max_size=59))
    fit_ease(sample, EASEConfig(max_size=60))


@pytest.mark.parametrize("block", [7, 1000])
def test_blocks_change_nothing(sample, few_users, monkeypatch, block):
    expected = fit_ease(sample).weights, fit_ease(few_users).diagonal
    monkeypatch.setattr(ease, "_BLOCK", block)
    np.testing.assert_allclose(fit_ease(sample).weights, expected[0], rtol=1e-6)
    np.testing.assert_allclose(fit_ease(few_users).diagonal, expected[1], rtol=1e-12)


def test_the_matrix_is_not_copied(monkeypatch):
    monkeypatch.setattr(ease, "_BLOCK", 32)
    n, rng = 1200, np.random.default_rng(0)
    rows = sp.csr_array(rng.random((n, 2 * n)) < 0.002, dtype=np.float64)
    tracemalloc.start()
    inverse = ease._inverse(rows, 10.0, np.float32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * inverse.nbytes
    gram = (rows @ rows.T).toarray() + 10.0 * np.eye(n)
    np.testing.assert_allclose(inverse @ gram, np.eye(n), atol=1e-4)


def test_too_little_regularisation_is_rejected():
    with pytest.raises(ConfigError, match="regularization = 1e-20: raise it"):
        ease._inverse(sp.csr_array(np.ones((3, 5))), 1e-20, np.float32)
