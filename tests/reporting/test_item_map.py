import dataclasses
import re
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import EmbeddingConfig, fit_embeddings
from recsys.reporting import item_map_figure, item_map_page
from recsys.titles import display_title

N_ITEMS = 25


@pytest.fixture(scope="module")
def embeddings(sample):
    config = EmbeddingConfig(dim=4, method="spectral")
    return fit_embeddings(count_cooccurrence(sample), config, runtime=Runtime(device="cpu"))


def popular_items(sample, n):
    counts = np.bincount(sample.item_index, minlength=sample.n_items)
    return sample.catalogue.iloc[np.argsort(-counts, kind="stable")[:n]]


def without_year(titles):
    return [title.rsplit(" (", 1)[0] for title in titles]


@pytest.fixture(scope="module")
def without_first(sample, embeddings):
    """The embeddings, without a vector for the most popular item."""
    vectors = embeddings.vectors.copy()
    vectors[popular_items(sample, 1).index] = 0
    return dataclasses.replace(embeddings, vectors=vectors)


# The figure.


def labels(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.fixture(scope="module")
def figure(sample, embeddings):
    return item_map_figure(sample, embeddings, n_items=12)


def test_the_figure_names_the_most_popular_items_without_their_year(figure, sample):
    assert labels(figure) == without_year(popular_items(sample, 12)["title"])
    assert figure.axes[0].get_title().startswith("The 12 most popular items")


def test_the_figure_draws_each_item_once_in_the_colour_of_its_first_genre(figure, sample):
    drawn = {group.get_label(): len(group.get_offsets()) for group in figure.axes[0].collections}
    genres = popular_items(sample, 12)["genres"].str.split("|").str[0]
    assert drawn == genres.value_counts().to_dict()
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(legend) == sorted(drawn)
    areas = np.concatenate([group.get_sizes() for group in figure.axes[0].collections])
    assert areas.max() == 30 + 170
    assert areas.min() > 30


def test_items_without_a_vector_are_not_in_the_figure(sample, without_first):
    figure = item_map_figure(sample, without_first, n_items=5)
    assert labels(figure) == without_year(popular_items(sample, 6)["title"][1:])


def test_a_catalogue_without_genres_needs_no_legend(sample, embeddings):
    plain = dataclasses.replace(sample, catalogue=sample.catalogue[["item_id", "title"]])
    figure = item_map_figure(plain, embeddings, n_items=8)
    assert len(labels(figure)) == 8
    assert figure.axes[0].get_legend() is None


def test_more_items_than_exist_draws_all(sample, embeddings):
    figure = item_map_figure(sample, embeddings, n_items=1_000)
    assert len(labels(figure)) == np.count_nonzero(embeddings.vectors.any(axis=1))


ODD_TITLES = [
    "\x1b[31mRed",
    "映画",
    "$x_{",
    "$10 and $20",
    "a\\b",
    "\u202eleft",
    "_hidden",
]


@pytest.mark.filterwarnings("error")
def test_the_figure_draws_any_title_and_genre_without_a_warning(sample, embeddings):
    catalogue = sample.catalogue.copy()
    n = len(catalogue)
    catalogue["title"] = [f"{ODD_TITLES[i % len(ODD_TITLES)]} {i}" for i in range(n)]
    catalogue["genres"] = [ODD_TITLES[i % len(ODD_TITLES)] for i in range(n)]
    odd = dataclasses.replace(sample, catalogue=catalogue)
    figure = item_map_figure(odd, embeddings, n_items=12)
    figure.savefig(BytesIO())
    drawn = "".join(labels(figure))
    assert "\x1b" not in drawn
    assert "□[31mRed" in drawn
    assert "$10 and $20" in drawn


# The page.


@pytest.fixture(scope="module")
def page(sample, embeddings, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(item_map_page(sample, embeddings, n_items=N_ITEMS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(browser, page):
    tab = browser.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector(".scatterlayer .point")
    yield tab
    tab.close()


def opacities(tab):
    """Of the dots as drawn."""
    points = tab.locator(".scatterlayer .point")
    return points.evaluate_all("points => points.map(point => Number(point.style.opacity))")


def test_the_page_loads_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'<(script|link)[^>]+(src|href)="(?!data:,")', text)


def test_every_item_is_a_dot_and_every_genre_has_its_own_colour(tab, sample):
    assert opacities(tab) == [0.75] * N_ITEMS
    genres = popular_items(sample, N_ITEMS)["genres"].str.split("|").str[0]
    assert sorted(tab.locator(".legendtext").all_text_contents()) == sorted(set(genres))
    colours = tab.locator(".legendpoints path").evaluate_all(
        "paths => paths.map(path => path.style.fill)"
    )
    assert len(colours) == len(set(colours)) == len(set(genres))


def test_labels_name_the_most_popular_items_and_do_not_overlap(tab, sample):
    tab.wait_for_selector(".annotation")
    labels = tab.locator(".annotation-text")
    shown = [display_title(title) for title in popular_items(sample, N_ITEMS)["title"]]
    assert shown[0] in labels.all_text_contents()
    assert {*labels.all_text_contents()} <= {*shown}
    boxes = labels.evaluate_all(
        "labels => labels.map(label => label.getBoundingClientRect().toJSON())"
    )
    for a, b in combinations(boxes, 2):
        apart = a["right"] <= b["left"] or b["right"] <= a["left"]
        assert apart or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]


def test_a_search_dims_all_other_items(browser, page, sample):
    titles = popular_items(sample, N_ITEMS)["title"]
    query = titles.iloc[3]
    n_found = titles.str.contains(query, regex=False).sum()
    tab = browser.new_page()
    tab.goto(f"{page.as_uri()}#{query.upper().replace(' ', '%20')}")
    tab.wait_for_selector(".scatterlayer .point")
    assert tab.locator("#found").inner_text() == f"{n_found} found"
    assert sorted(opacities(tab)) == [0.06] * (N_ITEMS - n_found) + [0.75] * n_found
    assert {*tab.locator(".annotation-text").all_text_contents()} <= {display_title(query)}
    tab.locator("#search").fill("")
    assert tab.locator("#found").inner_text() == ""
    assert opacities(tab) == [0.75] * N_ITEMS
    tab.close()


def test_items_without_a_vector_are_not_on_the_page(sample, without_first):
    page = item_map_page(sample, without_first, n_items=4)
    first, second = popular_items(sample, 2)["title"]
    assert first not in page
    assert second in page


def test_without_genres_all_items_have_one_colour(sample, embeddings):
    plain = dataclasses.replace(sample, catalogue=sample.catalogue[["item_id", "title"]])
    assert item_map_page(plain, embeddings, n_items=8).count('"type": "scatter"') == 1


def test_items_without_a_genre_are_called_so(sample, embeddings):
    catalogue = sample.catalogue.copy()
    catalogue.loc[popular_items(sample, 2).index, "genres"] = None
    some = dataclasses.replace(sample, catalogue=catalogue)
    assert '"name": "no genre"' in item_map_page(some, embeddings, n_items=8)
    legend = item_map_figure(some, embeddings, n_items=8).axes[0].get_legend()
    assert "no genre" in [text.get_text() for text in legend.get_texts()]


def test_the_buttons_do_not_cover_the_legend(tab):
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.locator("#map").hover()
    buttons = tab.locator(".modebar-group").last
    buttons.wait_for()
    first = tab.locator(".legendtext").first
    assert buttons.bounding_box()["x"] + buttons.bounding_box()["width"] > 1200
    bottom = buttons.bounding_box()["y"] + buttons.bounding_box()["height"]
    assert bottom <= first.bounding_box()["y"]
