import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from recsys.cooccurrence import count_cooccurrence, planner
from recsys.data import read_ratings
from recsys.data.catalogue import max_catalogue_bytes
from recsys.errors import BundleError, DataError
from recsys.recommender import Recommender
from recsys.recommender.bundle import (
    PairCounts,
    UserHistories,
    _require_valid,
    bundle_bytes,
    load_bundle,
    save_bundle,
)
from recsys.sessions import from_torch
from recsys.sessions.numpy_model import NumpySessionModel
from recsys.storage import read_json, with_digest, write_json, write_manifest

FILES = (
    "config.json",
    "embeddings.safetensors",
    "items.parquet",
    "metrics.json",
    "neighbours.npz",
    "session_model.safetensors",
)


def test_round_trip(bundle, tmp_path):
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    history = [np.array([3, 1, 2], np.int32)]
    assert np.array_equal(loaded.session_model.score(history), bundle.session_model.score(history))
    assert np.array_equal(loaded.embeddings.vectors, bundle.embeddings.vectors)
    assert np.array_equal(loaded.neighbour_index, bundle.neighbour_index)
    assert np.array_equal(loaded.neighbour_cosine, bundle.neighbour_cosine)
    assert loaded.embeddings.loss == bundle.embeddings.loss
    assert loaded.items == bundle.items
    assert loaded.catalogue.equals(bundle.catalogue)
    assert loaded.metrics == bundle.metrics


def test_the_history_of_a_user_is_the_latest_session(full):
    rows = [(1, "a", 10), (1, "b", 11), (1, "b", 12), (2, "c", 10)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "session_id", "item_id"]))
    model = NumpySessionModel(from_torch(full.session_model))
    histories = UserHistories.from_interactions(log, model)
    assert histories.users.ids.tolist() == [1, 2]
    assert [histories.history(user).tolist() for user in (0, 1)] == [[1, 2], [0]]
    expected = model.encode_batch([np.array([1, 2], np.int32)])
    assert np.array_equal(histories.state_vectors[:1], expected)


def test_folder_contains_exactly_the_documented_files(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "no temporary files are left"


def test_the_size_of_its_parameters_is_known_before(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    config, (n_items, dim) = bundle.session_model.config, bundle.embeddings.vectors.shape
    files = [folder / f"{name}.safetensors" for name in ("embeddings", "session_model")]
    headers = 4096  # of the two files
    written = sum(path.stat().st_size for path in files)
    assert 0 < written - bundle_bytes(n_items, dim, config) < headers


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_rejected(bundle, tmp_path, name):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} .*missing"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_modified_file_is_rejected(bundle, tmp_path, name):
    folder = save_bundle(bundle, tmp_path / "bundle")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} .*altered or damaged"):
        load_bundle(folder)


