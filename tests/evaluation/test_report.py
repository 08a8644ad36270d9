import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from recsys.baselines import MeanEmbeddingConfig, fit_item_knn, fit_mean_embedding, fit_popularity
from recsys.data import (
    global_time_cut,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
    read_ratings,
)
from recsys.errors import BundleError, ConfigError, DataError
from recsys.evaluation import (
    CatalogueAdapter,
    comparison_table,
    confidence_intervals,
    estimate_metric,
    evaluate,
    evaluate_metric,
    read_report,
    segment_metrics,
    write_report,
)
from recsys.evaluation.metrics import diversity
from recsys.evaluation.report import CUTOFFS, evaluation_fingerprint
from recsys.vocabulary import Vocabulary


class ByIndex:
    """Scores item i with i, or with -i."""

    def __init__(self, sign=1):
        self.sign = sign

    def score(self, histories):
        return np.tile(self.sign * np.arange(5, dtype=np.float32), (len(histories), 1))


@pytest.fixture
def split(small_log):
    return leave_last_out(read_ratings(small_log))


def test_report_by_hand(split):
    # Test targets are the items 3 of user 1, who has seen 0 1 2, and 4 of user 2, who has seen 0 1.
    report = evaluate(ByIndex(), split, ks=[1, 2])
    assert report.ranks.tolist() == [2, 1]
    assert report.metrics == pytest.approx(
        {
            "hit_rate_at_1": 1 / 2,
            "hit_rate_at_2": 2 / 2,
            "ndcg_at_1": 1 / 2,
            "ndcg_at_2": (1 / math.log2(3) + 1) / 2,
            "mrr_at_1": 1 / 2,
            "mrr_at_2": (1 / 2 + 1) / 2,
        }
    )
    assert report.to_frame().to_dict("list") == {"user_id": [1, 2], "rank": [2, 1]}
    assert report.fingerprint == evaluation_fingerprint(split, "test")
    assert report.recommended.tolist() == [[4, 3, *[-1] * 8], [4, 3, 2, *[-1] * 7]]


def test_a_validation_target_is_predicted_from_earlier_interactions(split):
    # The items 2 of user 1, who had seen 0 1, and 0 of user 2, who had seen 1.
    report = evaluate(ByIndex(), split, "validation")
    assert report.ranks.tolist() == [3, 4]
    assert report.fingerprint["subset"] == "validation"


def test_no_user_with_three_interactions_is_an_error():
    log = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3]})
    with pytest.raises(DataError, match="no test targets to evaluate: no user has three"):
        evaluate(ByIndex(), leave_last_out(read_ratings(log)))


def test_a_user_with_several_targets_has_several_rows():
    log = pd.DataFrame({"user_id": ["ann"] * 5, "item_id": [1, 2, 3, 4, 5]})
    split = leave_last_n(read_ratings(log), 2)
    # The items 3, after 0 1 2, and 4, after 0 1 2 3; for validation 1, after 0, and 2, after 0 1.
    report = evaluate(ByIndex(), split)
    assert report.to_frame().to_dict("list") == {"user_id": ["ann", "ann"], "rank": [2, 1]}
    assert report.metrics["mrr_at_10"] == (1 / 2 + 1) / 2
    assert evaluate(ByIndex(), split, "validation").ranks.tolist() == [4, 3]


@pytest.mark.parametrize("subset", ["validation", "test"])
def test_every_split_can_be_evaluated(sample, subset):
    cuts = np.quantile(sample.timestamp, [0.6, 0.8]).astype(int)
    for split in (
        leave_last_n(sample, 3),
        per_user_ratio(sample),
        global_time_cut(sample, validation_from=cuts[0], test_from=cuts[1]),
    ):
        report = evaluate(fit_popularity(split.train), split, subset)
        assert len(report.ranks) == len(report.users) == len(split.rows(subset)) > 80
        assert comparison_table({"one": report, "two": report}).shape[0] == 2


def test_different_splits_are_not_compared(split):
    once = leave_last_n(split.interactions, 1)
    reports = {"a": evaluate(ByIndex(), split), "b": evaluate(ByIndex(), once)}
    with pytest.raises(DataError, match=r"protocol is 'leave-last-out' .* 'leave-last-n'"):
        comparison_table(reports)


