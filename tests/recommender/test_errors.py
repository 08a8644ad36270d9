"""Errors of invalid arguments."""

import contextlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys.errors import QueryError, RecsysError, UnknownItemError
from recsys.recommender import Recommender
from recsys.vocabulary import Vocabulary


@pytest.fixture
def names(rec):
    return rec.bundle.items.ids[[4, 7]].tolist()


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("Heat (1995)", r"history is 'Heat \(1995\)': it must be a list"),
        (b"Heat", "must be a list"),
        (5, "history is 5: it must be a list"),
        (None, "must be a list"),
        ([float("nan")], "nan is a float: an item is given by its id"),
        ([4.0], "4.0 is a float"),
        ([np.float32(4)], "4.0 is a float"),
        ([None], "None is a NoneType"),
        ([True], "True is a bool"),
        ([["Heat (1995)"]], "is a list: an item is given"),
        ([{"item_id": 4}], "is a dict"),
        ({4, 7}, "is a set, which has no order: pass a list"),
        (pd.DataFrame({"item_id": [4]}), "history is a DataFrame: pass one of its columns"),
    ],
)
def test_invalid_history(rec, history, message):
    for ask in (rec.next_items, rec.session, rec.next_sequences, rec.explain):
        with pytest.raises(QueryError, match=message):
            ask(history)
    with pytest.raises(QueryError, match=r"histories\[0\]|is a|must be"):
        rec.recommend_batch([history])


def renamed(rec, **titles):
    """The recommender with other titles, by index."""
    catalogue = rec.bundle.catalogue.copy()
    for index, title in titles.items():
        catalogue.loc[int(index[1:]), "title"] = title
    return Recommender(replace(rec.bundle, catalogue=catalogue))


def test_digits_are_an_id_where_ids_are_numbers(rec, names):
    assert rec.index_of(str(names[0])) == rec.index_of(names[0]) == 4
    other = renamed(
        rec, i9=str(names[0]), i3="1917", i5="٣", i6="²", i7="-0", i8="0" + str(names[0])
    )
    assert other.index_of(str(names[0])) == 4
    assert [other.index_of(text) for text in ("1917", "٣", "²", "-0")] == [3, 5, 6, 7]
    assert other.index_of("0" + str(names[0])) == 8
    with pytest.raises(UnknownItemError, match="no item has the id or title '1917'"):
        other.index_of(1917)
    assert other.index_of("1 9 1 7") == 3
    with pytest.raises(UnknownItemError, match="'99999999999999999999'"):
        rec.index_of("9" * 20)


def test_an_integer_is_no_id_where_ids_are_text(rec, names):
    ids = np.array([f"{n:03}" for n in range(len(rec.bundle.items))], dtype=object)
    items = Vocabulary(ids)
    embeddings = replace(rec.bundle.embeddings, items=items)
    catalogue = rec.bundle.catalogue.assign(item_id=ids)
    text = Recommender(replace(rec.bundle, embeddings=embeddings, catalogue=catalogue))
    assert text.index_of("004") == 4
    for item in ("4", 4, "0004"):
        with pytest.raises(
            UnknownItemError, match=rf"no item .* '{item}'; did you mean "
        ) as caught:
            text.index_of(item)
        assert caught.value.closest == ("004",)
        assert f"did you mean '004' ({text.catalogue.titles[4]!r})?" in str(caught.value)
    with pytest.raises(UnknownItemError, match=r"no item has the id or title '777'$"):
        text.index_of(777)


def test_an_id_without_its_zeros_is_told_where_items_have_no_titles(rec):
    ids = np.array([f"{n:03}" for n in range(len(rec.bundle.items))], dtype=object)
    embeddings = replace(rec.bundle.embeddings, items=Vocabulary(ids))
    catalogue = rec.bundle.catalogue.assign(item_id=ids, title=ids)
    text = Recommender(replace(rec.bundle, embeddings=embeddings, catalogue=catalogue))
    with pytest.raises(UnknownItemError, match=r"'7'; did you mean '007'\?$"):
        text.index_of("7")


def test_unknown_items_are_left_out_on_request(rec, names):
    given, left = [names[0], "No such film", 10**9, names[1]], rec.next_items(names)
    assert rec.next_items(given, unknown="ignore").equals(left)
    assert rec.next_items(names, exclude=["No such film"], unknown="ignore").equals(left)
    assert rec.recommend_batch([given], unknown="ignore")["item_id"].equals(left["item_id"])
    assert rec.session(given, unknown="ignore").history == names
    for ask in (rec.explain, rec.next_sequences):
        assert ask(given, unknown="ignore").equals(ask(names))
    with pytest.raises(QueryError, match="unknown is 'skip': it must be 'raise' or 'ignore'"):
        rec.next_items(names, unknown="skip")
    with pytest.raises(QueryError, match=r"4\.5 is a float"):
        rec.next_items([4.5], unknown="ignore")


