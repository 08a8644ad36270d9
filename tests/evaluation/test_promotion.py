import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys.data import leave_last_out, per_user_ratio, read_ratings
from recsys.errors import ConfigError, DataError
from recsys.evaluation import PromotionRule, evaluate, promote_if_better

N_ITEMS = 12


class Placed:
    """Gives the successor of the last item a rank that depends on the first item."""

    def __init__(self, *ranks):
        self.ranks = np.array(ranks)

    def score(self, histories):
        scores = np.tile(-np.arange(N_ITEMS, dtype=np.float32), (len(histories), 1)) - 100
        for row, history in enumerate(histories):
            target = (history[-1] + 1) % N_ITEMS
            scores[row, target] = 0.5 - self.ranks[history[0] % len(self.ranks)]
            others = [item for item in range(N_ITEMS) if item not in history and item != target]
            scores[row, others] = -np.arange(1, len(others) + 1) + 0.0
        return scores


def walks(n_users):
    """Each user has four consecutive items, the first given by the user's number."""
    rows = [(user, (user + step) % N_ITEMS) for user in range(n_users) for step in range(4)]
    # Users with one interaction, who have no targets, complete the catalogue.
    rows += [(1000 + item, item) for item in range(N_ITEMS)]
    return leave_last_out(read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])))


@pytest.fixture(scope="module")
def split():
    return walks(120)


def verdict_of(split, challenger, champion, rule=None, **settings):
    report = evaluate(challenger, split, "validation")
    known = None if champion is None else (champion, split.interactions.catalogue)
    return promote_if_better(report, known, split, rule or PromotionRule(), **settings)


FIRST, SECOND, THIRD = Placed(1), Placed(2), Placed(3)
AT_2 = 1 / math.log2(3)


def test_the_scorer_ranks_as_specified(split):
    assert evaluate(SECOND, split, "validation").ranks.tolist() == [2] * 120


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted"),
    [(FIRST, SECOND, True), (SECOND, FIRST, False), (SECOND, THIRD, True), (FIRST, FIRST, False)],
)
def test_only_the_better_model_is_promoted(split, challenger, champion, promoted):
    verdict = verdict_of(split, challenger, champion)
    assert verdict.promoted is promoted
    assert verdict.challenger == evaluate(challenger, split, "validation").metrics["ndcg_at_10"]
    assert verdict.champion == evaluate(champion, split, "validation").metrics["ndcg_at_10"]
    assert (
        verdict.failed_checks == ()
        if promoted
        else "ndcg_at_10 did not improve" in verdict.failed_checks
    )


def test_an_insignificant_improvement_is_not_promoted():
    # All four users improve: of sixteen sign assignments, two are as extreme.
    verdict = verdict_of(walks(4), FIRST, SECOND)
    assert not verdict.promoted
    (failed,) = verdict.failed_checks
    pattern = r"the improvement is not statistically significant \(p = 0\.1\d, alpha = 0\.05\)"
    assert re.fullmatch(pattern, failed)
    assert verdict_of(walks(4), FIRST, SECOND, PromotionRule(alpha=0.2)).promoted


def test_a_small_improvement_is_not_promoted(split):
    improvement = 1 - AT_2
    enough = PromotionRule(min_improvement=improvement - 0.001)
    too_little = PromotionRule(min_improvement=improvement + 0.001)
    assert verdict_of(split, FIRST, SECOND, enough).promoted
    verdict = verdict_of(split, FIRST, SECOND, too_little)
    (failed,) = verdict.failed_checks
    assert failed == f"the improvement is smaller than min_improvement = {improvement + 0.001}"


# Ranks by first item: the champion is always second, the challenger is fifth where it is 0.
MIXED = Placed(5, 1, 1)


def mixed_histories():
    """Histories of five items for users who start at an item divisible by three, else two."""
    rows = []
    for user in range(120):
        length = 6 if user % N_ITEMS % 3 == 0 else 3
        rows += [(user, (user + step) % N_ITEMS) for step in range(length + 1)]
    return leave_last_out(read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])))


@pytest.mark.parametrize(("max_decline", "promoted"), [(0.3, True), (0.05, False)])
def test_with_max_decline_a_model_must_not_be_worse(max_decline, promoted):
    """Two of four users lose what the other two win: the interval is as wide as the difference."""
    split, rule = walks(60), PromotionRule(max_decline=max_decline, segment_margin=1.0)
    verdict = verdict_of(split, Placed(1, 2), Placed(2, 1), rule)
    assert verdict.promoted is promoted
    assert list(verdict.failed_checks) == (
        [] if promoted else ["a decline of more than max_decline = 0.05 cannot be excluded"]
    )


