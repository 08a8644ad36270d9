"""Tests of the promises in docs/reliability.md: short in every run, long on request."""

import pytest


@pytest.fixture(scope="session")
def chaos(request):
    """Whether the long forms run: `pytest --chaos`."""
    return request.config.getoption("--chaos")


@pytest.fixture(scope="session")
def trials(chaos):
    """A function (short, long) that returns the number of repetitions of this run."""
    return lambda short, long: long if chaos else short
