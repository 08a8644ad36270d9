"""Cache keys: what changes them and what does not."""

import shutil
from pathlib import Path

import pytest

import recsys
from flows.cache import cache_key, hash_files, source_hash
from recsys.data.files import QUARANTINE_SUFFIX
from recsys.errors import DataError
from recsys.sessions import SessionConfig


def test_code_changes_the_hash_of_the_library(tmp_path, monkeypatch):
    compute = source_hash.__wrapped__  # not cached
    package = tmp_path / "recsys"
    shutil.copytree(Path(recsys.__file__).parent / "cooccurrence", package)
    monkeypatch.setattr(recsys, "__file__", str(package / "__init__.py"))
    before = compute()
    assert compute() == before
    with (package / "config.py").open("a") as file:
        file.write("LIMIT = 3")
    assert compute() != before


def test_a_key_depends_on_every_input():
    keys = {
        cache_key(config=SessionConfig(), seed=0),
        cache_key(config=SessionConfig(epochs=2), seed=0),
        cache_key(config=SessionConfig(), seed=1),
        cache_key(settings=SessionConfig(), seed=0),
    }
    assert len(keys) == 4
    assert cache_key(seed=0, config=SessionConfig()) in keys


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    first = hash_files(tmp_path)
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / f"a{QUARANTINE_SUFFIX}").write_text("x")
    assert hash_files(tmp_path) == first
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    assert hash_files(tmp_path) != first
    with pytest.raises(DataError, match="no such file"):
        hash_files(tmp_path / "c.csv")
