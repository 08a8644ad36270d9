import math

import numpy as np
import pytest

from recsys.data import leave_last_out, read_ratings
from recsys.evaluation import challenge, evaluate
from recsys.vocabulary import Vocabulary


class Fixed:
    """The same scores for every history."""

    def __init__(self, *scores):
        self.scores = np.array(scores, dtype=np.float32)

    def score(self, histories):
        return np.tile(self.scores, (len(histories), 1))


@pytest.fixture
def split(small_log):
    return leave_last_out(read_ratings(small_log))


# Validation targets: the items 2 of user 1, who had seen 0 1, and 0 of user 2, who had seen 1.
GOOD = Fixed(9, 0, 8, 1, 1)  # ranks 1 and 1
FAIR = Fixed(1, 0, 9, 0, 0)  # ranks 1 and 2
BAD = Fixed(0, 0, 0, 1, 1)  # ranks 3 and 3


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted"),
    [(GOOD, FAIR, True), (FAIR, GOOD, False), (FAIR, BAD, True), (GOOD, GOOD, False)],
)
def test_only_the_better_takes_the_place(split, challenger, champion, promoted):
    report = evaluate(challenger, split, "validation")
    verdict = challenge(report, (champion, split.interactions.items), split)
    assert verdict.promoted is promoted
    assert verdict.challenger == report.metrics["ndcg_at_10"]
    assert verdict.champion == evaluate(champion, split, "validation").metrics["ndcg_at_10"]


def test_without_a_champion_the_challenger_is_promoted(split):
    verdict = challenge(evaluate(BAD, split, "validation"), None, split)
    assert verdict.promoted
    assert verdict.champion is None


def test_a_champion_of_other_items_is_judged_on_those_of_the_data(split):
    # It knows 10 20 30 and 99, and puts 30 first, then 10: ranks 1 and 2 among 10 to 50.
    champion = (Fixed(1, 0, 9, 10), Vocabulary.of([10, 20, 30, 99]))
    verdict = challenge(evaluate(GOOD, split, "validation"), champion, split)
    assert verdict.champion == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert verdict.promoted


@pytest.mark.parametrize(
    ("challenger", "champion", "text"),
    [
        (GOOD, FAIR, "1.0000 beats the present champion's 0.8155 on the same users"),
        (FAIR, GOOD, "0.8155 does not beat the present champion's 1.0000 on the same users"),
        (GOOD, None, "champion: there was none (validation ndcg_at_10 1.0000)"),
    ],
)
def test_a_verdict_tells_the_outcome(split, challenger, champion, text):
    known = None if champion is None else (champion, split.interactions.items)
    assert text in str(challenge(evaluate(challenger, split, "validation"), known, split))


def test_results_on_other_targets_are_refused(split):
    on_test = evaluate(GOOD, split, "test")
    with pytest.raises(ValueError, match="not comparable: target"):
        challenge(on_test, (FAIR, split.interactions.items), split)
