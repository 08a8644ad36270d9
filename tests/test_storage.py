import hashlib
import json

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys.errors import BundleError, ConfigError
from recsys.storage import (
    atomic_file,
    atomic_folder,
    read_arrays,
    read_json,
    require_new,
    resumable_folder,
    sha256_of,
    verify_manifest,
    write_arrays,
    write_json,
    write_manifest,
)

LOG = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 1, 2], "timestamp": [1, 2, 3, 4]})
INVALID_PATHS = ["\ud800", "a\0b", "a" * 5000, "a/" * 3000, 5, b"x", ["x"], {}]


class KilledError(Exception):
    pass


def killed_half_way(context, name=""):
    """Write half of a file, or of a file in a folder, and then wait."""
    with context as path:
        (path / name if name else path).write_text("half")
        raise KilledError


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_created_with_its_parent_folders(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_file(target) as path:
        path.write_text("new")
        assert path.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a", "a/b.txt"]


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(KilledError):
        killed_half_way(atomic_file(tmp_path / "b.txt"))
    assert names(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    (tmp_path / "b.txt").write_text("old")
    with pytest.raises(KilledError):
        killed_half_way(atomic_file(tmp_path / "b.txt"))
    assert names(tmp_path) == ["b.txt"]
    assert (tmp_path / "b.txt").read_text() == "old"


def test_a_file_replaces_the_old_one(tmp_path):
    (tmp_path / "b.txt").write_text("old")
    with atomic_file(tmp_path / "b.txt") as path:
        path.write_text("new")
    assert names(tmp_path) == ["b.txt"]
    assert (tmp_path / "b.txt").read_text() == "new"


def test_a_folder_appears_complete(tmp_path):
    with atomic_folder(tmp_path / "a" / "out") as path:
        (path / "sub").mkdir()
        (path / "sub" / "x").write_text("new")
        assert not (tmp_path / "a" / "out").exists()
    assert names(tmp_path) == ["a", "a/out", "a/out/sub", "a/out/sub/x"]


def test_a_folder_replaces_the_old_one_with_all_its_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "link") as path:
            (path / name).touch()
            write_manifest(path)
    assert names(tmp_path) == ["link", "out", "out/manifest.json", "out/new"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("where", ["out/mine", "out/sub/mine", "out", "out/link"])
def test_a_folder_with_files_of_others_is_not_replaced(tmp_path, where):
    mine = tmp_path / where
    if where != "out":
        with atomic_folder(tmp_path / "out") as path:
            (path / "old").touch()
            write_manifest(path)
    mine.parent.mkdir(exist_ok=True)
    if where == "out/link":
        mine.symlink_to(tmp_path)
    else:
        mine.write_text("mine")
    before = names(tmp_path)
    with pytest.raises(ConfigError, match=f"{mine} is .*name a new folder"):
        killed_half_way(atomic_folder(tmp_path / "out"), "new")
    assert names(tmp_path) == before


@pytest.mark.parametrize("content", ['{"files": {"mine": {}}}', '{"files": ["mine"]}', "{", "{}"])
def test_a_manifest_of_something_else_says_nothing(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="not in its manifest"):
        killed_half_way(atomic_folder(tmp_path), "new")
    assert (tmp_path / "mine").exists()


def test_a_new_file_replaces_nothing(tmp_path):
    assert require_new(tmp_path / "x") == tmp_path / "x"
    (tmp_path / "x").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="already exists: name a new file"):
        require_new(tmp_path / "x")


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failed_write_keeps_the_old_folder(tmp_path, is_there):
    if is_there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "old").write_text("old")
        write_manifest(tmp_path / "out")
    before = names(tmp_path)
    with pytest.raises(KilledError):
        killed_half_way(atomic_folder(tmp_path / "out"), "old")
    assert names(tmp_path) == before
    assert not is_there or (tmp_path / "out" / "old").read_text() == "old"


def test_an_interrupted_folder_is_continued_with_the_same_inputs(tmp_path):
    out, inputs = tmp_path / "out", {"model": "1", "files": ("a",)}
    with pytest.raises(KilledError):
        killed_half_way(resumable_folder(out, inputs), "first")
    assert not out.exists()
    with resumable_folder(out, inputs) as path:
        assert names(path) == ["first"]
        (path / "second").touch()
        write_manifest(path)
    assert names(tmp_path) == ["out", "out/first", "out/manifest.json", "out/second"]
    with pytest.raises(KilledError):
        killed_half_way(resumable_folder(out, inputs), "third")
    assert names(out) == ["first", "manifest.json", "second"]
    with resumable_folder(out, {**inputs, "model": "2"}) as path:
        assert names(path) == []
        (path / "fourth").touch()
    assert names(tmp_path) == ["out", "out/fourth"]


