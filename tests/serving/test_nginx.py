"""The nginx configuration of the documentation, with a server behind it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from recsys.recommender.bundle import save_bundle
from tests.serving.conftest import wait_until
from tests.serving.test_server import serving
from tests.tracking.conftest import find_free_port

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
PAGE = Path(__file__).parents[2] / "docs/how-to/serve.md"
FRAME = """
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]


@contextmanager
def proxy(folder, backend):
    """A running nginx: its port. There is no certificate, and clients have less time."""
    (documented,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    port = find_free_port()
    documented = re.sub(r"\n.*ssl_certificate.*", "", documented)
    for old, new in {
        "443 ssl": f"127.0.0.1:{port}",
        "127.0.0.1:8000": backend.removeprefix("http://"),
        "10s": "1s",
    }.items():
        assert old in documented
        documented = documented.replace(old, new)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(FRAME.format(folder=folder, documented=documented, user=user))
    process = subprocess.Popen([NGINX, "-c", config, "-e", folder / "errors"])
    try:
        wait_until(lambda: process.poll() is not None or accepts(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def exchange(port, data):
    """What is answered to a client that does not send more."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_nginx_bounds_clients_and_answers_while_the_server_stops(bundle, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    ids = bundle.catalogue["item_id"].tolist()
    statuses, lock, first = [], threading.Lock(), threading.Event()
    with (
        serving(folder, "--proxies", "127.0.0.1") as (url, process, _),
        proxy(tmp_path, url) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        spoofed = {"X-Forwarded-For": "192.0.2.1"}
        body = {"history": ids[:3]}
        direct = httpx.post(f"{url}/v1/next", json=body, timeout=60)
        answer = client.post("/v1/next", json=body, headers=spoofed)
        assert answer.json() == direct.json()
        assert client.get("/metrics").status_code == 403
        assert client.get("/healthz", headers={"X-Long": "a" * 100_000}).status_code == 400
        assert client.post("/v1/next", content=b"a" * 300_000).status_code == 413
        assert exchange(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ") == b""
        head = b"POST /v1/next HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
        assert exchange(port, head) == b""

        def ask():
            history = {"history": (ids * 10)[:500]}
            status = httpx.post(f"http://127.0.0.1:{port}/v1/explain", json=history, timeout=60)
            with lock:
                statuses.append(status.status_code)
            first.set()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert first.wait(60)
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(60) == 0
        for thread in threads:
            thread.join()
        # Those that have reached the server are answered.
        assert set(statuses) <= {200, 502}
        assert 200 in statuses
        assert client.get("/healthz").status_code == 502
    assert "192.0.2.1" not in log
