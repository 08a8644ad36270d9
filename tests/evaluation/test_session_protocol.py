"""Held-out sessions are measured as the literature on session-based recommendation does."""

import numpy as np
import pandas as pd
import pytest

from recsys.baselines import fit_baseline
from recsys.data import last_days, read_ratings
from recsys.evaluation import (
    comparison_table,
    confidence_intervals,
    evaluate,
    evaluate_metric,
    segment_metrics,
    segment_targets,
    significance_table,
)
from recsys.evaluation.metrics import mean_by_user

DAY = 86_400


@pytest.fixture(scope="module", params=["session", "user"])
def split(request):
    """Sessions of 30 users over ten days, each a walk around a ring of 25 items."""
    rng = np.random.default_rng(0)
    rows = []
    for session in range(200):
        start, item = rng.integers(0, 10 * DAY), rng.integers(25)
        for step in range(rng.integers(1, 7)):
            rows.append((session % 30, session, int(item), 10**9 + start + step))
            item = (item + rng.integers(1, 4)) % 25
    table = pd.DataFrame(rows, columns=["user_id", "session_id", "item_id", "timestamp"])
    ignore = {"histories": request.param, "repeats": "allow", "on_report": lambda report: None}
    return last_days(read_ratings(table, **ignore))


@pytest.fixture(scope="module")
def reports(split):
    return {
        name: evaluate(fit_baseline(name, split.train).model, split)
        for name in ("markov", "popularity")
    }


def test_metrics_are_means_over_the_events_of_held_out_sessions(split, reports):
    """A slow restatement: every event but the first of a session, all items ranked."""
    log, model = split.interactions, fit_baseline("markov", split.train).model
    sessions = log.sessions
    recall, mrr = [], []
    for start, stop in zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True):
        if log.timestamp[stop - 1] < log.timestamp.max() - DAY:
            continue
        begin = start if log.histories == "session" else log.user_offsets[log.user_index[start]]
        for row in range(start + 1, stop):
            scores = model.score([log.item_index[begin:row]])[0]
            order = np.argsort(-scores, kind="stable")
            rank = int(np.flatnonzero(order == log.item_index[row])[0]) + 1
            recall.append(rank <= 20)
            mrr.append(1 / rank if rank <= 20 else 0)
    assert len(recall) > 30
    metrics = reports["markov"].metrics
    assert metrics["hit_rate_at_20"] == pytest.approx(np.mean(recall), abs=1e-12)
    assert metrics["mrr_at_20"] == pytest.approx(np.mean(mrr), abs=1e-12)
    one = evaluate_metric(model, split, "test", "mrr_at_20")
    assert one == pytest.approx(np.mean(mrr), abs=1e-12)


def test_tables_have_the_names_of_the_literature_and_equal_figures(split, reports):
    table = comparison_table(reports)
    assert {"Recall@20", "MRR@20", "NDCG@10"} < set(table.columns)
    assert "HitRate@20" not in table.columns
    report = reports["markov"]
    intervals = confidence_intervals(report.to_frame(), [20])
    assert intervals["mean"]["hit_rate_at_20"] == pytest.approx(table["Recall@20"]["markov"])
    difference = significance_table("markov", {n: r.to_frame() for n, r in reports.items()})
    assert difference["difference"]["popularity"] == pytest.approx(
        table["NDCG@10"]["popularity"] - table["NDCG@10"]["markov"]
    )
    segments = segment_metrics(report, segment_targets(split, "test")).loc["history length"]
    weighted = np.average(segments["ndcg_at_10"], weights=segments["n_targets"])
    assert weighted == pytest.approx(table["NDCG@10"]["markov"])


def test_a_mean_over_targets_has_one_value_per_user():
    values, users = np.array([1.0, 0.0, 0.0, 1.0]), np.array(["b", "a", "a", "a"])
    # The mean is 1/2; b adds (1 - 1/2) and a adds (1 - 3/2), each divided by two targets a user.
    by_user = mean_by_user(values, users, over_targets=True)
    assert by_user.tolist() == [0.5 + 0.25, 0.5 - 0.25]
    assert by_user.mean() == values.mean()