def test_a_split_without_targets_is_rejected(split):
    with pytest.raises(
        DataError,
        match=r"no test targets to evaluate: no user has (the )?7 .*leave_last_n\(n=3\)",
    ):
        evaluate(ByIndex(), leave_last_n(split.interactions, 3))


def test_the_comparison_table_is_sorted_by_ndcg(split):
    up, down = evaluate(ByIndex(), split), evaluate(ByIndex(-1), split)
    table = comparison_table({"down": down, "up": up})
    assert table.index.tolist() == ["up", "down"]
    assert table.index.name == "model"
    assert list(table) == [f"{name}@{k}" for name in ("HitRate", "NDCG", "MRR") for k in CUTOFFS]
    assert table.loc["down", "MRR@5"] == down.metrics["mrr_at_5"]
    assert table.loc["up", "NDCG@20"] == up.metrics["ndcg_at_20"]


def test_equal_models_keep_their_order(split):
    report = evaluate(ByIndex(), split)
    assert comparison_table({"b": report, "a": report}).index.tolist() == ["b", "a"]


def fingerprint_keys():
    log = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3]})
    return list(evaluation_fingerprint(leave_last_out(read_ratings(log)), "test"))


@pytest.mark.parametrize("key", fingerprint_keys())
def test_results_with_different_fingerprints_are_not_compared(split, key):
    report = evaluate(ByIndex(), split)
    other = dataclasses.replace(report, fingerprint={**report.fingerprint, key: "other"})
    with pytest.raises(DataError, match=f"a and c are not comparable: {key} is .* and 'other'"):
        comparison_table({"a": report, "b": report, "c": other})


def test_validation_and_test_are_not_compared(split):
    reports = {subset: evaluate(ByIndex(), split, subset) for subset in ("validation", "test")}
    with pytest.raises(DataError, match="subset is 'validation' and 'test'"):
        comparison_table(reports)


def test_seen_items_are_ranked_if_items_repeat(split):
    repeating = repeated(split)
    report = evaluate(ByIndex(-1), repeating)
    assert report.ranks.tolist() == [4, 5]
    assert evaluate(ByIndex(-1), split).ranks.tolist() == [1, 3]
    with pytest.raises(DataError, match=r"seen_items is 'masked, except the target' and 'ranked'"):
        comparison_table({"masked": evaluate(ByIndex(-1), split), "not": report})


def repeated(split):
    interactions = dataclasses.replace(split.interactions, repeats=True)
    return dataclasses.replace(split, interactions=interactions)


@pytest.mark.parametrize("repeats", [True, False])
def test_a_model_that_answers_by_another_rule_is_refused(split, repeats):
    class Model(ByIndex):
        pass

    Model.repeats = repeats
    data = split if repeats else repeated(split)
    who = ("model", "data") if repeats else ("data", "model")
    for evaluated in (Model(), CatalogueAdapter(Model(), *[split.interactions.items] * 2)):
        with pytest.raises(DataError, match="the {} repeats .* but the {} does not".format(*who)):
            evaluate(evaluated, data)
        with pytest.raises(DataError, match="does not"):
            evaluate_metric(evaluated, data)


def test_settings_are_compared_before_digests(split):
    report = evaluate(ByIndex(), split)
    other = {"data_digest": "x", "n": 2, **report.fingerprint, "targets_digest": "y"}
    reports = {"a": report, "b": dataclasses.replace(report, fingerprint=other)}
    with pytest.raises(DataError, match="n is None and 2"):
        comparison_table(reports)
    with pytest.raises(DataError, match="n is 2 and None"):
        comparison_table(dict(reversed(reports.items())))


def test_parquet_preserves_ranks_and_fingerprint(split, tmp_path):
    report = evaluate(ByIndex(), split)
    report.to_frame().to_parquet(tmp_path / "ranks.parquet", index=False)
    stored = pd.read_parquet(tmp_path / "ranks.parquet")
    pd.testing.assert_frame_equal(stored, report.to_frame())
    assert stored.attrs["fingerprint"] == report.fingerprint


