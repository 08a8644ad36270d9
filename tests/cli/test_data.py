import re
import sys

import pandas as pd
import pytest

from recsys.cli.main import main
from recsys.data import read_ratings

NAME = "ml-latest-small"


def test_list_names_every_data_set(tmp_path, start_recsys):
    out, err = start_recsys("data", "list", "--folder", str(tmp_path)).communicate(timeout=120)
    assert not err
    for name in (NAME, "ml-100k", "ml-32m"):
        assert f"\n{name} " in out
    assert "239.0 MB" in out


def test_unknown_name_is_printed_in_one_line(tmp_path, start_recsys):
    process = start_recsys("data", "get", "ml-1b", "--folder", str(tmp_path))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert not out
    assert err.startswith("error: no public data set 'ml-1b'; choose from ml-latest-small")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


SMALL = ("--users", 20, "--items", 40, "--events-per-user", 10)


def synth(*arguments, monkeypatch):
    """Run the command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["recsys", "data", "synth", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


def test_synth_writes_csv_that_can_be_read(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new" / "sample"
    assert synth(*SMALL, folder, monkeypatch=monkeypatch) == 0
    ratings = read_ratings(folder)
    assert ratings.n_users == 20
    shown = capsys.readouterr()
    assert shown.out == f"{len(ratings):,} ratings by 20 users of 40 films: {folder}\n"
    assert not shown.err


def test_synth_writes_the_same_ratings_as_parquet(tmp_path, monkeypatch):
    synth(*SMALL, "--seed", 1, tmp_path / "csv", monkeypatch=monkeypatch)
    synth(*SMALL, "--seed", 1, "--format", "parquet", tmp_path / "pq", monkeypatch=monkeypatch)
    csv = pd.read_csv(tmp_path / "csv" / "ratings.csv")
    parquet = pd.read_parquet(tmp_path / "pq" / "ratings.parquet")
    assert (csv.to_numpy() == parquet.to_numpy()).all()


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("music", r"[\d,]+ plays by 20 users of 40 tracks, [67]\d% of them repeats: "),
        (
            "shop",
            (
                r"[\d,]+ views, \d+ carts, \d+ purchases in \d+ sessions "
                r"by 20 users of 40 products: "
            ),
        ),
    ],
)
def test_synth_writes_logs_without_ratings(kind, pattern, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sample"
    assert synth("--kind", kind, *SMALL, folder, monkeypatch=monkeypatch) == 0
    assert re.fullmatch(pattern + re.escape(f"{folder}\n"), capsys.readouterr().out)
    assert read_ratings(folder, repeats="allow", histories="user").n_users == 20


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
        (("--users", 0), "--users = 0: Input should be greater than or equal to 1"),
        (("--items", 10**9), "--items = 1000000000: Input should be less than or equal to 200000"),
        (("--seed", -1), "--seed = -1: Input should be greater than or equal to 0"),
    ],
)
def test_invalid_settings_of_synth_are_printed_in_one_line(
    settings, message, tmp_path, monkeypatch, capsys
):
    assert synth(*settings, tmp_path / "sample", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert shown.err == f"error: {message}\n"
    assert not shown.out
    assert not list(tmp_path.iterdir())


def test_synth_overwrites_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "diary.txt").write_text("dear diary")
    for existing in (tmp_path, tmp_path / "diary.txt"):
        assert synth(*SMALL, existing, monkeypatch=monkeypatch) == 1
        assert f"error: {existing} already exists: choose a new folder\n" == capsys.readouterr().err
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


def test_unwritable_folder_of_synth_is_printed_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert synth(*SMALL, tmp_path / "file" / "sample", monkeypatch=monkeypatch) == 1
    assert "cannot be written" in capsys.readouterr().err
