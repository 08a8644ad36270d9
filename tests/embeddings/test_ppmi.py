import numpy as np
import pandas as pd
import pytest

from recsys.config import Runtime
from recsys.data import read_ratings
from recsys.embeddings import ppmi_embeddings
from recsys.errors import DataError


def slow_ppmi(log, size):
    """Every pair of every user, one by one; each is counted in both orders."""
    counts = np.zeros((log.n_items, log.n_items))
    for user in range(log.n_users):
        history = log.history(user).tolist()
        for place, item in enumerate(history):
            for other in history[place + 1 : place + 1 + size]:
                counts[item, other] += item != other
                counts[other, item] += item != other
    occurrences = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts * counts.sum() / np.outer(occurrences, occurrences))
    return np.where(counts > 0, np.maximum(pmi, 0), 0)


def test_products_of_all_vectors_are_the_positive_part(sample_split):
    log = sample_split.train
    values, vectors = np.linalg.eigh(slow_ppmi(log, 3))
    found = ppmi_embeddings(log, 20, size=3).astype(np.float64)
    leading = vectors[:, -20:] * np.sqrt(np.maximum(values[-20:], 0))
    np.testing.assert_allclose(found @ found.T, leading @ leading.T, atol=1e-4)
    norms = np.linalg.norm(found, axis=0)
    assert found.shape == (log.n_items, 20)
    assert (np.diff(norms) <= 1e-6).all(), "the leading component comes first"


def test_the_same_seed_gives_the_same_vectors(sample_split):
    log = sample_split.train
    one, other = (ppmi_embeddings(log, 8, runtime=Runtime(seed=3)) for _ in range(2))
    assert (one == other).all()


def test_without_pairs_there_is_an_error():
    log = read_ratings(pd.DataFrame({"user_id": [1, 2], "item_id": [7, 8]}))
    with pytest.raises(DataError, match="within"):
        ppmi_embeddings(log, 2)
