import multiprocessing
import shutil
import time
from dataclasses import replace

import pytest

from recsys.errors import BundleError
from recsys.loading import AutoReloader
from recsys.recommender.bundle import save_bundle
from recsys.storage import read_json, with_digest, write_json


@pytest.fixture
def folder(bundle, tmp_path):
    return save_bundle(bundle, tmp_path / "bundle")


def renamed(bundle, title):
    return replace(bundle, catalogue=bundle.catalogue.assign(title=title))


def first_title(reloader):
    return reloader.recommender.popular_items(1).as_records()[0]["title"]


def wait_until(true, seconds=20.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_new_bundle_replaces_the_old_one(bundle, folder):
    with AutoReloader(folder, poll_interval=0.02) as reloader:
        old, version = reloader.recommender, reloader.version
        save_bundle(renamed(bundle, "New"), folder)
        wait_until(lambda: reloader.version != version)
        assert first_title(reloader) == "New"
        assert old.popular_items(1)["title"][0] != "New"


def test_unchanged_bundle_is_not_reloaded(folder):
    with AutoReloader(folder, poll_interval=3600) as reloader:
        before = reloader.recommender
        assert not reloader.poll()
        assert reloader.recommender is before


@pytest.mark.parametrize("damage", ["flipped", "truncated", "newer", "gone"])
def test_invalid_bundle_is_logged_and_not_used(bundle, folder, tmp_path, caplog, damage):
    with AutoReloader(folder, poll_interval=3600) as reloader:
        title, version = first_title(reloader), reloader.version
        save_bundle(renamed(bundle, "Broken"), folder)
        if damage == "gone":
            shutil.rmtree(folder)
        elif damage == "newer":
            manifest = read_json(folder / "manifest.json")
            newer = with_digest({**manifest, "format_version": 99})
            write_json(folder / "manifest.json", newer)
        else:
            content = bytearray((folder / "embeddings.safetensors").read_bytes())
            content[-1] ^= 1
            cut = len(content) // 2 if damage == "truncated" else len(content)
            (folder / "embeddings.safetensors").write_bytes(content[:cut])
        assert not reloader.poll()
        assert first_title(reloader) == title
        assert reloader.version == version
        assert "still using version" in caplog.text
        caplog.clear()
        reloader.poll()
        assert not caplog.text, "the same error is logged once"
        save_bundle(renamed(bundle, "Good"), folder)
        assert reloader.poll()
        assert first_title(reloader) == "Good"


def test_bundle_that_cannot_answer_is_not_used(bundle, folder, caplog):
    with AutoReloader(folder, poll_interval=3600) as reloader:
        version = reloader.version
        arrays = dict(bundle.weights.arrays) | {"item_bias": bundle.weights.arrays["item_bias"][:3]}
        broken = replace(bundle, weights=replace(bundle.weights, arrays=arrays))
        save_bundle(broken, folder)
        assert not reloader.poll()
        assert reloader.version == version
        assert "item_bias" in caplog.text


def test_initial_bundle_is_required(tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        AutoReloader(tmp_path)


def _reload_in_child(reloader, bundle, folder, answers):
    first_title(reloader)
    save_bundle(renamed(bundle, "New"), folder)
    wait_until(lambda: first_title(reloader) == "New")
    answers.put(first_title(reloader))


def test_forked_process_reloads_too(bundle, folder):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with AutoReloader(folder, poll_interval=0.02) as reloader:
        child = context.Process(target=_reload_in_child, args=(reloader, bundle, folder, answers))
        child.start()
        assert answers.get(timeout=30) == "New"
        child.join()


def test_a_relative_path_survives_a_change_of_folder(bundle, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with AutoReloader(folder.name, poll_interval=3600) as reloader:
        monkeypatch.chdir("/")
        save_bundle(renamed(bundle, "New"), folder)
        assert reloader.poll()
        assert first_title(reloader) == "New"
