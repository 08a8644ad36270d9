"""Every combination of cell, layers, attention and frozen embeddings, from fit to export."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.data import read_ratings
from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.sessions import (
    SessionModel,
    beam_search,
    export_scorer,
    fit_session_model,
    from_torch,
)

HISTORY = np.array([3, 1, 7, 0, 5, 2], np.int32)


@pytest.fixture
def fitted(bundle, tiny, cpu):
    """Fit a model to the items of the bundle; returns it with its pretrained embeddings."""

    def fit(**options):
        n_items = len(bundle.items)
        rows = [(u, (2 * u + step) % n_items) for u in range(n_items // 2) for step in range(9)]
        interactions = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
        config = tiny.model_copy(update={"train_chunk_length": 4, "epochs": 1, **options})
        embeddings = np.random.default_rng(0).normal(size=(n_items, 8)).astype(np.float32)
        network = fit_session_model(
            interactions, config, item_embeddings=embeddings, runtime=cpu
        ).network
        return SessionModel(network, bundle.items), embeddings

    return fit


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("attention", [True, False], ids=["attention", "no attention"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_fit_save_load_and_stream(fitted, bundle, tmp_path, cell, n_layers, attention, frozen):
    model, embeddings = fitted(
        cell=cell, n_layers=n_layers, attention=attention, freeze_item_embeddings=frozen
    )
    learned = model.network.item_embeddings.weight[:-1].detach().numpy() / embeddings
    assert np.allclose(learned, learned[0, 0], rtol=1e-4) is frozen

    saved = replace(bundle, weights=from_torch(model))
    loaded = load_bundle(save_bundle(saved, tmp_path / "bundle")).session_model
    assert loaded.config == model.config
    assert np.array_equal(loaded.score([HISTORY]), model.score([HISTORY]))

    state = loaded.start()
    for n, item in enumerate(HISTORY.tolist(), start=1):
        state, scores = loaded.step(state, item)
        np.testing.assert_allclose(scores, model.score([HISTORY[:n]])[0], atol=1e-5)
    best = beam_search(loaded, HISTORY.tolist(), length=2, beam_width=3)[0]
    assert not {*best.items} & {*HISTORY.tolist()}


@pytest.mark.parametrize(
    ("n_layers", "attention"), [(1, True), (2, False)], ids=["attention", "two layers"]
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_export(fitted, tmp_path, cell, n_layers, attention):
    model, _ = fitted(cell=cell, n_layers=n_layers, attention=attention)
    program = torch.export.load(export_scorer(model, tmp_path / "scorer.pt2", length=6)).module()
    scores = program(torch.from_numpy(HISTORY.astype(np.int64))[None], torch.tensor([6]))
    np.testing.assert_allclose(scores.detach().numpy(), model.score([HISTORY]), atol=1e-5)
