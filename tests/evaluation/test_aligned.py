import numpy as np

from recsys.evaluation import CatalogueAdapter
from recsys.vocabulary import Vocabulary


class Remembering:
    """Scores its own item i of the b-th history with 10 b + i, and remembers the histories."""

    def __init__(self, n_items):
        self.n_items = n_items
        self.asked = []

    def score(self, histories):
        self.asked = [history.tolist() for history in histories]
        rows = 10 * np.arange(len(histories), dtype=np.float32)
        return rows[:, None] + np.arange(self.n_items, dtype=np.float32)


def score(own, asked, *histories):
    """What the model was asked, and the scores that came out."""
    model = Remembering(len(own))
    scorer = CatalogueAdapter(model, Vocabulary.of(own), Vocabulary.of(asked))
    scores = scorer.score([np.array(history, np.int32) for history in histories])
    assert scores.dtype == np.float32
    return model.asked, scores.tolist()


NEVER = -np.inf


def test_items_are_matched_by_id():
    # Of the items b c d e the model knows b and d, as 1 and 2; its a and f are not asked for.
    asked, scores = score("abdf", "bcde", [2, 1, 0], [0])
    assert asked == [[2, 1], [1]]
    assert scores == [[1, NEVER, 2, NEVER], [11, NEVER, 12, NEVER]]


def test_a_history_of_unknown_items_only_scores_all_items_below_all_others():
    asked, scores = score("abdf", "bcde", [1, 3], [0], [])
    assert asked == [[1]]
    assert scores == [[NEVER] * 4, [1, NEVER, 2, NEVER], [NEVER] * 4]


def test_a_model_that_knows_nothing_is_not_asked():
    asked, scores = score("xyz", "abcd", [0], [1])
    assert asked == []
    assert scores == [[NEVER] * 4] * 2


def test_the_same_catalogue_changes_nothing():
    asked, scores = score("abc", "abc", [2, 0], [1])
    assert asked == [[2, 0], [1]]
    assert scores == [[0, 1, 2], [10, 11, 12]]
