"""The pictures of a report, as HTML; plotly's script has to be on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from recsys.data import Split, Subset
from recsys.evaluation import Report, segment_metrics, segment_targets
from recsys.evaluation.metrics import METRICS, TITLES
from recsys.evaluation.segments import popularity_deciles

LONGEST = 50
"""The longest list at which metrics are drawn."""

IN_FACT = "watched in fact"
"""What the line of the targets themselves is called."""

_COLOURS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7570b3", "#999",
)  # fmt: skip
"""After Okabe and Ito, who chose colours that everybody can tell apart."""

_LABELLED = 5
"""Where there are more segments, their sizes would run into each other."""

_DECILES = [str(decile) for decile in range(1, 11)]


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, the same in all pictures."""
    return dict(zip(models, cycle(_COLOURS), strict=False))


def metrics_by_k(reports: Mapping[str, Report]) -> dict[str, str]:
    """Each metric over the length of the list, a line per model; by the metric's title."""
    ks = np.arange(1, LONGEST + 1)
    return {
        TITLES[name]: _lines(
            {
                model: (ks, [float(metric(report.ranks, int(k)).mean()) for k in ks])
                for model, report in reports.items()
            },
            f"{TITLES[name]}@k",
            "k, length of the list",
        )
        for name, metric in METRICS.items()
    }


def by_segments(reports: Mapping[str, Report], split: Split, subset: Subset) -> dict[str, str]:
    """NDCG@10 by segment, a line per model; by what targets are divided by."""
    segments = segment_targets(split, subset)
    tables = {model: segment_metrics(report.ranks, segments) for model, report in reports.items()}
    charts = {}
    for division in segments:
        lines = {}
        for model, whole in tables.items():
            table = whole.loc[division]
            names = [f"{name}<br>n={n:,}" for name, n in table["n_targets"].items()]
            if len(names) > _LABELLED:
                names = table.index.tolist()
            lines[model] = (names, table["ndcg_at_10"].tolist())
        charts[division] = _lines(lines, "NDCG@10", division, markers=True)
    return charts


def popularity_of_lists(reports: Mapping[str, Report], split: Split, subset: Subset) -> str:
    """How much of what is recommended is how popular; beside it, what was watched in fact."""
    deciles = popularity_deciles(split.train)

    def shares(items: Any) -> list[float]:
        counts = np.bincount(deciles[items], minlength=len(_DECILES))
        return [float(count) for count in counts / max(counts.sum(), 1)]

    lines = {
        model: (_DECILES, shares(report.recommended[report.recommended >= 0]))
        for model, report in reports.items()
    }
    lines[IN_FACT] = (_DECILES, shares(split.targets(subset)))
    label = "decile of watches: 1 the most watched items, 10 the least"
    return _lines(lines, "share of what is recommended", label, markers=True)


def learning_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, str]:
    """Each metric that a stage told by epoch; by stage and metric."""
    return {
        f"{stage}: {metric.replace('_', ' ')}": _lines(
            {stage: (np.arange(1, len(values) + 1), list(values))}, metric, "epoch"
        )
        for stage, of_stage in curves.items()
        for metric, values in of_stage.items()
    }


def _lines(
    lines: Mapping[str, tuple[Any, list[float]]], y: str, x: str, *, markers: bool = False
) -> str:
    import plotly.graph_objects as go  # slow to import, and nothing else needs it

    colours = colours_of(list(lines)) | {IN_FACT: "#222"}
    figure = go.Figure()
    for name, (xs, ys) in lines.items():
        figure.add_scatter(
            x=xs,
            y=ys,
            name=name,
            mode="lines+markers" if markers else "lines",
            line={"color": colours[name], "dash": "dot" if name == IN_FACT else "solid"},
            hovertemplate="%{y:.4f}",
        )
    figure.update_layout(
        template="plotly_white",
        height=320,
        margin={"l": 56, "r": 12, "t": 12, "b": 60},
        showlegend=False,
        hovermode="x unified",
        xaxis={"title": x},
        yaxis={"title": y, "rangemode": "tozero"},
    )
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"responsive": True, "displayModeBar": False},
    )
    return html
