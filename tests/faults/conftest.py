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


def pytest_terminal_summary(terminalreporter):
    """Print the figures that tests recorded with `record_property`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            terminalreporter.write_line(f"{name}: {value}")
