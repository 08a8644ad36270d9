import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from recsys.cli.main import app

NAME = "ml-latest-small"


def recsys(*arguments, patch=""):
    """Start the command line as its user does."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{patch}\nfrom recsys.cli.main import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def test_list_names_every_data_set(tmp_path):
    out, err = recsys("data", "list", "--folder", str(tmp_path)).communicate(timeout=120)
    assert not err
    for name in (NAME, "ml-100k", "ml-32m"):
        assert f"\n{name} " in out
    assert "239.0 MB" in out


def test_an_unknown_name_is_told_in_a_line(tmp_path):
    process = recsys("data", "get", "ml-1b", "--folder", str(tmp_path))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert not out
    assert err.startswith("error: no public data set 'ml-1b'; choose from ml-latest-small")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_needs_neither_torch_nor_pandas():
    code = (
        "import sys; from typer.testing import CliRunner; from recsys.cli.main import app\n"
        "assert CliRunner().invoke(app, ['data', '--help']).exit_code == 0\n"
        "print({'torch', 'mlflow', 'pandas', 'httpx'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.fixture
def dirty(tmp_path):
    path = tmp_path / "ratings.csv"
    rows = ["1,10,4,100", "1,10,5,200", "2,10,9,200", "2,20,3,200", "1,20,4,300"]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *rows]))
    return path


def check(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_check_tells_what_is_wrong(dirty, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = check(dirty)
    assert done.exit_code == 0, done.output
    table = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["rating_scale", "quarantine", "1"] in table
    assert ["duplicate", "quarantine", "1"] in table
    assert ["single_event", "keep", "1"] in table
    assert "3 of 5 rows are used: 2 users, 2 items" in done.stdout
    assert f"quarantined rows are in {dirty.parent / 'ratings.quarantine.parquet'}" in done.stdout


def test_check_takes_policies_scale_and_columns(dirty):
    dirty.write_text(dirty.read_text().replace("movieId", "film"))
    done = check(dirty, "--column", "item_id=film", "--scale", 0, 9, "--policy", "duplicate=keep")
    assert "5 of 5 rows are used" in done.stdout
    assert [path.name for path in dirty.parent.iterdir()] == ["ratings.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "duplicate=error"], "line 2 has a later row of the same user and item"),
        (["--policy", "duplicate"], "'duplicate' is not written as NAME=VALUE"),
        (["--policy", "speed=error"], "speed = 'error'"),
        (["--column", "item_id=film"], "no column 'film' for item_id"),
    ],
)
def test_what_check_cannot_do_is_an_error_in_a_line(dirty, arguments, message):
    done = recsys("data", "check", str(dirty), *arguments)
    out, told = done.communicate(timeout=60)
    assert (done.returncode, out) == (1, "")
    assert told.startswith("error: ")
    assert message in told
    assert "Traceback" not in told
