"""Requests to a served model, directly and through MLflow's scoring server."""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import log_bundle, promote, register, start_run
from recsys.tracking.pyfunc import ServedRecommender


@pytest.fixture(scope="module")
def rec(bundle):
    return Recommender(bundle)


def predict(rec, requests, **params):
    served = ServedRecommender()
    served.recommender = rec
    return served.predict(None, requests, params)


def records(answer):
    return answer.as_records()


def test_each_request_is_answered_separately(rec):
    a, b, c = rec.bundle.catalogue["title"][:3]
    number = rec.bundle.catalogue["item_id"][1]
    requests = pd.DataFrame(
        [{"history": [a, str(number)]}, {"history": None, "similar_to": c}, {"history": []}]
    )
    answers = predict(rec, requests, k=3)["items"]
    assert answers[0] == records(rec.next_items([a, b], k=3))
    assert answers[1] == records(rec.similar_items(c, k=3))
    assert answers[2] == records(rec.next_items([], k=3))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"history": ["nonsense"]}, "no item has the id or title 'nonsense'"),
        ({"similar_to": "nonsense"}, "no item has the id or title 'nonsense'"),
        ({"history": None, "similar_to": None}, "not both"),
        ({"history": ["a"], "similar_to": "a"}, "not both"),
        ({"watched": ["a"]}, "a request needs 'history'"),
    ],
)
def test_invalid_requests_are_rejected(rec, request_, message):
    with pytest.raises(MlflowException, match=message) as error:
        predict(rec, pd.DataFrame([request_]))
    assert error.value.get_http_status_code() == 400


def test_k_below_one_is_rejected(rec):
    requests = pd.DataFrame([{"history": [rec.bundle.catalogue["title"][0]]}])
    with pytest.raises(MlflowException, match="k is 0"):
        predict(rec, requests, k=0)


def post(address, content):
    """Post a request; return the status and the JSON of the response."""
    headers = {"Content-Type": "application/json"}
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/invocations", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_mlflow_serves_the_champion(store, bundle, rec, free_port, started):
    with start_run("pipeline", "e") as run:
        log_bundle(run, save_bundle(bundle, store / "bundle"))
        promote(run, "recsys", register(run, "recsys", "the first"))
    # Without this project on the path: the model contains the code that it needs.
    other_folder = store / "other"
    other_folder.mkdir()
    address = f"http://127.0.0.1:{free_port}"
    started(
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/recsys@champion"),
        *("--env-manager", "local", "--port", str(free_port)),
        cwd=other_folder,
        env={
            # MLflow starts uvicorn by name, as in an activated environment.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": run.client.tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        },
        until=f"{address}/ping",
    )
    a, b, c = bundle.catalogue["title"][:3]
    status, body = post(
        address,
        {
            "dataframe_records": [
                {"history": [a, b], "similar_to": None},
                {"history": None, "similar_to": c},
            ],
            "params": {"k": 4},
        },
    )
    assert status == 200, body
    expected = [records(rec.next_items([a, b], k=4)), records(rec.similar_items(c, k=4))]
    for answer, items in zip(body["predictions"], expected, strict=True):
        assert [item["title"] for item in answer["items"]] == [item["title"] for item in items]
        assert answer["items"] == [pytest.approx(item) for item in items]
    status, body = post(address, {"dataframe_records": [{"history": [a, b]}]})
    assert (status, len(body["predictions"][0]["items"])) == (200, 10)
    for invalid, message in [
        ({"dataframe_records": [{"history": ["nonsense"]}]}, "no item has the id or title"),
        ({"dataframe_records": [{"watched": [a]}]}, "a request needs 'history'"),
        ({"dataframe_records": [{"history": a}]}, "Expected data to be list"),
        ({"dataframe_records": [{"history": [a]}], "params": {"k": 0}}, "k is 0"),
        ({"dataframe_records": [{"history": [a]}], "params": {"k": "many"}}, "k"),
        (b"{", "JSON"),
    ]:
        status, body = post(address, invalid)
        assert status == 400, body
        assert message in body["message"]
        assert "Traceback" not in body["message"]
