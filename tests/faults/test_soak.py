"""A server under load, with new models and bad requests: no errors, and memory does not grow."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from recsys.recommender.bundle import save_bundle

BAD = {
    "/v1/next": (b'{"history": ["no such title"], "unknown": "raise"}', 404),
    "/v1/similar": (b'{"item": 10000000}', 404),
    "/v1/explain": (b"not JSON", 422),
    "/v1/sequences": (b'{"history": [], "k": -1}', 422),
    "/nothing": (b"", 404),
}


@contextmanager
def serving(folder, log):
    """The address and the process of a server that looks for a new model twice a second."""
    command = "from recsys.cli.main import main; main()"
    options = ["--port", "0", "--poll-interval", "0.5"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", str(folder), *options],
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        while '"serving"' not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        lines = map(json.loads, log.read_text().splitlines())
        yield next(line["url"] for line in lines if line["event"] == "serving"), process
    finally:
        process.kill()
        process.wait()


def resident(process):
    """Megabytes of memory that a process uses."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Load:
    """Requests to a server, until they are stopped; about one in ten is bad."""

    def __init__(self, url, titles):
        self.url, self.titles = url, titles
        self.seconds, self.versions, self.unexpected = [], set(), []
        self.stopped = threading.Event()

    def run(self, seed):
        rng = np.random.default_rng(seed)
        bad = itertools.cycle(BAD.items())
        headers = {"content-type": "application/json"}
        with httpx.Client(base_url=self.url, timeout=60, headers=headers) as client:
            while not self.stopped.is_set():
                if rng.random() < 0.1:
                    path, (body, expected) = next(bad)
                    self.check(client.post(path, content=body), expected)
                    continue
                history = rng.choice(self.titles[1:], rng.integers(1, 8), replace=False).tolist()
                path = rng.choice(["/v1/next", "/v1/next", "/v1/explain"])
                asked = {"items": self.titles[:1]} if path == "/v1/explain" else {}
                began = time.perf_counter()
                response = client.post(path, json={"history": history, **asked})
                self.seconds.append(time.perf_counter() - began)
                self.check(response, 200)
                self.versions.add(response.headers.get("x-model-version"))

    def check(self, response, expected):
        if response.status_code != expected:
            self.unexpected.append((response.status_code, response.text[:200]))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_server_under_load_neither_fails_nor_grows(
    bundle, trials, chaos, tmp_path, record_property
):
    seconds = trials(6, 600)
    folder = save_bundle(bundle, tmp_path / "bundle")
    other = replace(bundle, metrics={"validation": {"ndcg_at_10": 0.1}})
    memory, reloads = [], itertools.cycle([other, bundle])
    with serving(folder, tmp_path / "log") as (url, process):
        load = Load(url, bundle.catalogue["title"].tolist())
        threads = [threading.Thread(target=load.run, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(2)
            save_bundle(next(reloads), folder)
            memory.append(resident(process))
        load.stopped.set()
        for thread in threads:
            thread.join()
        assert process.poll() is None
    assert not load.unexpected, load.unexpected[:5]
    assert len(load.versions) == 2, "no new model was loaded"
    p50, p99 = np.percentile(load.seconds, [50, 99]) * 1000
    # After a fifth of the time, every kind of request and several models have been seen.
    warm, last = memory[len(memory) // 5], float(np.median(memory[-len(memory) // 5 :]))
    record_property(
        "soak",
        f"{len(load.seconds):,} requests in {seconds} s, p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
        f"{warm:.0f} MB after the warm-up, {last:.0f} MB at the end",
    )
    if chaos:
        assert last < 1.05 * warm
