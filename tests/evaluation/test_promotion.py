import math

import numpy as np
import pandas as pd
import pytest

from recsys.data import leave_last_out, read_ratings
from recsys.evaluation import PromotionRule, RankingProtocol, evaluate, promote_if_better
from recsys.vocabulary import Vocabulary

N_ITEMS = 12


class Placed:
    """Puts the item after the last watched one, modulo the catalogue, at a place by that item."""

    def __init__(self, *places):
        self.places = np.array(places)

    def score(self, histories):
        scores = np.tile(-np.arange(N_ITEMS, dtype=np.float32), (len(histories), 1)) - 100
        for row, history in enumerate(histories):
            target = (history[-1] + 1) % N_ITEMS
            scores[row, target] = 0.5 - self.places[history[0] % len(self.places)]
            others = [item for item in range(N_ITEMS) if item not in history and item != target]
            scores[row, others] = -np.arange(1, len(others) + 1) + 0.0
        return scores


def walks(n_users):
    """Each user watches four items in a row, starting where the user's number says."""
    rows = [(user, (user + step) % N_ITEMS) for user in range(n_users) for step in range(4)]
    # So that all items are there: users of one watch, who are no targets.
    rows += [(1000 + item, item) for item in range(N_ITEMS)]
    return leave_last_out(read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])))


@pytest.fixture(scope="module")
def split():
    return walks(120)


def verdict_of(split, challenger, champion, rule=None, **settings):
    report = evaluate(challenger, split, "validation")
    known = None if champion is None else (champion, split.interactions.items)
    return promote_if_better(report, known, split, rule or PromotionRule(), **settings)


FIRST, SECOND, THIRD = Placed(1), Placed(2), Placed(3)
AT_2 = 1 / math.log2(3)


def test_places_are_what_they_say(split):
    assert evaluate(SECOND, split, "validation").ranks.tolist() == [2] * 120


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted"),
    [(FIRST, SECOND, True), (SECOND, FIRST, False), (SECOND, THIRD, True), (FIRST, FIRST, False)],
)
def test_only_the_better_takes_the_place(split, challenger, champion, promoted):
    verdict = verdict_of(split, challenger, champion)
    assert verdict.promoted is promoted
    assert verdict.challenger == evaluate(challenger, split, "validation").metrics["ndcg_at_10"]
    assert verdict.champion == evaluate(champion, split, "validation").metrics["ndcg_at_10"]
    assert verdict.failed_checks == () if promoted else "it is not better" in verdict.failed_checks


def test_a_rise_that_may_be_chance_does_not_promote():
    # Of four users all rise: by swapping, that happens in two of sixteen cases.
    verdict = verdict_of(walks(4), FIRST, SECOND)
    assert not verdict.promoted
    assert verdict.failed_checks == ("the rise may be chance: p is not below 0.05",)
    assert verdict_of(walks(4), FIRST, SECOND, PromotionRule(alpha=0.2)).promoted


def test_a_rise_that_is_too_small_does_not_promote(split):
    rise = 1 - AT_2
    enough = PromotionRule(min_improvement=rise - 0.001)
    too_little = PromotionRule(min_improvement=rise + 0.001)
    assert verdict_of(split, FIRST, SECOND, enough).promoted
    verdict = verdict_of(split, FIRST, SECOND, too_little)
    assert verdict.failed_checks == (f"the rise is smaller than {rise + 0.001}",)


# Places by first item: the champion is second everywhere, the challenger fifth where it is 0.
MIXED = Placed(5, 1, 1)


def mixed_histories():
    """Users who start at an item divisible by three have watched five before, others two."""
    rows = []
    for user in range(120):
        length = 6 if user % N_ITEMS % 3 == 0 else 3
        rows += [(user, (user + step) % N_ITEMS) for step in range(length + 1)]
    return leave_last_out(read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id"])))


def test_a_segment_that_pays_for_the_rise_of_others_is_named():
    split = mixed_histories()
    verdict = verdict_of(split, MIXED, SECOND)
    assert verdict.challenger > verdict.champion
    fall = AT_2 - 1 / math.log2(6)
    assert f"for history length 5 to 5 it is worse by {fall:.4f}" in verdict.failed_checks
    assert not verdict.promoted


@pytest.mark.parametrize("rule", [{"segment_margin": 0.5}, {"min_segment_size": 200}])
def test_a_fall_within_the_margin_or_in_a_small_segment_is_borne(rule):
    assert verdict_of(mixed_histories(), MIXED, SECOND, PromotionRule(**rule)).promoted


@pytest.mark.parametrize("champion", [None, SECOND], ids=["none", "second"])
@pytest.mark.parametrize(("latency_ms", "promoted"), [(4.9, True), (5.0, True), (5.1, False)])
def test_one_that_answers_too_late_is_not_promoted(split, champion, latency_ms, promoted):
    rule = PromotionRule(latency_budget_ms=5.0)
    verdict = verdict_of(split, FIRST, champion, rule, latency_ms=latency_ms)
    assert verdict.promoted is promoted
    if not promoted:
        assert verdict.failed_checks == ("it takes 5.1 ms, more than the 5 allowed",)


def test_a_budget_without_a_measurement_is_an_error(split):
    with pytest.raises(ValueError, match="pass it"):
        verdict_of(split, FIRST, None, PromotionRule(latency_budget_ms=5.0))


def test_without_a_champion_the_challenger_is_promoted(split):
    verdict = verdict_of(split, THIRD, None)
    assert verdict.promoted
    assert verdict.champion is None
    assert str(verdict) == "champion: there was none (validation ndcg_at_10 0.5000); promoted"


def test_a_rule_names_its_metric(split):
    rule = PromotionRule(metric="hit_rate", k=1)
    verdict = verdict_of(split, FIRST, SECOND, rule)
    assert (verdict.challenger, verdict.champion) == (1.0, 0.0)
    assert str(verdict).startswith("validation hit_rate_at_1 1.0000 against the present champion's")


def test_a_champion_of_other_items_is_judged_on_those_of_the_data(split):
    class Fixed:
        def score(self, histories):
            return np.tile(np.array([0, 1], dtype=np.float32), (len(histories), 1))

    # It knows the items 3 and 99, of which only 3 is in the data: first where it is the target.
    champion = (Fixed(), Vocabulary.of([3, 99]))
    verdict = promote_if_better(evaluate(FIRST, split, "validation"), champion, split)
    assert verdict.promoted
    assert verdict.champion < 1


@pytest.mark.parametrize(
    ("challenger", "champion", "texts"),
    [
        (FIRST, SECOND, ["1.0000 against", "0.6309 on the same users: +0.3691 (95%", "; promoted"]),
        (SECOND, FIRST, ["-0.3691", "p = 0.0001", "; not promoted; it is not better"]),
    ],
)
def test_a_verdict_tells_the_outcome_and_why(split, challenger, champion, texts):
    told = str(verdict_of(split, challenger, champion))
    assert all(text in told for text in texts), told


def test_results_on_other_targets_are_refused(split):
    on_test = evaluate(FIRST, split, "test")
    with pytest.raises(ValueError, match="not comparable: subset"):
        promote_if_better(on_test, (SECOND, split.interactions.items), split)


def test_results_of_another_protocol_are_refused(split):
    unmasked = RankingProtocol(mask_seen=False)
    report = evaluate(FIRST, split, "validation", protocol=unmasked)
    champion = (SECOND, split.interactions.items)
    with pytest.raises(ValueError, match="seen_items is 'ranked' for the one, 'left out"):
        promote_if_better(report, champion, split)
    assert promote_if_better(report, champion, split, protocol=unmasked).promoted
