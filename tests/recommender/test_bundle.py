import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from recsys.errors import BundleError
from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.storage import write_json, write_manifest

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


def test_folder_contains_exactly_the_documented_files(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "no temporary files are left"


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


def test_missing_manifest_is_rejected(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        load_bundle(folder)


def test_unknown_format_is_rejected(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {"format_version": 99})
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
