"""Arbitrary input: a right answer, or an error of ours in one line."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import shlex
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.cli.main import main
from recsys.data import read_ratings
from recsys.errors import BundleError, RecsysError
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle
from recsys.serving import ServingConfig, create_app
from recsys.storage import MANIFEST, read_json, with_digest, write_manifest

ROWS = [
    (u, i, float(1 + (u * i) % 5), 1_600_000_000 + 1000 * u + i)
    for u in (1, 2, 3)
    for i in range(10, 14)
]
NAMES = ["user_id", "item_id", "rating", "timestamp"]
TOKENS = [
    b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b";", b"\t", b"::", b"|", b"\n",
    b"\r", b"\n\n", b"{", b"}", b"[", b"]", b":", b"\\", b"9" * 40, b"-1", b"1e400", b"nan",
    b"null", b"true", b"0x1f", b"1.5", "é".encode(), "\u2028".encode(), b"user_id",
    b"2020-02-30", b" ",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "delete", "end"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.sampled_from(TOKENS),
    ),
    min_size=1,
    max_size=4,
)


def edited(content, edits):
    """Content with bits flipped, and parts removed, repeated or inserted."""
    for kind, a, b, token in edits:
        start, stop = sorted(int(x * len(content)) for x in (a, a + (b - a) / 4))
        part = content[start:stop]
        content = {
            "flip": content[:start]
            + bytes([content[start] ^ 1 << int(7 * b)])
            + content[start + 1 :]
            if start < len(content)
            else content,
            "cut": content[:start],
            "insert": content[:start] + token + content[start:],
            "repeat": content[:stop] + part + content[stop:],
            "delete": content[:start] + content[stop:],
            "end": content + token,
        }[kind]
    return content


def explore(n, **strategies):
    """Call a function with n examples."""

    def decorate(check):
        settings(max_examples=n, suppress_health_check=list(HealthCheck))(
            given(**strategies)(check)
        )()

    return decorate


def text(separator, names=NAMES):
    lines = [names] if names else []
    return "".join(f"{separator.join(map(str, row))}\n" for row in [*lines, *ROWS]).encode()


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", content)
    return file.getvalue()


def parquet():
    file = io.BytesIO()
    pd.DataFrame(ROWS, columns=NAMES).to_parquet(file)
    return file.getvalue()


CSV = text(",")
FILES = {
    "log.csv": CSV,
    "log.tsv": text("\t"),
    "ratings.dat": text("::", None),
    "u.data": text("\t", None),
    "log.jsonl": "".join(
        f"{json.dumps(dict(zip(NAMES, row, strict=True)))}\n" for row in ROWS
    ).encode(),
    "log.txt": b"1 10 11 12\n2 10 12\n3 11\n",
    "log.parquet": parquet(),
    "log.zip": zipped(CSV),
    "log.csv.gz": gzip.compress(CSV, mtime=0),
    "log.csv.bz2": bz2.compress(CSV),
    "log.csv.xz": lzma.compress(CSV),
    "log.csv.zst": pa.compress(CSV, "zstd", asbytes=True),
    "utf-16.csv": CSV.decode().encode("utf-16"),
}


def require_valid(log):
    """The invariants of interactions, whatever was read."""
    n = len(log)
    assert n > 0
    assert log.user_offsets[0] == 0
    assert log.user_offsets[-1] == n == len(log.user_index) == len(log.item_index)
    assert (np.diff(log.user_index) >= 0).all()
    assert 0 <= log.item_index.min() <= log.item_index.max() < log.n_items == len(log.catalogue)
    assert 0 <= log.user_index.min() <= log.user_index.max() < log.n_users
    assert log.rating is None or np.isfinite(log.rating).all()
    assert len(set(log.items.ids.tolist())) == log.n_items


@pytest.mark.parametrize("name", FILES)
def test_any_file_is_read_or_refused(name, trials, tmp_path):
    path = tmp_path / name

    @explore(trials(6, 500), edits=EDITS)
    def check(edits):
        path.write_bytes(edited(FILES[name], edits))
        try:
            with warnings.catch_warnings(action="ignore"):
                log = read_ratings(path, quarantine_path=tmp_path / "bad.parquet")
        except RecsysError as error:
            message = str(error)
        else:
            require_valid(log)
            return
        assert "\n" not in message
        assert str(path) in message


@pytest.fixture
def folder(bundle, tmp_path):
    return save_bundle(bundle, tmp_path / "bundle")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1])
    | st.floats()
    | st.text(max_size=5)
    | st.just("models:/recsys@champion"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def replaced(content, where, value):
    """A JSON object with one value replaced: the one that the numbers lead to."""
    if not where or not isinstance(content, dict | list) or not content:
        return value
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[where[0] % len(keys)]
    copy = content.copy()
    copy[key] = replaced(content[key], where[1:], value)
    return copy


def answers_or_is_refused(folder):
    try:
        rec = Recommender.load(folder)
    except BundleError as error:
        message = str(error)
    else:
        assert len(rec.next_items([], 3)) <= 3
        return
    assert "\n" not in message
    assert str(folder) in message


def sign(folder):
    """Give the manifest the hashes of the files as they are: who writes a bundle can do so."""
    (folder / MANIFEST).unlink()
    write_manifest(folder, format_version=1)


@pytest.mark.parametrize(
    "name",
    ["items.parquet", "neighbours.npz", "embeddings.safetensors", "session_model.safetensors"],
)
def test_any_array_of_a_bundle_is_read_or_refused(folder, name, trials):
    content = (folder / name).read_bytes()

    @explore(trials(8, 500), edits=EDITS)
    def check(edits):
        (folder / name).write_bytes(edited(content, edits))
        sign(folder)
        with np.errstate(all="ignore"):
            answers_or_is_refused(folder)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", MANIFEST])
def test_any_setting_of_a_bundle_is_read_or_refused(folder, name, trials):
    content = read_json(folder / name)

    @explore(trials(10, 500), where=st.lists(st.integers(0, 20), max_size=4), value=JSON)
    def check(where, value):
        changed = replaced(content, where, value)
        if name == MANIFEST and isinstance(changed, dict):
            changed = with_digest(changed)
        (folder / name).write_text(json.dumps(changed))
        if name != MANIFEST:
            sign(folder)
        answers_or_is_refused(folder)


PATHS = [
    "/v1/next", "/v1/similar", "/v1/sequences", "/v1/explain", "/v1/map", "/v1/sessions",
    "/v1/sessions/{}/events", "/v1/sessions/{}", "/v1/items", "/v1/genres", "/readyz", "/{}",
]  # fmt: skip
FIELDS = st.sampled_from(
    ["history", "item", "items", "k", "length", "query", "include", "exclude", "diversity",
     "popularity_weight", "embedding_weight", "unknown", "genres"]
)  # fmt: skip


@pytest.fixture(scope="module")
def client(bundle):
    app = create_app(lambda: Recommender(bundle), ServingConfig())
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_any_request_is_answered(client, bundle, trials):
    items = st.sampled_from([*bundle.catalogue["item_id"].tolist(), *bundle.catalogue["title"]])
    values = JSON | items | st.lists(items, max_size=4) | st.integers(-1, 300) | st.floats(0, 1)
    bodies = st.dictionaries(FIELDS, values, max_size=5) | JSON
    parameters = st.dictionaries(FIELDS, st.text(max_size=8), max_size=3)

    @explore(
        trials(60, 3000),
        method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
        path=st.sampled_from(PATHS),
        part=st.text("abc/.%\\é\0 ?#", max_size=6),
        body=bodies.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=40),
        parameters=parameters,
        kind=st.sampled_from(
            ["application/json", "text/plain", "application/json; charset=utf-16"]
        ),
    )
    def check(method, path, part, body, parameters, kind):
        part = part.replace("?", "%3f").replace("#", "%23").replace("\0", "%00")
        response = client.request(
            method,
            f"http://testserver{path.replace('{}', part)}",  # else //x would be a host
            content=body,
            params=parameters,
            headers={"content-type": kind},
        )
        assert response.status_code < 500, response.text
        if response.status_code >= 400 and method != "HEAD":
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == response.status_code


COMMANDS = ["next", "similar", "search", "explain", "sequences", "data check", "gc", "data list"]
OPTIONS = [
    "-k", "--json", "--item", "--length", "--model", "--exclude-seen", "--layout", "--columns",
    "--separator", "--encoding", "--time-unit", "--time-format", "--repeats", "--session-gap",
    "--missing-ratings", "--files", "--help", "--", "--folder", "--yes",
]  # fmt: skip


def test_any_arguments_end_in_one_line(folder, trials, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log = tmp_path / "log.csv"
    log.write_bytes(CSV)
    known = st.sampled_from(
        [str(log), str(folder), "1", "10", "Heat", "user_id=a", "ms", ",", "utf-16"]
    )
    words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
    rest = st.lists(st.sampled_from(OPTIONS) | known | words, max_size=6)

    @explore(trials(12, 300), command=st.sampled_from(COMMANDS), arguments=rest)
    def check(command, arguments):
        uses_model = not command.startswith(("data", "gc"))
        given = [*command.split(), *(["--model", str(folder)] if uses_model else []), *arguments]
        monkeypatch.setattr(sys, "argv", ["recsys", *given])
        output, errors = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main()
            except SystemExit as stopped:
                code = stopped.code or 0
        shown = shlex.join(given), errors.getvalue()
        assert code in (0, 1, 2), shown
        if code == 1:
            (line,) = [line for line in errors.getvalue().splitlines() if "error: " in line]
            assert line.startswith("error: "), shown
