"""Recommendations by a model of data in which items repeat."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import QueryError
from recsys.recommender import Recommender
from recsys.recommender.bundle import load_bundle, save_bundle

HISTORY = [4, 7, 4, 2]


@pytest.fixture(scope="module")
def repeating(full, tmp_path_factory):
    weights = replace(full.weights, repeats=True)
    folder = tmp_path_factory.mktemp("bundles") / "repeating"
    return Recommender(load_bundle(save_bundle(replace(full, weights=weights), folder)))


@pytest.fixture(scope="module")
def history(repeating):
    return repeating.bundle.items.ids[HISTORY].tolist()


def test_all_items_are_ranked_by_default(repeating, history):
    answer = repeating.next_items(history, k=1000)
    (expected,) = repeating.bundle.session_model.score([np.array(HISTORY, np.int32)])
    order = np.argsort(-expected, kind="stable")
    assert answer["item_id"].tolist() == repeating.bundle.items.ids[order].tolist()
    np.testing.assert_allclose(answer["probability"], np.exp(expected[order]), rtol=1e-4)
    assert answer["probability"].sum() == pytest.approx(1, abs=1e-4)


def test_items_of_the_history_can_be_left_out(repeating, history):
    everything = repeating.next_items(history, k=1000)
    new = repeating.next_items(history, k=1000, exclude_seen=True)
    expected = everything[~everything["item_id"].isin(history)]
    assert new["item_id"].tolist() == expected["item_id"].tolist()
    np.testing.assert_allclose(new["probability"], expected["probability"], rtol=1e-4)


def test_every_way_to_ask_gives_the_same_answer(repeating, history):
    for options in ({}, {"exclude_seen": True}, {"popularity_weight": 0.5}):
        answer = repeating.next_items(history, **options)
        batch = repeating.recommend_batch([history, history[:1]], **options)
        assert batch[batch["row"] == 0]["item_id"].tolist() == answer["item_id"].tolist()
        session = repeating.session(history[:2])
        for item in history[2:]:
            session.add(item)
        assert session.next_items(**options)["item_id"].tolist() == answer["item_id"].tolist()
    (scores,) = repeating.scorer.score([np.array(HISTORY, np.int32)])
    best = repeating.bundle.items.ids[np.argsort(-scores, kind="stable")[:10]]
    assert repeating.next_items(history)["item_id"].tolist() == best.tolist()


def test_items_of_the_history_are_explained_and_repeated_in_sequences(repeating, history):
    assert len(repeating.explain(history, history[0], k=2)) == 2
    sequences = repeating.next_sequences(history, length=60)
    assert (sequences.groupby("sequence").size() == 60).all(), "more than there are items"


def test_a_model_without_repeats_has_no_answer_for_items_of_the_history(rec, history):
    assert not set(rec.next_items(history, k=1000)["item_id"]) & set(history)
    with pytest.raises(QueryError, match="exclude_seen is False: this model was trained on data"):
        rec.next_items(history, exclude_seen=False)
    with pytest.raises(QueryError, match="exclude_seen is 1: it must be True, False or None"):
        rec.next_items(history, exclude_seen=1)
