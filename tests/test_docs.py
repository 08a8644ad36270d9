"""The documentation builds, is complete, needs no other host, and its examples run."""

import re
import tomllib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import recsys
from flows.settings import Settings
from recsys.cli.examples import EXAMPLES
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings, write_sample
from recsys.recommender.bundle import save_bundle

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


def blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def pages_with(language):
    pages = [path for path in sorted(DOCS.rglob("*.md")) if blocks(path, language)]
    return pytest.mark.parametrize("path", pages, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does: warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return folder


def rendered_text(page):
    """The text of a page without its tags."""
    return unescape(re.sub("<[^>]+>", "", page.read_text()))


class Fetched(HTMLParser):
    """The addresses that a browser fetches when it shows a page."""

    def __init__(self, page):
        super().__init__()
        self.addresses = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        address = dict(attrs).get(FETCHED.get(tag))
        if address and dict(attrs).get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(address)


def test_no_page_fetches_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    addresses = {each for page in pages for each in Fetched(page.read_text()).addresses}
    assert any(address.endswith(".css") for address in addresses)
    assert not [address for address in addresses if re.match(r"(\w+:)?//", address)]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", styles)


def test_the_reference_lists_what_the_code_defines(site):
    reference = site / "reference"
    settings = (reference / "settings.html").read_text()
    assert "session_model.learning_rate" in settings
    assert "data.split.validation_from" in settings
    assert f"$ {EXAMPLES['data check'][0]}" in rendered_text(reference / "cli.html")
    assert "/v1/sessions/{session_id}/events" in (reference / "http.html").read_text()
    names = (reference / "python" / "index.html").read_text()
    assert all(f">{name}</" in names for name in recsys.__all__)


@pages_with("toml")
def test_settings_on_the_pages_are_valid(path):
    for block in blocks(path, "toml"):
        Settings.model_validate(tomllib.loads(block))


EXECUTED = (
    "concepts/cooccurrence.md",
    "concepts/embeddings.md",
    "concepts/evaluation.md",
    "concepts/sequences.md",
    "how-to/compare.md",
    "how-to/cooccurrence.md",
    "how-to/embeddings.md",
    "how-to/migrate.md",
    "how-to/new-items.md",
    "how-to/recommend.md",
    "how-to/session-model.md",
    "how-to/stages.md",
    "reference/errors.md",
)


@pytest.mark.parametrize("page", EXECUTED)
def test_examples_of_the_page_run(page, recommender_of_shown_films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SyntheticConfig(n_users=60, n_items=80, mean_events=20)
    write_sample(Path("data/ml-latest-small"), config)
    ratings, _ = synthesise_ratings(config)
    save_bundle(recommender_of_shown_films.bundle, Path("bundle"))
    code = "\n".join(blocks(DOCS / page, "python")).replace("models:/recsys@champion", "bundle")
    code = code.replace("epochs=20", "epochs=1")
    exec(code, {"recsys": recsys, "rec": recommender_of_shown_films, "ratings": ratings})
