"""The screenshots of the documentation are not older than what they show."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright")
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def screenshots():
    spec = importlib.util.spec_from_file_location("screenshots", DOCS / "screenshots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_picture_is_older_than_the_code_that_it_shows(screenshots):
    record = json.loads(screenshots.RECORD.read_text(encoding="utf-8"))
    older = [name for name in screenshots.SHOWN if record.get(name) != screenshots.hashes(name)]
    assert not older, "the code that they show has changed: run `python docs/screenshots.py`"


def test_pictures_are_shown_and_small(screenshots):
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    for name in screenshots.SHOWN:
        path = screenshots.IMAGES / name
        assert f"images/{name})" in pages
        assert path.stat().st_size < 200_000
        assert Image.open(path).width == screenshots.WIDTH