def test_a_segment_that_declines_is_named():
    split = mixed_histories()
    verdict = verdict_of(split, MIXED, SECOND)
    assert verdict.challenger > verdict.champion
    decline = AT_2 - 1 / math.log2(6)
    expected = f"ndcg_at_10 declines by {decline:.4f} for history length 5 to 5"
    assert expected in verdict.failed_checks
    assert not verdict.promoted


@pytest.mark.parametrize("rule", [{"segment_margin": 0.5}, {"min_segment_size": 200}])
def test_a_decline_within_the_margin_or_in_a_small_segment_is_allowed(rule):
    assert verdict_of(mixed_histories(), MIXED, SECOND, PromotionRule(**rule)).promoted


@pytest.mark.parametrize("champion", [None, SECOND], ids=["none", "second"])
@pytest.mark.parametrize(("latency_ms", "promoted"), [(4.9, True), (5.0, True), (5.1, False)])
def test_a_model_over_the_latency_budget_is_not_promoted(split, champion, latency_ms, promoted):
    rule = PromotionRule(latency_budget_ms=5.0)
    verdict = verdict_of(split, FIRST, champion, rule, latency_ms=latency_ms)
    assert verdict.promoted is promoted
    if not promoted:
        assert verdict.failed_checks == ("latency 5.1 ms exceeds latency_budget_ms = 5",)


def test_a_budget_without_a_measurement_is_rejected(split):
    with pytest.raises(ConfigError, match="pass latency_ms, from measure_latency"):
        verdict_of(split, FIRST, None, PromotionRule(latency_budget_ms=5.0))


def test_without_a_champion_the_challenger_is_promoted(split):
    verdict = verdict_of(split, THIRD, None)
    assert verdict.promoted
    assert verdict.champion is None
    assert str(verdict) == "validation ndcg_at_10 0.5000, no champion to compare with; promoted"


def test_a_rule_chooses_its_metric(split):
    rule = PromotionRule(metric="hit_rate", k=1)
    verdict = verdict_of(split, FIRST, SECOND, rule)
    assert (verdict.challenger, verdict.champion) == (1.0, 0.0)
    assert str(verdict).startswith("validation hit_rate_at_1 1.0000, champion 0.0000")


def test_a_champion_of_another_catalogue_is_evaluated_on_the_items_of_the_data(split):
    class Fixed:
        def score(self, histories):
            return np.tile(np.array([0, 1], dtype=np.float32), (len(histories), 1))

    # Of its items 3 and 99, only 3 is in the data; it ranks first where it is the target.
    champion = (Fixed(), pd.DataFrame({"item_id": [3, 99], "title": ["3", "99"]}))
    verdict = promote_if_better(evaluate(FIRST, split, "validation"), champion, split)
    assert verdict.promoted
    assert verdict.champion < 1
    assert f"; the champion does not know {N_ITEMS - 1} of the items; promoted" in str(verdict)


def test_a_rule_without_a_limit_is_refused():
    """JSON has no infinity: it would be recorded as null, which is another rule."""
    with pytest.raises(ConfigError, match="max_decline = inf: Input should be a finite number"):
        PromotionRule(max_decline=math.inf)


def test_a_champion_that_lacks_items_is_named_with_the_rule_for_them():
    """Items that are only held out count as well; a rule with `max_decline` needs no hint."""
    rows = [(user, (user + step) % 5) for user in range(20) for step in range(4)] + [(0, 99)]
    split = leave_last_out(read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])))

    class Constant:
        def score(self, histories):
            return np.ones((len(histories), self.n_items), dtype=np.float32)

    challenger, champion = Constant(), Constant()
    challenger.n_items, champion.n_items = 6, 5
    known = split.interactions.catalogue.query("item_id != 99")
    for rule, n_hints in ((None, 1), (PromotionRule(max_decline=0), 0)):
        report = evaluate(challenger, split, "validation")
        verdict = promote_if_better(report, (champion, known), split, rule)
        assert "; the champion does not know 1 of the items; not promoted" in str(verdict)
        assert str(verdict).count("max_decline promotes a model that is not worse") == n_hints


