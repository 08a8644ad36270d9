"""What the description of a run says, in Markdown: what went in, how it did, what was decided."""

from __future__ import annotations

import pandas as pd

from recsys.data import Split

_SHOWN = ("HitRate@10", "NDCG@10", "MRR@10")


def of_data(split: Split, name: str) -> str:
    """What is learned from, and what is held back."""
    log = split.interactions
    return (
        f"**Data**: {name}, {log.n_users:,} users, {log.n_items:,} items, {len(log):,} watches, "
        f"digest `{log.digest[:12]}`. {split.protocol}: {len(split.rows('validation')):,} "
        f"validation and {len(split.rows('test')):,} test targets."
    )


def of_results(table: pd.DataFrame, model: str) -> str:
    """How one model did among others, on the test targets.

    Args:
        table: as `evaluation.comparison_table` gives it, best first.
        model: the one of them that the run is about.
    """
    place = list(table.index).index(model)
    by_best = "NDCG@10"
    best = f"the best of {len(table)}" if place == 0 else f"number {place + 1} of {len(table)}"
    others = table.drop(index=model)
    told = f"**Result**: {model}, {best} by {by_best} on the test targets"
    if len(others):
        told += f"; {others.index[0]} has {others[by_best].iloc[0]:.4f}"
    shown = [name for name in _SHOWN if name in table]
    rows = [["model", *shown], ["---"] * (1 + len(shown))]
    for name, figures in table[shown].iterrows():
        mark = "**" if name == model else ""
        cells = [str(name), *(f"{value:.4f}" for value in figures)]
        rows.append([f"{mark}{cell}{mark}" for cell in cells])
    return "\n".join([f"{told}.", "", *(f"| {' | '.join(row)} |" for row in rows)])


def of_version(model_name: str, version: str, decision: str) -> str:
    """Which version of the registered model the run became, and what was decided about it."""
    return f"**Version {version} of {model_name}**: {decision}."


def of_model(model_name: str) -> str:
    """What a registered model is, and how to use it."""
    uri = f"models:/{model_name}@champion"
    return (
        f"Recommends what to watch next, and items like another. In Python: "
        f'`recsys.load_recommender("{uri}")`. Over HTTP: '
        f"`mlflow models serve -m {uri} --env-manager local`. The version in use has the alias "
        "`champion`, the latest other one `challenger`; each version's description tells why."
    )
