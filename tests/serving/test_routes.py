"""The endpoints against the library."""

import gc
import weakref
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from recsys.recommender import Recommender
from recsys.serving import create_app, schemas
from tests.serving.conftest import wait_until


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
        expected = rec.next_items(history, **options).as_records()
        assert response.json() == {"items": expected, "ignored": [], "ambiguous": [], "matched": []}
        assert response.headers["x-model-version"] == rec.version
        schemas.NextResponse.model_validate(response.json())


def test_whatever_is_ignored_is_returned(client):
    """As it was given; integers of more than 64 bits as text."""
    small = [2**63 - 1, -(2**63), "9" * 40, "\u2028", "\0", "²"]
    large = [2**63, 2**64, -(2**63) - 1, int(1e300)]
    expected = [*small, *map(str, large)]
    session = client.post("/v1/sessions").headers["location"]
    for path in ("/v1/next", "/v1/sequences"):
        response = client.post(path, json={"history": [*small, *large]})
        assert response.json()["ignored"] == expected
        schemas.HistoryNotes.model_validate(response.json(), extra="ignore")
    for item, name in zip([*small, *large], expected, strict=True):
        response = client.post(f"{session}/events", json={"item": item})
        assert response.json()["ignored"] == [name]
    content = {"content": '{"history": [1e300]}', "headers": {"content-type": "application/json"}}
    assert client.post("/v1/next", **content).json()["ignored"] == [str(int(1e300))]


def test_integers_of_more_than_64_bits_are_unknown_items(client, rec):
    item = 2**64
    for path, body in (
        ("/v1/next", {"history": [item], "unknown": "raise"}),
        ("/v1/next", {"include": [item], "unknown": "raise"}),
        ("/v1/similar", {"item": item}),
        ("/v1/explain", {"history": titles(rec, 4), "items": [item]}),
        ("/v1/map", {"items": [item]}),
    ):
        response = client.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (404, "unknown-item")
        assert str(item) in response.json()["detail"]


def test_a_body_without_a_content_type_is_refused_with_the_reason(client):
    for headers in ({}, {"content-type": "text/plain"}):
        response = client.post("/v1/next", content=b'{"history": []}', headers=headers)
        assert response.status_code == 422
        assert "Content-Type: application/json" in response.json()["detail"]


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
    assert response["item"] == {"item_id": rec.catalogue.ids[4], "title": titles(rec, 4)[0]}
    schemas.SimilarResponse.model_validate(response)


def test_sequences_are_nested(client, rec):
    body = {"history": titles(rec, 4, 7), "length": 3, "beam_width": 2}
    sequences = client.post("/v1/sequences", json=body).json()["sequences"]
    rows = rec.next_sequences(titles(rec, 4, 7), 3, beam_width=2).as_records()
    assert [[item["title"] for item in sequence["items"]] for sequence in sequences] == [
        [row["title"] for row in rows if row["sequence"] == n] for n in (1, 2)
    ]
    assert sequences[0]["probability"] == rows[0]["probability"]
    schemas.SequencesResponse.model_validate(
        {"sequences": sequences, "ignored": [], "ambiguous": [], "matched": []}
    )
    one = client.post("/v1/sequences", json={**body, "k": 1}).json()["sequences"]
    assert one == sequences[:1]


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
    created = client.post("/v1/sessions")
    assert created.status_code == 201
    schemas.SessionState.model_validate(created.json())
    path = created.headers["location"]
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
        ("/v1/sessions/a b/events", {"item": 1}, 422, "session_id: is not the id of a session"),
        ("/v1/next", {"history": [1.5]}, 422, "history.0: must be an integer, or must be text"),
        ("/v1/next", {"exclude": 5}, 422, "exclude: must be a list, or must be an object"),
        ("/v1/next", {"k": "many"}, 422, "k: must be an integer"),
        ("/v1/next", {"films": []}, 422, "films: there is no such field"),
        ("/v1/similar", {}, 422, "item: is required"),
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
    response = client.post("/v1/next", json={"history": [wanted[:-2]], "unknown": "raise"})
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


def wait_for_model(client, recommender):
    wait_until(lambda: client.app.state.recsys.model.recommender is recommender)


def test_session_continues_with_a_new_recommender(bundle):
    renamed = bundle.catalogue.assign(title=bundle.catalogue["title"] + " again")
    now = [Recommender(bundle)]
    with TestClient(create_app(lambda: now[0])) as client:
        item = bundle.catalogue["item_id"].tolist()[4]
        path = client.post("/v1/sessions").headers["location"] + "/events"
        client.post(path, json={"item": item})
        now[0] = Recommender(replace(bundle, catalogue=renamed))
        wait_for_model(client, now[0])
        response = client.post(path, json={"item": item}).json()
        assert response["n_events"] == 2
        assert all(row["title"].endswith(" again") for row in response["items"])


def test_unknown_items_of_a_history_are_ignored(client, rec):
    known, new = titles(rec, 4, 7), "A film newer than the model"
    for path, given in (
        ("/v1/next", {}),
        ("/v1/sequences", {"length": 2}),
        ("/v1/explain", {"items": titles(rec, 1)}),
    ):
        whole = client.post(path, json={"history": known, **given}).json()
        answer = client.post(path, json={"history": [*known, new, 10**9], **given}).json()
        assert answer == {**whole, "ignored": [new, 10**9]}
        body = {"history": [*known, new], "unknown": "raise", **given}
        assert client.post(path, json=body).status_code == 404
    excluded = client.post("/v1/next", json={"history": known, "exclude": [new]}).json()
    assert excluded == client.post("/v1/next", json={"history": known}).json()