@pytest.mark.parametrize(
    ("challenger", "champion", "texts"),
    [
        (FIRST, SECOND, ["1.0000, champion 0.6309, difference +0.3691 (95%", "; promoted"]),
        (SECOND, FIRST, ["-0.3691", "p = 0.0001", "; not promoted; ndcg_at_10 did not improve"]),
    ],
)
def test_a_verdict_states_the_outcome_and_the_reason(split, challenger, champion, texts):
    verdict = str(verdict_of(split, challenger, champion))
    assert "does not know" not in verdict
    assert all(text in verdict for text in texts), verdict


def test_a_report_on_other_targets_is_rejected(split):
    on_test = evaluate(FIRST, split, "test")
    with pytest.raises(DataError, match="not comparable: subset"):
        promote_if_better(on_test, (SECOND, split.interactions.catalogue), split)


def test_a_report_with_other_masking_is_rejected(split):
    repeating = replace(split, interactions=replace(split.interactions, repeats=True))
    report = evaluate(FIRST, repeating, "validation")
    champion = (SECOND, split.interactions.catalogue)
    with pytest.raises(DataError, match="seen_items is 'ranked' and 'masked"):
        promote_if_better(report, champion, split)
    assert promote_if_better(report, champion, repeating).promoted


def unequal_targets():
    """Users of the item 1 have one validation target each, those of the item 0 three."""
    rows = [(u, (u % 2 + s) % N_ITEMS) for u in range(60) for s in range(6 if u % 2 else 12)]
    log = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"]))
    return per_user_ratio(log, validation=0.25, test=0.25)


def test_the_figures_of_a_verdict_are_means_over_users_and_add_up():
    split = unequal_targets()
    assert np.bincount(split.users("validation")).tolist() == [3, 1] * 30
    verdict = verdict_of(split, Placed(1, 2), Placed(2, 2))
    assert verdict.challenger == pytest.approx((1 + AT_2) / 2)
    assert verdict.champion == pytest.approx(AT_2)
    assert f"difference {(1 - AT_2) / 2:+.4f}" in verdict.comparison


def test_a_segment_is_as_large_as_the_number_of_its_users():
    split = unequal_targets()
    sizes = PromotionRule(min_segment_size=31), PromotionRule(min_segment_size=30)
    unchecked, checked = (verdict_of(split, Placed(3, 1), Placed(2, 2), rule) for rule in sizes)
    assert not any("declines" in failed for failed in unchecked.failed_checks)
    assert any("declines" in failed for failed in checked.failed_checks)


def test_targets_that_the_champion_has_learned_are_not_compared(split):
    """The champion knows the validation and test items of the users below 70."""
    log = split.interactions
    learned = log.filter((split.assignment == 0) | (log.user_index < 70))
    verdict = verdict_of(split, FIRST, SECOND, learned=learned)
    assert verdict.promoted
    assert "on 50 of 120 targets; the champion has learned the others" in str(verdict)
    assert (verdict.challenger, verdict.champion) == (1, pytest.approx(AT_2))


def test_without_any_target_to_compare_the_challenger_waits(split):
    verdict = verdict_of(split, FIRST, THIRD, learned=split.interactions)
    assert not verdict.promoted
    assert str(verdict) == (
        "validation ndcg_at_10 1.0000, not compared on 0 of 120 targets; the champion has learned "
        "the others; not promoted; there is no target on which to compare the models"
    )


def test_what_the_champion_was_trained_on_before_is_no_target(split):
    assert verdict_of(split, FIRST, SECOND, learned=split.train) == verdict_of(split, FIRST, SECOND)


@pytest.mark.parametrize(
    "other",
    [{"item_id": np.arange(100, 200)}, {"title": [f"Film {n}" for n in range(100)]}],
    ids=["other ids", "other titles"],
)
def test_a_champion_of_another_catalogue_is_refused(split, other):
    named = split.interactions.catalogue.assign(title=[f"Book {n}" for n in range(N_ITEMS)])
    split = replace(split, interactions=replace(split.interactions, catalogue=named))
    catalogue = pd.DataFrame(
        {"item_id": np.arange(100), "title": [f"Book {n}" for n in range(100)]}
    )
    report = evaluate(FIRST, split, "validation")
    with pytest.raises(DataError, match=r"knows 100 items such as .* the data has 12 items such"):
        promote_if_better(report, (SECOND, catalogue.assign(**other)), split)
