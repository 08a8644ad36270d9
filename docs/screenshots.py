"""Take the screenshots of the documentation: pages of real runs, in Chromium.

    python docs/screenshots.py

trains three small models of MovieLens latest-small in a temporary folder, starts `mlflow server`
and `recsys serve`, and writes the pictures into `docs/images`. `screenshots.json` records the
SHA-256 of the files that each picture shows: a test fails if one has changed since.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from urllib.parse import quote
from urllib.request import url2pathname

from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from flows.dev_servers import Server, mlflow_server, started, wait_until_up
from recsys.config import CHAMPION
from recsys.data.synthetic import write_sample
from recsys.storage import sha256_of
from recsys.tracking.store import connect, model_run

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RECORD = IMAGES / "screenshots.json"
SETTINGS = ROOT / "mlflow" / "server.env"

_DESCRIPTIONS = ["recsys/tracking/descriptions.py"]
_TEMPLATES = "recsys/reporting/templates"
SHOWN = {
    "mlflow/list.png": _DESCRIPTIONS,
    "mlflow/run.png": _DESCRIPTIONS,
    "mlflow/curves.png": _DESCRIPTIONS,
    "mlflow/compare.png": _DESCRIPTIONS,
    "mlflow/model.png": _DESCRIPTIONS,
    "pages/report.png": [
        "recsys/reporting/charts.py",
        f"{_TEMPLATES}/base.html",
        f"{_TEMPLATES}/report.html",
    ],
    "pages/map.png": [f"{_TEMPLATES}/base.html", f"{_TEMPLATES}/item_map.html"],
    "pages/demo.png": [
        f"recsys/serving/static/{name}" for name in ("index.html", "map.js", "page.css", "page.js")
    ],
}
"""The files that decide what a picture shows: templates, style sheets, and names of metrics."""

_SMALL = {"embedding-dim": "32", "hidden-dim": "32", "attention": "false"}
MODELS = (
    {"cell": "rnn", "epochs": "1", **_SMALL},
    {"epochs": "3", **_SMALL},
    {"cell": "gru", "epochs": "2", **_SMALL},
)
"""Settings of the session models: the second one becomes champion, the third one does not."""

WIDTH = 1280
_MILLISECONDS = 300_000
_SETTLE = 5_000
"""For animations, images and the resizing of charts, in milliseconds."""
_SECOND_VISIT = """
localStorage["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = "true";
localStorage["mlflow.workflowType_v1"] = '"machine_learning"';
"""
"""On the first visit, MLflow opens a panel for chats and shows the menu for language models."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def main() -> None:
    """Train, take all pictures, and record what they show."""
    chromium = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if chromium is None:
        sys.exit(f"screenshots.py: no browser found: install one of {', '.join(_BROWSERS)}")
    record = {name: hashes(name) for name in SHOWN}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)
        stack.callback(os.chdir, ROOT)
        train(find_data())
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=chromium, args=_FLAGS)
        stack.callback(browser.close)
        context = browser.new_context(viewport={"width": WIDTH, "height": 800})
        context.set_default_timeout(_MILLISECONDS)
        context.add_init_script(_SECOND_VISIT)
        take_mlflow(context, start(mlflow_server(free_port(), SETTINGS), stack))
        take_demo(context, start(recsys_server(free_port()), stack))
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def find_data() -> str:
    """Link MovieLens latest-small into the working directory, or write a synthetic sample."""
    for folder in (ROOT / "data", ROOT.parent / "shared" / "data"):
        if (data := folder / "ml-latest-small").is_dir():
            Path(data.name).symlink_to(data)
            return data.name
    return write_sample(Path("sample")).name


def hashes(picture: str) -> dict[str, str]:
    """The SHA-256 of each file that decides what a picture shows."""
    return {path: sha256_of(ROOT / path) for path in SHOWN[picture]}


def train(source: str) -> None:
    """Train and register the models as a user would."""
    for model in MODELS:
        settings = [f"--session-model.{name}={value}" for name, value in model.items()]
        command = [sys.executable, "-m", "recsys.cli", "train", "--source", source, *settings]
        environment = {
            **os.environ,
            "DO_NOT_TRACK": "true",
            "PREFECT_HOME": str(Path("prefect").resolve()),
        }
        subprocess.run(command, check=True, env=environment)  # noqa: S603


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def recsys_server(port: int) -> Server:
    """The server of the demo page."""
    command = ["recsys.cli", "serve", CHAMPION, "--port", str(port)]
    return Server("recsys", command, {}, f"http://127.0.0.1:{port}")


def start(server: Server, stack: ExitStack) -> str:
    """Run a server until the stack is closed; returns its address."""
    wait_until_up(server, stack.enter_context(started(server)))
    return server.address


def take_mlflow(context: BrowserContext, address: str) -> None:
    """Take the pages of the runs and of the model, and the files of the champion's run."""
    client = connect()
    versions = client.search_model_versions("name = 'recsys'")
    ids = sorted({str(version.run_id) for version in versions})
    run = client.get_run(model_run(client, CHAMPION))
    experiment = run.info.experiment_id
    runs = f"{address}/#/experiments/{experiment}/runs"
    page = context.new_page()
    page.goto(f"{runs}?viewStateShareKey=results")
    page.get_by_text("champion of recsys").wait_for()
    save(page, "mlflow/list.png", 560)
    page.goto(f"{runs}/{run.info.run_id}")
    page.get_by_text("by NDCG@10 on the test targets").wait_for()
    page.get_by_text("Show more").first.click()
    save(page, "mlflow/run.png", 1300)
    page.goto(f"{runs}?compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("epoch/")
    page.locator(".scatterlayer .trace").first.wait_for()
    save(page, "mlflow/curves.png", 720)
    experiments = quote(json.dumps([experiment]))
    page.goto(f"{address}/#/compare-runs?runs={quote(json.dumps(ids))}&experiments={experiments}")
    page.get_by_text("session_model.cell").last.wait_for()
    page.get_by_role("switch").first.click()  # show diff only
    save(page, "mlflow/compare.png", 900)
    page.goto(f"{address}/#/models/recsys")
    page.get_by_text("challenger").last.wait_for()
    save(page, "mlflow/model.png", 640)
    artifacts = Path(url2pathname(run.info.artifact_uri.removeprefix("file://")))
    for name, ready in (("report", "#curves .trace"), ("map", ".scatterlayer .point")):
        page.goto((artifacts / f"{name}.html").as_uri())
        page.locator(ready).first.wait_for()
        save(page, f"pages/{name}.png", 900)


def take_demo(context: BrowserContext, address: str) -> None:
    """Take the demo page, after a history of three popular items."""
    page = context.new_page()
    page.goto(address)
    for n in range(1, 4):
        page.locator("#next li button").first.click()
        page.locator(f"#history li:nth-child({n})").wait_for()
        page.locator(".next[aria-busy=false]").wait_for()
    expect(page.locator(".why:empty")).to_have_count(0, timeout=_MILLISECONDS)
    page.locator("#status:not(.shown)").wait_for(state="attached")
    save(page, "pages/demo.png", 900)


def save(page: Page, name: str, height: int) -> None:
    """Save what a window of this height shows, with 256 colours."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(_SETTLE)
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / name
    path.parent.mkdir(exist_ok=True)
    image.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
