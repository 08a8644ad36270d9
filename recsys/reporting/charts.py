"""Line charts: interactive ones for the report page, as HTML, and loss curves as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from recsys.data import Split, Subset
from recsys.evaluation import Report, segment_metrics, segment_targets
from recsys.evaluation.metrics import mean_metrics
from recsys.evaluation.report import metric_titles
from recsys.evaluation.segments import popularity_deciles

MAX_K = 50
"""Longest list for which metrics are drawn."""

TARGETS = "targets"
"""Name of the line for the targets themselves."""

TARGETS_COLOUR = "#888"

_TRANSPARENT = "rgba(0, 0, 0, 0)"
_AXIS = {
    "automargin": True,
    "gridcolor": "rgba(128, 128, 128, 0.25)",
    "zerolinecolor": "rgba(128, 128, 128, 0.4)",
}
"""Colours that can be seen on light and on dark pages."""

_CURVES = {
    "relative_loss": "relative loss",
    "train_loss": "training loss",
    "ndcg_at_10": "NDCG@10, validation targets",
}
"""Names of the metrics of learning curves."""

_COLOURS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7570b3", "#999",
)  # fmt: skip
"""After Okabe and Ito's palette, which colour-blind readers can distinguish."""

_MAX_SIZE_LABELS = 5
"""With more segments, the labels with their sizes would overlap."""

_MAX_EPOCH_LABELS = 10
"""With more epochs, plotly chooses the labels; with fewer, it would choose fractions."""

_DECILES = [str(decile) for decile in range(1, 11)]

Charts = dict[str, Markup]
Line = tuple[Any, list[float]]
"""x and y."""


def loss_curve(losses: Sequence[float], title: str, ylabel: str) -> Figure:
    """Plot a loss by epoch, from 1."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(1, len(losses) + 1), losses, marker="." if len(losses) < 50 else "")
    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """Assign a colour to each model, the same in all charts."""
    return dict(zip(models, cycle(_COLOURS), strict=False))


def metrics_by_k(reports: Mapping[str, Report]) -> Charts:
    """Each metric by the length of the list, one line per model."""
    ks = [*range(1, MAX_K + 1)]
    means = {
        model: mean_metrics(report.ranks, report.users, ks, over_targets=report.over_targets)
        for model, report in reports.items()
    }
    charts = {}
    for name, title in metric_titles(next(iter(reports.values())).fingerprint).items():
        lines = {model: (ks, [by_k[f"{name}_at_{k}"] for k in ks]) for model, by_k in means.items()}
        charts[title] = _line_chart(lines, "k, length of the list", f"{title}@k")
    return charts


def ndcg_by_segment(reports: Mapping[str, Report], split: Split, subset: Subset) -> Charts:
    """NDCG@10 by segment, one chart per segmentation with several segments, one line per model."""
    segments = segment_targets(split, subset)
    tables = {model: segment_metrics(report, segments) for model, report in reports.items()}
    charts = {}
    for segmentation in segments:
        lines = {}
        for model, whole in tables.items():
            if segmentation not in whole.index:  # such as popularity, where all targets are cold
                continue
            table = whole.loc[segmentation]
            labels = [f"{name}<br>n={n:,}" for name, n in table["n_targets"].items()]
            if len(labels) > _MAX_SIZE_LABELS:
                labels = table.index.tolist()
            lines[model] = (labels, table["ndcg_at_10"].tolist())
        if any(len(labels) > 1 for labels, _ in lines.values()):
            charts[segmentation] = _line_chart(lines, segmentation, "NDCG@10", markers=True)
    return charts


def popularity_of_lists(reports: Mapping[str, Report], split: Split, subset: Subset) -> Markup:
    """Share of each popularity decile among the recommended items, and among the targets."""
    deciles = popularity_deciles(split.train)

    def shares(items: Any) -> list[float]:
        counts = np.bincount(deciles[items], minlength=len(_DECILES))
        return [float(share) for share in counts / max(counts.sum(), 1)]

    lines: dict[str, Line] = {
        model: (_DECILES, shares(report.recommended[report.recommended >= 0]))
        for model, report in reports.items()
    }
    lines[TARGETS] = (_DECILES, shares(split.targets(subset)))
    label = "popularity decile (1: most popular)"
    return _line_chart(lines, label, "share of recommendations", markers=True)


def learning_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Charts:
    """Each metric by epoch, one chart per model and metric."""
    return {
        f"{model}: {_CURVES.get(metric, metric)}": _line_chart(
            {model: (np.arange(1, len(values) + 1), list(values))},
            "epoch",
            _CURVES.get(metric, metric),
        )
        for model, metrics in curves.items()
        for metric, values in metrics.items()
    }


def _line_chart(lines: Mapping[str, Line], x: str, y: str, *, markers: bool = False) -> Markup:
    """A chart for a page that loads plotly's script and resizes charts to their container."""
    import plotly.io  # slow to import

    colours = model_colours(list(lines)) | {TARGETS: TARGETS_COLOUR}
    traces = [
        {
            "x": xs,
            "y": ys,
            "name": name,
            "mode": "lines+markers" if markers else "lines",
            "line": {"color": colours[name], "dash": "dot" if name == TARGETS else "solid"},
            "hovertemplate": "%{y:.4f}",
        }
        for name, (xs, ys) in lines.items()
    ]
    is_short = x == "epoch" and len(next(iter(lines.values()))[1]) <= _MAX_EPOCH_LABELS
    ticks = {"dtick": 1} if is_short else {}
    layout = {
        "height": 320,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 60},
        "showlegend": False,
        "hovermode": "x unified",
        "hoverdistance": -1,  # the values nearest to the pointer, wherever it is
        "paper_bgcolor": _TRANSPARENT,
        "plot_bgcolor": _TRANSPARENT,
        "font": {"color": TARGETS_COLOUR},
        "xaxis": {"title": {"text": x, "standoff": 15}, **ticks, **_AXIS},
        "yaxis": {"title": {"text": y, "standoff": 15}, "rangemode": "tozero", **_AXIS},
    }
    # As a dictionary, which plotly's classes would take long to validate.
    html = plotly.io.to_html(
        {"data": traces, "layout": layout},
        config={"displayModeBar": False},
        include_plotlyjs=False,
        full_html=False,
        validate=False,
    )
    return Markup(html)  # noqa: S704 – plotly escapes its content
