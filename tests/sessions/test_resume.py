"""Resuming an interrupted training gives the same result as an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys import sessions
from recsys.config import Runtime
from recsys.errors import ConfigError, TrainingError
from recsys.sessions import SessionConfig, fit_session_model
from recsys.sessions.checkpoint import (
    CHECKPOINT,
    DAMAGED,
    DamagedCheckpointError,
    load_checkpoint,
)

CONFIG = SessionConfig(embedding_dim=8, hidden_dim=12, epochs=5, batch_size=4, warmup_steps=5)

CHILD = """
import sys, time
from pathlib import Path
import pandas as pd
from recsys.config import Runtime
from recsys.data import read_ratings
from recsys import sessions
from recsys.sessions import SessionConfig, fit_session_model

folder, pause = Path(sys.argv[1]), float(sys.argv[2])
rows = [(u, (u + step) % 12) for u in range(30) for step in range(12)]
interactions = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))

def on_epoch(epoch, metrics):
    print(epoch, flush=True)
    time.sleep(pause)

fit_session_model(
    interactions,
    SessionConfig.model_validate_json(sys.argv[3]),
    runtime=Runtime(device="cpu", threads=1),
    on_epoch=on_epoch,
    validate=lambda model: {"ndcg_at_10": model.network.item_bias[0].item()},
    checkpoint=folder,
)
"""


def child(folder, pause=0.0):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(pause), CONFIG.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def bias_as_metric(model):
    return {"ndcg_at_10": model.network.item_bias[0].item()}


def assert_equal(first, other):
    for name, tensor in first.items():
        assert torch.equal(tensor, other[name]), name


def test_resuming_after_a_kill_is_bit_identical(tmp_path, cycles, cpu):
    with child(tmp_path, pause=0.2) as process:
        assert process.stdout.readline() == "1\n"
        assert process.stdout.readline() == "2\n"
        time.sleep(0.25)  # into the third epoch
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    epochs_seen = []
    resumed = fit_session_model(
        cycles,
        CONFIG,
        runtime=cpu,
        validate=bias_as_metric,
        checkpoint=tmp_path,
        on_epoch=lambda epoch, _metrics: epochs_seen.append(epoch),
    )
    assert epochs_seen == [1, 2, 3, 4, 5]
    uninterrupted = fit_session_model(cycles, CONFIG, runtime=cpu, validate=bias_as_metric)
    assert_equal(uninterrupted.network.state_dict(), resumed.network.state_dict())


class Killed(BaseException):
    """Simulates the end of the process."""


def interrupted_fit(interactions, runtime, folder, after, config=CONFIG):
    def on_epoch(epoch, _metrics):
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        fit_session_model(
            interactions, config, runtime=runtime, checkpoint=folder, on_epoch=on_epoch
        )


def test_resuming_every_kind_is_bit_identical(tmp_path, cycles, cpu, any_kind):
    interrupted_fit(cycles, cpu, tmp_path, 1, any_kind)
    resumed = fit_session_model(cycles, any_kind, runtime=cpu, checkpoint=tmp_path)
    uninterrupted = fit_session_model(cycles, any_kind, runtime=cpu)
    assert_equal(uninterrupted.network.state_dict(), resumed.network.state_dict())


@pytest.mark.parametrize("after", [1, 4, 5])
def test_resuming_after_any_epoch_is_bit_identical(tmp_path, cycles, cpu, after):
    interrupted_fit(cycles, cpu, tmp_path, after)
    resumed = fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path)
    uninterrupted = fit_session_model(cycles, CONFIG, runtime=cpu)
    assert_equal(uninterrupted.network.state_dict(), resumed.network.state_dict())


def test_a_truncated_write_keeps_the_previous_checkpoint(tmp_path, cycles, cpu, monkeypatch):
    """The process dies while it writes the checkpoint of the third epoch."""
    from recsys.sessions import checkpoint

    save_file = checkpoint.save_file
    calls = 0

    def truncated(tensors, path, metadata):
        nonlocal calls
        calls += 1
        save_file(tensors, path, metadata=metadata)
        if calls == 3:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(checkpoint, "save_file", truncated)
    with pytest.raises(Killed):
        fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path)
    monkeypatch.undo()
    epochs_seen = []
    fit_session_model(
        cycles,
        CONFIG,
        runtime=cpu,
        checkpoint=tmp_path,
        on_epoch=lambda epoch, metrics: epochs_seen.append(metrics["interactions_per_second"]),
    )
    assert len(epochs_seen) == 5


def test_past_epochs_are_replayed(tmp_path, cycles, cpu):
    first, again = {}, {}
    fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, on_epoch=first.__setitem__)
    fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, on_epoch=again.__setitem__)
    assert first == again
    assert list(again) == [1, 2, 3, 4, 5]


def test_a_checkpoint_of_another_training_is_rejected(tmp_path, cycles, cpu):
    fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path)
    other = CONFIG.model_copy(update={"learning_rate": 0.01})
    with pytest.raises(ConfigError, match=r"its learning_rate is 0\.003, here it is 0\.01"):
        fit_session_model(cycles, other, runtime=cpu, checkpoint=tmp_path)
    seed = Runtime(device="cpu", threads=1, seed=5)
    with pytest.raises(ConfigError, match="its seed is 0, here it is 5"):
        fit_session_model(cycles, CONFIG, runtime=seed, checkpoint=tmp_path)
    vectors = np.ones((12, 8), np.float32)
    with pytest.raises(ConfigError, match="its item_embeddings is None"):
        fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, item_embeddings=vectors)


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory, cycles, cpu):
    """The checkpoint of a training that was interrupted after its second epoch."""
    folder = tmp_path_factory.mktemp("checkpoint")
    interrupted_fit(cycles, cpu, folder, 2)
    return (folder / CHECKPOINT).read_bytes()


def damages(data, rng, n):
    """Copies of a file with a bit flipped, cut short, overwritten, or extended."""
    for position in rng.integers(len(data), size=n).tolist():
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.integers(8)
        yield bytes(flipped)
        yield data[:position]
        yield data[:position] + bytes(len(data) - position)
    yield from (b"", b"nonsense", data + b"0")


def test_no_damage_goes_unnoticed(tmp_path, checkpoint_bytes):
    path = tmp_path / CHECKPOINT
    path.write_bytes(checkpoint_bytes)
    groups, metadata = load_checkpoint(tmp_path)
    n_noticed = 0
    for data in damages(checkpoint_bytes, np.random.default_rng(0), 100):
        path.write_bytes(data)
        try:
            found, found_metadata = load_checkpoint(tmp_path)
        except DamagedCheckpointError:
            n_noticed += 1
            continue
        # Neither a space in the header nor the end of the padding changes what is read.
        assert found_metadata == metadata
        for group, tensors in groups.items():
            assert_equal(tensors, found[group])
    assert n_noticed > 290


@pytest.mark.parametrize("what", ["flipped", "cut short", "of another version"])
def test_a_damaged_checkpoint_is_set_aside(tmp_path, cycles, cpu, checkpoint_bytes, what):
    path = tmp_path / CHECKPOINT
    flipped = bytearray(checkpoint_bytes)
    flipped[-40] ^= 1
    contents = {
        "flipped": flipped,
        "cut short": checkpoint_bytes[:-100],
        "of another version": checkpoint_bytes.replace(b'"format":"2"', b'"format":"1"'),
    }
    path.write_bytes(contents[what])
    damaged, messages = path.read_bytes(), []
    options = {"runtime": cpu, "checkpoint": tmp_path, "notify": messages.append}
    model = fit_session_model(cycles, CONFIG, **options)
    (message,) = messages
    assert message.startswith(f"Training starts from the first epoch: {path} ")
    assert ("is of another version of recsys" in message) == (what == "of another version")
    assert message.endswith("; it was renamed to training.safetensors.damaged.")
    assert (tmp_path / DAMAGED).read_bytes() == damaged
    uninterrupted = fit_session_model(cycles, CONFIG, runtime=cpu)
    assert_equal(uninterrupted.network.state_dict(), model.network.state_dict())
    load_checkpoint(tmp_path)


def test_vectors_with_a_key_may_differ_in_their_last_bits(tmp_path, cycles, cpu):
    """As those of another number of threads do."""
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    told = []
    for one in (vectors, np.nextafter(vectors, np.float32(9))):
        options = {"item_embeddings": one, "embeddings_key": "ppmi", "notify": told.append}
        fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, **options)
    assert told[1] == "Training resumes after epoch 5 of 5."


def test_what_is_resumed_is_told(tmp_path, cycles, cpu, checkpoint_bytes):
    def messages():
        told = []
        fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, notify=told.append)
        return told

    reason = f"no interrupted training left a checkpoint in {tmp_path}"
    start = f"Training starts from the first epoch: {reason}."
    assert messages() == [start]
    assert messages() == ["Training resumes after epoch 5 of 5."]
    (tmp_path / CHECKPOINT).write_bytes(checkpoint_bytes)
    assert messages() == ["Training resumes after epoch 2 of 5."]


def test_a_diverging_loss_keeps_the_last_good_checkpoint(tmp_path, cycles, cpu):
    def spoil(model):
        spoil.epochs += 1
        if spoil.epochs == 2:
            with torch.no_grad():
                model.network.item_bias[0] = float("nan")
        return {}

    spoil.epochs = 0
    # `spoil` changes the model before the checkpoint of epoch 2 is written.
    saved = {}

    def on_epoch(epoch, _metrics):
        saved[epoch] = (tmp_path / CHECKPOINT).read_bytes()

    with pytest.raises(TrainingError, match=r"loss is nan in epoch 3.*state after epoch 2"):
        fit_session_model(
            cycles, CONFIG, runtime=cpu, checkpoint=tmp_path, validate=spoil, on_epoch=on_epoch
        )
    assert list(saved) == [1, 2]
    assert (tmp_path / CHECKPOINT).read_bytes() == saved[2]


def test_a_checkpoint_contains_no_pickle(tmp_path, cycles, cpu):
    fit_session_model(cycles, CONFIG, runtime=cpu, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    data = (tmp_path / CHECKPOINT).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["training"])["step"] > 0


def planned(values):
    """A validation that returns given values, and the biases at each call."""
    biases = []

    def validate(model):
        biases.append(model.network.item_bias.detach().clone())
        return {"ndcg_at_10": values[len(biases) - 1]}

    return validate, biases


@pytest.mark.parametrize(("patience", "epochs_run"), [(None, 5), (1, 3), (2, 4), (3, 5)], ids=str)
def test_early_stopping_keeps_the_best_epoch(cycles, cpu, patience, epochs_run):
    config = CONFIG.model_copy(update={"patience": patience})
    validate, biases = planned([0.1, 0.3, 0.2, 0.3, 0.1])
    model = fit_session_model(cycles, config, runtime=cpu, validate=validate)
    assert len(biases) == epochs_run
    assert torch.equal(model.network.item_bias, biases[1]), "the first of equal epochs is the best"


def test_early_stopping_resumes(tmp_path, cycles, cpu):
    config = CONFIG.model_copy(update={"patience": 2})
    values = [0.1, 0.3, 0.2, 0.1, 0.5]
    validate, biases = planned(values)

    def on_epoch(epoch, _metrics):
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        fit_session_model(
            cycles, config, runtime=cpu, validate=validate, checkpoint=tmp_path, on_epoch=on_epoch
        )
    model = fit_session_model(cycles, config, runtime=cpu, validate=validate, checkpoint=tmp_path)
    assert len(biases) == 4
    assert torch.equal(model.network.item_bias, biases[1])


def test_patience_without_validation_is_rejected(cycles, cpu):
    with pytest.raises(ConfigError, match="patience is 2, but there is no validation"):
        fit_session_model(cycles, CONFIG.model_copy(update={"patience": 2}), runtime=cpu)


def test_the_size_of_a_checkpoint_is_known_before(tmp_path, cycles, cpu):
    config = CONFIG.model_copy(update={"epochs": 1})
    validate = {"validate": lambda _: {"ndcg_at_10": 1.0}}
    fit_session_model(cycles, config, runtime=cpu, checkpoint=tmp_path, **validate)
    groups, _ = load_checkpoint(tmp_path)
    size = sum(tensor.nbytes for group in groups.values() for tensor in group.values())
    expected = sessions.checkpoint_bytes(config.resolve(0), cycles.n_items)
    # While one is written, the previous one is there. The states of random generators come on top.
    assert 0 <= 2 * size - expected < 20_000
