"""Maps of the most popular items in two dimensions, as a figure and as an interactive page."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from adjustText import adjust_text
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from recsys import columns
from recsys.data import Interactions
from recsys.embeddings import ItemEmbeddings, most_popular, project_items
from recsys.embeddings.projection import COLOURS, by_frequency
from recsys.reporting.pages import render_page
from recsys.titles import display_title

_LABEL_WIDTH = 36
"""Longest label on a figure, in characters; longer ones would overlap."""

_NO_GLYPH = "□"

_NO_GENRE = "no genre"
"""The items without a genre, in a legend."""


@dataclass(frozen=True, eq=False)
class _Items:
    """The items on a map, the most popular first."""

    index: NDArray[np.int64]
    n_interactions: NDArray[np.int64]
    titles: list[str]
    genres: list[str]
    first_genre: NDArray[np.str_]

    @classmethod
    def most_popular(
        cls, interactions: Interactions, embeddings: ItemEmbeddings, n_items: int
    ) -> _Items:
        index, n_interactions = most_popular(interactions, embeddings, n_items)
        table = interactions.catalogue.iloc[index]
        genres = table.get(columns.GENRES, pd.Series("", index=table.index)).fillna("").tolist()
        first_genre = np.array([text.split("|")[0] for text in genres])
        return cls(index, n_interactions, table[columns.TITLE].tolist(), genres, first_genre)

    def rows_by_genre(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the items of each first genre, the most frequent genre first."""
        genres = by_frequency(self.first_genre.tolist())
        return {genre: np.flatnonzero(self.first_genre == genre) for genre in genres}


def item_map_figure(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int = 200, seed: int = 0
) -> Figure:
    """Draw the most popular items by t-SNE, with their titles.

    Args:
        interactions: define the popularity, which sets the area of the dots; the colour is the
            first genre, if the catalogue has genres.
        embeddings: of the same items; items without a vector are omitted.
        n_items: how many items to draw.
        seed: random seed of t-SNE.
    """
    items = _Items.most_popular(interactions, embeddings, n_items)
    positions = project_items(embeddings, items.index, seed=seed)
    side = max(math.sqrt(len(items.titles) / 200), 0.3)  # as much room for each title
    figure = Figure(figsize=(22 * side, 15 * side))
    legend_width = 1.4 / (22 * side)  # as a share of the figure's
    axes = figure.add_axes((0.01, 0.01, 0.98 - legend_width, 0.95))
    axes.margins(0.03)
    areas = 30 + 170 * items.n_interactions / items.n_interactions.max()
    groups = items.rows_by_genre()
    for (genre, rows), colour in zip(groups.items(), cycle(COLOURS), strict=False):
        x, y = positions[rows].T
        axes.scatter(
            x, y, s=areas[rows], color=colour, alpha=0.55, label=_drawable(genre or _NO_GENRE)
        )
    labels = [
        _drawable(textwrap.shorten(display_title(title), _LABEL_WIDTH, placeholder="…"))
        for title in items.titles
    ]
    adjust_text(
        [
            axes.text(x, y, label, ha="center", va="center", fontsize=8, parse_math=False)
            for (x, y), label in zip(positions, labels, strict=True)
        ],
        x=positions[:, 0],
        y=positions[:, 1],
        ax=axes,
        iter_lim=30,
        arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.5},
    )
    title = f"The {len(labels)} most popular items, t-SNE of their embeddings"
    axes.set_title(title, fontsize=max(18 * side, 10))
    axes.set_axis_off()
    if len(groups) > 1:
        legend = axes.legend(
            fontsize=max(12 * side, 8), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _drawable(text: str) -> str:
    """Replace the characters that the font lacks: matplotlib would print a warning for each."""
    glyphs = get_font(findfont(FontProperties())).get_charmap()
    return "".join(char if ord(char) in glyphs else _NO_GLYPH for char in text)


def item_map_page(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int = 1000, seed: int = 0
) -> str:
    """Draw the most popular items on a self-contained web page.

    Items are coloured by their first genre; a click in the legend hides a genre. A search box
    dims the items whose title does not contain the query. Buttons switch between t-SNE and PCA.

    Args:
        interactions: define the popularity, which sets the size of the dots.
        embeddings: of the same items; items without a vector are omitted.
        n_items: how many items to draw.
        seed: random seed of t-SNE.

    Returns:
        HTML that includes all scripts.
    """
    items = _Items.most_popular(interactions, embeddings, n_items)
    views = {
        "tsne": project_items(embeddings, items.index, seed=seed),
        "pca": project_items(embeddings, items.index, method="pca"),
    }
    return render_page(
        "item_map.html",
        title=f"The {len(items.titles)} most popular items",
        has_genres=len(items.rows_by_genre()) > 1,
        figure=_interactive_map(items, views),
    )


def _interactive_map(items: _Items, views: dict[str, NDArray[np.float32]]) -> Markup:
    """Traces, layout and the coordinates of each view, as JSON for a script."""
    groups = items.rows_by_genre()
    sizes = 6 + 18 * np.sqrt(items.n_interactions / items.n_interactions.max())
    details = [
        "<br>".join(filter(None, [display_title(title), genres, f"{n:,} interactions"]))
        for title, genres, n in zip(items.titles, items.genres, items.n_interactions, strict=True)
    ]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": genre or _NO_GENRE,
            "text": [items.titles[row] for row in rows],
            "customdata": [details[row] for row in rows],
            "hovertemplate": "%{customdata}<extra></extra>",
            "marker": {"size": sizes[rows].round(1).tolist(), "opacity": 0.75, "color": colour},
            "unselected": {"marker": {"opacity": 0.06}},
        }
        for (genre, rows), colour in zip(groups.items(), cycle(COLOURS), strict=False)
    ]
    coordinates = {
        name: {
            axis: [positions[rows, column].tolist() for rows in groups.values()]
            for column, axis in enumerate("xy")
        }
        for name, positions in ((name, x.astype(float).round(4)) for name, x in views.items())
    }
    for trace, x, y in zip(traces, *coordinates["tsne"].values(), strict=True):
        trace.update(x=x, y=y)
    layout = {
        "xaxis": {"visible": False},
        "yaxis": {"visible": False},
        "margin": {"t": 40, "b": 20, "l": 16, "r": 16},  # plotly's buttons are above the legend
        "showlegend": len(groups) > 1,
        "hoverlabel": {"align": "left"},
    }
    return htmlsafe_json_dumps({"data": traces, "layout": layout, "views": coordinates})
