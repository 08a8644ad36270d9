"""ALS, BPR and LMF."""

import numpy as np
import pytest
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.cpu.lmf import LogisticMatrixFactorization

from recsys.baselines import ALSConfig, BPRConfig, LMFConfig, fit_als, fit_bpr, fit_lmf
from recsys.config import Runtime

CPU = Runtime(device="cpu", threads=1)


@pytest.mark.parametrize("alpha", [1.0, 5.0])
def test_als_user_vector_solves_the_least_squares(sample, alpha):
    config = ALSConfig(factors=4, regularization=0.1, alpha=alpha, iterations=3)
    model = fit_als(sample, config, runtime=CPU)
    history = sample.history(0)
    # Positives have preference 1 and weight alpha, all others preference 0 and weight 1.
    items = model.model.item_factors.astype(np.float64)
    positives = np.isin(np.arange(sample.n_items), history)
    weights = np.where(positives, alpha, 1.0)
    gram = items.T @ (items * weights[:, None]) + 0.1 * np.eye(4)
    user = np.linalg.solve(gram, items.T @ (weights * positives))
    np.testing.assert_allclose(model.score([history])[0], items @ user, rtol=1e-3, atol=1e-4)


def test_als_approximates_the_matrix(sample):
    model = fit_als(sample, ALSConfig(factors=50, regularization=1e-4), runtime=CPU)
    histories = [sample.history(user) for user in range(sample.n_users)]
    positives = sample.user_item_matrix().toarray()
    assert np.abs(model.score(histories) - positives).mean() < 0.05


def test_als_depends_on_the_seed(sample):
    first, second = (
        fit_als(sample, ALSConfig(iterations=1), runtime=CPU.model_copy(update={"seed": seed}))
        for seed in (0, 1)
    )
    assert not np.array_equal(first.model.item_factors, second.model.item_factors)


@pytest.mark.parametrize(
    ("fit", "config", "peer"),
    [
        (fit_bpr, BPRConfig(factors=6), BayesianPersonalizedRanking(
            factors=6, learning_rate=0.05, iterations=100, random_state=7, num_threads=1)),
        (fit_lmf, LMFConfig(factors=6), LogisticMatrixFactorization(
            factors=6, iterations=30, random_state=7, num_threads=1)),
    ],
    ids=["bpr", "lmf"],
)  # fmt: skip
def test_item_vectors_equal_those_of_implicit_and_predicted_users_agree(sample, fit, config, peer):
    peer.fit(sp.csr_matrix(sample.user_item_matrix().astype(np.float32)), show_progress=False)
    model = fit(sample, config, runtime=Runtime(seed=7))
    # One vector per item: with a transposed matrix there would be one per user.
    assert len(model.item_vectors) == sample.n_items != sample.n_users
    np.testing.assert_allclose(model.item_vectors, peer.item_factors, rtol=1e-5)
    learned = peer.user_factors @ peer.item_factors.T
    predicted = model.score([sample.history(user) for user in range(sample.n_users)])
    agreement = [np.corrcoef(*pair)[0, 1] for pair in zip(learned, predicted, strict=True)]
    assert np.mean(agreement) > 0.8


@pytest.mark.parametrize("fit", [fit_bpr, fit_lmf])
def test_bpr_and_lmf_depend_on_the_seed(sample, fit):
    first, second = (fit(sample, runtime=Runtime(seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first.item_vectors, second.item_vectors)
