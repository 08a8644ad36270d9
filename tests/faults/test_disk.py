"""The disk is full, read-only or of another user: one line, nothing damaged, and it goes on."""

import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from recsys.callbacks import History
from recsys.cooccurrence import count_cooccurrence, save_cooccurrence
from recsys.data import save_interactions
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.embeddings import EmbeddingConfig
from recsys.embeddings.io import save_embeddings
from recsys.errors import StorageError
from recsys.loading import load_recommender
from recsys.recommender import Recommender
from recsys.recommender.batch import write_recommendations
from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.sessions import SessionConfig
from recsys.sessions.checkpoint import load_checkpoint, save_checkpoint
from recsys.storage import require_space, write_json
from recsys.tracking import log_bundle, promote, register, start_run
from recsys.tracking.store import connect

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@contextmanager
def small_files(n_bytes):
    """Writing more than this into one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(folder, *options):
    """A small disk of its own."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.call(command):
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(folder, leave=0):
    """Fill the disk of a folder, but for some bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    os.truncate(ballast, max(ballast.stat().st_size - leave, 0))
    try:
        yield
    finally:
        ballast.unlink()


def litter(folder):
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.fixture(scope="module")
def writers(bundle, sample):
    """Every kind of file or folder that is written, as a function of its path."""
    counts, groups = count_cooccurrence(sample, 3), {"model": {"w": torch.ones(1000)}}
    return {
        "json": lambda path: write_json(path, {"a": ["text"] * 100}),
        "bundle": lambda path: save_bundle(bundle, path),
        "checkpoint": lambda path: save_checkpoint(path, groups, {"epoch": 1}),
        "interactions": lambda path: save_interactions(sample, path),
        "counts": lambda path: save_cooccurrence(counts, path),
        "embeddings": lambda path: save_embeddings(bundle.embeddings, History(), path),
        "recommendations": lambda path: write_recommendations(Recommender(bundle), sample, path),
    }


KINDS = (
    *("json", "bundle", "checkpoint", "interactions", "counts", "embeddings"),
    "recommendations",
)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_file_is_left_half_written(kind, writers, tmp_path):
    target = tmp_path / kind
    for n_bytes in (0, 100, 500):
        with small_files(n_bytes), pytest.raises(StorageError) as caught:
            writers[kind](target)
        assert str(target) in str(caught.value)
        assert "File too large" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert litter(tmp_path) == []
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    writers[kind](target)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    with small_files(0), pytest.raises(StorageError):
        writers[kind](target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    writers[kind](target)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_user_is_named(kind, writers, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match="Permission denied; make it writable") as caught:
            writers[kind](tmp_path / "new" / kind)
    finally:
        os.seteuid(0)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_and_a_read_only_disk_are_named(kind, writers, tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        with filled(disk), pytest.raises(StorageError, match="No space left on device; make room"):
            writers[kind](disk / kind)
        assert [path for path in disk.rglob("*") if path.is_file()] == []
        writers[kind](disk / kind)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StorageError, match="Read-only file system"):
            writers[kind](disk / "other")


def test_a_checkpoint_survives_a_full_disk(tmp_path):
    groups = {"model": {"w": torch.arange(1000.0)}}
    save_checkpoint(tmp_path, groups, {"epochs": 1})
    with small_files(100), pytest.raises(StorageError):
        save_checkpoint(tmp_path, {"model": {"w": torch.zeros(1000)}}, {"epochs": 2})
    loaded, metadata = load_checkpoint(tmp_path)
    assert metadata == {"epochs": 1}
    assert loaded["model"]["w"].equal(groups["model"]["w"])


def test_too_little_room_is_told_before_a_training(tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        require_space({disk / "a": 400_000, disk / "b" / "c": 400_000})
        with pytest.raises(StorageError, match=r"disk: 1\.0 MB are free, .* 1\.2 MB are needed"):
            require_space({disk / "a": 600_000, disk / "b" / "c": 600_000})


@pytest.mark.chaos
def test_a_training_on_a_full_disk_goes_on_when_there_is_space(
    tmp_path, monkeypatch, empty_database, prefect_server
):
    """Each time it comes a little further; nothing is registered until it is complete."""
    from flows.train import train  # slow to import

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = {
        "embeddings": EmbeddingConfig(dim=8, epochs=2),
        "session_model": SessionConfig(epochs=2, hidden_dim=16, embedding_dim=8),
    }
    with mounted(tmp_path / "home", "size=64m") as home:
        monkeypatch.chdir(home)
        write_sample(home / "sample", SyntheticConfig(n_users=60, n_items=40, mean_events=20))
        Path("mlflow").mkdir()
        Path("mlflow/mlflow.db").write_bytes(empty_database.read_bytes())
        for room in (0, 16_384, 65_536, 262_144, 1_000_000):
            with (
                filled(home, room),
                pytest.raises(StorageError, match=r"space|full|free") as caught,
            ):
                train("sample", **settings)
            assert "\n" not in str(caught.value)
            assert connect().search_model_versions("name = 'recsys'") == []
        run_id = train("sample", **settings)
        client = connect()
        (version,) = client.search_model_versions("name = 'recsys'")
        assert version.run_id == run_id
        assert len(load_recommender().next_items([1])) == 10
        experiments = [each.experiment_id for each in client.search_experiments()]
        running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
        assert [run.info.run_name for run in running] == []
        models = client.search_logged_models(experiments)
        assert [str(model.status) for model in models] == ["READY"]
        assert litter(home) == []


@pytest.mark.chaos
def test_the_command_tells_a_full_disk_in_one_line(tmp_path, monkeypatch):
    """Also if Prefect's temporary server, whose database is on the same disk, records nothing."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    options = ["--source", "sample", "--embeddings.dim", "8", "--session-model.epochs", "2"]
    with mounted(tmp_path / "home", "size=96m") as home:
        write_sample(home / "sample", SyntheticConfig(n_users=60, n_items=40, mean_events=20))
        monkeypatch.setenv("PREFECT_HOME", str(home / ".prefect"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        train = partial(
            subprocess.run,
            [sys.executable, "-m", "flows.train", *options],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        first = train()
        assert first.returncode == 0, first.stderr
        for room in (0, 8192, 100_000):
            with filled(home, room):
                done = train()
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert re.search("full|free|space", line), line


def log_and_register(run, folder, description):
    log_bundle(run, folder)
    return register(run, "recsys", description)


def test_a_model_that_does_not_fit_is_not_registered(bundle, tmp_path, monkeypatch, empty_database):
    """Not a trace of it is left, and it is registered once there is room."""
    folder = save_bundle(bundle, tmp_path / "bundle")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with mounted(tmp_path / "home", "size=8m") as home:
        monkeypatch.chdir(home)
        Path("mlflow").mkdir()
        Path("mlflow/mlflow.db").write_bytes(empty_database.read_bytes())
        with start_run("train", "e") as run:
            promote(run, "recsys", log_and_register(run, folder, "first"))
        expected = load_recommender().next_items([1])
        with start_run("train", "e") as run:
            n_files = len([path for path in home.rglob("*") if path.is_file()])
            for room in (0, 8192, 500_000):
                with filled(home, room), pytest.raises(StorageError, match=r"No space left|full"):
                    log_and_register(run, folder, "full")
                assert load_recommender().next_items([1]).equals(expected)
            assert len(connect().search_model_versions("name = 'recsys'")) == 1
            assert len(connect().search_logged_models([run.experiment_id])) == 1
            left = [path for path in home.rglob("*") if path.is_file()]
            assert len([path for path in left if "mlflow.db" not in path.name]) <= n_files
            promote(run, "recsys", log_and_register(run, folder, "second"))
        assert load_recommender().version == "recsys 2"
        assert load_bundle(folder) is not None
