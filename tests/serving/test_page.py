"""The page in a real browser, as it is used: Chromium, where there is one."""

import re
import shutil
import threading
from dataclasses import replace

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
    """A server in a thread; gives it and its address."""
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
def at(bundle):
    catalogue = bundle.catalogue.copy()
    catalogue.loc[5, "title"] = UNSAFE
    server, thread, address = start(Recommender(replace(bundle, catalogue=catalogue)))
    yield address
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    command = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if command is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as running:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        flags += ["--no-first-run", "--disable-component-update", "--disable-sync"]
        yield running.chromium.launch(executable_path=command, args=flags)


@pytest.fixture(params=SIZES)
def page(request, browser, at):
    """The page as opened; what a browser complains of fails the test."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(at)
    page.wait_for_selector("#next li")
    yield page
    assert not complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def watch(page, title):
    """Find a title and choose it, by keyboard alone."""
    page.focus("#query")
    page.keyboard.type(title)
    page.wait_for_selector(f"#found [role=option][aria-selected=true]:has-text({title!r})")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#history li:has-text({title!r})")


def test_a_history_is_built_by_keyboard_and_what_comes_next_is_explained(page, bundle):
    first, second = bundle.catalogue["title"][[2, 7]]
    assert page.inner_text("#next-title").lower() == "popular now"
    watch(page, first)
    watch(page, second)
    expect(page.locator("#next-title")).to_have_text("Watch next")
    expect(page.locator(".next")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".why:empty")).to_have_count(0)
    expected = Recommender(bundle).next_items([first, second])["item_id"].astype(str).tolist()
    assert [row.get_attribute("data-id") for row in page.locator("#next li").all()] == expected
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Watched: "))
    label = page.get_attribute("#map", "aria-label")
    assert f"Watched: {first}, {second}." in label
    assert re.search(rf"{re.escape(second)} added", page.inner_text("#status"))
    page.click("#history li:first-child button")
    expect(page.locator("#history li")).to_have_count(1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove {second}"


def test_the_list_box_is_walked_with_arrows_and_left_with_escape(page, bundle):
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


def test_a_title_is_never_taken_for_html(page):
    watch(page, UNSAFE)
    assert page.inner_text("#history .title") == UNSAFE
    assert page.locator("main img").count() == 0


def test_the_map_shows_the_session(page, bundle):
    drawn = "document.querySelector('#map').toDataURL()"
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Popular: "))
    before = page.evaluate(drawn)
    watch(page, bundle.catalogue["title"][2])
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Watched: "))
    assert page.evaluate(drawn) != before


def test_where_there_is_a_key_the_page_asks_for_it(browser, bundle):
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