def test_time_of_training_is_kept(bundle, tmp_path):
    assert load_bundle(save_bundle(bundle, tmp_path / "without")).trained_at is None
    trained_at = datetime(2026, 5, 17, 12, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    folder = save_bundle(dataclasses.replace(bundle, trained_at=trained_at), tmp_path / "with")
    assert load_bundle(folder).trained_at == trained_at


@pytest.mark.parametrize("shape", ["one long", "all", "random"])
def test_the_largest_catalogue_that_is_saved_is_loaded(bundle, tmp_path, shape):
    n, rng = len(bundle.items), np.random.default_rng(0)
    free = max_catalogue_bytes(n) - 8 * n
    lengths = {
        "one long": [free],
        "all": [free // n] * n,
        "random": rng.multinomial(free, [1 / n] * n),
    }
    letters = rng.integers(33, 127, free, dtype=np.uint8).tobytes().decode()
    ends = np.cumsum([*lengths[shape], *[0] * n][:n])
    titles = [letters[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    catalogue = pd.DataFrame({"item_id": bundle.items.ids, "title": titles})
    folder = save_bundle(dataclasses.replace(bundle, catalogue=catalogue), tmp_path / "a")
    assert load_bundle(folder).catalogue["title"].tolist() == titles
    catalogue["title"] += "x" * n
    with pytest.raises(DataError, match="the catalogue, column 'title': the text of item"):
        save_bundle(dataclasses.replace(bundle, catalogue=catalogue), tmp_path / "b")


@pytest.mark.parametrize("title", [None, 1, b"a", float("nan")])
def test_titles_that_are_not_text_are_not_saved(bundle, tmp_path, title):
    titles = ["a", title, *["b"] * (len(bundle.items) - 2)]
    catalogue = bundle.catalogue.assign(title=pd.Series(titles, dtype=object))
    with pytest.raises(
        DataError, match=r"the catalogue, column 'title', row 1: titles must be text, not "
    ):
        save_bundle(dataclasses.replace(bundle, catalogue=catalogue), tmp_path / "a")


@pytest.mark.parametrize("genres", [None, float("nan"), pd.NA])
def test_genres_that_are_all_missing_are_loaded_if_they_are_saved(bundle, tmp_path, genres):
    column = pd.Series([genres] * len(bundle.items), dtype=object)
    saved = dataclasses.replace(bundle, catalogue=bundle.catalogue.assign(genres=column))
    loaded = load_bundle(save_bundle(saved, tmp_path / "a"))
    assert Recommender(loaded).catalogue.genres == [[]] * len(bundle.items)
    saved = dataclasses.replace(bundle, catalogue=bundle.catalogue.assign(genres=float("nan")))
    with pytest.raises(DataError, match="column 'genres': genres must be text or missing, not dou"):
        save_bundle(saved, tmp_path / "b")


def test_missing_manifest_is_rejected(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        load_bundle(folder)


def test_unknown_format_is_rejected(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", with_digest(manifest | {"format_version": 99}))
    with pytest.raises(BundleError, match=r"format 99.*reads format 1: upgrade"):
        load_bundle(folder)


def test_inconsistent_parts_are_rejected(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    config = json.loads((folder / "config.json").read_text())
    config["session_model"]["hidden_dim"] += 1
    write_json(folder / "config.json", config)
    write_manifest(folder, format_version=1)
    with pytest.raises(BundleError, match="has invalid content"):
        load_bundle(folder)


def _save_for_ever(bundle, folder):
    while True:
        save_bundle(bundle, folder)


def test_killed_save_leaves_the_old_or_the_new_bundle(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    for delay in (0.02, 0.05, 0.11):
        writer = multiprocessing.get_context("fork").Process(
            target=_save_for_ever, args=(bundle, folder)
        )
        writer.start()
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        if folder.exists():  # it does not exist between the two renames
            load_bundle(folder)
        save_bundle(bundle, folder)
    load_bundle(folder)


def test_counts_on_disk_give_the_same_pair_counts(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "BLOCK_ENTRIES", 500)
    monkeypatch.setattr("recsys.recommender.bundle.N_PARTNERS", 50)
    blocks = count_cooccurrence(sample, 3.5, folder=tmp_path / "counts")
    assert len(blocks.parts) > 3
    found = PairCounts.from_cooccurrence(blocks)
    expected = PairCounts.from_cooccurrence(count_cooccurrence(sample, 3.5))
    assert found.count(3, 3) is None  # an item does not occur together with itself
    assert 0 < found.is_complete.sum() < len(found.is_complete)
    for name, array in vars(expected).items():
        assert getattr(found, name).dtype == array.dtype
        assert getattr(found, name).tolist() == array.tolist()


@pytest.fixture
def full_folder(full, tmp_path):
    return save_bundle(full, tmp_path / "bundle")


def test_round_trip_of_counts_and_histories(full, full_folder):
    loaded = load_bundle(full_folder)
    for name in ("offsets", "partners", "counts", "is_complete"):
        assert np.array_equal(getattr(loaded.pair_counts, name), getattr(full.pair_counts, name))
    ours, theirs = loaded.user_histories, full.user_histories
    for name in ("offsets", "item_index", "state_vectors"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.users == theirs.users


@pytest.mark.parametrize("name", ["cooccurrence.npz", "user_histories.npz", "items.parquet"])
def test_truncated_file_is_rejected(full_folder, name):
    content = (full_folder / name).read_bytes()
    (full_folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=f"{name} .*altered or damaged"):
        load_bundle(full_folder)


def test_link_out_of_the_folder_is_rejected(full_folder, tmp_path):
    outside = tmp_path / "outside.npz"
    shutil.move(full_folder / "cooccurrence.npz", outside)
    (full_folder / "cooccurrence.npz").symlink_to(outside)
    with pytest.raises(BundleError, match=r"cooccurrence\.npz is outside of"):
        load_bundle(full_folder)


@pytest.mark.parametrize("name", ["../outside.npz", "/etc/hostname"])
def test_manifest_with_files_outside_the_folder_is_rejected(full_folder, name):
    (full_folder.parent / "outside.npz").write_bytes(b"")
    manifest = read_json(full_folder / "manifest.json")
    manifest["files"][name] = {"bytes": 0, "sha256": ""}
    write_json(full_folder / "manifest.json", with_digest(manifest))
    with pytest.raises(BundleError, match=r"is outside of|is missing"):
        load_bundle(full_folder)


def test_file_missing_from_the_manifest_is_rejected(full_folder):
    manifest = read_json(full_folder / "manifest.json")
    del manifest["files"]["items.parquet"]
    write_json(full_folder / "manifest.json", with_digest(manifest))
    with pytest.raises(BundleError, match=r"items\.parquet is missing from manifest"):
        load_bundle(full_folder)


@pytest.mark.parametrize("version", [2, 0, None, "1", [1], True])
def test_other_format_versions_are_rejected(full_folder, version):
    manifest = read_json(full_folder / "manifest.json")
    write_json(full_folder / "manifest.json", with_digest(manifest | {"format_version": version}))
    with pytest.raises(BundleError, match="this version of recsys reads format 1"):
        load_bundle(full_folder)


def test_counts_and_histories_are_optional(full_folder):
    for name in ("cooccurrence.npz", "user_histories.npz", "manifest.json"):
        (full_folder / name).unlink()
    write_manifest(full_folder, format_version=1)
    loaded = load_bundle(full_folder)
    assert loaded.pair_counts is None
    assert loaded.user_histories is None


CONTENT = ["cooccurrence.npz", "user_histories.npz", "session_model.safetensors"]


@pytest.mark.parametrize("name", CONTENT)
def test_file_with_invalid_content_is_rejected(full_folder, name):
    (full_folder / name).write_bytes(b"something else")
    (full_folder / "manifest.json").unlink()
    write_manifest(full_folder, format_version=1)
    with pytest.raises(BundleError, match=r"has invalid content|cannot be read"):
        load_bundle(full_folder)
    np.savez(full_folder / "cooccurrence.npz", offsets=np.array([None], dtype=object))
    (full_folder / "manifest.json").unlink()
    write_manifest(full_folder, format_version=1)
    with pytest.raises(BundleError, match=r"has invalid content|cannot be read"):
        load_bundle(full_folder)


def damaged(part, name, change):
    """A change of an array, of a copy that keeps the rest."""

    def apply(bundle):
        whole = bundle if part is None else getattr(bundle, part)
        array = np.array(getattr(whole, name))
        changed = dataclasses.replace(whole, **{name: change(array)})
        return changed if part is None else dataclasses.replace(bundle, **{part: changed})

    return apply


def put(value):
    def change(array):
        array.flat[-1] = value
        return array

    return change


def drop_last(array):
    return array[:-1]


def with_nan_weights(bundle):
    arrays = dict(bundle.weights.arrays)
    arrays["item_bias"] = np.full_like(arrays["item_bias"], np.nan)
    return dataclasses.replace(bundle, weights=dataclasses.replace(bundle.weights, arrays=arrays))


INVALID = {
    "NaN weights": (with_nan_weights, "'item_bias' has values that are not finite"),
    "infinite vectors": (damaged("embeddings", "vectors", put(np.inf)), "'embeddings' has values"),
    "too few vectors": (damaged("embeddings", "vectors", drop_last), "not those of 50 items"),
    "too few neighbours": (damaged(None, "neighbour_index", drop_last), "not those of 50 items"),
    "too few cosines": (damaged(None, "neighbour_cosine", drop_last), "but .* cosines"),
    "NaN cosine": (damaged(None, "neighbour_cosine", put(np.nan)), "'cosines' has values"),
    "no such neighbour": (damaged(None, "neighbour_index", put(50)), "neighbours have an index"),
    "no such partner": (damaged("pair_counts", "partners", put(-1)), "counts have an index"),
    "too few counts": (damaged("pair_counts", "counts", drop_last), "counts do not fit 50 rows"),
    "too few rows": (damaged("pair_counts", "offsets", drop_last), "do not fit 50 rows"),
    "no such item": (damaged("user_histories", "item_index", put(50)), "histories have an index"),
    "too few histories": (damaged("user_histories", "offsets", drop_last), "histories do not fit"),
    "too few states": (damaged("user_histories", "state_vectors", drop_last), "do not fit 59 rows"),
}


@pytest.mark.parametrize("name", INVALID)
def test_arrays_that_no_answer_can_be_computed_from_are_rejected(full, tmp_path, name):
    damage, reason = INVALID[name]
    folder = save_bundle(damage(full), tmp_path / "bundle")
    with pytest.raises(BundleError, match=f"has invalid content: .*{reason}"):
        load_bundle(folder)


ARRAYS = [
    ("embeddings", "vectors"),
    (None, "neighbour_index"),
    (None, "neighbour_cosine"),
    ("pair_counts", "offsets"),
    ("pair_counts", "partners"),
    ("pair_counts", "counts"),
    ("pair_counts", "is_complete"),
    ("user_histories", "offsets"),
    ("user_histories", "item_index"),
    ("user_histories", "state_vectors"),
]


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(float if array.dtype.kind in "ib" else complex),
        lambda array: array.astype(np.uint64 if array.dtype.kind != "b" else int),
        lambda array: array[:, None],
    ],
    ids=["another kind", "unsigned", "another axis"],
)
@pytest.mark.parametrize(("part", "name"), ARRAYS)
def test_arrays_of_other_types_are_rejected(full, part, name, change):
    with pytest.raises(ValueError, match="is an array of "):
        _require_valid(damaged(part, name, change)(full))


def test_users_are_numbers_or_text(full):
    arrays = full.user_histories.arrays()
    for users in (
        arrays["users"].astype(float),
        arrays["users"].astype("S"),
        arrays["users"][None],
    ):
        with pytest.raises(ValueError, match="the ids of users are"):
            UserHistories.from_arrays({**arrays, "users": users})


def test_a_model_without_answers_is_not_loaded(bundle, tmp_path):
    """All of its numbers are finite, but the logits overflow."""
    arrays = dict(bundle.weights.arrays)
    arrays["item_embeddings.weight"] = np.full_like(arrays["item_embeddings.weight"], 1e38)
    arrays["output.weight"] = np.full_like(arrays["output.weight"], 1e38)
    weights = dataclasses.replace(bundle.weights, arrays=arrays)
    folder = save_bundle(dataclasses.replace(bundle, weights=weights), tmp_path / "bundle")
    with np.errstate(all="ignore"), pytest.raises(BundleError, match="answers 0 of 10 histories"):
        Recommender.load(folder)
