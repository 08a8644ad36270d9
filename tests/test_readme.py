"""The examples of the README and the docs run."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from recsys.cli.main import app
from recsys.data import read_ratings

README_FOLDER = Path(__file__).parents[1]
README = (README_FOLDER / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_table_of_the_readme_is_readable(tmp_path):
    lines = re.search(
        r"((?:^    .*\n)*^    user_id,.*\n(?:^    .*\n)+)", README, flags=re.MULTILINE
    )
    path = tmp_path / "own.csv"
    path.write_text(lines[1].replace("    ", ""))
    ratings = read_ratings(path)
    assert ratings.users.ids.tolist() == ["ann"]
    assert ratings.items.ids[ratings.history(0)].tolist() == ["tt0112384", "tt0113277"]


def test_queries_of_the_readme_run(recommender_of_shown_films):
    rec = recommender_of_shown_films
    (block,) = [block for block in blocks("python") if "load_recommender" in block]
    calls = [line for line in block.splitlines() if line.startswith("rec.")]
    assert len(calls) == 5
    for call in calls:
        answer = eval(call, {"rec": rec})
        assert {"rank", "item_id", "title", "score"} <= set(answer)
        assert len(answer) == (2 if "explain" in call else 10)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_relative_links_exist(path):
    assert (Path(__file__).parents[1] / path).exists()


def test_page_of_data_check_is_as_the_docs_show_it(tmp_path, monkeypatch):
    text = (README_FOLDER / "docs" / "how-to" / "data.md").read_text(encoding="utf-8")
    text = text.partition("## See how a log is read")[2].partition("On a terminal")[0]
    rows, _, page = text.partition("`log.csv`,\n")[2].partition("it prints\n")
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text(dedent(rows).strip())
    titles = "tt0112384,Apollo 13 (1995)\ntt0113277,Heat (1995)\ntt0113497,Jumanji (1995)\n"
    (folder / "movies.csv").write_text(f"item_id,title\n{titles}")
    monkeypatch.chdir(tmp_path)
    command, _, expected = dedent(page).strip().partition("\n")
    done = CliRunner().invoke(app, command.removeprefix("$ recsys ").split())
    shown = done.stdout.replace(f"{tmp_path}/", "").splitlines()
    assert [line.rstrip() for line in shown] == expected.splitlines()
    assert done.exit_code == 1
