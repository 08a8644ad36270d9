import numpy as np
import torch

from recsys.sessions.batches import pad
from recsys.sessions.export import export_scorer


def test_the_exported_program_scores_as_the_model_does(any_kind, untrained, tmp_path):
    # One kind of network stands for logs in which items come again.
    model = untrained(any_kind.model_copy(update={"exclude_seen": any_kind.cell != "rnn"}))
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
