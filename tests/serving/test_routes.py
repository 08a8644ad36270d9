"""The endpoints answer as the library does."""

import pytest

from recsys.serving import schemas


def titles(rec, *indices):
    return [rec.catalogue.titles[i] for i in indices]


def test_next_is_what_the_library_says(client, rec):
    history = [*titles(rec, 4, 7), rec.catalogue.ids[2].item()]
    for options in (
        {},
        {"k": 3, "diversity": 0.5, "embedding_weight": 0.3, "popularity_weight": 0.2},
    ):
        answered = client.post("/v1/next", json={"history": history, **options})
        assert answered.status_code == 200
        assert answered.json() == {"items": rec.next_items(history, **options).as_records()}
        schemas.Items[schemas.NextItem].model_validate(answered.json())


def test_an_empty_history_gets_what_is_popular(client, rec):
    assert client.post("/v1/next", json={}).json()["items"] == rec.popular_items().as_records()


def test_exclude_and_only_name_items_or_genres(client, rec):
    genre = rec.catalogue.table["genres"].iloc[0].split("|")[0]
    asked = {"history": titles(rec, 4), "include": {"genres": [genre]}, "exclude": titles(rec, 0)}
    found = client.post("/v1/next", json=asked).json()["items"]
    expected = rec.next_items(
        titles(rec, 4), include={"genres": [genre]}, exclude=titles(rec, 0)
    ).as_records()
    assert found == expected
    assert found
    answered = client.post("/v1/next", json={"include": {"genres": ["Knitting"]}})
    assert (answered.status_code, answered.json()["code"]) == (404, "unknown-genre")


def test_similar(client, rec):
    answered = client.post("/v1/similar", json={"item": titles(rec, 4)[0], "k": 4}).json()
    assert answered["items"] == rec.similar_items(titles(rec, 4)[0], 4).as_records()
    schemas.Items[schemas.SimilarItem].model_validate(answered)


def test_watch_lists_are_nested(client, rec):
    asked = {"history": titles(rec, 4, 7), "length": 3, "beam_width": 2}
    lists = client.post("/v1/sequences", json=asked).json()["sequences"]
    rows = rec.next_sequences(titles(rec, 4, 7), 3, beam_width=2).as_records()
    assert [[step["title"] for step in one["items"]] for one in lists] == [
        [row["title"] for row in rows if row["sequence"] == n] for n in (1, 2)
    ]
    assert lists[0]["probability"] == rows[0]["probability"]
    schemas.SequencesResponse.model_validate({"sequences": lists})


def test_explanations_are_nested(client, rec):
    asked = {"history": titles(rec, 4, 7), "items": titles(rec, 1, 2), "k": 2}
    items = client.post("/v1/explain", json=asked).json()["items"]
    rows = rec.explain(titles(rec, 4, 7), titles(rec, 1, 2), 2).as_records()
    assert [item["title"] for item in items] == titles(rec, 1, 2)
    assert items[1]["sentence"] == rows[2]["sentence"]
    assert [reason["title"] for reason in items[0]["contributions"]] == [
        row["because_title"] for row in rows[:2]
    ]
    schemas.Items[schemas.ExplainedItem].model_validate({"items": items})


def test_what_was_watched_is_not_explained(client, rec):
    asked = {"history": titles(rec, 4), "items": titles(rec, 4)}
    answered = client.post("/v1/explain", json=asked)
    assert answered.status_code == 409
    assert "is in the history" in answered.json()["detail"]


def test_search_forgives_typing_errors(client, rec):
    wanted = rec.catalogue.titles[4]
    found = client.get("/v1/items", params={"query": wanted[1:-7], "k": 3}).json()
    assert found["items"][0]["title"] == wanted
    schemas.Items[schemas.FoundItem].model_validate(found)


