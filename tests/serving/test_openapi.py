"""Property-based tests of the OpenAPI description."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from recsys.serving import create_app

OPERATIONS = [
    "POST /v1/next",
    "POST /v1/similar",
    "POST /v1/sequences",
    "POST /v1/explain",
    "GET /v1/items",
    "GET /v1/genres",
    "GET /v1/map",
    "POST /v1/map",
    "POST /v1/sessions",
    "POST /v1/sessions/{session_id}/events",
    "GET /v1/sessions/{session_id}",
    "DELETE /v1/sessions/{session_id}",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]


@pytest.fixture(scope="module")
def described(rec):
    # A separate application: schemathesis starts and stops it.
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(lambda: rec))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_conforms_to_its_description(described, name, mode):
    operation = described.find_operation_by_label(name)
    cases = operation.as_strategy(generation_mode=mode)

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def try_out(case):
        case.call_and_validate()

    if mode == schemathesis.GenerationMode.NEGATIVE and not takes_anything(operation):
        pytest.skip("the operation has no parameters")
    try_out()


def takes_anything(operation):
    return bool([*operation.query, *operation.path_parameters, *operation.body])


def test_all_operations_are_tested(described):
    assert sorted(op.ok().label for op in described.get_all_operations()) == sorted(OPERATIONS)


def test_every_request_has_an_example(client):
    described = client.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                assert described["components"]["schemas"][name]["examples"], path


def test_api_key_is_described(limited, client):
    guarded = limited(api_key="a key of enough letters").get("/openapi.json").json()
    assert guarded["paths"]["/v1/next"]["post"]["security"] == [{"key": []}]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/v1/next"]["post"]
