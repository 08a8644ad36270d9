"""What the tutorial, the FAQ and the list of mistakes show is typed in, and answers as shown.

The pages share one training, that of the tutorial's own data. Without `--chaos` the library trains,
and only the settings and options of the flows are read, which `tests/flows` run.
"""

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from recsys.cli.main import main
from recsys.data import leave_last_out, read_ratings
from recsys.loading import load_recommender
from recsys.serving import create_app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHAMPION = "models:/shop@champion"
FENCE = re.compile(r"^```(\w+)(?: title=\"(.+?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
ELSEWHERE = (
    *("git ", "cd ", "source ", "export "),  # of the shell
    *("make ", "recsys serve", "prefect ", "python examples/shop.py"),  # start servers
)
"""Commands that other tests run: those of flows and of the server, and the last one below."""


class Page:
    """Runs the blocks of a page in order, as a reader would."""

    def __init__(self, name, run_command):
        self.path, self.run_command = DOCS / name, run_command
        self.variables, self.files = {}, {}

    def run(self):
        text = self.path.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            language, title, block = match.groups()
            line = text[: match.start()].count("\n") + 1
            if title is not None:  # a file, which several blocks may write
                self.files[title] = self.files.get(title, "") + block
                Path(title).write_text(self.files[title], encoding="utf-8")
            elif language == "python":
                exec(compile(block, f"{self.path.name}:{line}", "exec"), self.variables)
            elif language == "console":
                self.type_in(block)
            elif language == "pycon":
                self.check_session(block, line)

    def type_in(self, block):
        """Type in commands, and compare what they print if the page shows it."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.startswith(ELSEWHERE):
                continue
            program, *arguments = shlex.split(command)
            assert program == "recsys", command
            shown, status = self.run_command(arguments)
            if expected.strip():
                same = doctest.OutputChecker().check_output(expected, shown, FLAGS)
                assert same, f"$ {command}\n{shown}"
            else:
                assert status == 0, f"$ {command}\n{shown}"

    def check_session(self, block, line):
        parser, runner, report = (
            doctest.DocTestParser(),
            doctest.DocTestRunner(optionflags=FLAGS),
            [],
        )
        test = parser.get_doctest(block, self.variables, self.path.name, str(self.path), line)
        runner.run(test, out=report.append, clear_globs=False)
        self.variables.update(test.globs)
        assert runner.failures == 0, "".join(report)


def train(arguments):
    """Train as `recsys train` does, but for the flow, the baselines and the comparison."""
    from flows.cli import parse_settings
    from flows.tasks.registry import Champion, require_comparable
    from flows.train import train as flow
    from recsys.cooccurrence import count_cooccurrence
    from recsys.embeddings import fit_embeddings
    from recsys.errors import TrackingError
    from recsys.recommender.bundle import make_bundle, save_bundle
    from recsys.sessions import fit_session_model
    from recsys.tracking import log_bundle, promote, register, start_run

    settings = parse_settings(flow, arguments)
    split = leave_last_out(read_ratings(settings.source, **settings.data.read_options()))
    with contextlib.suppress(TrackingError):
        champion = load_recommender(f"models:/{settings.model_name}@champion").bundle
        require_comparable(Champion("1", champion, None, None), split, settings)
    counts = count_cooccurrence(split.positives)
    embeddings = fit_embeddings(counts, settings.embeddings)
    model = fit_session_model(split.train, settings.session_model)
    catalogue = split.interactions.catalogue
    bundle = make_bundle(catalogue, embeddings, model, {}, {}, cooccurrence=counts)
    with start_run("train", "shop") as run:
        log_bundle(run, save_bundle(bundle, Path("bundle")))
        promote(run, settings.model_name, register(run, settings.model_name, "the first"))


def refresh(arguments):
    from flows.cli import parse_settings
    from flows.refresh import refresh as flow

    parse_settings(flow, arguments)


@pytest.fixture(scope="module")
def run_command(request):
    """Runs the command line in this process; returns what it prints and the exit status."""
    quick = {} if request.config.getoption("--chaos") else {"train": train, "refresh": refresh}

    def run(arguments):
        printed, status = io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            patch.setattr(sys, "argv", ["recsys", *arguments])
            patch.setenv("COLUMNS", "100")
            if arguments[0] in quick:
                command = quick[arguments[0]]
                patch.setattr("recsys.cli.main.app", lambda: command(arguments[1:]))
            try:
                main()
            except SystemExit as exit_:
                status = exit_.code or 0
                if isinstance(status, str):
                    printed.write(status)
        return printed.getvalue(), status

    handler = signal.getsignal(signal.SIGTERM)  # flows set one of their own
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, empty_database, run_command):
    """The working directory of the tutorial, after its training."""
    folder, before = tmp_path_factory.mktemp("tutorial"), Path.cwd()
    (folder / "mlflow").mkdir()
    shutil.copy(empty_database, folder / "mlflow")
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Page("tutorial/own-data.md", run_command).run()
        yield folder
    os.chdir(before)


def test_log_of_the_tutorial_begins_as_shown(shop):
    page = (DOCS / "tutorial" / "own-data.md").read_text(encoding="utf-8")
    lines = (shop / "shop" / "bestellungen.csv").read_text().splitlines()[:2]
    assert "\n    ".join(["", *lines]) in page


@pytest.mark.parametrize("page", ["faq.md", "mistakes.md"])
def test_page_answers_as_shown(shop, run_command, page):
    Page(page, run_command).run()


def test_example_of_the_registry_moves_the_alias(shop):
    page = (DOCS / "how-to" / "track.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0].replace('"recsys"', '"shop"')
    client = MlflowClient("sqlite:///mlflow/mlflow.db")
    version = client.get_model_version_by_alias("shop", "champion").version
    client.delete_registered_model_alias("shop", "champion")
    exec(code.replace('"3"', repr(version)))
    assert client.get_model_version_by_alias("shop", "champion").version == version


def links(page):
    return [unquote(item) for item in re.findall(r"href='/item/([^']+)'", page)]


def load_example():
    spec = importlib.util.spec_from_file_location("shop", ROOT / "examples" / "shop.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_shop_recommends(shop):
    example = load_example()
    rec = load_recommender(CHAMPION)
    api = create_app(lambda: rec)
    with TestClient(api):
        example.api = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api")
        client = TestClient(example.app)
        items = links(client.get("/").text)
        assert items == rec.popular_items(12)["item_id"].tolist()
        pages = [client.get(f"/item/{item}") for item in items[:2]]
        similar, _, following = pages[1].text.partition("Next for you")
        assert links(similar) == rec.similar_items(items[1], 6)["item_id"].tolist()
        assert links(following) == rec.next_items(items[:2], 6)["item_id"].tolist()
        client.cookies.set("visit", "expired")
        page = client.get(f"/item/{items[1]}").text
        expected = rec.next_items(items[1:2], 6)["item_id"].tolist()
        assert links(page.partition("Next for you")[2]) == expected
        unknown = client.get("/item/none")
        assert (unknown.status_code, links(unknown.text)) == (404, items[:6])
        title = rec.search(k=1)["title"][0]  # of items[0], from the API
        assert f"<h1>{title}</h1>" in pages[0].text
        every_page = [client.get(f"/item/{link}") for page in pages for link in links(page.text)]
        assert {each.status_code for each in every_page} == {200}
    example.api = httpx.AsyncClient(base_url="http://127.0.0.1:1")  # where nothing listens
    page = TestClient(example.app).get(f"/item/{items[0]}")
    assert page.status_code == 200
    assert not links(page.text)
