"""Every picture, returned as a figure; nothing here shows or saves one."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recsys import columns
from recsys.data import Interactions
from recsys.embeddings import ItemEmbeddings, most_popular, project_items
from recsys.embeddings.projection import COLOURS, by_frequency
from recsys.titles import display_title

_LONGEST_NAME = 36
"""Letters of a name on a map; longer ones would run into their neighbours."""


def loss_curve(losses: Sequence[float], title: str, ylabel: str) -> Figure:
    """A loss by epoch, from one."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(1, len(losses) + 1), losses, marker="." if len(losses) < 50 else "")
    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure


def popular_items_map(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int = 200, seed: int = 0
) -> Figure:
    """The most watched items in the plane, named, near those liked by the same people.

    Args:
        interactions: who watched what; dots grow with the number of watches and are coloured
            by the first genre, where the catalogue has genres.
        embeddings: of the same items; items without a vector are left out.
        n_items: how many to show.
        seed: of the layout.
    """
    popular, watches = most_popular(interactions, embeddings, n_items)
    shown = interactions.catalogue.iloc[popular]
    genres = shown.get(columns.GENRES, pd.Series("", index=shown.index))
    return _item_map(
        positions=project_items(embeddings, popular, seed=seed),
        names=[
            textwrap.shorten(display_title(title), _LONGEST_NAME, placeholder="…")
            for title in shown[columns.TITLE]
        ],
        sizes=watches,
        groups=genres.fillna("").str.split("|").str[0].tolist(),
        title=f"The {len(popular)} most watched items: near means liked by the same people",
    )


def _item_map(
    positions: NDArray[np.float32],
    names: Sequence[str],
    sizes: NDArray[np.int64],
    groups: list[str],
    title: str,
) -> Figure:
    """Items in the plane, each with its name; dot area by size, colour by group."""
    figure = Figure(figsize=(22, 15))
    axes = figure.add_axes((0.01, 0.01, 0.91, 0.95))
    axes.margins(0.03)
    areas = 30 + 170 * sizes / sizes.max()
    by_size = by_frequency(groups)
    for group, colour in zip(by_size, itertools.cycle(COLOURS)):
        rows = np.array([other == group for other in groups])
        x, y = positions[rows].T
        axes.scatter(x, y, s=areas[rows], color=colour, alpha=0.55, label=group)
    labels = [
        axes.text(x, y, name, ha="center", va="center", fontsize=8)
        for (x, y), name in zip(positions, names, strict=True)
    ]
    adjust_text(
        labels,
        x=positions[:, 0],
        y=positions[:, 1],
        ax=axes,
        iter_lim=30,
        arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.5},
    )
    axes.set_title(title, fontsize=18)
    axes.set_axis_off()
    if len(by_size) > 1:
        axes.legend(fontsize=12, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
