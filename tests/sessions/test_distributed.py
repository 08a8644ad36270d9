"""Training in two processes with torchrun and gloo on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from recsys.config import Runtime
from recsys.data import leave_last_n, read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, fit_session_model
from recsys.sessions.trainer import shard

SCRIPT = """
import json, os, sys
from pathlib import Path
import numpy as np
from safetensors.torch import save_file
from test_distributed import fit_and_measure, fit_to_cycles

folder, rank = Path(sys.argv[1]), os.environ["RANK"]
model, losses = fit_to_cycles(folder / "checkpoint")
save_file(model.network.state_dict(), folder / f"{rank}.safetensors")
np.save(folder / f"{rank}.npy", losses)
(folder / f"{rank}.json").write_text(json.dumps(fit_and_measure(seed=0)))
"""
LEARNING = SessionConfig(
    embedding_dim=8,
    hidden_dim=12,
    epochs=30,
    attention=False,
    batch_size=4,
    warmup_steps=5,
    learning_rate=0.02,
    weight_decay=0.0,
    label_smoothing=0.0,
).resolve(0)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder with the results of two processes, started as a user would start them."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, *launch, str(script), str(folder)],
        check=True,
        timeout=300,
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{root}:{Path(__file__).parent}"},
    )
    return folder


def fit_to_cycles(checkpoint=None):
    """A model of users who go through the same cycle of items, and its loss by epoch."""
    rows = [(u, (u + step) % 12) for u in range(30) for step in range(12)]
    losses = []
    model = fit_session_model(
        read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])),
        LEARNING,
        runtime=Runtime(device="cpu", threads=1),
        on_epoch=lambda epoch, metrics: losses.append(metrics["train_loss"]),
        checkpoint=checkpoint,
    )
    return model, losses


def fit_and_measure(seed):
    """Validation metrics of a model trained on synthetic ratings."""
    ratings, movies = synthesise_ratings(SyntheticConfig(n_users=300, n_items=100, mean_events=30))
    split = leave_last_n(read_ratings(ratings.merge(movies, on="item_id")), 3)
    config = SessionConfig(embedding_dim=16, hidden_dim=24, epochs=3, warmup_steps=20)
    model = fit_session_model(
        split.train, config, runtime=Runtime(device="cpu", threads=1, seed=seed)
    )
    return dict(evaluate(model, split, "validation").metrics)


def test_two_processes_train_one_model(two):
    parameters = [load_file(two / f"{rank}.safetensors") for rank in (0, 1)]
    for name, tensor in parameters[0].items():
        assert torch.equal(tensor, parameters[1][name]), name
    losses = [np.load(two / f"{rank}.npy") for rank in (0, 1)]
    assert np.array_equal(losses[0], losses[1]), "the loss is the mean over both processes"
    assert len(list((two / "checkpoint").iterdir())) == 1

    model, single = fit_to_cycles()
    assert losses[0][-1] == pytest.approx(single[-1], abs=0.1)
    model.network.load_state_dict(parameters[0])
    successors = [int(model.score([np.array([i], np.int32)])[0].argmax()) for i in range(12)]
    assert successors == [(i + 1) % 12 for i in range(12)]


def test_two_processes_predict_as_well_as_one(two):
    results = [json.loads((two / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert results[0] == results[1]
    single = [fit_and_measure(seed) for seed in range(3)]
    for name in ("ndcg_at_10", "hit_rate_at_10"):
        values = np.array([metrics[name] for metrics in single])
        assert abs(results[0][name] - values.mean()) < 4 * values.std(ddof=1), name


@pytest.mark.parametrize("n_batches", [1, 2, 5, 6])
def test_shards_cover_all_batches_and_have_equal_length(n_batches):
    shards = [shard(list(range(n_batches)), rank, 2) for rank in (0, 1)]
    assert len(shards[0]) == len(shards[1]) == -(-n_batches // 2)
    assert {*shards[0], *shards[1]} == set(range(n_batches))
