"""The page as a browser shows it: Chromium without a window, where there is one."""

import dataclasses
import html
import re
import shutil
import subprocess

import numpy as np
import pytest

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import EmbeddingConfig, fit_embeddings
from recsys.reporting.map_page import item_map_page

N_ITEMS = 25


@pytest.fixture(scope="module")
def embeddings(sample):
    config = EmbeddingConfig(dim=4, method="spectral")
    return fit_embeddings(count_cooccurrence(sample), config, runtime=Runtime(device="cpu"))


@pytest.fixture(scope="module")
def page(sample, embeddings, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(item_map_page(sample, embeddings, n_items=N_ITEMS), encoding="utf-8")
    return path


def as_shown(page, search=""):
    """The page's document after its scripts have run."""
    command = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if command is None:
        pytest.skip("there is no Chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    shown = subprocess.run(
        [command, *flags, "--dump-dom", f"{page.as_uri()}#{search}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return shown.stdout


def opacities(document):
    """Of the dots that are drawn."""
    plot = document[document.index('class="scatterlayer') :]
    points = re.findall(r'<path class="point[^>]*style="opacity: ([\d.]+)', plot)
    return [float(opacity) for opacity in points]


def titles(sample):
    watches = np.bincount(sample.item_index, minlength=sample.n_items)
    return sample.catalogue["title"].iloc[np.argsort(-watches, kind="stable")[:N_ITEMS]]


def test_the_page_needs_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)


def test_every_item_is_a_dot_and_every_genre_has_its_colour(page, sample):
    document = as_shown(page)
    assert opacities(document) == [0.75] * N_ITEMS
    genres = sample.catalogue.set_index("title").loc[titles(sample), "genres"].str.split("|").str[0]
    legend = re.findall(r'class="legendtext"[^>]*>([^<]*)<', document)
    assert sorted(map(html.unescape, legend)) == sorted(set(genres))
    fills = re.findall(r'class="legendpoints".*?fill: (rgb\([^)]*\))', document, re.DOTALL)
    assert len(set(fills)) == len(legend), "no colour twice"


def test_a_search_dims_all_else(page, sample):
    wanted = titles(sample).iloc[3]
    expected = titles(sample).str.contains(wanted, regex=False).sum()
    document = as_shown(page, wanted.upper().replace(" ", "%20"))
    assert f">{expected} found<" in document
    assert sorted(opacities(document)) == [0.06] * (N_ITEMS - expected) + [0.75] * expected


def test_items_without_a_vector_are_not_on_the_page(sample, embeddings):
    vectors = embeddings.vectors.copy()
    vectors[sample.catalogue["title"] == titles(sample).iloc[0]] = 0
    page = item_map_page(sample, dataclasses.replace(embeddings, vectors=vectors), n_items=4)
    assert titles(sample).iloc[0] not in page
    assert titles(sample).iloc[1] in page


def test_a_catalogue_without_genres_has_one_colour(sample, embeddings):
    bare = dataclasses.replace(sample, catalogue=sample.catalogue[["item_id", "title"]])
    assert '"name":"items"' in item_map_page(bare, embeddings, n_items=8)
