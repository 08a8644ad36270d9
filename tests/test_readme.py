"""The examples of the README and the docs run."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

import recsys
from flows.settings import Settings
from recsys.cli.main import app
from recsys.data import read_ratings
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle
from recsys.vocabulary import Vocabulary

README_FOLDER = Path(__file__).parents[1]
README = (README_FOLDER / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_settings_of_the_readme_are_valid():
    (text,) = blocks("toml")
    settings = Settings.model_validate(tomllib.loads(text))
    assert settings.model_name == "books"
    assert settings.session_model.epochs == 12
    assert settings.data.filters.min_user_interactions == 5


def test_table_of_the_readme_is_readable(tmp_path):
    lines = re.search(
        r"((?:^    .*\n)*^    user_id,.*\n(?:^    .*\n)+)", README, flags=re.MULTILINE
    )
    path = tmp_path / "own.csv"
    path.write_text(lines[1].replace("    ", ""))
    ratings = read_ratings(path)
    assert ratings.users.ids.tolist() == ["ann"]
    assert ratings.items.ids[ratings.history(0)].tolist() == ["tt0112384", "tt0113277"]


def test_stages_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_sample(
        Path("data/ml-latest-small"), SyntheticConfig(n_users=60, n_items=80, mean_events=20)
    )
    (stages,) = [block for block in blocks("python") if "read_ratings" in block]
    exec(stages, {"recsys": recsys})
    assert 0 <= float(capsys.readouterr().out) <= 1


@pytest.fixture
def recommender_of_shown_films(bundle):
    shown = {"Toy Story (1995)": 1, "Apollo 13 (1995)": 150, "Heat (1995)": 6, "Casino (1995)": 16}
    ids = [*shown.values(), *range(1000, 1000 + len(bundle.catalogue) - len(shown))]
    titles = [*shown, *bundle.catalogue["title"][len(shown) :]]
    catalogue = bundle.catalogue.assign(item_id=ids, title=titles)
    embeddings = replace(bundle.embeddings, items=Vocabulary(catalogue["item_id"].to_numpy()))
    return Recommender(replace(bundle, catalogue=catalogue, embeddings=embeddings))


def test_queries_of_the_readme_run(recommender_of_shown_films):
    rec = recommender_of_shown_films
    (block,) = [block for block in blocks("python") if "load_recommender" in block]
    calls = [line for line in block.splitlines() if line.startswith("rec.")]
    assert len(calls) == 5
    for call in calls:
        answer = eval(call, {"rec": rec})
        assert {"rank", "item_id", "title", "score"} <= set(answer)
        assert len(answer) == (2 if "explain" in call else 10)


def test_examples_of_the_recommending_page_run(recommender_of_shown_films, tmp_path):
    rec = recommender_of_shown_films
    folder = save_bundle(rec.bundle, tmp_path / "bundle")
    text = (README_FOLDER / "docs" / "how-to" / "recommend.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    exec(code.replace("models:/recsys@champion", str(folder)), {"recsys": recsys})


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
