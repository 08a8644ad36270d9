import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from recsys.cli.main import main
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    return save_bundle(bundle, tmp_path_factory.mktemp("cli") / "bundle")


@pytest.fixture
def recsys(monkeypatch, capsys):
    """Runs the command line, in this process."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=stdout, stderr=stderr)

    return run


def test_a_process_prints_nothing_but_the_answer(bundle, folder, start_recsys):
    item = str(bundle.catalogue["item_id"][0])
    process = start_recsys("next", item, "-k", "3", "--model", str(folder), "--json")
    stdout, stderr = process.communicate(timeout=120)
    assert [row["rank"] for row in json.loads(stdout)] == [1, 2, 3]
    assert (process.returncode, stderr) == (0, "")


def test_next_prints_a_table_or_json(recsys, bundle, folder):
    titles = bundle.catalogue["title"]
    table = recsys("next", titles[0], titles[1], "-k", 3, "--model", folder)
    assert table.returncode == 0, table.stderr
    assert f"Next after {titles[0]}, {titles[1]}" in table.stdout
    answer = json.loads(
        recsys("next", titles[0], titles[1], "-k", 3, "--model", folder, "--json").stdout
    )
    assert [row["rank"] for row in answer] == [1, 2, 3]
    for row in answer:
        assert row["title"] in table.stdout
    assert "probability" in table.stdout
    assert "score" not in table.stdout, "it equals the probability"
    short = recsys("next", titles[0], "--model", folder).stdout
    assert "the score combines the probability with the similarity" in short.replace("\n", " ")


def test_similar_accepts_titles_and_ids(recsys, bundle, folder):
    item, title = bundle.catalogue.loc[4, ["item_id", "title"]]
    by_title = recsys("similar", title, "--model", folder, "--json")
    assert by_title.returncode == 0, by_title.stderr
    assert by_title.stdout == recsys("similar", item, "--model", folder, "--json").stdout
    assert len(json.loads(by_title.stdout)) == 10
    written = recsys("similar", title[:-7].upper(), "--model", folder, "--json")
    assert written.stdout == by_title.stdout
    assert written.stderr == f"{title[:-7].upper()!r} is {title!r}\n"


def test_search_explain_and_sequences(recsys, bundle, folder):
    titles = bundle.catalogue["title"].tolist()
    found = json.loads(recsys("search", titles[7][:-7], "--model", folder, "--json").stdout)
    assert titles[7] in [row["title"] for row in found]
    popular = json.loads(recsys("search", "-k", 3, "--model", folder, "--json").stdout)
    expected = Recommender(bundle).popular_items(3)["title"].tolist()
    assert [row["title"] for row in popular] == expected
    nothing = recsys("search", "qqqqqqqq", "--model", folder)
    assert "no title is similar to 'qqqqqqqq'" in nothing.stderr
    why = ("explain", titles[0], titles[1], "--item", titles[9], "--model", folder)
    table = recsys(*why)
    assert table.returncode == 0, table.stderr
    assert titles[9] in table.stdout
    reasons = json.loads(recsys(*why, "--json").stdout)
    assert {row["because_title"] for row in reasons} == {titles[0], titles[1]}
    sequences = json.loads(
        recsys("sequences", titles[0], "--length", 3, "-k", 2, "--model", folder, "--json").stdout
    )
    assert [row["rank"] for row in sequences] == [1, 2, 3, 1, 2, 3]


def test_errors_are_printed_in_one_line(recsys, bundle, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = bundle.catalogue["title"][4]
    for arguments, message in [
        (("similar", name[:-2], "--model", folder), f"did you mean {name!r}"),
        (("next", "zzzzqqqq", "--model", folder), f"error: {folder}: no item has the id or title"),
        (
            ("next", "qqqq", "--model", folder),
            f"`recsys search TEXT --model {folder}` lists titles",
        ),
        (("similar", name, "--model", tmp_path / "no"), "does not exist"),
        (("similar", name), "no runs are recorded"),
    ]:
        done = recsys(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not done.stdout


def test_control_characters_never_reach_the_terminal(recsys, bundle, tmp_path):
    evil = "\x1b]0;owned\x07\x9b31m\u202eevil\r"
    catalogue = bundle.catalogue.assign(title=evil + bundle.catalogue["title"])
    folder = save_bundle(replace(bundle, catalogue=catalogue), tmp_path / "bundle")
    items = bundle.catalogue["item_id"].tolist()
    for command in (
        ("next", items[0]),
        ("search", "evil"),
        ("explain", items[0], "--item", items[1]),
        ("similar", "evil nonsense"),
    ):
        for more in ((), ("--json",)):
            done = recsys(*command, "--model", folder, *more)
            assert not set("\x1b\x07\x9b\u202e\r") & set(done.stdout + done.stderr)
    found = recsys("search", "evil", "--model", folder, "--json").stdout
    assert all(row["title"].startswith(evil) for row in json.loads(found))
