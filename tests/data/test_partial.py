import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from recsys.data.public import fetch

NAME = "ml-latest-small"
PART, NOTES = f".{NAME}.zip.part", f".{NAME}.zip.json"


def test_of_two_at_once_the_second_waits(server, layout, tmp_path):
    said = [[], []]
    sources = server.offer(layout)
    server.stall_after = 4096
    with ThreadPoolExecutor() as pool:
        first = pool.submit(fetch, NAME, tmp_path, notify=said[0].append, sources=sources)
        wait_until(lambda: server.sent == 4096)
        second = pool.submit(fetch, NAME, tmp_path, notify=said[1].append, sources=sources)
        wait_until(lambda: said[1])
        server.stall_after = None
        server.release.set()
        assert first.result() == second.result() == tmp_path / NAME
    assert said[1] == [f"waiting for another process that is downloading {NAME}"]
    assert server.asked == [None, "bytes=4096-"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_kill_half_way_leaves_nothing_that_can_be_loaded(server, layout, tmp_path):
    sources = server.offer(layout)
    server.stall_after = 4096
    code = (
        "import sys; from pathlib import Path; from recsys.data.public import fetch\n"
        "from recsys.data.sources import Source\n"
        "source = Source.model_validate_json(sys.argv[1])\n"
        "fetch(source.name, Path(sys.argv[2]), sources={source.name: source})\n"
    )
    arguments = [sys.executable, "-c", code, sources[NAME].model_dump_json(), str(tmp_path)]
    with subprocess.Popen(arguments) as process:
        wait_until(lambda: server.sent == 4096 and (tmp_path / NOTES).exists())
        process.kill()
    assert {path.name for path in tmp_path.iterdir()} == {PART, NOTES}
    assert json.loads((tmp_path / NOTES).read_text())["version"] == server.etag

    server.stall_after = None
    assert (fetch(NAME, tmp_path, sources=sources) / "ratings.csv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def wait_until(is_so):
    deadline = time.monotonic() + 60
    event = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline
        event.wait(0.01)
