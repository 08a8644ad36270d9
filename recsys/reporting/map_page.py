"""The map of items as a page to explore: names, colours, and a box to search in."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.data import Interactions
from recsys.embeddings import ItemEmbeddings, most_popular, project_items
from recsys.embeddings.projection import COLOURS, by_frequency
from recsys.titles import display_title

_VIEWS = {"tsne": "t-SNE: near means near", "pca": "PCA: the two longest axes"}

_SEARCH = """
const plot = document.getElementById("{plot_id}");
const box = document.createElement("input");
box.id = "search"; box.type = "search"; box.placeholder = "search titles";
box.style = "position:fixed;top:12px;left:12px;z-index:9;padding:6px;width:240px;font-size:15px";
const told = document.createElement("span");
told.id = "found";
told.style = "position:fixed;top:20px;left:280px;z-index:9;font-family:sans-serif";
document.body.append(box, told);
document.body.style.margin = "0";  // else the page is a little higher than the window
function search() {
  const wanted = box.value.trim().toLowerCase();
  let found = 0;
  const chosen = plot.data.map(trace => {
    const at = trace.text.flatMap((name, i) => name.toLowerCase().includes(wanted) ? [i] : []);
    found += at.length;
    return wanted ? at : null;
  });
  told.textContent = wanted ? found + " found" : "";
  return Plotly.restyle(plot, {selectedpoints: chosen});
}
box.addEventListener("input", search);
// A link may carry what to look for: map.html#toy%20story
box.value = decodeURIComponent(location.hash.slice(1));
search();
"""


def item_map_page(
    interactions: Interactions, embeddings: ItemEmbeddings, n_items: int = 1000, seed: int = 0
) -> str:
    """A web page with the most watched items in the plane; it needs nothing but a browser.

    Items are coloured by their first genre and named where the pointer is; a click in the legend
    hides a genre. The box dims all whose title does not hold what is typed, and buttons change
    between t-SNE and PCA.

    Args:
        interactions: who watched what; dots grow with the number of watches.
        embeddings: of the same items; items without a vector are left out.
        n_items: how many to show.
        seed: of the layout.

    Returns:
        HTML, with the script library in it.
    """
    popular, watches = most_popular(interactions, embeddings, n_items)
    views = {
        name: project_items(embeddings, popular, seed=seed, method=name) for name in ("tsne", "pca")
    }
    shown = interactions.catalogue.iloc[popular]
    genres = shown.get(columns.GENRES, pd.Series("", index=shown.index)).fillna("")
    page: str = _figure(views, shown[columns.TITLE].tolist(), genres.tolist(), watches).to_html(
        include_plotlyjs=True,
        post_script=_SEARCH,
        default_height="100vh",
        config={"scrollZoom": True},
    )
    return page


def _figure(
    views: dict[str, NDArray[np.float32]],
    titles: list[str],
    genres: list[str],
    watches: NDArray[np.int64],
) -> Any:
    import plotly.graph_objects as go  # slow to import, and nothing else needs it

    first = np.array([genre.split("|")[0] for genre in genres])
    groups = by_frequency(first.tolist())
    sizes = 6 + 18 * np.sqrt(watches / watches.max())
    figure = go.Figure()
    for group, colour in zip(groups, itertools.cycle(COLOURS)):
        rows = np.flatnonzero(first == group)
        figure.add_scatter(
            x=views["tsne"][rows, 0],
            y=views["tsne"][rows, 1],
            mode="markers",
            name=group or "items",
            text=[titles[row] for row in rows],
            customdata=[
                [display_title(titles[row]), genres[row], int(watches[row])] for row in rows
            ],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{customdata[2]} watches"
            "<extra></extra>",
            marker={"size": sizes[rows], "opacity": 0.75, "color": colour},
            unselected={"marker": {"opacity": 0.06}},
        )
    buttons = []
    for name, label in _VIEWS.items():
        parts = [views[name][first == group] for group in groups]
        coordinates = {"x": [part[:, 0] for part in parts], "y": [part[:, 1] for part in parts]}
        buttons.append({"label": label, "method": "restyle", "args": [coordinates]})
    figure.update_layout(
        title={"text": f"The {len(titles)} most watched items", "x": 0.5},
        template="plotly_white",
        updatemenus=[
            {"type": "buttons", "direction": "right", "buttons": buttons, "x": 1, "y": 1.09}
        ],
        xaxis={"visible": False},
        yaxis={"visible": False},
        margin={"t": 80, "b": 20, "l": 20, "r": 20},
    )
    return figure
