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


def test_what_is_saved_is_what_is_loaded(bundle, tmp_path):
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


def test_it_holds_the_files_that_it_promises_and_no_others(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing is left beside it"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, tmp_path, name):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} .*missing"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(bundle, tmp_path, name):
    folder = save_bundle(bundle, tmp_path / "bundle")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} .*altered or damaged"):
        load_bundle(folder)


def test_a_folder_without_manifest_is_no_bundle(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        load_bundle(folder)


def test_an_unknown_format_is_refused(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {"format_version": 99})
    with pytest.raises(BundleError, match=r"format 99.*reads format 1: upgrade"):
        load_bundle(folder)


def test_parts_that_do_not_fit_together_are_refused(bundle, tmp_path):
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


def test_a_process_killed_while_saving_leaves_the_old_bundle_or_the_new(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    for delay in (0.02, 0.05, 0.11):
        writer = multiprocessing.get_context("fork").Process(
            target=_save_for_ever, args=(bundle, folder)
        )
        writer.start()
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        if folder.exists():  # for an instant between the two renames there is none
            load_bundle(folder)
        save_bundle(bundle, folder)
    load_bundle(folder)
