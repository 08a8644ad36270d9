"""Damaged files: noticed before they are used, and named in one line; caches are made again."""

import json
import random
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flows.cache import discard, find_fault
from recsys.callbacks import History
from recsys.cooccurrence import count_cooccurrence, open_blocks
from recsys.data import load_interactions, read_ratings, save_interactions
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.embeddings.io import load_embeddings, save_embeddings
from recsys.errors import BundleError, RecsysError
from recsys.loading import load_recommender
from recsys.recommender.batch import MANIFEST as BATCH_MANIFEST
from recsys.recommender.batch import is_up_to_date, write_recommendations
from recsys.recommender.bundle import PairCounts, UserHistories, load_bundle, save_bundle
from recsys.recommender.recommender import Recommender
from recsys.sessions.numpy_model import NumpySessionModel
from recsys.storage import MANIFEST

KINDS = ["bundle", "interactions", "counts", "embeddings", "recommendations"]


def damages(content, n, seed=0):
    """Damaged forms of a file: flipped bits, cut, longer, empty, missing (None)."""
    rng = random.Random(seed)
    bits = 8 * len(content)
    for bit in rng.sample(range(bits), min(n, bits)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)
    for size in rng.sample(range(len(content)), min(n // 4 + 1, len(content))):
        yield f"cut to {size} bytes", content[:size]
    yield "one zero longer", content + b"\0"
    yield "written twice", content + content
    yield "zeros", bytes(len(content))
    yield "empty", b""
    yield "missing", None


def put(path, content):
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


def refusal(read, *arguments):
    """The message of the error of a call, in one line; None if there is no error."""
    message = None
    try:
        read(*arguments)
    except RecsysError as error:
        message = str(error)
    assert message is None or "\n" not in message
    return message


@pytest.fixture(scope="module")
def log():
    """The interactions of the test bundle, with a session for each user."""
    ratings, movies = synthesise_ratings(SyntheticConfig(n_users=60, n_items=50, mean_events=20))
    ratings["session_id"] = ratings["user_id"]
    return read_ratings(ratings.merge(movies, on="item_id"))


@pytest.fixture(scope="module")
def made(bundle, log, tmp_path_factory):
    """By kind: a function that writes a folder, and one that reads it."""
    counts = count_cooccurrence(log, min_rating=3.0)
    full = replace(
        bundle,
        pair_counts=PairCounts.from_cooccurrence(counts),
        user_histories=UserHistories.from_interactions(log, NumpySessionModel(bundle.weights)),
    )
    rec = Recommender(full)
    embeddings = bundle.embeddings

    def check_up_to_date(folder):
        if not is_up_to_date(folder, k=2, metadata={}):
            raise BundleError(f"{folder} is written again")

    return {
        "bundle": (lambda folder: save_bundle(full, folder), load_bundle),
        "interactions": (lambda folder: save_interactions(log, folder), load_interactions),
        "counts": (lambda folder: count_cooccurrence(log, folder=folder), open_blocks),
        "embeddings": (
            lambda folder: save_embeddings(embeddings, History(), folder),
            lambda folder: load_embeddings(folder, embeddings.items),
        ),
        "recommendations": (
            lambda folder: write_recommendations(rec, log, folder, k=2),
            check_up_to_date,
        ),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folders_are_refused(made, kind, trials, tmp_path):
    write, read = made[kind]
    folder = tmp_path / kind
    write(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        is_manifest = path.name in (MANIFEST, BATCH_MANIFEST)
        # Every bit of a manifest; what has a SHA-256 needs fewer.
        long = 8 * len(content) if is_manifest else 500
        for name, damaged in damages(content, trials(20 if is_manifest else 3, long)):
            put(path, damaged)
            message = refusal(read, folder)
            if message is None:  # other white space
                assert is_manifest, f"{path}, {name}, was read"
                assert json.loads(damaged) == json.loads(content), f"{path}, {name}, was read"
            else:
                assert str(folder) in message, name
        put(path, content)
    read(folder)


@pytest.mark.parametrize("kind", ["interactions", "counts", "embeddings"])
def test_damaged_caches_are_made_again(made, kind, trials, tmp_path):
    """A folder with a damaged manifest would not be replaced, but one of the cache is."""
    write, read = made[kind]
    folder = tmp_path / kind
    write(folder)
    names = [MANIFEST, *(path.name for path in folder.iterdir() if path.name != MANIFEST)]
    for name in names[: trials(1, None)]:
        for label, damaged in damages((folder / name).read_bytes(), trials(0, 10)):
            put(folder / name, damaged)
            if find_fault(folder):
                discard(folder)
                write(folder)
            assert find_fault(folder) is None, (name, label)
            read(folder)


def test_blocks_damaged_after_they_were_opened_are_refused(made, trials, tmp_path):
    """Blocks are read long after they were verified."""
    made["counts"][0](tmp_path / "counts")
    blocks = open_blocks(tmp_path / "counts")
    expected = blocks.load().matrix
    path = blocks.folder / blocks.parts[0]
    for name, damaged in damages(path.read_bytes(), trials(100, 5000)):
        put(path, damaged)
        message = refusal(blocks.load)
        if message is None:  # zip files have fields that nobody reads
            assert (blocks.load().matrix != expected).nnz == 0, f"{name}: read as other counts"
        else:
            assert str(path) in message, name


@pytest.fixture
def store(chaos, request, tmp_path, monkeypatch):
    """A working directory with an empty local store, for the long form."""
    if not chaos:
        pytest.skip("only with --chaos; tests/tracking/test_registry.py damages one file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow").mkdir()
    shutil.copy(request.getfixturevalue("empty_database"), "mlflow")
    return tmp_path


def test_a_damaged_file_of_the_champion_is_named(bundle, store):
    from recsys.tracking import log_bundle, promote, register, start_run  # slow to import

    with start_run("pipeline", "e") as run:
        log_bundle(run, save_bundle(bundle, store / "bundle"))
        promote(run, "recsys", register(run, "recsys", "the first"))
    load_recommender("models:/recsys@champion")
    (manifest,) = Path("mlflow").rglob(f"bundle/{MANIFEST}")
    for path in sorted(manifest.parent.iterdir()):
        content = path.read_bytes()
        for name, damaged in damages(content, 200):
            put(path, damaged)
            message = refusal(load_recommender, "models:/recsys@champion")
            if message is None:
                assert json.loads(damaged) == json.loads(content), f"{path}, {name}, was read"
            else:
                assert path.name in message, name
        put(path, content)


def test_a_damaged_database_of_runs_is_named(store, start_recsys):
    database = Path("mlflow/mlflow.db")
    content = database.read_bytes()
    for damaged in (
        bytes(len(content)),
        b"no database at all\n" * 1000,
        content[: len(content) // 2],
        content[:-1],
        content[:-4096],
        None,
    ):
        for path in database.parent.iterdir():
            path.unlink()
        put(database, damaged)
        process = start_recsys("next", "Heat")
        _, error = process.communicate(timeout=300)
        assert process.returncode == 1
        (line,) = [line for line in error.splitlines() if "INFO mlflow" not in line]
        assert line.startswith("error: ")
        assert str(database.parent.resolve()) in line


def test_a_damaged_quarantine_file_is_replaced_or_refused(trials, tmp_path):
    source = tmp_path / "log.csv"
    source.write_text("user_id,item_id,rating\n1,10,4\n1,20,3\n2,10,5\n2,20,bad\n3,10,4\n3,20,1\n")
    digests = set()

    def read():
        with warnings.catch_warnings(action="ignore"):
            digests.add(read_ratings(source).digest)

    read()
    (path,) = set(tmp_path.iterdir()) - {source}
    rows = pd.read_parquet(path)
    for name, damaged in damages(path.read_bytes(), trials(20, 2000)):
        put(path, damaged)
        message = refusal(read)
        if message is None:
            pd.testing.assert_frame_equal(pd.read_parquet(path), rows)
        else:
            assert str(path) in message, name
            assert path.read_bytes() == damaged, "it may be a file of another program"
    assert len(digests) == 1
