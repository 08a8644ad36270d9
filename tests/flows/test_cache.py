"""Cache keys: what changes them and what does not."""

import pytest

from flows.cache import cache_key, hash_files, normalize_source, source_hash
from recsys.data.files import QUARANTINE_SUFFIX
from recsys.errors import DataError
from recsys.sessions import SessionConfig

CODE = '''
"""A module."""
LIMIT = 3
"""A constant."""

class Model:
    """A class."""
    def fit(self, x):
        """A method."""
        return x + LIMIT  # a comment
'''


def test_comments_docstrings_and_format_do_not_change_the_hash_of_code():
    rewritten = (
        CODE.replace("A module", "Another module")
        .replace("A constant", "Another constant")
        .replace('    """A class."""\n', "")
        .replace("A method", "Another method")
        .replace("  # a comment", "")
        .replace("x + LIMIT", "(x\n            + LIMIT)")
    )
    assert normalize_source(rewritten) == normalize_source(CODE)


@pytest.mark.parametrize(
    ("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("x + LIMIT", "x - LIMIT"), ("fit", "refit")]
)
def test_code_changes_the_hash(old, new):
    assert normalize_source(CODE.replace(old, new)) != normalize_source(CODE)


def test_the_library_has_one_hash():
    assert len(source_hash()) == 64
    assert source_hash() == source_hash()


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
