from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.errors import DataError
from recsys.evaluation import confidence_intervals, significance_table
from recsys.evaluation.metrics import mean_by_user
from recsys.evaluation.statistics import (
    bootstrap_interval,
    bootstrap_p,
    holm,
    paired_differences,
    randomization_p,
    wilcoxon_p,
)


def test_the_values_of_a_user_are_averaged():
    values = np.array([1.0, 0.0, 0.5, 1.0])
    assert mean_by_user(values, np.array(["b", "b", "a", "b"])).tolist() == [2 / 3, 0.5]


def test_an_interval_agrees_with_resampling_users_one_by_one():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300) < 0.2, 1 / np.log2(rng.integers(2, 11, 300)), 0.0)
    means = [rng.choice(values, 300).mean() for _ in range(20_000)]
    expected = np.quantile(means, [0.05, 0.95])
    interval = bootstrap_interval(values, level=0.9)
    width = expected[1] - expected[0]
    np.testing.assert_allclose(interval, expected, atol=0.05 * width)


def test_an_interval_covers_the_true_mean_at_its_level():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        low, high = bootstrap_interval((rng.random(200) < 0.3) * 1.0, level=0.9, resamples=1000)
        hits += low <= 0.3 <= high
    assert 0.85 < hits / 400 < 0.95


def test_constant_values_have_an_interval_of_zero_width():
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_resampling_without_users_is_rejected():
    with pytest.raises(DataError, match="no users"):
        bootstrap_interval(np.array([]))


def exact_p(differences):
    """Over all 2ⁿ assignments of signs."""
    observed = abs(sum(differences)) - 1e-9
    signs = list(product([-1, 1], repeat=len(differences)))
    sums = [abs(sum(np.multiply(row, differences))) for row in signs]
    return sum(total >= observed for total in sums) / len(signs)


@given(st.lists(st.sampled_from([-1.0, -0.5, -0.3, 0.0, 0.3, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_randomisation_test_agrees_with_all_sign_assignments(differences):
    p = randomization_p(np.array(differences))
    assert p == pytest.approx(exact_p(differences), abs=0.02)


def test_the_randomisation_test_agrees_with_scipy():
    rng = np.random.default_rng(2)
    a, b = rng.random(40), rng.random(40) + 0.12
    peer = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=9999, rng=rng
    )
    assert randomization_p(a - b) == pytest.approx(peer.pvalue, abs=0.02)


def coarse(test):
    """The same test with fewer resamples."""
    return partial(test, resamples=999)


@pytest.mark.parametrize(
    "test",
    [coarse(randomization_p), coarse(bootstrap_p), wilcoxon_p],
    ids=["randomization", "bootstrap", "wilcoxon"],
)
def test_size_and_power(test):
    rng = np.random.default_rng(3)
    noise = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0], size=(300, 60))
    assert 0.02 <= np.mean([test(row) < 0.05 for row in noise]) <= 0.085
    assert np.mean([test(row + 0.4) < 0.05 for row in noise[:60]]) > 0.9


@pytest.mark.parametrize("test", [randomization_p, bootstrap_p, wilcoxon_p])
def test_p_values_are_symmetric_and_one_without_differences(test):
    differences = np.array([0.5, 0.1, -0.2, 0.3, 0.4, 0.0, 0.25])
    assert test(differences) == pytest.approx(test(-differences), abs=0.02)
    assert test(np.zeros(20)) == 1.0


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.4, 0.6, 0.5], [1.0, 1.0, 1.0]),
        # The smallest times 4, then times 3, 2 and 1, and never less than the previous one.
        ([0.005, 0.011, 0.02, 0.04], [0.02, 0.033, 0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values, expected):
    assert holm(np.array(p_values)).tolist() == pytest.approx(expected)


def table(ranks, users=None, **fingerprint):
    users = range(len(ranks)) if users is None else users
    frame = pd.DataFrame({"user_id": users, "rank": ranks})
    frame.attrs["fingerprint"] = fingerprint
    return frame


def test_differences_are_per_user():
    users = ["a", "a", "b"]
    first, second = table([1, 2, 4], users), table([2, 20, 4], users)
    differences = paired_differences(first, second, "mrr", 10)
    assert differences.tolist() == pytest.approx([(1 + 1 / 2) / 2 - (1 / 2 + 0) / 2, 0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (table([1, 2], [1, 3], protocol="x"), "different users"),
        (table([1, 2], [2, 1], protocol="x"), "the same users in another order"),
        (table([1, 2], [1, 2], protocol="y"), "protocol is 'x' and 'y'"),
    ],
)
def test_tables_that_cannot_be_paired_are_rejected(other, message):
    with pytest.raises(DataError, match=message):
        paired_differences(table([1, 2], [1, 2], protocol="x"), other)
    with pytest.raises(DataError, match=f"new and old: .*{message}"):
        significance_table("old", {"new": table([1, 2], [1, 2], protocol="x"), "old": other})


def test_every_model_is_compared_with_the_reference(tmp_path):
    rng = np.random.default_rng(0)
    users = [f"u{user}" for user in range(200)]
    ranks = {
        "old": table(rng.integers(1, 30, 200), users),
        "same": table(rng.integers(1, 30, 200), users),
        "better": table(rng.integers(1, 8, 200), users),
    }
    for name, frame in ranks.items():  # as in a run
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


def test_every_metric_has_an_interval():
    found = confidence_intervals(table([1, 2, 3, 40] * 30), ks=[1, 10])
    assert sorted(found.index) == sorted(
        f"{name}_at_{k}" for name in ("hit_rate", "ndcg", "mrr") for k in (1, 10)
    )
    assert found.loc["hit_rate_at_10", "mean"] == 0.75
    assert (found["low"] < found["mean"]).all()
    assert (found["mean"] < found["high"]).all()
