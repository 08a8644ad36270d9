"""Bundles that were written to do harm: each is refused as a bundle, without much memory."""

import io
import json
import multiprocessing
import os
import resource
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load_file, save_file

from recsys.errors import BundleError
from recsys.recommender import Recommender
from recsys.recommender.bundle import load_bundle, save_bundle
from recsys.serving import create_app
from recsys.storage import MANIFEST, read_json, with_digest, write_manifest

ALLOWED = 2**30
"""Bytes of address space that a refusal may take."""


def npy(shape, dtype="<f4", content=b""):
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    return file.getvalue() + content


def archive(*members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in members:
            written.writestr(f"{name}.npy", content)
    return file.getvalue()


def compressed():
    file = io.BytesIO()
    np.savez_compressed(file, index=np.zeros((50, 100_000), np.int32), cosine=np.zeros(5))
    return file.getvalue()


def pickled():
    file = io.BytesIO()
    np.savez(file, index=np.array([{}], dtype=object), cosine=np.zeros(3))
    return file.getvalue()


def encrypted():
    start = b"PK\x01\x02\x14\x03\x14\x00"
    return archive(("index", npy((1,)))).replace(start + b"\x00", start + b"\x01")


def overlapping():
    """Ten members that are the same bytes of the file."""
    content = bytearray(archive(*[(f"{n}", npy((250,), content=bytes(1000))) for n in range(10)]))
    start = 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:
        content[start + 42 : start + 46] = bytes(4)
        start += 46
    return bytes(content)


def config(**changes):
    def change(folder):
        content = read_json(folder / "config.json")
        content["session_model"].update(changes)
        (folder / "config.json").write_text(json.dumps(content))

    return change


def parquet(**options):
    def write(folder):
        n = options.get("n", 50)
        columns = {"item_id": np.zeros(n, np.int64), "title": np.full(n, "a", object)}
        columns |= {name: values for name, values in options.items() if name != "n"}
        pq.write_table(pa.table(columns), folder / "items.parquet", compression="zstd")

    return write


def items(**columns):
    """The catalogue with other columns."""

    def write(folder):
        table = pq.read_table(folder / "items.parquet")  # pandas' metadata says text
        for name, values in columns.items():
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, values)
            else:
                table = table.append_column(name, values)
        pq.write_table(table, folder / "items.parquet")

    return write


def invalid_text():
    """Text that is not UTF-8."""
    offsets = np.arange(51, dtype=np.int32).tobytes()
    return pa.StringArray.from_buffers(50, pa.py_buffer(offsets), pa.py_buffer(b"\xff" * 50))


def frame(**columns):
    return lambda folder: pd.DataFrame(columns).to_parquet(folder / "items.parquet")


def tensors(name, **changes):
    def write(folder):
        arrays = load_file(folder / name)
        save_file({**arrays, **changes}, folder / name)

    return write


def tensor_header(header, size=None):
    def write(folder):
        content = json.dumps(header).encode()
        length = struct.pack("<Q", len(content) if size is None else size)
        (folder / "embeddings.safetensors").write_bytes(length + content + bytes(64))

    return write


def file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def manifest(**changes):
    def write(folder):
        content = read_json(folder / MANIFEST)
        files = {**content["files"], **changes.get("files", {})}
        content = with_digest({**content, **changes, "files": files})
        (folder / MANIFEST).write_text(json.dumps(content))

    return write


