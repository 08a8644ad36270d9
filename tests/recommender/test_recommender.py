from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys.errors import BundleError, UnknownItemError
from recsys.loading import load_recommender
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle


@pytest.fixture(scope="module")
def rec(bundle):
    return Recommender(bundle)


def title(rec, index):
    return rec.bundle.catalogue["title"].iloc[index]


def test_next_items_have_the_highest_scores(rec):
    history = [4, 7, 2]
    scores = rec.bundle.session_model.score([np.array(history, np.int32)])[0]
    expected = [i for i in np.argsort(-scores, kind="stable") if i not in history][:5]
    answer = rec.next_items([title(rec, i) for i in history], k=5)
    assert answer["title"].tolist() == [title(rec, i) for i in expected]
    assert answer["item_id"].tolist() == rec.bundle.items.ids[expected].tolist()
    assert answer["rank"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(answer["score"], np.exp(scores[expected]), rtol=1e-6)


def test_ids_and_titles_are_equivalent(rec):
    by_id = rec.next_items([rec.bundle.items.ids[4].item()])
    assert by_id.equals(rec.next_items([title(rec, 4)]))
    assert by_id.equals(rec.next_items([title(rec, 4).upper()]))


def test_include_and_exclude(rec):
    first, second, third = rec.next_items([title(rec, 4)], k=3)["title"]
    without = rec.next_items([title(rec, 4)], k=1, exclude=[first])
    assert without["title"].tolist() == [second]
    among = rec.next_items([title(rec, 4)], include=[third, second, title(rec, 4)])
    assert among["title"].tolist() == [second, third]
    assert rec.next_items([title(rec, 4)], include=[]).empty


def test_k_beyond_the_catalogue_returns_all_new_items(rec):
    n_items = len(rec.bundle.items)
    answer = rec.next_items([title(rec, 4)], k=n_items + 5)
    assert len(answer) == answer["title"].nunique() == n_items - 1
    assert answer["score"].is_monotonic_decreasing


def test_similar_items_have_the_highest_cosines(rec):
    unit = rec.bundle.embeddings.unit_vectors()
    cosine = unit @ unit[4]
    cosine[4] = -np.inf
    answer = rec.similar_items(title(rec, 4), k=3)
    assert answer["title"].tolist() == [title(rec, i) for i in np.argsort(-cosine)[:3]]
    np.testing.assert_allclose(answer["score"], np.sort(cosine)[::-1][:3], rtol=1e-4)


def test_unknown_title(rec):
    name = title(rec, 4)
    with pytest.raises(UnknownItemError, match="did you mean") as caught:
        rec.similar_items(f"{name[:-8]}x")
    assert repr(name) in str(caught.value)
    with pytest.raises(UnknownItemError, match=r"no item has the id or title 'zzzzqqqq'$"):
        rec.similar_items("zzzzqqqq")
    with pytest.raises(UnknownItemError, match="no item has the id or title '-5'"):
        rec.next_items([-5])


def test_ambiguous_title(bundle):
    catalogue = bundle.catalogue.copy()
    catalogue.loc[[2, 5], "title"] = "Twins (1988)"
    twins = Recommender(replace(bundle, catalogue=catalogue))
    ids = catalogue["item_id"].tolist()
    for name in ("Twins (1988)", "twins"):
        with pytest.raises(UnknownItemError, match="title of 2 items: use an id; ") as caught:
            twins.similar_items(name)
        for item in (ids[2], ids[5]):
            assert f"{item} is 'Twins (1988)'" in str(caught.value)
        assert set(caught.value.closest) == {str(ids[2]), str(ids[5])}
        assert twins.next_items([ids[2], name], unknown="ignore").equals(twins.next_items([ids[2]]))
    assert len(twins.similar_items(ids[2])) > 0


def test_similar_titles_of_several_items_are_told_by_their_ids(bundle):
    catalogue = bundle.catalogue.copy()
    catalogue.loc[[2, 5], "title"] = "Twins (1988)"
    ids = catalogue["item_id"].tolist()
    with pytest.raises(UnknownItemError, match="did you mean") as caught:
        Recommender(replace(bundle, catalogue=catalogue)).similar_items("Twinns (1988)")
    for item in (ids[2], ids[5]):
        assert f"'{item}' ('Twins (1988)')" in str(caught.value)
        assert str(item) in caught.value.closest
    assert "Twins (1988)" not in caught.value.closest


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(rec, k):
    with pytest.raises(ValueError, match="an integer of 1 or more"):
        rec.similar_items(title(rec, 0), k)


def test_empty_history_returns_popular_items(rec):
    popularity = rec.bundle.session_model.network.log_popularity.numpy()
    expected = np.argsort(-popularity, kind="stable")[:5]
    assert rec.next_items([], k=5)["item_id"].tolist() == rec.bundle.items.ids[expected].tolist()


def test_load_from_folder(bundle, tmp_path):
    rec = load_recommender(save_bundle(bundle, tmp_path / "bundle"))
    assert isinstance(rec.next_items([title(rec, 0)]), pd.DataFrame)
    with pytest.raises(BundleError, match="does not exist"):
        load_recommender(tmp_path / "nowhere")


def test_repr_says_what_is_loaded(rec):
    assert repr(rec) == f"<Recommender of {len(rec.bundle.items)} items>"
