"""`recsys doctor`: check the installation, the device, the stores and the disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import typer

from recsys.config import CHAMPION
from recsys.errors import ExitCode, RecsysError

app = typer.Typer()

_DISTRIBUTION = "recsys-pipeline"
_EXTRAS = ("train", "flows", "serve", "dask", "ann")
_LIBRARIES = ("numpy", "pandas", "pyarrow", "torch", "mlflow", "prefect", "fastapi")
_TIMEOUT = 3.0
"""Seconds to wait for a server."""
_LITTLE_SPACE = 2 * 10**9
"""Free bytes below which a warning is due: a training of MovieLens-25M needs about this."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Finding:
    """One line of the result."""

    name: str
    status: Literal["ok", "warning", "error"]
    message: str
    remedy: str = ""


@app.command()
def doctor(
    self_test: Annotated[
        bool, typer.Option(help="Whether to train and query a tiny model, in about 20 seconds.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check versions, device, stores and disk space, and train and query a tiny model.

    The exit status is 1 if there is an error. Warnings are no errors.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        *(_python, _extras, _device, _tracking, _prefect, _disk)
    ]
    if self_test:
        checks.append(_self_test)
    findings = []
    for check in checks:
        for finding in check():
            findings.append(finding)
            if not as_json:
                _print(finding)
    n_errors = sum(finding.status == "error" for finding in findings)
    if as_json:
        content = {"ok": not n_errors, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        errors = {0: "All is well.", 1: "There is 1 error."}
        print(errors.get(n_errors, f"There are {n_errors} errors."))
    raise typer.Exit(ExitCode.ERROR if n_errors else ExitCode.OK)


def _print(finding: Finding) -> None:
    print(f"{finding.status:8} {finding.name:12} {finding.message}", flush=True)
    if finding.remedy:
        print(f"{'':21} → {finding.remedy}", flush=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _python() -> Iterator[Finding]:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    found = {name: _installed(name) for name in (_DISTRIBUTION, *_LIBRARIES)}
    listed = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("versions", "ok", f"{system}; {listed}")


def _extras() -> Iterator[Finding]:
    """Whether the requirements of each extra are installed."""
    requirements = requires(_DISTRIBUTION) if _installed(_DISTRIBUTION) else None
    for extra in _EXTRAS if requirements else ():
        names = [
            name.partition(">")[0].partition("<")[0].partition(";")[0].partition("[")[0].strip()
            for name in requirements or ()
            if f"extra == '{extra}'" in name.replace('"', "'") and "Windows" not in name
        ]
        missing = [name for name in names if not _installed(name)]
        if not missing:
            yield Finding(f"[{extra}]", "ok", "installed")
        elif extra in ("train", "flows", "serve"):
            remedy = f"to use it: pip install -e '.[{extra}]'"
            yield Finding(f"[{extra}]", "ok", f"not installed ({', '.join(missing)})", remedy)


def _device() -> Iterator[Finding]:
    if not _installed("torch"):
        yield Finding("device", "ok", "CPU; torch is not installed, so nothing is trained here")
        return
    import torch

    from recsys.config import Runtime, available_threads

    try:
        device, threads = Runtime().torch_device(), available_threads()
    except RecsysError as error:
        yield Finding("device", "error", str(error))
        return
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        detail = f"{torch.cuda.get_device_name(device)}, {memory / 2**30:.0f} GiB"
    else:
        detail = f"CPU, {threads} threads"
    yield Finding("device", "ok", f"{detail}; session models in {Runtime().torch_precision()}")
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        yield Finding(
            "device",
            "warning",
            "this machine seems to have an NVIDIA GPU, but torch finds none",
            "install a build of torch for its CUDA version, and check `nvidia-smi`",
        )


def _tracking() -> Iterator[Finding]:
    """The MLflow store and registry, and the champion of a local one."""
    from recsys.tracking.store import DATABASE, is_local, version_of

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    registry = os.environ.get("MLFLOW_REGISTRY_URI")
    if is_local() and not DATABASE.exists():
        message = f"no runs yet in {DATABASE.parent.resolve()}"
        yield Finding("MLflow", "ok", message, "`recsys train` creates the store")
        return
    reached = _reach("MLflow", uri, "/health", "start it, or correct MLFLOW_TRACKING_URI")
    yield reached
    if registry and registry != uri:
        yield _reach("registry", registry, "/health", "start it, or correct MLFLOW_REGISTRY_URI")
    elif reached.status == "ok" and uri.startswith("sqlite:"):
        try:
            yield Finding("champion", "ok", version_of(CHAMPION))
        except RecsysError as error:
            yield Finding("champion", "warning", f"{CHAMPION}: {error}", "`recsys train`")


def _prefect() -> Iterator[Finding]:
    if not _installed("prefect"):
        return
    settings = import_module("prefect.settings")  # the library does not depend on Prefect
    # The address may be in Prefect's profile, too.
    if uri := os.environ.get("PREFECT_API_URL") or settings.PREFECT_API_URL.value():
        remedy = "`make server` starts it; without PREFECT_API_URL, flows start a temporary one"
        yield _reach("Prefect", uri, "/health", remedy)
    else:
        yield Finding("Prefect", "ok", "PREFECT_API_URL is not set: flows start a temporary server")


def _reach(name: str, uri: str, path: str, remedy: str) -> Finding:
    """Whether a server or a database answers within a few seconds. Passwords are not shown."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    shown = uri.replace(parts.netloc, host, 1) if host else uri
    start = time.monotonic()
    try:
        if parts.scheme == "sqlite":
            _read_database(Path(uri.removeprefix("sqlite:///")))
        elif parts.scheme in ("http", "https"):
            with urlopen(f"{shown.rstrip('/')}{path}", timeout=_TIMEOUT):  # noqa: S310 – http
                pass
        elif parts.hostname:
            port = parts.port or _PORTS.get(parts.scheme.partition("+")[0], 443)
            with socket.create_connection((parts.hostname, port), timeout=_TIMEOUT):
                pass
        elif parts.scheme in ("", "file") and not Path(parts.path).is_dir():
            return Finding(name, "error", f"{shown} is not a folder", remedy)
    except HTTPError as error:
        if error.code not in (401, 403):  # which answer all the same
            return Finding(name, "error", f"{shown} answers with status {error.code}", remedy)
    except (OSError, ValueError, sqlite3.Error) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return Finding(name, "error", f"{shown} does not answer: {reason}", remedy)
    return Finding(name, "ok", f"{shown} answers, in {time.monotonic() - start:.2f} s")


def _read_database(path: Path) -> None:
    address = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_TIMEOUT)) as database:
        database.execute("SELECT count(*) FROM runs").fetchone()


def _disk() -> Iterator[Finding]:
    """Free space and permission to write, where runs, data and temporary files are written."""
    paths = [Path(name).resolve() for name in ("mlflow", "data", tempfile.gettempdir())]
    existing = (next(p for p in (path, *path.parents) if p.is_dir()) for path in paths)
    for folder in dict.fromkeys(existing):
        free = shutil.disk_usage(folder).free
        message = f"{folder}: {free / 1e9:,.1f} GB free"
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            remedy = "change its owner or permissions, or work in another folder"
            yield Finding("disk", "error", f"{folder} cannot be written: {error.strerror}", remedy)
            continue
        if free < _LITTLE_SPACE:
            remedy = "free some space: `recsys gc` lists old runs and cached results"
            yield Finding("disk", "warning", message, remedy)
        else:
            yield Finding("disk", "ok", message)


def _self_test() -> Iterator[Finding]:
    """Read, count, embed, train, bundle, load and answer, with a tiny synthetic log."""
    if not _installed("torch"):
        yield Finding("self-test", "ok", "left out: training needs pip install -e '.[train]'")
        return
    start = time.monotonic()
    step = "import"
    try:
        with tempfile.TemporaryDirectory(prefix="recsys-doctor-") as folder:
            for step in _train_and_ask(Path(folder)):  # noqa: B007 – named if it fails
                pass
    except Exception as error:  # noqa: BLE001 – whatever is wrong with the installation
        message = f"failed at `{step}`: {type(error).__name__}: {error}"
        remedy = "install the versions of constraints.txt: pip install -c constraints.txt -e ."
        yield Finding("self-test", "error", message, remedy)
        return
    yield Finding(
        "self-test", "ok", f"trained and queried a model in {time.monotonic() - start:.1f} s"
    )


def _train_and_ask(folder: Path) -> Iterator[str]:
    """Yields the name of each step before it runs."""
    yield "import"
    import recsys
    from recsys.data.synthetic import SyntheticConfig, write_sample
    from recsys.recommender.bundle import make_bundle, save_bundle

    runtime = recsys.Runtime(device="auto")
    yield "read"
    sample = SyntheticConfig(n_users=60, n_items=50, mean_events=20)
    interactions = recsys.read_ratings(write_sample(folder / "sample", sample))
    split = recsys.leave_last_out(interactions)
    yield "count"
    counts = recsys.count_cooccurrence(split.positives, min_rating=3.5)
    yield "embed"
    config = recsys.EmbeddingConfig(dim=8)
    embeddings = recsys.fit_embeddings(counts, config, runtime=runtime)
    yield "train"
    sessions = recsys.SessionConfig(embedding_dim=8, hidden_dim=8, epochs=1)
    model = recsys.fit_session_model(split.train, sessions, runtime=runtime)
    yield "evaluate"
    report = recsys.evaluate(model, split)
    yield "bundle"
    bundle = make_bundle(interactions.catalogue, embeddings, model, {}, {"test": report})
    save_bundle(bundle, folder / "bundle")
    yield "load"
    recommender = recsys.load_recommender(folder / "bundle")
    yield "answer"
    item = interactions.items.ids[0].item()
    if not len(recommender.next_items([item])) or not len(recommender.similar_items(item)):
        raise RecsysError("the model does not answer")
