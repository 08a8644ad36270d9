import numpy as np
import pytest
import torch

from recsys.sessions.batches import pad
from recsys.sessions.export import export_scorer


@pytest.mark.parametrize("options", [{}, {"exclude_seen": False, "feed_forward": 0}], ids=str)
def test_the_exported_program_scores_as_the_model_does(tiny, options, untrained, tmp_path):
    model = untrained(tiny.model_copy(update=options))
    model.network.temperature.fill_(1.3)
    path = export_scorer(model, tmp_path / "scorer.pt2", length=8)
    program = torch.export.load(path).module()
    rng = np.random.default_rng(0)
    for lengths in ([1, 4], [8, 3, 2, 6], [2]):
        histories = [rng.permutation(9)[:n].astype(np.int32) for n in lengths]
        items = torch.full((len(histories), 8), 9)
        padded = torch.from_numpy(pad(histories, 9))
        items[:, : padded.shape[1]] = padded
        scores = program(items, torch.tensor(lengths)).detach().numpy()
        np.testing.assert_allclose(scores, model.score(histories), atol=1e-5)
