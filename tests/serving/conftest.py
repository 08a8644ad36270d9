import time

import pytest
from fastapi.testclient import TestClient

from recsys.recommender import Recommender
from recsys.serving import ServingConfig, create_app


def wait_until(true, seconds=60.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="package")
def rec(bundle):
    return Recommender(bundle)


@pytest.fixture(scope="package")
def client(rec):
    with TestClient(create_app(lambda: rec)) as running:
        yield running


@pytest.fixture
def limited(rec):
    """Create a client of a server with other limits."""
    opened = []

    def open_with(**limits):
        client = TestClient(create_app(lambda: rec, ServingConfig(**limits)))
        opened.append(client)
        return client.__enter__()

    yield open_with
    for client in opened:
        client.__exit__(None, None, None)
