"""The demo page in Chromium, if installed."""

import re
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import uvicorn

from recsys.recommender import Recommender
from recsys.serving import ServingConfig, create_app

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=60_000)
KEY = "a key of enough letters"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
UNSAFE = "<img src=x onerror=alert(1)> (1999)"


def start(rec, config=None):
    """Start a server in a thread."""
    app = create_app(lambda: rec, config)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, thread, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def address(bundle):
    catalogue = bundle.catalogue.copy()
    catalogue.loc[5, "title"] = UNSAFE
    trained_at = datetime(2026, 5, 17, 12, tzinfo=UTC)
    rec = Recommender(replace(bundle, catalogue=catalogue, trained_at=trained_at))
    rec.version = "recsys 3"
    server, thread, address = start(rec)
    yield address
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    command = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if command is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        flags += ["--no-first-run", "--disable-component-update", "--disable-sync"]
        yield running.chromium.launch(executable_path=command, args=flags)


@pytest.fixture(params=SIZES)
def page(request, browser, address):
    """The opened page. Browser errors fail the test."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#next li")
    yield page
    assert not errors
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def add_item(page, title):
    """Find and select a title by keyboard."""
    page.focus("#query")
    page.keyboard.type(title)
    page.wait_for_selector(f"#found [role=option][aria-selected=true]:has-text({title!r})")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#history li:has-text({title!r})")


def test_build_a_history_by_keyboard(page, bundle):
    expect(page.locator("#model")).to_have_text(
        re.compile("^Model: recsys, version 3, trained May 17, 2026, ")
    )
    first, second = bundle.catalogue["title"][[2, 7]]
    assert page.inner_text("#next-title").lower() == "popular"
    add_item(page, first)
    add_item(page, second)
    expect(page.locator("#next-title")).to_have_text("Recommended")
    expect(page.locator(".next")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".why:empty")).to_have_count(0)
    expected = Recommender(bundle).next_items([first, second])["item_id"].astype(str).tolist()
    assert [row.get_attribute("data-id") for row in page.locator("#next li").all()] == expected
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("History: "))
    label = page.get_attribute("#map", "aria-label")
    assert f"History: {first}, {second}." in label
    assert re.search(rf"{re.escape(second)} added", page.inner_text("#status"))
    page.click("#history li:first-child button")
    expect(page.locator("#history li")).to_have_count(1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove {second}"


def test_list_box_keyboard_navigation(page, bundle):
    word = bundle.catalogue["title"][2].split()[0]
    page.focus("#query")
    page.keyboard.type(word)
    page.wait_for_selector("#found [role=option]")
    assert page.get_attribute("#query", "aria-activedescendant") == "option-0"
    n_found = page.locator("#found [role=option]").count()
    page.keyboard.press("ArrowUp")
    assert page.get_attribute("#query", "aria-activedescendant") == f"option-{n_found - 1}"
    page.keyboard.press("Escape")
    assert page.get_attribute("#query", "aria-expanded") == "false"
    assert page.input_value("#query") == word


def test_titles_are_escaped(page):
    add_item(page, UNSAFE)
    assert page.inner_text("#history .title") == UNSAFE
    assert page.locator("main img").count() == 0


def test_the_map_shows_the_session(page, bundle):
    drawn = "document.querySelector('#map').toDataURL()"
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Popular: "))
    before = page.evaluate(drawn)
    add_item(page, bundle.catalogue["title"][2])
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("History: "))
    assert page.evaluate(drawn) != before


def test_page_asks_for_the_api_key(browser, bundle):
    server, thread, address = start(Recommender(bundle), ServingConfig(api_key=KEY))
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#key", timeout=60_000)
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("#next li", timeout=60_000)
    context.close()
    server.should_exit = True
    thread.join()
