import numpy as np
import pytest

from recsys.baselines import EASE, EASEConfig, Recency, WideEASE, fit_ease
from recsys.errors import ConfigError


def from_torch(watched, regularization):
    """B, column by column: each item regressed on all others (ridge), Steck 2019, equation 3."""
    n_items = watched.shape[1]
    weights = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = np.arange(n_items) != item
        x = watched[:, others]
        gram = x.T @ x + regularization * np.eye(n_items - 1)
        weights[others, item] = np.linalg.solve(gram, x.T @ watched[:, item])
    return weights


@pytest.fixture(scope="module")
def few(sample):
    """The first 20 of the 80 users: fewer than there are items."""
    return sample.filter(sample.user_index < 20).compact()


@pytest.mark.parametrize("regularization", [1.0, 50.0])
@pytest.mark.parametrize(("log", "kind"), [("sample", EASE), ("few", WideEASE)])
@pytest.mark.parametrize("recency", [Recency(), Recency(last=3, decay=0.5)], ids=["all", "late"])
def test_scores_are_those_of_a_ridge_regression_for_each_item(
    request, log, kind, regularization, recency
):
    log = request.getfixturevalue(log)
    model = fit_ease(log, EASEConfig(regularization=regularization, recency=recency))
    assert type(model) is kind
    weights = from_torch(log.user_item_matrix().toarray().astype(float), regularization)
    history = log.history(3)
    x = np.zeros(log.n_items)
    for age, item in enumerate(history[::-1][: recency.last]):
        x[item] = recency.decay**age
    np.testing.assert_allclose(model.score([history])[0], x @ weights, rtol=1e-4, atol=1e-5)


def test_a_matrix_that_is_too_large_is_refused_before_it_is_made(sample):
    with pytest.raises(ConfigError, match=r"item \(60\) or user \(80\), .* exceed 59"):
        fit_ease(sample, EASEConfig(max_size=59))
    fit_ease(sample, EASEConfig(max_size=60))
