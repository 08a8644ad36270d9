from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.evaluation.uncertainty import (
    bootstrap_interval,
    bootstrap_p,
    holm,
    mean_by_user,
    randomization_p,
    wilcoxon_p,
)


def test_the_cases_of_a_user_are_averaged_first():
    values = np.array([1.0, 0.0, 0.5, 1.0])
    assert mean_by_user(values, np.array(["b", "b", "a", "b"])).tolist() == [2 / 3, 0.5]


def test_an_interval_is_that_of_resampling_users_one_by_one():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300) < 0.2, 1 / np.log2(rng.integers(2, 11, 300)), 0.0)
    means = [rng.choice(values, 300).mean() for _ in range(20_000)]
    expected = np.quantile(means, [0.05, 0.95])
    interval = bootstrap_interval(values, level=0.9)
    width = expected[1] - expected[0]
    np.testing.assert_allclose(interval, expected, atol=0.05 * width)


def test_an_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        low, high = bootstrap_interval((rng.random(200) < 0.3) * 1.0, level=0.9, resamples=1000)
        hits += low <= 0.3 <= high
    assert 0.85 < hits / 400 < 0.95


def test_users_without_variation_have_an_interval_without_width():
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_no_users_are_an_error():
    with pytest.raises(ValueError, match="no users"):
        bootstrap_interval(np.array([]))


def exact_p(differences):
    """All 2ⁿ ways to turn the signs."""
    observed = abs(sum(differences)) - 1e-9
    ways = list(product([-1, 1], repeat=len(differences)))
    sums = [abs(sum(np.multiply(way, differences))) for way in ways]
    return sum(total >= observed for total in sums) / len(ways)


@given(st.lists(st.sampled_from([-1.0, -0.5, -0.3, 0.0, 0.3, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_randomisation_test_is_that_over_all_signs(differences):
    p = randomization_p(np.array(differences))
    assert p == pytest.approx(exact_p(differences), abs=0.02)


def test_the_randomisation_test_is_scipys():
    rng = np.random.default_rng(2)
    a, b = rng.random(40), rng.random(40) + 0.12
    peer = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=9999, rng=rng
    )
    assert randomization_p(a - b) == pytest.approx(peer.pvalue, abs=0.02)


def coarse(test):
    """Of fewer resamples, for tests of many samples."""
    return partial(test, resamples=999)


@pytest.mark.parametrize(
    "test",
    [coarse(randomization_p), coarse(bootstrap_p), wilcoxon_p],
    ids=["randomization", "bootstrap", "wilcoxon"],
)
def test_a_test_finds_what_is_there_and_only_that(test):
    rng = np.random.default_rng(3)
    noise = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0], size=(300, 60))
    assert 0.02 <= np.mean([test(row) < 0.05 for row in noise]) <= 0.085
    assert np.mean([test(row + 0.4) < 0.05 for row in noise[:60]]) > 0.9


@pytest.mark.parametrize("test", [randomization_p, bootstrap_p, wilcoxon_p])
def test_a_test_does_not_mind_which_comes_first_and_finds_nothing_in_nothing(test):
    differences = np.array([0.5, 0.1, -0.2, 0.3, 0.4, 0.0, 0.25])
    assert test(differences) == pytest.approx(test(-differences), abs=0.02)
    assert test(np.zeros(20)) == 1.0


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.4, 0.6, 0.5], [1.0, 1.0, 1.0]),
        # Holm 1979: smallest times 4, then 3 and 2 and 1, never less than the one before.
        ([0.005, 0.011, 0.02, 0.04], [0.02, 0.033, 0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values, expected):
    assert holm(np.array(p_values)).tolist() == pytest.approx(expected)
