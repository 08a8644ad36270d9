"""All methods of the recommender against slow reference implementations."""

import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys.errors import UnknownUserError
from recsys.recommender import Recommender, explain
from recsys.recommender.catalogue import TitleSearch
from recsys.recommender.sessions import Session

HISTORY = [4, 7, 2, 9]


def ids(rec, indices):
    return rec.bundle.items.ids[list(indices)].tolist()


def log_p(rec, history):
    return rec.bundle.session_model.score([np.array(history, np.int32)])[0].astype(np.float64)


def normalised(scores):
    return scores - np.log(np.exp(scores).sum())


def expect(rec, answer, scores, k, allowed=None):
    """Assert that the result has these log-scores."""
    possible = [i for i in range(len(scores)) if scores[i] > -np.inf]
    if allowed is not None:
        possible = [i for i in possible if i in allowed]
    order = sorted(possible, key=lambda i: (-scores[i], i))[:k]
    assert answer["item_id"].tolist() == ids(rec, order)
    np.testing.assert_allclose(answer["score"], np.exp(scores[order]), rtol=1e-4)


def test_weights_follow_the_formula(rec):
    scores = log_p(rec, HISTORY)
    unit = rec.bundle.embeddings.unit_vectors().astype(np.float64)
    mean = unit[HISTORY].sum(axis=0)
    likeness = 10 * unit @ mean / np.linalg.norm(mean)
    popularity = rec.scorer.model.log_popularity_N
    mixed = np.where(np.isfinite(scores), 0.7 * scores + 0.3 * likeness - 0.5 * popularity, scores)
    answer = rec.next_items(ids(rec, HISTORY), 6, embedding_weight=0.3, popularity_weight=0.5)
    expect(rec, answer, normalised(mixed), 6)
    of = [rec.index_of(item) for item in answer["item_id"]]
    np.testing.assert_allclose(answer["probability"], np.exp(scores[of]), rtol=1e-4)
    include = np.where(np.isfinite(scores), likeness, -np.inf)
    expect(rec, rec.next_items(ids(rec, HISTORY), 6, embedding_weight=1), normalised(include), 6)


def test_default_embedding_weight_for_histories_of_one_item(rec):
    single = ids(rec, [4])
    assert rec.next_items(single, 9).equals(rec.next_items(single, 9, embedding_weight=0.2))
    assert not rec.next_items(single, 9).equals(rec.next_items(single, 9, embedding_weight=0))
    two = ids(rec, [4, 7])
    assert rec.next_items(two, 9).equals(rec.next_items(two, 9, embedding_weight=0))
    mixed = rec.recommend_batch([two, single, []], 9)
    for row, history in enumerate((two, single, [])):
        mine = mixed[mixed["row"] == row]["item_id"].tolist()
        assert mine == rec.next_items(history, 9)["item_id"].tolist()


def test_diversity_decreases_similarity(rec):
    history = ids(rec, HISTORY)
    plain = rec.next_items(history, 8)
    same = rec.next_items(history, 8, diversity=0.0)
    assert same.equals(plain)
    varied = rec.next_items(history, 8, diversity=0.8)
    assert varied["item_id"][0] == plain["item_id"][0]

    def closeness(answer):
        unit = rec.bundle.embeddings.unit_vectors()[[rec.index_of(i) for i in answer["item_id"]]]
        return float((unit @ unit.T).sum())

    assert closeness(varied) < closeness(plain)
    similar = rec.similar_items(history[0], 8, diversity=0.8)
    assert closeness(similar) < closeness(rec.similar_items(history[0], 8))


