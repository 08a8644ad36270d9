from dataclasses import replace

import numpy as np

from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.sessions import SessionModel, from_torch


def test_a_bundle_holds_every_kind_of_model(bundle, any_kind, untrained, tmp_path):
    network = untrained(any_kind, n_items=len(bundle.items)).network
    network.temperature.fill_(1.7)
    model = SessionModel(network, bundle.items)
    folder = save_bundle(replace(bundle, weights=from_torch(model)), tmp_path / "bundle")
    loaded = load_bundle(folder).session_model
    assert loaded.config == any_kind
    histories = [np.array([3, 1, 2], np.int32), np.array([], np.int32)]
    assert np.array_equal(loaded.score(histories), model.score(histories))
    _, streamed = loaded.step(loaded.start(), 3)
    np.testing.assert_allclose(streamed, model.score([np.array([3], np.int32)])[0], atol=1e-5)