@pytest.mark.parametrize("nothing", [{}, (), [], set(), frozenset(), np.array([]), pd.Series([])])
def test_an_empty_exclude_leaves_nothing_out(rec, names, nothing):
    assert rec.next_items(names, exclude=nothing).equals(rec.next_items(names))


def test_any_iterable_of_ids_is_a_history(rec, names):
    answer = rec.next_items(names)
    for same in (tuple(names), np.array(names), pd.Series(names), pd.Index(names), iter(names)):
        assert rec.next_items(same).equals(answer)
    assert rec.next_items([np.int64(names[0]), names[1]]).equals(answer)


def test_repeated_items_in_history_and_exclude(rec, names):
    twice = rec.next_items([*names, names[0]], 50)
    assert len(twice) == len(rec.bundle.items) - 2
    assert rec.next_items(names, exclude=[names[0], names[0]]).equals(rec.next_items(names))


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k is 0: it must be an integer of 1 or more"),
        (-3, "k is -3"),
        (2.5, "k is 2.5: it must be an integer"),
        ("10", "k is '10': it must be an integer"),
        (None, "k is None"),
        (True, "k is True"),
        (float("nan"), "k is nan"),
    ],
)
def test_invalid_k(rec, names, k, message):
    for ask in (
        lambda: rec.next_items(names, k),
        lambda: rec.similar_items(names[0], k),
        lambda: rec.popular_items(k),
        lambda: rec.search("a", k),
        lambda: rec.session().next_items(k),
        lambda: rec.recommend_batch([names], k),
        lambda: rec.explain(names, k=k),
    ):
        with pytest.raises(QueryError, match=message):
            ask()


def test_any_keys_name_the_histories_of_a_batch(rec, names):
    pairs = {"uint64": (1, 2**63), "int64": (-1, 5), "object": (-1, 2**63)}
    for dtype, keys in {**pairs, "O": ((1, 2), (3, 4))}.items():
        answer = rec.recommend_batch(dict.fromkeys(keys, names), 1)
        assert answer["user_id"].tolist() == list(keys)
        assert answer["user_id"].dtype == dtype


def test_huge_k_returns_all_items(rec, names):
    n_items = len(rec.bundle.items)
    assert len(rec.next_items(names, 10**12)) == n_items - 2
    assert len(rec.popular_items(10**12)) == n_items
    assert len(rec.similar_items(names[0], 10**12)) <= n_items - 1
    assert len(rec.recommend_batch([names], 10**12)) == n_items - 2
    assert len(rec.explain(names, k=10**12)) == 20


HUGE = pytest.param(10**400, id="no float holds it")


@pytest.mark.parametrize("option", ["diversity", "popularity_weight", "embedding_weight"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, [0.5], HUGE])
def test_invalid_weight(rec, names, option, value):
    with pytest.raises(QueryError, match=f"{option} is .*: it must be a number from 0 to 1"):
        rec.next_items(names, **{option: value})


def test_invalid_filter(rec, names):
    for choice, message in [
        ({"mood": "sad"}, "no column 'mood'; its columns are 'item_id', 'title', 'genres'"),
        ({"genres": "Sadness"}, "no item has 'Sadness' in column 'genres'; values are"),
        ("Comedy", "include is 'Comedy': it must be a list"),
        (7, "include is 7: it must be a list"),
        (lambda items: items["year"], "must return True or False for each of the 50 items"),
        (lambda films: [True], "must return True or False"),
        ([3.5], "3.5 is a float"),
    ]:
        with pytest.raises(QueryError, match=message):
            rec.next_items(names, include=choice)
    with pytest.raises(UnknownItemError, match="no item has the id or title 'Nowhere'"):
        rec.next_items(names, exclude=["Nowhere"])


def test_unknown_title_error_has_the_closest_titles(rec):
    title = rec.catalogue.titles[4]
    wrong = title[:-8] + "x" + title[-7:]
    with pytest.raises(UnknownItemError) as caught:
        rec.similar_items(wrong)
    assert caught.value.name == wrong
    assert title in caught.value.closest
    assert repr(title) in str(caught.value)
    with pytest.raises(UnknownItemError):
        rec.session().add("Nowhere")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RecsysError)


def test_invalid_explain_arguments(rec, names):
    with pytest.raises(QueryError, match="history is empty"):
        rec.explain([])
    with pytest.raises(QueryError, match="is in the history"):
        rec.explain(names, names[0])
    with pytest.raises(QueryError, match="k is 0: it must be an integer of 1 or more"):
        rec.explain(names, k=0)


