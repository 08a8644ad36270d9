import numpy as np
import pandas as pd
import pytest

from recsys.evaluation import intervals, paired_differences, significance_table
from recsys.evaluation.uncertainty import bootstrap_interval, holm, randomization_p


def table(ranks, users=None, **fingerprint):
    users = range(len(ranks)) if users is None else users
    frame = pd.DataFrame({"user_id": users, "rank": ranks})
    frame.attrs["fingerprint"] = fingerprint
    return frame


def test_differences_are_of_users():
    users = ["a", "a", "b"]
    first, second = table([1, 2, 4], users), table([2, 20, 4], users)
    differences = paired_differences(first, second, "mrr", 10)
    assert differences.tolist() == pytest.approx([(1 + 1 / 2) / 2 - (1 / 2 + 0) / 2, 0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (table([1, 2], [1, 3], protocol="x"), "of other users"),
        (table([1, 2], [2, 1], protocol="x"), "of the same in another order"),
        (table([1, 2], [1, 2], protocol="y"), "protocol is 'x' for the one, 'y' for the other"),
    ],
)
def test_what_cannot_be_paired_is_refused(other, message):
    with pytest.raises(ValueError, match=message):
        paired_differences(table([1, 2], [1, 2], protocol="x"), other)
    with pytest.raises(ValueError, match=f"new and old: .*{message}"):
        significance_table("old", {"new": table([1, 2], [1, 2], protocol="x"), "old": other})


def test_every_model_is_tested_against_the_one(tmp_path):
    rng = np.random.default_rng(0)
    users = [f"u{at}" for at in range(200)]
    ranks = {
        "old": table(rng.integers(1, 30, 200), users),
        "same": table(rng.integers(1, 30, 200), users),
        "better": table(rng.integers(1, 8, 200), users),
    }
    for name, frame in ranks.items():  # as runs store them
        frame.to_parquet(tmp_path / f"{name}.parquet")
        ranks[name] = pd.read_parquet(tmp_path / f"{name}.parquet")
    found = significance_table("old", ranks, "ndcg", 10)
    assert list(found.index) == ["same", "better"]
    for name in found.index:
        differences = paired_differences(ranks[name], ranks["old"], "ndcg", 10)
        assert found.loc[name, "difference"] == differences.mean()
        assert tuple(found.loc[name, ["low", "high"]]) == bootstrap_interval(differences)
        assert found.loc[name, "p_randomization"] == randomization_p(differences)
    assert found["p_holm"].tolist() == holm(found["p_randomization"].to_numpy()).tolist()
    assert found.loc["better", "p_holm"] < 0.01 < found.loc["same", "p_holm"]
    assert found.loc["better", ["p_bootstrap", "p_wilcoxon"]].max() < 0.01


def test_every_metric_has_its_interval():
    found = intervals(table([1, 2, 3, 40] * 30), ks=[1, 10])
    assert sorted(found.index) == sorted(
        f"{name}_at_{k}" for name in ("hit_rate", "ndcg", "mrr") for k in (1, 10)
    )
    assert found.loc["hit_rate_at_10", "mean"] == 0.75
    assert (found["low"] < found["mean"]).all()
    assert (found["mean"] < found["high"]).all()