def test_a_title_of_several_items_is_ignored_with_its_candidates(bundle):
    """The most popular first."""
    catalogue = bundle.catalogue.assign(title=["Twins", "Other", *bundle.catalogue["title"][2:]])
    catalogue.loc[5, "title"] = "Twins"
    rec = Recommender(replace(bundle, catalogue=catalogue))
    popular = [row["item_id"] for row in rec.popular_items(len(catalogue)).as_records()]
    twins = sorted(rec.catalogue.ids[[0, 5]].tolist(), key=popular.index)
    with TestClient(create_app(lambda: rec)) as client:
        answer = client.post("/v1/next", json={"history": ["Twins", "No such film", "Other"]})
    assert answer.json()["ignored"] == ["Twins", "No such film"]
    items = [{"item_id": item, "title": "Twins"} for item in twins]
    assert answer.json()["ambiguous"] == [{"query": "Twins", "items": items}]


def test_titles_may_be_written_differently(client, rec):
    (title,), item = titles(rec, 4), rec.catalogue.ids[4].item()
    written = f"  {title[:-7].upper()} "
    matched = [{"query": written, "item_id": item, "title": title}]
    for path, given in (
        ("/v1/next", {}),
        ("/v1/sequences", {"length": 2}),
        ("/v1/explain", {"items": titles(rec, 1)}),
    ):
        whole = client.post(path, json={"history": [item, *titles(rec, 7)], **given}).json()
        body = {"history": [written, *titles(rec, 7)], "unknown": "raise", **given}
        assert client.post(path, json=body).json() == {**whole, "matched": matched}
    path = client.post("/v1/sessions").headers["location"]
    answer = client.post(f"{path}/events", json={"item": written}).json()
    assert answer["matched"] == matched
    assert client.get(path).json()["history"] == [item]
    assert client.post("/v1/similar", json={"item": written}).json()["item"]["item_id"] == item


def test_event_of_an_unknown_item(client, rec):
    path = client.post("/v1/sessions").headers["location"] + "/events"
    client.post(path, json={"item": titles(rec, 4)[0]})
    body = {"item": "A film newer than the model"}
    answer = client.post(path, json=body).json()
    assert (answer["n_events"], answer["ignored"]) == (1, [body["item"]])
    assert answer["items"] == rec.next_items(titles(rec, 4)).as_records()
    assert client.post(path, json={**body, "unknown": "raise"}).status_code == 404


def test_sessions_are_created_by_the_server(client, rec):
    body = {"item": titles(rec, 4)[0]}
    for session_id in ("a" * 22, "one", "x" * 64):
        response = client.post(f"/v1/sessions/{session_id}/events", json=body)
        assert response.status_code in (404, 422)
        assert response.headers["cache-control"] == "no-store"


def test_text_of_digits_is_an_id(client, rec):
    item = rec.catalogue.ids[4].item()
    answers = [client.post("/v1/similar", json={"item": i}).json() for i in (item, str(item))]
    assert answers[0] == answers[1]


def test_genres(client, rec):
    found = client.get("/v1/genres").json()["genres"]
    assert found == sorted({genre for genres in rec.catalogue.genres for genre in genres})


def test_allow_lists_all_methods(client):
    for method, path, allowed in (
        ("PUT", "/v1/sessions/" + "a" * 22, "DELETE, GET"),
        ("DELETE", "/v1/map", "GET, POST"),
        ("GET", "/v1/next", "POST"),
    ):
        response = client.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == allowed


def test_readyz_names_the_model(client, rec):
    ready = client.get("/readyz")
    schemas.Ready.model_validate(ready.json())
    assert ready.json()["version"] == ready.headers["x-model-version"] == rec.version


def test_a_replaced_model_is_freed(bundle):
    now = [Recommender(bundle)]
    freed = []
    weakref.finalize(now[0], freed.append, 1)
    weakref.finalize(now[0].catalogue, freed.append, 2)
    with TestClient(create_app(lambda: now[0])) as client:
        path = client.post("/v1/sessions").headers["location"] + "/events"
        client.post(path, json={"item": bundle.catalogue["item_id"].tolist()[4]})
        client.post("/v1/next", json={})
        now[0] = Recommender(bundle)
        wait_for_model(client, now[0])
        gc.collect()
        assert sorted(freed) == [1, 2]


def test_sessions_that_cannot_be_stored_are_status_503(limited):
    client = limited()
    session = client.post("/v1/sessions").headers["location"]
    client.app.state.recsys.sessions.close()  # as if the disk was full, or the file gone
    for method, path, body in (
        ("POST", "/v1/sessions", None),
        ("GET", session, None),
        ("DELETE", session, None),
        ("POST", f"{session}/events", {"item": 1}),
        ("GET", "/metrics", None),
    ):
        response = client.request(method, path, json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5"), path
        assert response.json()["code"] == "sessions-unavailable"
    assert client.post("/v1/next", json={}).status_code == 200