def test_invalid_new_item(rec, names):
    with pytest.raises(QueryError, match="co_counts and genres are both empty"):
        rec.similar_to_new_item()
    for count in (-1, float("nan"), float("inf"), 1e300):
        with pytest.raises(QueryError, match=r"co_counts\[\d+\] is .*: it must be a number"):
            rec.similar_to_new_item(co_counts={names[0]: count})
    with pytest.raises(QueryError, match="no item has 'Sadness' in column 'genres'"):
        rec.similar_to_new_item(genres=["Sadness"])


def test_history_of_all_items_returns_nothing(rec):
    everything = rec.bundle.items.ids.tolist()
    for answer in (
        rec.next_items(everything),
        rec.next_items(everything, embedding_weight=0.5, diversity=0.5, popularity_weight=0.5),
        rec.session(everything).next_items(),
        rec.recommend_batch([everything]),
        rec.next_sequences(everything),
    ):
        assert answer.empty
    assert rec.explain(everything).empty


NEXT = {"exclude", "include", "diversity", "popularity_weight", "embedding_weight"}
METHODS = {
    "next_items": (lambda rec, **w: rec.next_items([], **w), NEXT),
    "session": (lambda rec, **w: rec.session().next_items(**w), NEXT),
    "recommend_user": (lambda rec, **w: rec.recommend_user(user_of(rec), **w), NEXT),
    "recommend_users": (lambda rec, **w: rec.recommend_users(**w), NEXT),
    "recommend_batch": (lambda rec, **w: rec.recommend_batch([[]], **w), NEXT),
    "similar_items": (
        lambda rec, **w: rec.similar_items(rec.catalogue.ids[0], **w),
        {"exclude", "include", "diversity"},
    ),
    "similar_to_new_item": (
        lambda rec, **w: rec.similar_to_new_item(co_counts={rec.catalogue.ids[0]: 3}, **w),
        {"exclude", "include", "diversity"},
    ),
    "popular_items": (lambda rec, **w: rec.popular_items(**w), {"exclude", "include"}),
    "next_sequences": (lambda rec, **w: rec.next_sequences(length=1, **w), {"exclude", "include"}),
}
VALUES = {
    "exclude": [],
    "include": None,
    "diversity": 0.0,
    "popularity_weight": 1.0,
    "embedding_weight": None,
}


def user_of(rec):
    return rec.bundle.user_histories.users.ids[0].item()


@pytest.mark.parametrize("method", METHODS)
def test_each_method_accepts_only_its_options(rec, method):
    ask, known = METHODS[method]
    plain = ask(rec).as_records()
    for name, value in {**VALUES, "diverstiy": 0.5}.items():
        if name in known:
            assert ask(rec, **{name: value}).as_records() == plain
        else:
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                ask(rec, **{name: value})


WRONG = [
    {}, [[]], [None], {"genres": []}, {"genres": {}}, {"genres": [[1]]}, {"genres": None}, b"x", 1j,
    {"genres": np.array([1, 2])}, {"genres": pd.Series([1])}, {"item_id": [1, 2]}, {None: 1}, pd.NA,
    np.array(5), np.array([1.5]), np.datetime64("now"), pd.DataFrame({"a": [1]}), object(), int,
    lambda: 1, lambda _: 1 / 0, lambda table: table, (x for x in [1 / 3]), "\ud800", ["9" * 5000],
    [2**70], [True], {1: np.inf}, {"x": 1}, {(1,): 2}, pd.Series([1, 2]), -(2**70), np.bool_(True),
]  # fmt: skip
CALLS = {
    "search": ["query", "k", "include"],
    "popular_items": ["k", "include", "exclude"],
    "similar_items": ["item", "k", "diversity"],
    "similar_to_new_item": ["co_counts", "genres", "k"],
    "next_items": ["history", "k", "embedding_weight", "exclude_seen", "unknown", "exclude"],
    "recommend_user": ["user_id", "k"],
    "recommend_users": ["user_ids", "k"],
    "recommend_batch": ["histories", "unknown"],
    "next_sequences": ["history", "length", "k", "beam_width"],
    "explain": ["history", "items", "k", "unknown"],
    "session": ["history", "unknown"],
    "index_of": ["item"],
}


@pytest.mark.parametrize("method", CALLS)
def test_every_wrong_argument_is_a_query_error(rec, names, method):
    needed = {
        "similar_items": {"item": names[0]},
        "similar_to_new_item": {"genres": rec.catalogue.genres[0]},
        "recommend_user": {"user_id": user_of(rec)},
        "recommend_batch": {"histories": [names]},
        "explain": {"history": names},
    }.get(method, {})
    for argument in CALLS[method]:
        for value in WRONG:
            with contextlib.suppress(QueryError):
                getattr(rec, method)(**{**needed, argument: value})