def test_filters_by_attribute_and_by_function(rec):
    catalogue = rec.bundle.catalogue
    genre = catalogue["genres"][0].split("|")[0]
    of_genre = {i for i, g in enumerate(catalogue["genres"]) if genre in g.split("|")}
    history = ids(rec, HISTORY)
    scores = log_p(rec, HISTORY)
    for choice in ({"genres": genre}, {"genres": [genre.upper()]}):
        expect(rec, rec.next_items(history, 50, include=choice), scores, 50, of_genre)
    late = rec.next_items(history, 50, include=lambda items: items["year"] > 1980)
    expect(rec, late, scores, 50, {i for i in range(50) if i > 30})
    rest = rec.next_items(history, 50, exclude={"genres": genre})
    expect(rec, rest, scores, 50, set(range(50)) - of_genre)
    one_year = rec.popular_items(5, include={"year": [1953, 1954]})
    assert sorted(one_year["item_id"]) == ids(rec, [3, 4])
    similar = rec.similar_items(history[0], 50, include={"genres": genre})
    assert set(similar["item_id"]) <= set(ids(rec, of_genre))


def test_session_equals_history(rec):
    session = rec.session()
    assert session.next_items(5).equals(rec.popular_items(5))
    history = []
    for item in ids(rec, [*HISTORY, 4, 11]):
        session.add(item)
        history.append(item)
        answer, whole = session.next_items(5), rec.next_items(history, 5)
        assert answer["item_id"].tolist() == whole["item_id"].tolist()
        np.testing.assert_allclose(answer["score"], whole["score"], rtol=1e-4)
    assert session.history == history
    assert len(session) == 6
    assert rec.session(history).next_items(5)["item_id"].tolist() == whole["item_id"].tolist()


def test_batch_equals_single_requests(rec, log):
    histories = {
        str(log.users.ids[u]): log.items.ids[log.history(u)].tolist() for u in range(40)
    } | {"nobody": []}
    for options in (
        {},
        {"embedding_weight": 0.4, "exclude": [log.items.ids[0].item()]},
        {"diversity": 0.5},
    ):
        batch = rec.recommend_batch(histories, 4, **options)
        assert list(batch)[:2] == ["user_id", "rank"]
        for name, history in histories.items():
            expected = rec.next_items(history, 4, **options)
            mine = batch[batch["user_id"] == name].reset_index(drop=True)
            assert mine["item_id"].tolist() == expected["item_id"].tolist()
            assert mine["rank"].tolist() == expected["rank"].tolist()
            np.testing.assert_allclose(mine["probability"], expected["probability"], rtol=1e-4)
    in_order = rec.recommend_batch(list(histories.values()), 4)
    assert in_order["row"].drop_duplicates().tolist() == list(range(41))
    assert rec.recommend_batch([]).empty
    assert (
        rec.recommend_batch([[]], 2)["item_id"].tolist() == rec.popular_items(2)["item_id"].tolist()
    )


def test_users_of_the_bundle(rec, log, bundle):
    for user in (0, 17):
        name = log.users.ids[user].item()
        answer = rec.recommend_user(name, 5)
        expected = rec.next_items(log.items.ids[log.history(user)], 5)
        assert answer["item_id"].tolist() == expected["item_id"].tolist()
        np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-4)
    everyone = rec.recommend_users(k=3)
    assert everyone["user_id"].nunique() == log.n_users
    selected = rec.recommend_users(log.users.ids[[17, 0]].tolist(), k=5)
    assert selected["user_id"].drop_duplicates().tolist() == log.users.ids[[17, 0]].tolist()
    assert (
        selected["item_id"][5:].tolist()
        == rec.recommend_user(log.users.ids[0], 5)["item_id"].tolist()
    )
    with pytest.raises(UnknownUserError, match="no history of user 'ann'"):
        rec.recommend_user("ann")
    with pytest.raises(UnknownUserError, match="has no user histories"):
        Recommender(bundle).recommend_user(1)


