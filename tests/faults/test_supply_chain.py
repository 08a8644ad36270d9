"""What is installed, and what it does: licences, known vulnerabilities, no unasked network."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement

from recsys.recommender.bundle import save_bundle

EXTRAS = ("", "train", "flows", "serve", "dask", "ann")
"""What users install. The tools of `[dev]` are not distributed with anything."""

GUARD = """
import sys
attempts = []
def guard(event, arguments):
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments
    if event == "socket.getaddrinfo" or (
        event in ("socket.connect", "socket.sendto") and isinstance(address, tuple)
    ):
        attempts.append((event, address))
        raise OSError(f"the network is off: {event} {address}")
sys.addaudithook(guard)
"""
"""Refuses every connection and look-up of a name, whatever library asks for it."""

IMPORT = """
import importlib, pkgutil, recsys
names = [m.name for m in pkgutil.walk_packages(recsys.__path__, "recsys.")]
left_out = ("recsys.cli.__main__", *sys.argv[3:])
for name in names:
    if not name.startswith(left_out):
        importlib.import_module(name)
assert len(names) > 100
"""

USE = """
import recsys
from recsys.data.synthetic import SyntheticConfig, write_sample
sample = SyntheticConfig(n_users=30, n_items=20, mean_events=5)
log = recsys.read_ratings(write_sample(sys.argv[2], sample))
counts = recsys.count_cooccurrence(log, min_rating=3.0)
embeddings = recsys.fit_embeddings(counts, recsys.EmbeddingConfig(dim=4, epochs=2))
config = recsys.SessionConfig(embedding_dim=4, hidden_dim=4, epochs=1)
recsys.fit_session_model(log, config, item_embeddings=embeddings.vectors)
assert len(recsys.load_recommender(sys.argv[1]).next_items([], 5)) == 5
assert not attempts, attempts
"""


def test_nothing_uses_the_network_unless_asked(bundle, chaos, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    left_out = [] if chaos else ["recsys.tracking"]  # MLflow takes seconds to import
    program = GUARD + IMPORT + ("import flows.train, flows.refresh\n" if chaos else "") + USE
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "sample"), *left_out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_the_guard_notices_a_connection():
    for attempt in (
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://localhost:9')",
    ):
        command = [sys.executable, "-c", GUARD + attempt]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "the network is off" in done.stderr


def installed(name, extras):
    """The names of all distributions that one requires, with itself, as far as installed."""
    found, waiting = {}, [(name, extra) for extra in extras]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        try:
            found[name, extra] = distribution(name)
        except PackageNotFoundError:
            continue
        for text in found[name, extra].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, other) for other in ("", *requirement.extras)]
    return {found.metadata["Name"].lower(): found for found in found.values()}


def licences(found):
    """The licences that a distribution may be used under, as it states them."""
    metadata = found.metadata
    stated = [metadata.get("License-Expression"), metadata.get("License", "").partition("\n")[0]]
    stated += [c for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    return " | ".join(text for text in stated if text and text != "UNKNOWN")


COPYLEFT = r"GPL|General Public|MPL|Mozilla|EPL|Eclipse|EUPL|CDDL|Proprietary"
FILES_ONLY = {"certifi", "orjson", "pathspec", "tqdm"}
"""Under the MPL 2.0, which covers only the files of the library itself."""
CHOICE = {"text-unidecode"}
"""Under the GPL or, as we use it, the Artistic License."""


def test_no_licence_extends_to_programs_that_use_the_library(record_property):
    found = installed("recsys-pipeline", EXTRAS)
    assert {"torch", "mlflow", "numpy"} <= set(found)
    stated = {name: licences(dist) for name, dist in found.items()}
    copyleft = {name: text for name, text in stated.items() if re.search(COPYLEFT, text)}
    record_property("licences", f"{len(found)} packages; copyleft: {sorted(copyleft)}")
    assert set(copyleft) <= FILES_ONLY | CHOICE, copyleft
    assert not any("GPL" in stated.get(name, "") for name in FILES_ONLY)
    assert all("Artistic" in stated.get(name, "Artistic") for name in CHOICE)


@pytest.mark.chaos
def test_no_known_vulnerabilities(record_property):
    pytest.importorskip("pip_audit", reason="make chaos installs it")
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        pytest.skip(f"no database of vulnerabilities can be reached: {done.stderr[-200:]}")
    packages = json.loads(done.stdout)["dependencies"]
    audited = [package for package in packages if "vulns" in package]
    if len(audited) < len(packages) / 2:
        pytest.skip(f"the database knows only {len(audited)} of {len(packages)} packages")
    faulty = {p["name"]: [v["id"] for v in p["vulns"]] for p in audited if p["vulns"]}
    record_property("vulnerabilities", f"{len(faulty)} of {len(audited)} packages: {faulty}")
    assert not faulty
