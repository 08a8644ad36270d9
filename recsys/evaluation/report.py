"""Evaluate models on a split, compare the reports, and store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.arguments import require, require_type, shown, to_array, to_int, to_path
from recsys.baselines import fit_popularity
from recsys.cluster import THIS_PROCESS, Workers
from recsys.data import Split, Subset
from recsys.data.splitters import OVER_TARGETS
from recsys.errors import BundleError, ConfigError, DataError
from recsys.evaluation import metrics
from recsys.evaluation.metrics import METRICS, SESSION_TITLES, TITLES
from recsys.evaluation.ranking import (
    DotProductScorer,
    Ranking,
    Scorer,
    rank,
    rows_per_batch,
)
from recsys.storage import read_arrays, read_json, require_new, write_arrays, write_json
from recsys.vocabulary import Vocabulary

CUTOFFS = (5, 10, 20)  # list lengths at which metrics are computed
CHUNK_SIZE = 4096  # targets, at least, that a worker ranks at once
TOP_K = 10  # recommended items that a report keeps per target
FINGERPRINT = "fingerprint"  # key in the attrs of tables of ranks

Fingerprint = Mapping[str, str | int | float]

_STORED = ("fingerprint", "metrics", "list_quality", "set_metrics")


@dataclass(frozen=True, eq=False)
class Report:
    """The results of one model on the targets of a split."""

    metrics: Mapping[str, float]
    """Means over users, each of the mean over their targets, with keys such as `ndcg_at_10`; or
    over targets, if sessions are held out."""
    list_quality: Mapping[str, float]
    """Coverage, Gini index, popularity, novelty, serendipity and, with item vectors, diversity."""
    set_metrics: Mapping[str, float]
    """Recall and other metrics of each user's first list, with all the user's targets relevant."""
    ranks: NDArray[np.int64]
    """Rank of each target, from 1, [n]."""
    recommended: NDArray[np.int32]
    """The best items for the history of each target, [n, `TOP_K`]; −1 pads short lists."""
    users: NDArray[Any]
    """External id of each target's user, [n]; a user with several targets is repeated."""
    fingerprint: Fingerprint
    """Reports are comparable if their fingerprints are equal."""

    def __repr__(self) -> str:
        ndcg = [f"{key} {self.metrics[key]:.4f}" for key in self.metrics if key.startswith("ndcg")]
        return f"<Report on {len(self.ranks):,} targets: {', '.join(ndcg)}>"

    @property
    def over_targets(self) -> bool:
        """Whether means are over all targets instead of users."""
        return is_over_targets(self.fingerprint)

    def to_frame(self) -> pd.DataFrame:
        """Return `user_id` and `rank` of each target; Parquet preserves the fingerprint too."""
        table = pd.DataFrame({columns.USER_ID: self.users, columns.RANK: self.ranks})
        table.attrs[FINGERPRINT] = dict(self.fingerprint)
        return table


def evaluate(
    model: Scorer,
    split: Split,
    subset: Subset = "test",
    ks: Sequence[int] = CUTOFFS,
    *,
    item_vectors: NDArray[np.float32] | None = None,
    workers: Workers = THIS_PROCESS,
) -> Report:
    """Rank every target among the whole catalogue and compute all metrics.

    The items of the user's history are left out, unless the interactions have `repeats`.

    Args:
        model: anything with `score(histories)`; it must be trained on `split.train` only.
        split: the data.
        subset: "validation" to choose between models, "test" to report the chosen one.
        ks: list lengths.
        item_vectors: define the similarity of items for the diversity, [n_items, dim].
        workers: those of a cluster, see `recsys.cluster`, rank the targets of some users each.

    Raises:
        ConfigError: an argument has another type or shape.
        DataError: the split has no such targets, the model is of another catalogue, or one of data
            and model repeats items and the other does not.
    """
    _require_targets(split, subset)
    _require_catalogue(model, split)
    ks = to_cutoffs(ks)
    require(Workers, workers=workers)
    if item_vectors is not None:
        item_vectors = to_array(
            "item_vectors", item_vectors, "fiu", split.interactions.n_items, None
        )
    mask_seen = excludes_seen(model, split)
    users, histories, targets = split.users(subset), split.histories(subset), split.targets(subset)
    fingerprint = evaluation_fingerprint(split, subset)
    over_targets = is_over_targets(fingerprint)
    if workers is THIS_PROCESS:
        ranks, top = rank(model, histories, targets, TOP_K, mask_seen=mask_seen)
    else:
        ranks, top = _rank_on_cluster(workers, model, split, subset, mask_seen=mask_seen)
    popularity = fit_popularity(split.train)
    popularity_ranks, _ = rank(popularity, histories, targets, mask_seen=mask_seen, max_rank=TOP_K)
    list_quality = metrics.list_quality(top, split.train, item_vectors)
    list_quality[f"serendipity_at_{TOP_K}"] = metrics.serendipity(ranks, popularity_ranks, TOP_K)
    return Report(
        metrics=metrics.mean_metrics(ranks, users, ks, over_targets=over_targets),
        list_quality=list_quality,
        set_metrics=metrics.set_metrics(top, users, targets, split.interactions.n_items),
        ranks=ranks,
        recommended=top,
        users=split.interactions.users.ids[users],
        fingerprint=fingerprint,
    )