def test_a_report_has_every_metric(sample_split):
    vectors = np.random.default_rng(0).standard_normal((sample_split.interactions.n_items, 3))
    model = fit_item_knn(sample_split.train)
    report = evaluate(model, sample_split, item_vectors=vectors.astype(np.float32))
    names = {"coverage", "gini", "popularity", "novelty", "serendipity", "diversity"}
    assert set(report.list_quality) == {f"{name}_at_10" for name in names}
    assert report.list_quality["diversity_at_10"] == pytest.approx(
        diversity(report.recommended, vectors)
    )
    assert "diversity_at_10" not in evaluate(model, sample_split).list_quality
    popularity = evaluate(fit_popularity(sample_split.train), sample_split)
    assert popularity.list_quality["serendipity_at_10"] == 0
    missed = (report.ranks <= 10) & (popularity.ranks > 10)
    assert report.list_quality["serendipity_at_10"] == missed.mean() > 0
    for name in ("hit_rate", "ndcg", "mrr"):
        expected = pytest.approx(report.metrics[f"{name}_at_10"])
        assert report.set_metrics[f"user_{name}_at_10"] == expected, "one target per user"
    assert report.set_metrics["recall_at_10"] == pytest.approx(report.metrics["hit_rate_at_10"])
    assert report.set_metrics["map_at_10"] == pytest.approx(report.metrics["mrr_at_10"])


def test_the_list_at_the_cut_is_compared_with_all_later_interactions():
    # After item 0 at time 1, ann has items 4 and 1, ben item 2; scores by index list 4 3 2 1.
    rows = [("ann", 0, 1), ("ann", 4, 5), ("ann", 1, 6), ("ben", 0, 1), ("ben", 2, 7)]
    rows += [("carl", 3, 1)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    report = evaluate(ByIndex(), global_time_cut(log, validation_from=3, test_from=4))
    assert report.recommended[:, :4].tolist() == [[4, 3, 2, 1], [3, 2, 1, -1], [4, 3, 2, 1]]
    assert report.set_metrics == pytest.approx(
        {
            "user_hit_rate_at_10": 1,
            "recall_at_10": 1,
            "precision_at_10": (2 / 10 + 1 / 10) / 2,
            "user_ndcg_at_10": (
                (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)) + 1 / math.log2(4)
            ) / 2,
            "user_mrr_at_10": (1 + 1 / 3) / 2,
            "map_at_10": ((1 + 2 / 4) / 2 + 1 / 3) / 2,
        }
    )  # fmt: skip


@pytest.mark.parametrize("subset", ["validation", "test"])
@pytest.mark.parametrize("metric", ["hit_rate_at_5", "ndcg_at_10", "mrr_at_20"])
@pytest.mark.parametrize("fit", [fit_popularity, fit_item_knn])
def test_one_metric_equals_that_of_the_report(sample_split, fit, metric, subset):
    model = fit(sample_split.train)
    expected = evaluate(model, sample_split, subset).metrics[metric]
    assert evaluate_metric(model, sample_split, subset, metric) == expected > 0


def test_the_estimate_of_a_sample_of_users(sample):
    split = leave_last_n(sample, 2)  # two targets a user
    model = fit_item_knn(split.train)
    frame = evaluate(model, split, "test").to_frame()
    gains = np.where(frame["rank"] <= 10, 1 / np.log2(frame["rank"] + 1), 0)
    by_user = pd.Series(gains).groupby(frame["user_id"]).mean()
    drawn = np.sort(np.random.default_rng(7).choice(len(by_user), 25, replace=False))
    chosen = by_user.to_numpy()[drawn]
    found = estimate_metric(model, split, "test", max_users=25, seed=7)
    assert found == pytest.approx((chosen.mean(), chosen.std(ddof=1) / 5))
    assert estimate_metric(model, split, "test", max_users=25, seed=7) == found
    everyone = estimate_metric(model, split, "test", max_users=80)
    assert everyone == (evaluate_metric(model, split, "test"), 0.0)