def test_a_folder_whose_process_was_killed_as_it_was_replaced_comes_back(tmp_path):
    out, work = tmp_path / "out", tmp_path / ".out.unfinished"
    out.mkdir()
    (out / "old").touch()
    write_manifest(out)
    with pytest.raises(KilledError):
        killed_half_way(resumable_folder(out, {}), "new")
    out.replace(work / "old")
    with resumable_folder(out, {"model": "2"}):
        assert names(out) == ["manifest.json", "old"]
    assert names(tmp_path) == ["out"]


def test_the_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_json_round_trip(tmp_path):
    content = {"b": [1, 2.5, None], "a": {"é": True}}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, r"x\.json is missing"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[1]", "holds a list, not a JSON object"),
    ],
)
def test_invalid_json_is_reported_with_the_file(tmp_path, content, match):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BundleError, match=match):
        read_json(tmp_path / "x.json")


def test_arrays_round_trip(tmp_path):
    counts, scores = np.arange(6, dtype=np.int32).reshape(2, 3), np.array([np.nan, 1.5])
    write_arrays(tmp_path / "x.npz", counts=counts, scores=scores)
    loaded = read_arrays(tmp_path / "x.npz")
    assert sorted(loaded) == ["counts", "scores"]
    assert loaded["counts"].dtype == np.int32
    assert np.array_equal(loaded["counts"], counts)
    assert np.array_equal(loaded["scores"], scores, equal_nan=True)


def test_object_arrays_are_refused(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "x.npz", objects=objects)
    assert names(tmp_path) == []
    np.savez(tmp_path / "x.npz", objects=objects)
    with pytest.raises(BundleError, match=r"objects\.npy holds objects"):
        read_arrays(tmp_path / "x.npz")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_bytes(b"abc")
    (folder / "y").write_bytes(b"")
    write_manifest(folder, format_version=1)
    return folder


def change(manifest):
    write_json(manifest, {**read_json(manifest), "format_version": 2})


def test_a_manifest_lists_every_file_and_the_metadata(folder):
    manifest = verify_manifest(folder)
    assert manifest == {
        "format_version": 1,
        "files": {
            "sub/x": {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()},
            "y": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
        },
    }


def test_a_manifest_written_again_does_not_list_itself(folder):
    write_manifest(folder)
    assert sorted(verify_manifest(folder)["files"]) == ["sub/x", "y"]


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda folder: (folder / "sub" / "x").unlink(), r"sub/x is listed in .* but missing"),
        (lambda folder: (folder / "sub" / "x").write_bytes(b"abd"), "sub/x .*altered or damaged"),
        (lambda folder: (folder / "sub" / "x").write_bytes(b"ab"), "sub/x .*altered or damaged"),
        (lambda folder: (folder / "y").write_bytes(b"!"), "y .*altered or damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda folder: change(folder / "manifest.json"), r"manifest\.json .*its own SHA-256"),
    ],
    ids=["missing", "same", "cut short", "grown", "no manifest", "cut manifest", "metadata"],
)
def test_damage_is_reported_with_the_file(folder, damage, match):
    damage(folder)
    with pytest.raises(BundleError, match=match):
        verify_manifest(folder)


@pytest.mark.parametrize("content", [{}, {"files": ["y"]}, {"files": {"y": {"bytes": 0}}}])
def test_a_manifest_without_files_is_refused(folder, content):
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="no list of files"):
        verify_manifest(folder)


@pytest.mark.parametrize("path", INVALID_PATHS, ids=range(len(INVALID_PATHS)))
def test_a_path_that_cannot_be_is_named_by_every_function(path):
    log = recsys.read_ratings(LOG)
    for use in (
        recsys.load_recommender,
        recsys.Recommender.load,
        recsys.AutoReloader,
        recsys.read_ratings,
        lambda path: recsys.read_ratings(LOG, quarantine_path=path or 1),
        lambda path: recsys.count_cooccurrence(log, folder=path),
        lambda path: recsys.fit_session_model(log, checkpoint=path),
    ):
        with pytest.raises(
            recsys.RecsysError, match=r"cannot be used as a path: |the source is of type"
        ) as raised:
            use(path)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 250
