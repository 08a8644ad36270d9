import numpy as np
import pytest

from recsys.baselines import ALSConfig, fit_als
from recsys.config import Runtime

CPU = Runtime(device="cpu", threads=1)


@pytest.mark.parametrize("alpha", [1.0, 5.0])
def test_a_history_gets_the_user_vector_that_solves_its_least_squares(sample, alpha):
    config = ALSConfig(factors=4, regularization=0.1, alpha=alpha, iterations=3)
    model = fit_als(sample, config, runtime=CPU)
    history = sample.history(0)
    # Weight alpha on a preference of one where watched, weight one on zero elsewhere.
    items = model.model.item_factors.astype(np.float64)
    watched = np.isin(np.arange(sample.n_items), history)
    weights = np.where(watched, alpha, 1.0)
    gram = items.T @ (items * weights[:, None]) + 0.1 * np.eye(4)
    user = np.linalg.solve(gram, items.T @ (weights * watched))
    np.testing.assert_allclose(model.score([history])[0], items @ user, rtol=1e-3, atol=1e-4)


def test_the_factorisation_comes_close_to_the_matrix_when_it_may(sample):
    model = fit_als(sample, ALSConfig(factors=50, regularization=1e-4), runtime=CPU)
    histories = [sample.history(user) for user in range(sample.n_users)]
    watched = sample.user_item_matrix().toarray()
    assert np.abs(model.score(histories) - watched).mean() < 0.05


def test_another_seed_starts_elsewhere(sample):
    first, second = (
        fit_als(sample, ALSConfig(iterations=1), runtime=CPU.model_copy(update={"seed": seed}))
        for seed in (0, 1)
    )
    assert not np.array_equal(first.model.item_factors, second.model.item_factors)
