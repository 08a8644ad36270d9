import numpy as np
import pytest
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.cpu.lmf import LogisticMatrixFactorization

from recsys.baselines import BPRConfig, LMFConfig, fit_bpr, fit_lmf
from recsys.config import Runtime


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
def test_item_vectors_are_implicits_and_user_vectors_close_to_it(sample, fit, config, peer):
    peer.fit(sp.csr_matrix(sample.user_item_matrix().astype(np.float32)), show_progress=False)
    model = fit(sample, config, runtime=Runtime(seed=7))
    # Items are items: were the matrix turned round, there would be a vector for each user.
    assert len(model.item_vectors) == sample.n_items != sample.n_users
    np.testing.assert_allclose(model.item_vectors, peer.item_factors, rtol=1e-5)
    learned = peer.user_factors @ peer.item_factors.T
    foretold = model.score([sample.history(user) for user in range(sample.n_users)])
    agreement = [np.corrcoef(*pair)[0, 1] for pair in zip(learned, foretold, strict=True)]
    assert np.mean(agreement) > 0.8


@pytest.mark.parametrize("fit", [fit_bpr, fit_lmf])
def test_another_seed_starts_elsewhere(sample, fit):
    first, second = (fit(sample, runtime=Runtime(seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first.item_vectors, second.item_vectors)
