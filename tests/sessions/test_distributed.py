"""Training in several processes with gloo on the CPU, started by torchrun or by a training."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from recsys.config import Runtime
from recsys.data import leave_last_n, read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.errors import ConfigError, ExitCode, TrainingError
from recsys.evaluation import evaluate
from recsys.sessions import SessionConfig, distributed, fit_session_model

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


def fit_to_cycles(checkpoint=None, *, config=LEARNING, on_epoch=None, runtime=None, **options):
    """A model of users who go through the same cycle of items, and its loss by epoch."""
    rows = [(u, (u + step) % 12) for u in range(30) for step in range(12)]
    losses = []

    def collect(epoch, metrics):
        losses.append(metrics["train_loss"])
        if on_epoch:
            on_epoch(epoch)

    model = fit_session_model(
        read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])),
        config,
        runtime=Runtime(device="cpu", threads=1, **(runtime or {})),
        on_epoch=collect,
        checkpoint=checkpoint,
        **options,
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


@pytest.fixture
def children(monkeypatch):
    """The processes that are started by this one."""
    started = []

    def start(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(distributed.subprocess, "Popen", start)
    yield started
    for child in started:
        child.kill()
        child.wait()


def start_worker(folder, *place, **options):
    command = [sys.executable, "-m", "recsys.sessions.worker", str(folder), *map(str, place)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], **options)


def test_a_training_starts_its_processes_and_equals_that_of_torchrun(two, children):
    addresses = set()

    def see(_):
        """Where this process and the other one wait for connections."""
        for process in (psutil.Process(), *(psutil.Process(child.pid) for child in children)):
            connections = process.net_connections("tcp")
            addresses.update(c.laddr for c in connections if c.status == psutil.CONN_LISTEN)

    see(0)
    before = addresses.copy()
    model, losses = fit_to_cycles(runtime={"processes": 2}, on_epoch=see)
    assert {address.ip for address in addresses - before} == {"127.0.0.1"}
    assert losses == np.load(two / "0.npy").tolist()
    expected = load_file(two / "0.safetensors")
    assert all(torch.equal(x, expected[name]) for name, x in model.network.state_dict().items())
    assert [child.returncode for child in children] == [0]


@pytest.mark.parametrize(("world_size", "is_kept"), [(2, False), (3, True)])
def test_gradients_are_not_reordered_where_the_order_of_sums_matters(world_size, is_kept):
    """DistributedDataParallel reorders them after the first step, unless some may be unused."""
    strategy = distributed.Strategy(world_size, torch.device("cpu"))
    assert strategy._ddp_kwargs["find_unused_parameters"] is is_kept


def test_a_resumed_training_of_two_processes_has_the_same_result(two, tmp_path):
    runtime = {"processes": 2}

    def stop(epoch):
        if epoch == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_to_cycles(tmp_path, runtime=runtime, on_epoch=stop)
    resumed, losses = fit_to_cycles(tmp_path, runtime=runtime)
    assert losses == np.load(two / "0.npy").tolist()
    expected = load_file(two / "0.safetensors")
    assert all(torch.equal(x, expected[name]) for name, x in resumed.network.state_dict().items())


def test_no_process_only_sends_after_the_first_epoch(monkeypatch):
    """gloo may wait half an hour to send to a process that has ended."""

    def refuse(*_, **__):
        raise AssertionError("only one process would send")

    def forbid(_):
        for name in ("broadcast", "_broadcast_coalesced", "broadcast_object_list", "scatter"):
            monkeypatch.setattr(torch.distributed, name, refuse)

    fit_to_cycles(
        config=LEARNING.model_copy(update={"epochs": 2}),
        runtime={"processes": 2},
        on_epoch=forbid,
        validate=lambda model: {"ndcg_at_10": 0.5},
    )


def test_two_machines_stop_early_together(two, children, tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    worker, lines, values = start_worker(tmp_path, 1), [], iter((0.3, 0.2, 0.2))
    _, losses = fit_to_cycles(
        config=LEARNING.model_copy(update={"patience": 2}),
        runtime={"nodes": 2, "shared_folder": str(tmp_path)},
        validate=lambda model: {"ndcg_at_10": next(values)},
        notify=lines.append,
    )
    assert losses == np.load(two / "0.npy").tolist()[:3]
    assert worker.wait(60) == ExitCode.OK
    command = f"python -m recsys.sessions.worker {tmp_path} NODE"
    assert lines == [f"Waiting for the other machines. Run there: {command}, where NODE is 1 to 1."]
    assert not list(tmp_path.iterdir())


def test_two_trainings_cannot_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    runtime = {"nodes": 2, "shared_folder": str(tmp_path)}

    def start_another(message):
        with pytest.raises(ConfigError, match=f"another training uses shared_folder {tmp_path}"):
            fit_to_cycles(runtime=runtime)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_to_cycles(runtime=runtime, notify=start_another)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_killed_process_ends_the_training_which_resumes(
    children, tmp_path, monkeypatch, is_remote
):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    checkpoint, folder, lines = tmp_path / "checkpoint", tmp_path / "shared", []
    runtime, reason = {"processes": 2}, "was killed by SIGKILL"
    if is_remote:
        runtime, reason = {"nodes": 2, "shared_folder": str(folder)}, "ended, or cannot be reached"
        monkeypatch.setattr(distributed, "_REPORT_SECONDS", 0.5)
        start_worker(folder, 1)

    def kill(epoch):
        if epoch == 3:
            children[0].kill()

    with pytest.raises(TrainingError) as error:
        fit_to_cycles(checkpoint, runtime=runtime, on_epoch=kill)
    assert str(error.value) == (
        f"rank 1 of 2 {reason}; start the training again: it resumes after the latest complete "
        "epoch"
    )
    assert children[0].wait() == -signal.SIGKILL
    _, losses = fit_to_cycles(checkpoint, notify=lines.append)
    assert lines == ["Training resumes after epoch 3 of 30."]
    assert len(losses) == 30


def test_a_process_that_cannot_start_ends_the_training(tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(TrainingError, match=r"^rank 1 of 2 ended with status 3: no memory$"):
        fit_to_cycles(runtime={"processes": 2})


def test_a_process_that_is_killed_before_it_connects_ends_the_training(tmp_path, monkeypatch):
    program = """
import os, signal
from recsys.sessions import worker
from recsys.sessions.distributed import Group
announce = Group.announce
def announce_and_end(group):
    announce(group)
    os.kill(os.getpid(), signal.SIGKILL)
Group.announce = announce_and_end
worker.main()
"""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nshift 2\nexec {sys.executable} -c '{program}' \"$@\"\n")
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(distributed, "_CONNECT_SECONDS", 1.0)
    with pytest.raises(TrainingError, match=r"^rank 1 of 2 was killed by SIGKILL; start"):
        fit_to_cycles(runtime={"processes": 2})


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    worker = start_worker(tmp_path, 0, 1, stdin=subprocess.PIPE)
    worker.communicate(timeout=60)
    assert worker.returncode == ExitCode.ERROR


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nodes": 2}, "nodes is 2: set shared_folder, which all machines see"),
        ({"processes": 2, "device": "cuda:1"}, "processes is 2, but device is 'cuda:1'"),
    ],
)
def test_processes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Runtime(**settings)


def test_processes_of_torchrun_start_no_others(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="already one of a distributed training"):
        fit_to_cycles(runtime={"processes": 2})