@pytest.mark.parametrize("metric", ["ndcg", "recall_at_10", "ndcg_at_ten"])
def test_an_unknown_metric_is_rejected(split, metric):
    with pytest.raises(ConfigError, match=f"unknown metric '{metric}': expected one of hit_rate,"):
        evaluate_metric(ByIndex(), split, "test", metric)


def test_one_metric_of_a_split_without_targets_is_rejected(split):
    with pytest.raises(DataError, match=r"no validation targets to evaluate: no user has (the )?7"):
        evaluate_metric(ByIndex(), leave_last_n(split.interactions, 3))


@pytest.mark.parametrize("subset", ["validation", "test"])
def test_report_round_trip(split, tmp_path, subset):
    report = evaluate(fit_item_knn(split.train), split, subset)
    write_report(report, tmp_path)
    stored = read_report(tmp_path, split, subset)
    for name in ("metrics", "list_quality", "set_metrics", "fingerprint"):
        assert dict(getattr(stored, name)) == dict(getattr(report, name)), name
    for name in ("ranks", "recommended", "users"):
        assert np.array_equal(getattr(stored, name), getattr(report, name)), name
        assert getattr(stored, name).dtype == getattr(report, name).dtype
    assert stored.to_frame().equals(report.to_frame())


def test_a_report_of_other_data_is_rejected(split, tmp_path):
    write_report(evaluate(fit_item_knn(split.train), split, "test"), tmp_path)
    for other, subset in ((split, "validation"), (leave_last_n(split.interactions, 2), "test")):
        with pytest.raises(BundleError, match="of other data or other targets"):
            read_report(tmp_path, other, subset)


def test_a_report_without_ranks_is_rejected(split, tmp_path):
    write_report(evaluate(fit_item_knn(split.train), split, "test"), tmp_path)
    (tmp_path / "ranks.npz").unlink()
    with pytest.raises(BundleError, match=r"ranks\.npz cannot be read"):
        read_report(tmp_path, split, "test")


class Sized:
    """Knows the items that it scores, or only their number."""

    def __init__(self, items=None, n_items=4):
        self.items, self.n_items = items, n_items

    def score(self, histories):
        return np.zeros((len(histories), self.n_items), dtype=np.float32)


def vectors(n_items):
    return fit_mean_embedding(np.ones((n_items, 2), dtype=np.float32), MeanEmbeddingConfig())


@pytest.mark.parametrize(
    ("model", "scored"),
    [
        (Sized(), "4 items"),
        (Sized(Vocabulary.of([10, 20, 30, 40, 51])), "5 ids such as 10, 20, 30"),
        (vectors(6), "6 items"),
    ],
    ids=["number", "items", "vectors"],
)
def test_a_model_of_another_catalogue_is_refused(model, scored):
    split = leave_last_out(read_ratings(pd.DataFrame({"user_id": 1, "item_id": range(1, 6)})))
    expected = f"it scores {scored}, the data has 5 ids such as 1, 2, 3"
    for measure in (evaluate, evaluate_metric):
        with pytest.raises(DataError, match=expected):
            measure(model, split)


def test_all_figures_of_a_model_are_those_of_its_users(sample):
    """The table, its interval, the stored ranks and a single metric, with unequal targets."""
    split = per_user_ratio(sample)
    assert len(set(np.bincount(split.users("test")))) > 2
    model = fit_item_knn(split.train)
    report = evaluate(model, split)
    by_user = pd.Series(np.where(report.ranks <= 10, 1 / np.log2(report.ranks + 1), 0))
    expected = pytest.approx(by_user.groupby(report.users).mean().mean())
    assert report.metrics["ndcg_at_10"] == expected
    assert evaluate_metric(model, split, "test", "ndcg_at_10") == report.metrics["ndcg_at_10"]
    assert comparison_table({"knn": report}).loc["knn", "NDCG@10"] == expected
    assert confidence_intervals(report.to_frame(), [10]).loc["ndcg_at_10", "mean"] == expected
    table = segment_metrics(report, {"all": pd.Categorical(["one"] * len(by_user))})
    assert table["ndcg_at_10"].tolist() == [expected]