def test_explanations_equal_occlusion(rec, log):
    history = [*HISTORY, 4]  # with a repeated item
    answer = rec.explain(ids(rec, history), ids(rec, [20, 30]), k=4)
    assert answer["item_id"].tolist() == ids(rec, [20] * 4 + [30] * 4)
    assert answer["rank"].tolist() == [1, 2, 3, 4] * 2

    def log_p_without(removed, item):
        rest = [i for i in history if i != removed]
        logits = rec.bundle.session_model.score([np.array(rest, np.int32)])[0].astype(np.float64)
        logits[history] = -np.inf  # normalised over the same items in all cases
        return normalised(logits)[item]

    positive = log.user_item_matrix()
    positive = positive.toarray() * 0
    rated = log.rating >= 3.0
    positive[log.user_index[rated], log.item_index[rated]] = 1
    for item in (20, 30):
        rows = answer[answer["item_id"] == ids(rec, [item])[0]]
        whole = log_p(rec, history)[item]
        decrease = {w: whole - log_p_without(w, item) for w in HISTORY}
        best = sorted(HISTORY, key=lambda w: -decrease[w])
        assert rows["because_item_id"].tolist() == ids(rec, best)
        np.testing.assert_allclose(rows["score"], [decrease[w] for w in best], atol=1e-4)
        counts = [int((positive[:, w] & positive[:, item]).sum()) for w in best]
        assert rows["cooccurrence"].tolist() == counts
        sentence = rows["sentence"].iloc[0]
        speaking = [w for w in best if decrease[w] > 0]
        assert sentence.startswith(rec.catalogue.titles[item])
        assert all(rec.catalogue.titles[w] in sentence for w in speaking)
    assert rec.explain(ids(rec, history))["item_id"].nunique() == 10
    assert "users in common" in " ".join(rec.explain(ids(rec, history), k=4)["sentence"])


def test_next_sequences_equal_torch_beam_search(rec):
    from recsys.sessions import beam_search

    answer = rec.next_sequences(ids(rec, HISTORY), 3, beam_width=4)
    lists = beam_search(rec.bundle.session_model, HISTORY, 3, 4)
    assert answer["sequence"].tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    for number, expected in enumerate(lists, start=1):
        rows = answer[answer["sequence"] == number]
        assert rows["item_id"].tolist() == ids(rec, expected.items)
        np.testing.assert_allclose(rows["probability"], np.exp(expected.log_probability), rtol=1e-4)
        np.testing.assert_allclose(rows["score"].prod(), rows["probability"].iloc[0], rtol=1e-4)
    include = ids(rec, [20, 21])
    short = rec.next_sequences(ids(rec, HISTORY), 5, include=include)
    assert sorted(short[short["sequence"] == 1]["item_id"]) == sorted(include), (
        "only two items are allowed"
    )
    assert rec.next_sequences(ids(rec, HISTORY), 3, include=ids(rec, HISTORY)).empty


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("labedz", "Łabędź. Tom 1"),
        ("ŁABĘDŹ TOM 2", "Łabędź. Tom 2"),
        ("zolty kamien", "Żółty Kamień"),
        ("zrodlo", "Źródło"),
    ],
)
def test_search_ignores_accents_and_strokes(query, title):
    titles = [
        "Łabędź. Tom 1",
        "Łabędź. Tom 2",
        "Żółty Kamień",
        "Złoty Kamień",
        "Źródło",
        "Zbrodnia",
    ]
    similarity = TitleSearch(titles).similarity(query)
    assert titles[int(similarity.argmax())] == title
    assert similarity.max() > 0.85


def test_search_tolerates_typos(rec):
    for index in (0, 11, 33):
        title = rec.catalogue.titles[index]
        name = title.rsplit(" (", 1)[0]
        swapped = name[:2] + name[3] + name[2] + name[4:]
        for query in (title, title.lower(), name, swapped):
            found = rec.search(query, 5)
            assert title in found["title"].tolist(), query
        assert rec.search(title)["title"][0] == title
        assert rec.search(title)["score"][0] == pytest.approx(1.0, abs=0.03)
    assert {"genres", "year"} <= set(rec.search(title))
    assert rec.search("qqqqzzzz").empty
    assert rec.search("", 3)["item_id"].tolist() == rec.popular_items(3)["item_id"].tolist()


