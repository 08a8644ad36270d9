"""The same data, settings and seed give the same bundle, whatever else the process does."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from recsys import data as rd
from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.embeddings import EmbeddingConfig, fit_embeddings, ppmi_embeddings
from recsys.recommender.bundle import make_bundle, save_bundle
from recsys.sessions import SessionConfig, fit_session_model
from recsys.storage import read_json

SIZES = {"embedding_dim": 8, "hidden_dim": 12, "epochs": 2, "batch_size": 8}
CONFIGS = {
    "full": SessionConfig(**SIZES),
    "sampled": SessionConfig(**SIZES, loss="sampled", n_negatives=8),
}


@pytest.fixture(scope="module")
def ratings():
    rows, movies = synthesise_ratings(SyntheticConfig(n_users=60, n_items=50, mean_events=20))
    return rows.merge(movies, on="item_id")


def build(ratings, folder, config=CONFIGS["full"], threads=1, seed=0):
    """A bundle from ratings to files; returns the size and SHA-256 of each file."""
    runtime = Runtime(device="cpu", threads=threads, seed=seed)
    split = rd.leave_last_out(rd.read_ratings(ratings))
    counts = count_cooccurrence(split.positives, min_rating=3.0, runtime=runtime)
    embeddings = fit_embeddings(counts, EmbeddingConfig(dim=8), runtime=runtime)
    vectors = ppmi_embeddings(split.train, 8, runtime=runtime)
    model = fit_session_model(split.train, config, item_embeddings=vectors, runtime=runtime)
    bundle = make_bundle(
        split.interactions.catalogue, embeddings, model, {}, {}, cooccurrence=counts
    )
    return read_json(save_bundle(bundle, folder) / "manifest.json")


class DrawsNumbers:
    """Another thread that draws from, and seeds, all global random number generators."""

    def __enter__(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.draw)
        self.thread.start()

    def draw(self):
        while not self.stop.wait(0.001):
            torch.rand(3)
            torch.manual_seed(int(np.random.randint(1000)))  # noqa: NPY002
            random.seed(random.random())

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_trainings_in_threads_of_one_process_do_not_disturb_each_other(ratings, tmp_path, config):
    alone = [build(ratings, tmp_path / f"alone {seed}", config, seed=seed) for seed in (0, 1)]
    assert alone[0] != alone[1]
    with DrawsNumbers(), ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(build, ratings, tmp_path / f"together {seed}", config, seed=seed)
            for seed in (0, 1)
        ]
        assert [job.result() for job in jobs] == alone


def test_a_training_leaves_the_global_generators_alone(ratings, tmp_path):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    build(ratings, tmp_path / "bundle")
    assert states() == before


def test_reading_and_counting_do_not_depend_on_the_number_of_threads(ratings, monkeypatch):
    def digests(threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        interactions = rd.read_ratings(ratings)
        counts = count_cooccurrence(interactions, 3.0, runtime=Runtime(threads=threads))
        return interactions.digest, counts.matrix.toarray().tolist()

    assert digests(1) == digests(2) == digests(3)
