import numpy as np
import pytest

from recsys.baselines import EASE, EASEConfig, Recency, WideEASE, fit_ease
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
