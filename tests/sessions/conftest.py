import pandas as pd
import pytest
import torch

from recsys.config import Runtime
from recsys.data import read_ratings
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork
from recsys.vocabulary import Vocabulary

KINDS = {
    "lstm": {},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn"},
    "stacked": {"n_layers": 3},
    "attention": {"attention": True, "train_chunk_length": 4},
    "no feed-forward": {"feed_forward": 0},
    "no averages": {"ema_half_lives": ()},
    "all": {"cell": "gru", "n_layers": 2, "attention": True, "train_chunk_length": 4},
}
"""Every kind of network, by how it differs from the plain one."""


@pytest.fixture(scope="session")
def cpu():
    return Runtime(device="cpu", threads=1)


@pytest.fixture
def tiny():
    config = SessionConfig(embedding_dim=8, hidden_dim=12, epochs=2, batch_size=4, warmup_steps=5)
    return config.model_copy(update={"attention": False}).resolve(0)


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def any_kind(request, tiny):
    """The configuration of each kind of network."""
    return tiny.model_copy(update=request.param)


@pytest.fixture
def untrained():
    """A factory of models with random non-zero parameters."""

    def make(config, n_items=9, seed=0, *, repeats=False):
        torch.manual_seed(seed)
        network = SessionNetwork(n_items, config, repeats=repeats)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        network.log_popularity.copy_(torch.rand(n_items).log_softmax(0))
        return SessionModel(network.eval(), Vocabulary.of(range(n_items)))

    return make


@pytest.fixture(scope="session")
def cycles():
    """Each user goes through the same cycle of items once, from different starts."""
    rows = [(u, (u + step) % 12) for u in range(30) for step in range(12)]
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