def _rank_on_cluster(
    workers: Workers, model: Scorer, split: Split, subset: Subset, *, mask_seen: bool
) -> Ranking:
    """`rank` all targets of a split, with the same batches and therefore the same rounding."""
    n = len(split.rows(subset))
    batch_size = rows_per_batch(model, n)
    chunk = -(-CHUNK_SIZE // batch_size) * batch_size
    starts = range(0, max(n - batch_size, 1), chunk)  # no chunk has less than a batch
    chunks = pairwise([*starts, n])
    ranked = workers.map(_rank_chunk, chunks, model, split, subset, mask_seen, batch_size)
    return Ranking._make(map(np.concatenate, zip(*ranked, strict=True)))


def _rank_chunk(
    bounds: tuple[int, int],
    model: Scorer,
    split: Split,
    subset: Subset,
    mask_seen: bool,
    batch_size: int,
) -> Ranking:
    """Rank some targets, on a worker."""
    cases = slice(*bounds)
    histories, targets = split.histories(subset, cases), split.targets(subset)[cases]
    return rank(model, histories, targets, TOP_K, mask_seen=mask_seen, batch_size=batch_size)


def evaluate_metric(
    model: Scorer, split: Split, subset: Subset = "validation", metric: str = "ndcg_at_10"
) -> float:
    """Compute `evaluate(model, split, subset).metrics[metric]`, but nothing else.

    Raises:
        ConfigError: the metric is not one of `METRICS` with a cutoff.
        DataError: as for `evaluate`.
    """
    return estimate_metric(model, split, subset, metric).mean


class Estimate(NamedTuple):
    """The mean of a metric over a sample."""

    mean: float
    standard_error: float
    """That of the sample; zero if it contains everyone."""


def estimate_metric(
    model: Scorer,
    split: Split,
    subset: Subset = "validation",
    metric: str = "ndcg_at_10",
    *,
    max_users: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Compute a metric for `max_users` users, drawn with `seed`; by default for all.

    Raises:
        ConfigError: the metric is not one of `METRICS` with a cutoff.
        DataError: as for `evaluate`.
    """
    name, _, k = metric.rpartition("_at_") if isinstance(metric, str) else ("", "", "")
    if name not in METRICS or not k.isdecimal():
        names = ", ".join(METRICS)
        raise ConfigError(f"unknown metric {shown(metric)}: expected one of {names} and '_at_<k>'")
    max_users = None if max_users is None else to_int("max_users", max_users)
    seed = to_int("seed", seed, 0)
    _require_targets(split, subset)
    _require_catalogue(model, split)
    users, histories, targets = split.users(subset), split.histories(subset), split.targets(subset)
    everyone = np.unique(users)
    is_sample = max_users is not None and max_users < len(everyone)
    if is_sample:
        drawn = np.random.default_rng(seed).choice(everyone, max_users, replace=False)
        cases = np.flatnonzero(np.isin(users, drawn))
        users, targets = users[cases], targets[cases]
        histories = [histories[case] for case in cases]
    mask_seen, cutoff = excludes_seen(model, split), int(k)
    ranks, _ = rank(model, histories, targets, mask_seen=mask_seen, max_rank=cutoff)
    values, over_targets = METRICS[name](ranks, cutoff), is_over_targets(split.parameters)
    by_user = metrics.mean_by_user(values, users, over_targets=over_targets)
    error = float(by_user.std(ddof=1)) / len(by_user) ** 0.5 if is_sample else 0.0
    return Estimate(float(by_user.mean()), error)


def is_over_targets(parameters: Fingerprint) -> bool:
    """Whether metrics are means over all targets, given a fingerprint or a split's parameters."""
    return OVER_TARGETS.items() <= parameters.items()


def to_cutoffs(ks: object) -> list[int]:
    """Return list lengths, of which there is one at least; raise a `ConfigError` for others."""
    lengths: list[int] = to_array("ks", ks, "iu", None).tolist()
    if not lengths or min(lengths) < 1:
        raise ConfigError(f"ks is {shown(ks)}: it must be list lengths of 1 or more, such as [10]")
    return lengths


def metric_titles(fingerprint: Fingerprint) -> Mapping[str, str]:
    """The display name of each of `METRICS`; of a session split, those of the literature."""
    return SESSION_TITLES if is_over_targets(fingerprint) else TITLES


def excludes_seen(model: Scorer, split: Split) -> bool:
    """Whether items of the history are left out of rankings, as they are of the model's answers.

    Raises:
        DataError: one of data and model repeats items and the other does not.
    """
    repeats = split.interactions.repeats
    # A model without this attribute, such as a baseline, follows the data.
    if getattr(model, "repeats", None) not in (None, repeats):
        may, must_not = ("data", "model") if repeats else ("model", "data")
        raise DataError(
            f"the {may} repeats items of the history, but the {must_not} does not: ranks would not "
            "be those of the answers; read the data with the `repeats` of the model's training, or "
            "train again"
        )
    return not repeats


def evaluation_fingerprint(split: Split, subset: Subset) -> Fingerprint:
    """Return what two comparable results have in common: data, split, targets and ranking."""
    return {
        "mean": "over users",  # unless the split says otherwise
        **split.fingerprint(subset),
        "seen_items": "ranked" if split.interactions.repeats else "masked, except the target",
        "ties": "lower item index first",
    }


def require_comparable(fingerprints: Mapping[str, Fingerprint]) -> None:
    """Raise a `DataError` with the first difference of fingerprints, settings before digests."""
    (first_name, first), *others = fingerprints.items()
    for name, second in others:
        for key in sorted({**first, **second}, key=lambda key: key.endswith("digest")):
            a, b = first.get(key), second.get(key)
            if a != b:
                raise DataError(
                    f"{first_name} and {name} are not comparable: {key} is {a!r} and {b!r}"
                )


def comparison_table(reports: Mapping[str, Report], ks: Sequence[int] = CUTOFFS) -> pd.DataFrame:
    """One row per model, one column per metric such as `NDCG@10`, sorted by NDCG.

    Raises:
        ConfigError: `ks` are not list lengths of the reports.
        DataError: the reports are not comparable; names the first difference.
    """
    require(Mapping, reports=reports)
    require(Report, **{f"reports[{shown(name)}]": report for name, report in reports.items()})
    if not reports:
        raise DataError("there are no reports to compare")
    ks = to_cutoffs(ks)
    for name, report in reports.items():
        if missing := [k for k in ks if f"ndcg_at_{k}" not in report.metrics]:
            raise ConfigError(
                f"the report of {shown(name)} has no metrics at {missing[0]}: evaluate with ks={ks}"
            )
    require_comparable({name: report.fingerprint for name, report in reports.items()})
    titles = metric_titles(next(iter(reports.values())).fingerprint)
    rows = {
        name: {f"{titles[key]}@{k}": report.metrics[f"{key}_at_{k}"] for key in METRICS for k in ks}
        for name, report in reports.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    return table.sort_values(f"NDCG@{ks[len(ks) // 2]}", ascending=False, kind="stable")


def write_report(report: Report, folder: Path | str) -> None:
    """Write a report to a folder, which is created if it does not exist."""
    require_type(report, Report, "evaluate")
    folder = to_path(folder, ConfigError)
    stored = {name: dict(getattr(report, name)) for name in _STORED}
    write_json(require_new(folder / "metrics.json"), stored)
    write_arrays(
        require_new(folder / "ranks.npz"), ranks=report.ranks, recommended=report.recommended
    )


def read_report(folder: Path | str, split: Split, subset: Subset) -> Report:
    """Read a report of the same split and subset.

    Raises:
        BundleError: a file is missing or damaged, or the report is of other data or targets.
    """
    require_type(split, Split, "leave_last_out")
    folder = to_path(folder, BundleError)
    stored = read_json(folder / "metrics.json")
    if stored.get("fingerprint") != evaluation_fingerprint(split, subset):
        raise BundleError(f"the report in {folder} is of other data or other targets")
    try:
        arrays = read_arrays(folder / "ranks.npz")
        return Report(
            **{name: stored[name] for name in _STORED},
            ranks=arrays["ranks"],
            recommended=arrays["recommended"],
            users=split.interactions.users.ids[split.users(subset)],
        )
    except (KeyError, OSError, ValueError) as error:
        raise BundleError(f"{folder} does not contain a valid report: {error}") from error


def _require_catalogue(model: Scorer, split: Split) -> None:
    """Refuse a model that scores other items than those of the data."""
    require(Scorer, model=model)
    expected, items = split.interactions.items, getattr(model, "items", None)
    if isinstance(items, Vocabulary):
        is_same, found = items == expected, str(items)
    else:
        if isinstance(model, DotProductScorer):
            n_items = len(model.item_vectors)
        else:
            n_items = model.score([np.zeros(1, dtype=np.int32)]).shape[1]
        is_same, found = n_items == len(expected), f"{n_items:,} items"
    if not is_same:
        raise DataError(
            f"the model is of another catalogue: it scores {found}, the data has {expected}; train "
            "it on this data, or evaluate it with a CatalogueAdapter"
        )


def _require_targets(split: Split, subset: Subset) -> None:
    require_type(split, Split, "leave_last_out")
    if not len(split.rows(subset)):
        raise DataError(f"no {subset} targets to evaluate: {split.empty_reason}")
