from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.cooccurrence import count_cooccurrence
from recsys.data import read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.recommender import Recommender
from recsys.recommender.bundle import make_bundle
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork


@pytest.fixture(scope="session")
def log():
    """The interactions of the test bundle."""
    ratings, movies = synthesise_ratings(SyntheticConfig(n_users=60, n_items=50, mean_events=20))
    return read_ratings(ratings.merge(movies, on="item_id"))


@pytest.fixture(scope="session")
def full(bundle, log):
    """The small bundle with a random network, co-occurrence counts and user histories."""
    torch.manual_seed(0)
    network = SessionNetwork(log.n_items, SessionConfig(embedding_dim=8, hidden_dim=8).resolve(0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    network.log_popularity.copy_(torch.rand(log.n_items).log_softmax(0))
    made = make_bundle(
        bundle.catalogue,
        bundle.embeddings,
        SessionModel(network.eval(), log.items),
        {},
        {},
        cooccurrence=count_cooccurrence(log, min_rating=3.0),
        interactions=log,
    )
    return replace(made, catalogue=made.catalogue.assign(year=1950 + np.arange(len(made.items))))


@pytest.fixture(scope="session")
def rec(full):
    return Recommender(full)