def test_a_session_goes_on_event_by_event(client, rec):
    path = "/v1/sessions/one"
    for n, index in enumerate((4, 7, 2), start=1):
        asked = {"item": titles(rec, index)[0], "k": 5}
        answered = client.post(f"{path}/events", json=asked).json()
        assert answered["n_events"] == n
        schemas.SessionResponse.model_validate(answered)
    expected = rec.next_items(titles(rec, 4, 7, 2), 5).as_records()
    assert [item["title"] for item in answered["items"]] == [row["title"] for row in expected]
    state = client.get(path).json()
    assert state["history"] == [rec.catalogue.ids[i].item() for i in (4, 7, 2)]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == client.delete(path).status_code == 404


def test_the_map_places_what_has_a_vector(client, rec):
    shown = client.get("/v1/map", params={"k": 10}).json()
    schemas.Items[schemas.MapPoint].model_validate(shown)
    assert len(shown["items"]) == 10
    assert all(-1 <= item[axis] <= 1 for item in shown["items"] for axis in "xy")
    named = client.post("/v1/map", json={"items": [shown["items"][3]["title"]]}).json()["items"]
    assert named == [shown["items"][3]]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/next", {"history": "Heat"}, 422, "history"),
        ("/v1/next", {"history": [1.5]}, 422, "history"),
        ("/v1/next", {"history": [True]}, 422, "history"),
        ("/v1/next", {"history": [None]}, 422, "history"),
        ("/v1/next", {"history": [1] * 501}, 422, "at most 500"),
        ("/v1/next", {"k": 0}, 422, "k: "),
        ("/v1/next", {"k": 201}, 422, "k: "),
        ("/v1/next", {"diversity": 1.01}, 422, "diversity"),
        ("/v1/next", {"films": []}, 422, "films"),
        ("/v1/explain", {"history": []}, 422, "history"),
        ("/v1/similar", {}, 422, "item"),
        ("/v1/similar", {"item": 10**18}, 404, "no item"),
        ("/v1/sessions/a b/events", {"item": 1}, 422, "session_id"),
        ("/v1/nothing", {}, 404, "Not Found"),
    ],
)
def test_mistakes_are_problems(client, path, body, status, message):
    answered = client.post(path, json=body)
    assert answered.status_code == status
    assert answered.headers["content-type"] == "application/problem+json"
    told = answered.json()
    assert told["status"] == status
    assert message in told["detail"]


def test_an_unknown_title_gets_the_closest(client, rec):
    wanted = rec.catalogue.titles[4]
    answered = client.post("/v1/next", json={"history": [wanted[:-2]]})
    assert answered.status_code == 404
    assert answered.json()["closest"][0] == wanted


@pytest.mark.parametrize(
    "body", [b"{", b"", b'{"embedding_weight": NaN}', b'{"k": 1e400}', b"[" * 5000]
)
def test_broken_json_is_told(client, body):
    headers = {"content-type": "application/json"}
    answered = client.post("/v1/next", content=body, headers=headers)
    assert answered.status_code in (400, 422)
    assert answered.json()["detail"]


def test_sessions_go_on_where_another_recommender_takes_over(bundle):
    from dataclasses import replace

    from fastapi.testclient import TestClient

    from recsys.recommender import Recommender
    from recsys.serving import create_app

    renamed = bundle.catalogue.assign(title=bundle.catalogue["title"] + " again")
    now = [Recommender(bundle)]
    with TestClient(create_app(lambda: now[0])) as client:
        item = bundle.catalogue["item_id"].tolist()[4]
        client.post("/v1/sessions/a/events", json={"item": item})
        now[0] = Recommender(replace(bundle, catalogue=renamed))
        client.get("/readyz")  # the first request that finds it has everything made from it
        client.app.state.recsys._loader.join(30)
        answered = client.post("/v1/sessions/a/events", json={"item": item}).json()
        assert answered["n_events"] == 2
        assert all(row["title"].endswith(" again") for row in answered["items"])