def test_item_without_embedding_is_represented_by_its_genres(full):
    vectors = full.embeddings.vectors.copy()
    vectors[6] = 0
    embeddings = replace(full.embeddings, vectors=vectors)
    index, cosine = embeddings.neighbours(20)
    cold = Recommender(
        replace(full, embeddings=embeddings, neighbour_index=index, neighbour_cosine=cosine)
    )
    unit = embeddings.unit_vectors()
    wanted = set(full.catalogue["genres"][6].split("|"))
    weight = np.array([len(wanted & set(g.split("|"))) ** 2 for g in full.catalogue["genres"]])
    mean = weight @ unit
    scores = unit @ mean / np.linalg.norm(mean)
    scores[~vectors.any(axis=1)] = -np.inf
    answer = cold.similar_items(ids(cold, [6])[0], 5)
    order = np.argsort(-scores, kind="stable")[:5]
    assert answer["item_id"].tolist() == ids(cold, order)
    new = cold.similar_to_new_item(genres=sorted(wanted), k=5)
    assert new["item_id"].tolist() == ids(cold, order)
    bare = Recommender(replace(cold.bundle, catalogue=full.catalogue.drop(columns="genres")))
    assert bare.similar_items(ids(cold, [6])[0]).empty


def test_new_item_is_represented_by_its_counts(rec, log):
    from recsys.cooccurrence import count_cooccurrence

    counts = count_cooccurrence(log, min_rating=3.0).matrix.toarray()
    co_counts = {i: int(n) for i, n in zip(ids(rec, range(50)), counts[8], strict=True) if n}
    answer = rec.similar_to_new_item(co_counts=co_counts, k=3)
    assert answer["item_id"][0] == ids(rec, [8])[0], "the item with these counts is the nearest"


def test_explanations_without_counts(bundle):
    rec = Recommender(bundle)
    answer = rec.explain(ids(rec, HISTORY), ids(rec, [20])[0])
    assert answer["cooccurrence"].isna().all()
    assert answer.as_records()[0]["cooccurrence"] is None


@pytest.mark.parametrize("method", [Recommender.next_items, Session.next_items])
def test_signatures(method):
    parameters = inspect.signature(method).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert defaults == {
        "exclude": (), "include": None, "diversity": 0.0, "popularity_weight": 1.0,
        "embedding_weight": None, "exclude_seen": None, "unknown": "raise",
    }  # fmt: skip
    similar = inspect.signature(Recommender.similar_items).parameters
    assert list(similar) == ["self", "item", "k", "include", "exclude", "diversity"]


def test_explanations_of_a_long_history_are_computed_in_batches(rec, monkeypatch):
    history = ids(rec, list(range(30)) * 4)
    expected, calls = rec.explain(history, k=40), []
    monkeypatch.setattr(explain, "_STEPS_PER_BATCH", 1)
    answer = rec.explain(history, k=40, on_step=lambda: calls.append(1))
    assert len(calls) == 4
    pd.testing.assert_frame_equal(answer, expected, rtol=1e-4, atol=1e-5)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rec.explain(history, on_step=stop)


def test_each_step_of_a_sequence_may_end_the_computation(rec):
    left = [None, None, KeyboardInterrupt]

    def step():
        if error := left.pop(0):
            raise error

    with pytest.raises(KeyboardInterrupt):
        rec.next_sequences(ids(rec, HISTORY), 4, on_step=step)
    assert not left


def test_fewer_sequences_than_the_beam(rec):
    history = ids(rec, HISTORY)
    whole = rec.next_sequences(history, 3, beam_width=4)
    assert rec.next_sequences(history, 3, k=2, beam_width=4).equals(whole[whole["sequence"] <= 2])
    assert rec.next_sequences(history, 3, k=4, beam_width=1).equals(whole)


def test_values_of_a_column_are_indexed_once(rec):
    genre = rec.catalogue.genres[0][0]
    for spelling in (genre, genre.lower(), genre.upper(), [genre, genre.upper()]):
        assert rec.popular_items(50, include={"genres": spelling}).equals(
            rec.popular_items(50, include={"genres": genre})
        )
    for year in range(1800, 2100):
        rec.popular_items(1, include={"year": year})
    assert set(rec.catalogue._values) <= {"genres", "year", "title"}
