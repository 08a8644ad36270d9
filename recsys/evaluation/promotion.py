"""Whether a new model takes the place of the one in use."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.data import Split
from recsys.evaluation.aligned import AlignedScorer
from recsys.evaluation.ranking import Scorer
from recsys.evaluation.report import Report, evaluate, require_comparable
from recsys.vocabulary import Vocabulary

METRIC = "ndcg_at_10"
"""What decides, on the validation targets."""


@dataclass(frozen=True)
class Verdict:
    """Who won, and by what."""

    promoted: bool
    challenger: float
    champion: float | None

    def __str__(self) -> str:
        if self.champion is None:
            return f"champion: there was none (validation {METRIC} {self.challenger:.4f})"
        outcome = "beats" if self.promoted else "does not beat"
        return (
            f"validation {METRIC} {self.challenger:.4f} {outcome} "
            f"the present champion's {self.champion:.4f} on the same users"
        )


def challenge(
    challenger: Report, champion: tuple[Scorer, Vocabulary] | None, split: Split
) -> Verdict:
    """Compare a new model with the champion on the validation targets of the same split.

    The champion is scored anew, so that both are judged on the same users and items, whatever
    data it was trained on.

    Args:
        challenger: the new model's results on the validation targets.
        champion: the model in use and the items that it knows; None where there is none.
        split: the data that the new model was trained on.

    Raises:
        ValueError: `challenger` is of other targets than the validation targets of `split`.
    """
    new = challenger.metrics[METRIC]
    if champion is None:
        return Verdict(True, new, None)
    model, own = champion
    scorer = AlignedScorer(model, own, split.interactions.items)
    report = evaluate(scorer, split, "validation")
    require_comparable(
        {"the challenger": challenger.fingerprint, "the champion": report.fingerprint}
    )
    return Verdict(new > report.metrics[METRIC], new, report.metrics[METRIC])
