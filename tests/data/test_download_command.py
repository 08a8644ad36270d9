"""`recsys data get` and `list` against the local server."""

import signal
import time

import pytest
from typer.testing import CliRunner

from recsys.cli.main import app
from recsys.errors import DownloadError

NAME = "ml-latest-small"


@pytest.fixture
def run(server, layout, monkeypatch):
    """Run the command line with only the local server's data set."""
    sources = server.offer(layout)
    monkeypatch.setattr("recsys.data.public.public_sources", lambda: sources)
    return lambda *arguments: CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_get_prints_the_folder_and_the_terms(run, tmp_path):
    result = run("get", NAME, "--folder", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / NAME}\n"
    assert "For tests only." in result.stderr
    assert (tmp_path / NAME / "ratings.csv").is_file()

    again = run("get", NAME, "--folder", tmp_path)
    assert (again.stdout, again.stderr) == (result.stdout, "")


def test_the_default_folder_is_data(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("get", NAME).stdout == f"data/{NAME}\n"
    assert run("list").stdout.split()[-1] == "yes"


def test_list_shows_the_data_sets(run, tmp_path):
    result = run("list", "--folder", tmp_path)
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()).endswith(f"{NAME} A tiny data set 0.0 MB no")


def test_a_failed_download_is_an_error(run, server, tmp_path):
    server.status = 404
    result = run("get", NAME, "--folder", tmp_path)
    assert isinstance(result.exception, DownloadError)


def test_ctrl_c_leaves_nothing_behind(server, layout, tmp_path, start_recsys):
    source = server.offer(layout)[NAME]
    server.stall_after = 4096
    patch = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from recsys.data import public\n"
        f"source = public.Source.model_validate_json({source.model_dump_json()!r})\n"
        "public.public_sources = lambda: {source.name: source}\n"
    )
    process = start_recsys("data", "get", NAME, "--folder", str(tmp_path), patch=patch)
    deadline = time.monotonic() + 60
    while server.sent < 4096 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not out
    assert err == "interrupted: nothing was downloaded\n"
    assert not list(tmp_path.iterdir())

    server.stall_after = None
    process = start_recsys("data", "get", NAME, "--folder", str(tmp_path), patch=patch)
    assert process.communicate(timeout=60)[0] == f"{tmp_path / NAME}\n"
    assert server.n_requests == 2
