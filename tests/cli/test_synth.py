import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from recsys import cli
from recsys.data import read_ratings

SMALL = ("--users", 20, "--items", 40, "--events-per-user", 10)


def synth(*arguments, monkeypatch):
    """Run the command in this process; give its exit status."""
    monkeypatch.setattr(sys, "argv", ["recsys", "data", "synth", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code


def test_csv_can_be_read_as_ratings(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new" / "sample"
    assert synth(*SMALL, folder, monkeypatch=monkeypatch) == 0
    ratings = read_ratings(folder)
    assert ratings.n_users == 20
    shown = capsys.readouterr()
    assert shown.out == f"{len(ratings):,} ratings by 20 users of 40 films: {folder}\n"
    assert not shown.err


def test_parquet_has_the_same_ratings(tmp_path, monkeypatch):
    synth(*SMALL, "--seed", 1, tmp_path / "csv", monkeypatch=monkeypatch)
    synth(*SMALL, "--seed", 1, "--format", "parquet", tmp_path / "pq", monkeypatch=monkeypatch)
    csv = pd.read_csv(tmp_path / "csv" / "ratings.csv")
    parquet = pd.read_parquet(tmp_path / "pq" / "ratings.parquet")
    assert (csv.to_numpy() == parquet.to_numpy()).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("--items", 100),
            (
                "--events-per-user 60 is more than half of --items 100: "
                "lower --events-per-user or raise --items"
            ),
        ),
        (("--users", 0), "--users 0: Input should be greater than or equal to 1"),
        (("--items", 10**9), "--items 1000000000: Input should be less than or equal to 200000"),
        (("--seed", -1), "--seed -1: Input should be greater than or equal to 0"),
    ],
)
def test_impossible_settings_are_told_in_a_line(settings, message, tmp_path, monkeypatch, capsys):
    assert synth(*settings, tmp_path / "sample", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert shown.err == f"error: {message}\n"
    assert not shown.out
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_left_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "diary.txt").write_text("dear diary")
    for taken in (tmp_path, tmp_path / "diary.txt"):
        assert synth(*SMALL, taken, monkeypatch=monkeypatch) == 1
        assert f"error: {taken} is there already: name a new folder\n" == capsys.readouterr().err
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


def test_a_place_that_cannot_be_written_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert synth(*SMALL, tmp_path / "file" / "sample", monkeypatch=monkeypatch) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_help_imports_neither_numpy_nor_pandas():
    code = (
        "import sys; from recsys import cli; "
        "print({'numpy', 'pandas', 'pydantic', 'pyarrow', 'torch'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_command_is_listed():
    assert "synth" in CliRunner().invoke(cli.app, ["data", "--help"]).output
