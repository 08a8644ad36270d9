"""Requests to a served model, and MLflow's own scoring server with the champion in it."""

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
from recsys.tracking.serving import answer


@pytest.fixture(scope="module")
def rec(bundle):
    return Recommender(bundle)


def items(found):
    return found.as_records()


def test_each_request_gets_its_own_list(rec):
    a, b, c = rec.bundle.catalogue["title"][:3]
    number = rec.bundle.catalogue["item_id"][1]
    requests = pd.DataFrame(
        [{"history": [a, str(number)]}, {"history": None, "similar_to": c}, {"history": []}]
    )
    found = answer(rec, requests, k=3)["items"]
    assert found[0] == items(rec.next_items([a, b], k=3))
    assert found[1] == items(rec.similar_items(c, k=3))
    assert found[2] == items(rec.next_items([], k=3))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"history": ["nonsense"]}, "no item has the id or title 'nonsense'"),
        ({"similar_to": "nonsense"}, "no item has the id or title 'nonsense'"),
        ({"history": None, "similar_to": None}, "one of the two"),
        ({"history": ["a"], "similar_to": "a"}, "one of the two"),
        ({"watched": ["a"]}, "a request needs 'history'"),
    ],
)
def test_what_cannot_be_answered_is_refused(rec, request_, message):
    with pytest.raises(MlflowException, match=message) as refused:
        answer(rec, pd.DataFrame([request_]))
    assert refused.value.get_http_status_code() == 400


def test_fewer_than_one_item_is_refused(rec):
    requests = pd.DataFrame([{"history": [rec.bundle.catalogue["title"][0]]}])
    with pytest.raises(MlflowException, match="k is 0"):
        answer(rec, requests, k=0)


def ask(address, body):
    """The status and the JSON that come back."""
    headers = {"Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
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
    # Elsewhere, and without this project on its path: the model brings along what it needs.
    elsewhere = store / "elsewhere"
    elsewhere.mkdir()
    address = f"http://127.0.0.1:{free_port}"
    started(
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/recsys@champion"),
        *("--env-manager", "local", "--port", str(free_port)),
        cwd=elsewhere,
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
    status, told = ask(
        address,
        {
            "dataframe_records": [
                {"history": [a, b], "similar_to": None},
                {"history": None, "similar_to": c},
            ],
            "params": {"k": 4},
        },
    )
    assert status == 200, told
    expected = [items(rec.next_items([a, b], k=4)), items(rec.similar_items(c, k=4))]
    for one, list_ in zip(told["predictions"], expected, strict=True):
        assert [item["title"] for item in one["items"]] == [item["title"] for item in list_]
        assert one["items"] == [pytest.approx(item) for item in list_]
    status, told = ask(address, {"dataframe_records": [{"history": [a, b]}]})
    assert (status, len(told["predictions"][0]["items"])) == (200, 10)
    for body, message in [
        ({"dataframe_records": [{"history": ["nonsense"]}]}, "no item has the id or title"),
        ({"dataframe_records": [{"watched": [a]}]}, "a request needs 'history'"),
        ({"dataframe_records": [{"history": a}]}, "Expected data to be list"),
        ({"dataframe_records": [{"history": [a]}], "params": {"k": 0}}, "k is 0"),
        ({"dataframe_records": [{"history": [a]}], "params": {"k": "many"}}, "k"),
        (b"{", "JSON"),
    ]:
        status, told = ask(address, body)
        assert status == 400, told
        assert message in told["message"]
        assert "Traceback" not in told["message"]
