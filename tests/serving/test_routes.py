"""The endpoints against the library."""

import pytest

from recsys.serving import schemas


def titles(rec, *indices):
    return [rec.catalogue.titles[i] for i in indices]


def test_next(client, rec):
    history = [*titles(rec, 4, 7), rec.catalogue.ids[2].item()]
    for options in (
        {},
        {"k": 3, "diversity": 0.5, "embedding_weight": 0.3, "popularity_weight": 0.2},
    ):
        response = client.post("/v1/next", json={"history": history, **options})
        assert response.status_code == 200
        assert response.json() == {"items": rec.next_items(history, **options).as_records()}
        schemas.Items[schemas.NextItem].model_validate(response.json())


def test_empty_history_returns_popular_items(client, rec):
    assert client.post("/v1/next", json={}).json()["items"] == rec.popular_items().as_records()


def test_filters_by_items_or_genres(client, rec):
    genre = rec.catalogue.table["genres"].iloc[0].split("|")[0]
    body = {"history": titles(rec, 4), "include": {"genres": [genre]}, "exclude": titles(rec, 0)}
    found = client.post("/v1/next", json=body).json()["items"]
    expected = rec.next_items(
        titles(rec, 4), include={"genres": [genre]}, exclude=titles(rec, 0)
    ).as_records()
    assert found == expected
    assert found
    response = client.post("/v1/next", json={"include": {"genres": ["Knitting"]}})
    assert (response.status_code, response.json()["code"]) == (404, "unknown-genre")


def test_similar(client, rec):
    response = client.post("/v1/similar", json={"item": titles(rec, 4)[0], "k": 4}).json()
    assert response["items"] == rec.similar_items(titles(rec, 4)[0], 4).as_records()
    schemas.Items[schemas.SimilarItem].model_validate(response)


def test_sequences_are_nested(client, rec):
    body = {"history": titles(rec, 4, 7), "length": 3, "beam_width": 2}
    sequences = client.post("/v1/sequences", json=body).json()["sequences"]
    rows = rec.next_sequences(titles(rec, 4, 7), 3, beam_width=2).as_records()
    assert [[item["title"] for item in sequence["items"]] for sequence in sequences] == [
        [row["title"] for row in rows if row["sequence"] == n] for n in (1, 2)
    ]
    assert sequences[0]["probability"] == rows[0]["probability"]
    schemas.SequencesResponse.model_validate({"sequences": sequences})


def test_explanations_are_nested(client, rec):
    body = {"history": titles(rec, 4, 7), "items": titles(rec, 1, 2), "k": 2}
    items = client.post("/v1/explain", json=body).json()["items"]
    rows = rec.explain(titles(rec, 4, 7), titles(rec, 1, 2), 2).as_records()
    assert [item["title"] for item in items] == titles(rec, 1, 2)
    assert items[1]["sentence"] == rows[2]["sentence"]
    assert [reason["title"] for reason in items[0]["contributions"]] == [
        row["because_title"] for row in rows[:2]
    ]
    schemas.Items[schemas.ExplainedItem].model_validate({"items": items})


def test_items_of_the_history_are_not_explained(client, rec):
    body = {"history": titles(rec, 4), "items": titles(rec, 4)}
    response = client.post("/v1/explain", json=body)
    assert response.status_code == 409
    assert "is in the history" in response.json()["detail"]


def test_search_tolerates_typos(client, rec):
    wanted = rec.catalogue.titles[4]
    found = client.get("/v1/items", params={"query": wanted[1:-7], "k": 3}).json()
    assert found["items"][0]["title"] == wanted
    schemas.Items[schemas.FoundItem].model_validate(found)


def test_session_events(client, rec):
    path = "/v1/sessions/one"
    for n, index in enumerate((4, 7, 2), start=1):
        body = {"item": titles(rec, index)[0], "k": 5}
        response = client.post(f"{path}/events", json=body).json()
        assert response["n_events"] == n
        schemas.SessionResponse.model_validate(response)
    expected = rec.next_items(titles(rec, 4, 7, 2), 5).as_records()
    assert [item["title"] for item in response["items"]] == [row["title"] for row in expected]
    state = client.get(path).json()
    assert state["history"] == [rec.catalogue.ids[i].item() for i in (4, 7, 2)]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == client.delete(path).status_code == 404


def test_map(client, rec):
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
def test_invalid_requests_are_problems(client, path, body, status, message):
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert message in problem["detail"]


def test_unknown_title(client, rec):
    wanted = rec.catalogue.titles[4]
    response = client.post("/v1/next", json={"history": [wanted[:-2]]})
    assert response.status_code == 404
    assert response.json()["closest"][0] == wanted


@pytest.mark.parametrize(
    "body", [b"{", b"", b'{"embedding_weight": NaN}', b'{"k": 1e400}', b"[" * 5000]
)
def test_malformed_json(client, body):
    headers = {"content-type": "application/json"}
    response = client.post("/v1/next", content=body, headers=headers)
    assert response.status_code in (400, 422)
    assert response.json()["detail"]


def test_session_continues_with_a_new_recommender(bundle):
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
        client.get("/readyz")  # starts the preparation of the new model
        client.app.state.recsys._loader.join(30)
        response = client.post("/v1/sessions/a/events", json={"item": item}).json()
        assert response["n_events"] == 2
        assert all(row["title"].endswith(" again") for row in response["items"])