NEIGHBOURS, F4 = "neighbours.npz", {"dtype": "F32", "data_offsets": [0, 64]}
DEEP = b'{"a":' * 100_000
HOSTILE = {
    "npz of a huge shape": file(NEIGHBOURS, archive(("index", npy((10**12,))))),
    "npz of a huge number": file(NEIGHBOURS, archive(("index", npy((10**40, 2))))),
    "npz of a negative shape": file(NEIGHBOURS, archive(("index", npy((-1, -4))))),
    "npz of empty values": file(NEIGHBOURS, archive(("index", npy((10**9,), "<U0")))),
    "npz of huge values": file(NEIGHBOURS, archive(("index", npy((1,), "<U500000000")))),
    "npz with a wrong header": file(NEIGHBOURS, archive(("index", b"\x93NUMPY\x02\x00\xff"))),
    "npz with a deep header": file(NEIGHBOURS, archive(("index", npy((1,))[:10] + b"(" * 60_000))),
    "npz without a header": file(NEIGHBOURS, archive(("index", b"x"))),
    "npz, compressed": file(NEIGHBOURS, compressed()),
    "npz, pickled": file(NEIGHBOURS, pickled()),
    "npz, overlapping": file(NEIGHBOURS, overlapping()),
    "npz, empty": file(NEIGHBOURS, archive()),
    "npz, no zip": file(NEIGHBOURS, b"PK\x05\x06"),
    "npz, encrypted": file(NEIGHBOURS, encrypted()),
    "histories of a huge shape": file("user_histories.npz", archive(("users", npy((10**12,))))),
    "counts without arrays": file("cooccurrence.npz", archive(("counts", npy((0,))))),
    "config, deep": file("config.json", DEEP),
    "config, digits": file("config.json", b'{"a": ' + b"9" * 5000 + b"}"),
    "config, list": file("config.json", b"[]"),
    "config, no text": file("config.json", b"\xff\xfe"),
    "config, empty": file("config.json", b"{}"),
    "config, null": file("config.json", b'{"session_model": null, "repeats": 0}'),
    "many layers": config(n_layers=10**8),
    "a wide layer": config(hidden_dim=10**12),
    "a wide embedding": config(embedding_dim=10**12),
    "many half-lives": config(ema_half_lives=[1.0] * 100_000),
    "no cell": config(cell="none"),
    "metrics, deep": file("metrics.json", DEEP),
    "parquet of many rows": parquet(n=5_000_000),
    "parquet of long text": parquet(more=["x" * 10**6] * 50),
    "parquet of long ids": parquet(item_id=["x" * 10**6] * 50),
    "parquet of lists": parquet(more=[[0] * 10**5] * 50),
    "parquet of a fixed size": parquet(more=pa.array([b"x" * 10**6] * 50, pa.binary(10**6))),
    "parquet, no title": frame(item_id=range(50)),
    "parquet, no id": frame(title=["a"] * 50),
    "parquet, repeated ids": parquet(),
    "titles, one missing": items(title=pa.array([None, *["a"] * 49])),
    "titles, all missing": items(title=pa.nulls(50)),
    "titles, integers": items(title=pa.array(range(50))),
    "titles, floats": items(title=pa.array([float("nan")] * 50)),
    "titles, bytes": items(title=pa.array([b"a"] * 50)),
    "titles, no UTF-8": items(title=invalid_text()),
    "titles, categories": items(title=pa.array([1] * 50).dictionary_encode()),
    "titles, structs": items(title=pa.array([{"a": "b"}] * 50)),
    "genres, integers": items(genres=pa.array(range(50))),
    "genres, bytes": items(genres=pa.array([b"a"] * 50)),
    "genres, no UTF-8": items(genres=invalid_text()),
    "more text, no UTF-8": items(more=invalid_text()),
    "ids, floats": items(item_id=pa.array(np.arange(50.0))),
    "ids, floats that are no numbers": items(item_id=pa.array([float("nan")] * 50)),
    "ids, one missing": items(item_id=pa.array([None, *range(49)])),
    "ids, text, one missing": items(item_id=pa.array([None, *map(str, range(49))])),
    "ids, bytes": items(item_id=pa.array([bytes([n]) for n in range(50)])),
    "ids, booleans": items(item_id=pa.array([n > 3 for n in range(50)])),
    "ids, dates": items(item_id=pa.array(range(50), pa.timestamp("s"))),
    "ids, small": items(item_id=pa.array(range(50), pa.int8())),
    "ids, unsigned": items(item_id=pa.array(range(2**64 - 50, 2**64), pa.uint64())),
    "ids, no UTF-8": items(item_id=invalid_text()),
    "parquet, damaged": file("items.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
    "parquet, empty": file("items.parquet", b""),
    "tensors, long header": tensor_header({}, 2**62),
    "tensors, huge shape": tensor_header({"vectors": F4 | {"shape": [10**12, 8]}}),
    "tensors, overflow": tensor_header({"vectors": F4 | {"shape": [2**62, 2**62]}}),
    "tensors, beyond the end": tensor_header({"vectors": F4 | {"data_offsets": [0, 256]}}),
    "tensors, unknown type": tensor_header({"vectors": F4 | {"shape": [32], "dtype": "BF17"}}),
    "tensors, bfloat16": tensor_header({"vectors": F4 | {"shape": [32], "dtype": "BF16"}}),
    "tensors, no name": tensor_header({}),
    "tensors, no object": tensor_header([]),
    "no popularity": lambda f: save_file({"a": np.zeros(2)}, f / "session_model.safetensors"),
    "another shape": tensors("session_model.safetensors", item_bias=np.zeros((50, 2), np.float32)),
    "a scalar": tensors("session_model.safetensors", item_bias=np.zeros((), np.float32)),
}
MANIFESTS = {
    "manifest, deep": file(MANIFEST, DEEP),
    "manifest, list": file(MANIFEST, b'{"files": []}'),
    "manifest, null": file(MANIFEST, b'{"files": null}'),
    "manifest, numbers": file(MANIFEST, b'{"files": {"a": 1}}'),
    "manifest, zero byte": manifest(files={"a\0b": {"sha256": ""}}),
    "manifest, surrogate": manifest(files={"\ud800": {"sha256": ""}}),
    "manifest, long name": manifest(files={"a" * 5000: {"sha256": ""}}),
    "manifest, parent": manifest(files={"../../etc/passwd": {"sha256": ""}}),
    "manifest, no digest": manifest(files={"items.parquet": {"sha256": 5}}),
    "manifest, format": manifest(format_version={"a": []}),
}


def load_limited(folder, answer):
    """Load with little address space; the answer is the name of the error."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED, -1))
    try:
        Recommender.load(folder)
        answer.put("loaded")
    except Exception as error:  # noqa: BLE001, the parent asserts its kind
        answer.put(f"{type(error).__name__}: {error}"[:300])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", [*HOSTILE, *MANIFESTS])
def test_a_hostile_bundle_is_refused(full, tmp_path, kind):
    folder = save_bundle(full, tmp_path / "bundle")
    if kind in HOSTILE:
        HOSTILE[kind](folder)
        write_manifest(folder, format_version=1)
    else:
        MANIFESTS[kind](folder)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=load_limited, args=(folder, answer))
    child.start()
    child.join(60)
    assert child.exitcode is not None, "loading does not end"
    assert not answer.empty(), "the process died"
    message = answer.get()
    assert message.startswith("BundleError: ")
    about, _, _ = kind.partition(",")
    if column := {"titles": "title", "genres": "genres", "ids": "item_id"}.get(about):
        assert f"{folder / 'items.parquet'}" in message
        assert f"column {column!r}" in message or "structs" in kind


def test_what_pandas_declares_is_not_believed(full, tmp_path):
    for declared in (None, {"pandas": b'{"columns": [], "index_columns": ["title"]}'}):
        folder = save_bundle(full, tmp_path / "bundle")
        items(title=pa.array([1] * 50))(folder)
        table = pq.read_table(folder / "items.parquet").replace_schema_metadata(declared)
        pq.write_table(table, folder / "items.parquet")
        write_manifest(folder, format_version=1)
        with pytest.raises(BundleError, match="column 'title': titles must be text, not int64"):
            load_bundle(folder)


NONE, NAN = pa.nulls(50), pa.array([float("nan")] * 50)


@pytest.mark.parametrize(
    "columns",
    [
        {"genres": pa.nulls(50, pa.string())},
        {"genres": NONE},
        {"genres": pa.array(["a|b", ""] * 25).dictionary_encode()},
        {"title": pa.array([""] * 50)},
        {"title": pa.array(["a\0", "\u2028"] * 25, pa.large_string())},
        {"item_id": pa.array([f"{n:02}" for n in range(50)], pa.large_string())},
        {"a": NAN, "b": NONE, "c": pa.array([b"\xff"] * 50), "d": pa.array([True] * 50)},
        {"a": pa.array(range(50), pa.timestamp("s")), "b": pa.array(range(50), pa.duration("s"))},
        {"a": pa.array(range(50), pa.decimal128(20, 2)), "b": pa.array(range(50), pa.date32())},
        {"a": pa.array(range(2**64 - 50, 2**64), pa.uint64()), "b": pa.array(["x"] * 50)},
        {"rank": pa.array(["x"] * 50), "score": pa.array(["x"] * 50)},
    ],
    ids=lambda columns: ",".join(f"{name} {values.type}" for name, values in columns.items()),
)
def test_columns_that_are_read_can_be_used(full, tmp_path, columns):
    folder = save_bundle(full, tmp_path / "bundle")
    items(**columns)(folder)
    (folder / MANIFEST).unlink()
    write_manifest(folder, format_version=1)
    rec = Recommender.load(folder)
    app = create_app(lambda: rec)
    with TestClient(app) as client:
        for path in ("/v1/items", "/v1/items?query=the", "/v1/genres", "/v1/map"):
            assert client.get(path).status_code == 200
        answers = client.get("/v1/items").json()["items"]
        assert [answer["rank"] for answer in answers] == list(range(1, 11))
    for name in columns:
        value = rec.catalogue.table[name].iloc[0]
        rec.next_items([], include={name: value if isinstance(value, str) else 0})
        rec.catalogue.values(name)


def test_files_are_readable_as_the_umask_says(full, tmp_path):
    before = os.umask(0o027)
    try:
        folder = save_bundle(full, tmp_path / "bundle")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o640"}
    assert oct(folder.stat().st_mode & 0o777) == "0o750"


def test_the_largest_plausible_catalogue_is_loaded(full, tmp_path):
    catalogue = full.catalogue.assign(plot=["p" * 4000] * len(full.items))
    folder = save_bundle(replace(full, catalogue=catalogue), tmp_path / "bundle")
    assert Recommender.load(folder).catalogue.table["plot"].str.len().eq(4000).all()
