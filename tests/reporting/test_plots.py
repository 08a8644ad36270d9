import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.embeddings import EmbeddingConfig, fit_embeddings
from recsys.reporting.plots import loss_curve, popular_items_map


@pytest.mark.parametrize(("n", "marker"), [(3, "."), (50, "None")])
def test_a_loss_curve_begins_at_epoch_one(n, marker):
    losses = [1 / (epoch + 1) for epoch in range(n)]
    figure = loss_curve(losses, title="LSTM", ylabel="cross-entropy")
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == list(range(1, n + 1))
    assert list(line.get_ydata()) == losses
    assert (line.get_marker() or "None") == marker
    assert axes.get_title() == "LSTM"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "cross-entropy")


@pytest.fixture(scope="module")
def embeddings(sample):
    counts = count_cooccurrence(sample)
    config = EmbeddingConfig(dim=4, epochs=20)
    return fit_embeddings(counts, config, runtime=Runtime(device="cpu", threads=1))


def names(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def most_popular(sample, n):
    watches = np.bincount(sample.item_index, minlength=sample.n_items)
    return np.argsort(-watches, kind="stable")[:n]


def test_the_map_names_the_most_watched_items_without_their_year(sample, embeddings):
    figure = popular_items_map(sample, embeddings, n_items=12)
    titles = sample.catalogue["title"].iloc[most_popular(sample, 12)]
    assert names(figure) == [title[: -len(" (1999)")] for title in titles]
    assert figure.axes[0].get_title().startswith("The 12 most watched items")


def test_the_map_draws_each_item_once_in_the_colour_of_its_first_genre(sample, embeddings):
    figure = popular_items_map(sample, embeddings, n_items=12)
    drawn = {group.get_label(): len(group.get_offsets()) for group in figure.axes[0].collections}
    genres = sample.catalogue["genres"].iloc[most_popular(sample, 12)].str.split("|").str[0]
    assert drawn == genres.value_counts().to_dict()
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(legend) == sorted(drawn)
    areas = np.concatenate([group.get_sizes() for group in figure.axes[0].collections])
    assert areas.max() == 30 + 170
    assert areas.min() > 30


def test_items_without_a_vector_are_not_on_the_map(sample, embeddings):
    first, *others = most_popular(sample, 6).tolist()
    vectors = embeddings.vectors.copy()
    vectors[first] = 0
    figure = popular_items_map(sample, dataclasses.replace(embeddings, vectors=vectors), n_items=5)
    titles = sample.catalogue["title"].iloc[others]
    assert names(figure) == [title.rsplit(" (", 1)[0] for title in titles]


def test_a_catalogue_without_genres_needs_no_legend(sample, embeddings):
    bare = dataclasses.replace(sample, catalogue=sample.catalogue[["item_id", "title"]])
    figure = popular_items_map(bare, embeddings, n_items=8)
    assert len(names(figure)) == 8
    assert figure.axes[0].get_legend() is None


def test_more_items_than_there_are_is_all_of_them(sample, embeddings):
    figure = popular_items_map(sample, embeddings, n_items=1_000)
    assert len(names(figure)) == np.count_nonzero(embeddings.vectors.any(axis=1))
