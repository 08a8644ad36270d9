"""The pictures of the concept pages can be drawn, and show what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.errors import DataError
from recsys.evaluation.metrics import ndcg
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork
from recsys.vocabulary import Vocabulary

SCRIPT = Path(__file__).parents[1] / "docs" / "pictures.py"


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SESSION = module.SESSION.model_copy(update={"epochs": 1, "hidden_dim": 8})
    module.DIMS, module.DPI = (2, 4), 20
    return module


def test_pictures_are_drawn(pictures, tmp_path):
    config = SyntheticConfig(n_users=60, n_items=80, mean_events=20)
    data = write_sample(tmp_path / "data", config)
    pictures.main([str(data), "--out", str(tmp_path), "--work", str(tmp_path / "work")])
    pages = "".join(path.read_text() for path in SCRIPT.parent.rglob("*.md"))
    drawn = [path.name for path in tmp_path.glob("*.png")]
    assert len(drawn) == 7
    for name in drawn:
        assert (SCRIPT.parent / "images" / name).exists()
        assert f"images/{name})" in pages


def test_example_is_of_the_user(pictures, sample):
    last = sample.history(sample.n_users - 1)[-12:]
    found = pictures.example_history(sample, str(sample.users.ids[-1]))
    assert found.tolist() == last.tolist()
    with pytest.raises(DataError, match="--user nobody"):
        pictures.example_history(sample, "nobody")


def test_gates_are_those_of_torch(pictures):
    config = SessionConfig(hidden_dim=5).resolve(100)
    network = SessionNetwork(10, config).eval()
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(10))
    history = np.array([3, 1, 4, 0, 5])
    gates = pictures.lstm_gates(SessionModel(network, Vocabulary(np.arange(10))), history)
    with torch.no_grad():
        steps, state = network.run_rnn(torch.from_numpy(history)[None])
    np.testing.assert_allclose(gates["h"], steps.states[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gates["c"][-1], state.hidden[0][1][0, 0], rtol=1e-4, atol=1e-6)


def test_sampled_ndcg_is_the_mean_over_samples(pictures):
    ranks, n_others, n_negatives = np.array([1, 4, 30]), np.array([50, 40, 60]), 12
    rng, sampled = np.random.default_rng(0), np.empty((4_000, 3))
    for column, (rank, n) in enumerate(zip(ranks, n_others, strict=True)):
        ahead = np.arange(n) < rank - 1
        for row in range(len(sampled)):
            sampled[row, column] = 1 + ahead[rng.choice(n, n_negatives, replace=False)].sum()
    found = pictures.sampled_ndcg(ranks, n_others, n_negatives)
    error = 5 * ndcg(sampled, 10).std() / sampled.size**0.5
    assert found == pytest.approx(ndcg(sampled, 10).mean(), abs=error)
    assert pictures.sampled_ndcg(ranks, n_others, 60) == pytest.approx(ndcg(ranks, 10).mean())
