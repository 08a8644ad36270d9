"""Saved embeddings and exports."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.callbacks import History
from recsys.embeddings import (
    ItemEmbeddings,
    load_embeddings,
    save_embeddings,
    write_parquet,
    write_projector,
    write_word2vec,
)
from recsys.errors import BundleError, DataError
from recsys.vocabulary import Vocabulary

ITEMS = Vocabulary.of([3, 10, 7])


def embeddings(optimum=0.1 + 0.2):
    vectors = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32).T  # not contiguous
    return ItemEmbeddings(vectors, ITEMS, 1 / 3, 1 / 7, optimum)


@pytest.fixture
def saved(tmp_path):
    history = History()
    history(1, {"loss": 2 / 3})
    save_embeddings(embeddings(), history, tmp_path / "saved")
    return tmp_path / "saved"


def test_load_returns_what_was_saved(saved):
    before = embeddings()
    read, history = load_embeddings(saved, ITEMS)
    assert read.vectors.tobytes() == np.ascontiguousarray(before.vectors).tobytes()
    assert (read.loss, read.relative_loss, read.optimum_loss) == (1 / 3, 1 / 7, 0.1 + 0.2)
    assert history.epochs == {1: {"loss": 2 / 3}}
    assert read.digest == before.digest


def test_missing_optimum_remains_missing(tmp_path):
    save_embeddings(embeddings(None), History(), tmp_path / "saved")
    assert load_embeddings(tmp_path / "saved", ITEMS)[0].loss_ratio is None


def test_load_rejects_another_number_of_items(saved):
    with pytest.raises(BundleError, match="vectors of 3 items, expected 2"):
        load_embeddings(saved, Vocabulary.of([3, 10]))


@pytest.mark.parametrize("name", ["vectors.safetensors", "fit.json"])
def test_load_rejects_damaged_files(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[-2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not match its SHA-256"):
        load_embeddings(saved, ITEMS)


def test_digest_depends_on_vectors_and_items():
    original = embeddings()
    changed = [
        ItemEmbeddings(original.vectors + np.float32(1e-6), ITEMS, 0.0, 0.0),
        ItemEmbeddings(original.vectors, Vocabulary.of([3, 10, 8]), 0.0, 0.0),
    ]
    assert len({original.digest, *(item.digest for item in changed)}) == 3


def embeddings_of(ids):
    vectors = np.random.default_rng(0).normal(size=(len(ids), 3)).astype(np.float32)
    return ItemEmbeddings(vectors, Vocabulary.of(ids), loss=0.0, relative_loss=0.0)


def read_word2vec(path):
    """As gensim reads it: white space separates, the first line says how much there is."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    fields = [line.split() for line in lines]
    assert head == f"{len(fields)} {len(fields[0]) - 1}"
    return {key: np.array(values, dtype=np.float32) for key, *values in fields}


@pytest.mark.parametrize("ids", [[3, 10, 7], ["b", "a", "ü"]], ids=["numbers", "text"])
def test_parquet_preserves_ids_and_vectors(tmp_path, ids):
    embeddings = embeddings_of(ids)
    write_parquet(embeddings, tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet").to_pandas()
    assert table["item_id"].tolist() == sorted(ids)
    assert np.stack(table["vector"]).tobytes() == embeddings.vectors.tobytes()


def test_word2vec_text_preserves_vectors(tmp_path):
    embeddings = embeddings_of([3, 10, 7])
    write_word2vec(embeddings, tmp_path / "vectors.txt")
    read = read_word2vec(tmp_path / "vectors.txt")
    assert list(read) == ["3", "7", "10"]
    assert np.stack(list(read.values())).tobytes() == embeddings.vectors.tobytes()


def test_gensim_reads_word2vec_and_finds_the_same_neighbours(tmp_path):
    models = pytest.importorskip("gensim.models")
    embeddings = embeddings_of(range(20))
    write_word2vec(embeddings, tmp_path / "vectors.txt", [f"Item {i}" for i in range(20)])
    read = models.KeyedVectors.load_word2vec_format(tmp_path / "vectors.txt")
    assert read.vectors.tobytes() == embeddings.vectors.tobytes()
    index, cosine = embeddings.neighbours(3)
    for item in range(20):
        names, scores = zip(*read.most_similar(f"Item_{item}", topn=3), strict=True)
        assert list(names) == [f"Item_{near}" for near in index[item]]
        assert scores == pytest.approx(cosine[item], abs=1e-6)


def test_projector_files_have_one_line_per_item(tmp_path):
    embeddings = embeddings_of([1, 2, 3])
    write_projector(embeddings, tmp_path / "projector", ["Toy\tStory", "Heat", "Amélie"])
    lines = (tmp_path / "projector" / "vectors.tsv").read_text(encoding="utf-8").splitlines()
    read = np.array([line.split("\t") for line in lines], dtype=np.float32)
    assert read.tobytes() == embeddings.vectors.tobytes()
    metadata = (tmp_path / "projector" / "metadata.tsv").read_text(encoding="utf-8")
    assert metadata == "Toy Story\nHeat\nAmélie\n"
    config = (tmp_path / "projector" / "projector_config.pbtxt").read_text(encoding="utf-8")
    named = re.findall('_path: "(.*)"', config)
    assert named == ["vectors.tsv", "metadata.tsv"]
    with pytest.raises(DataError, match="1 names for 3 items"):
        write_projector(embeddings, tmp_path / "few", ["Heat"])


def test_word2vec_names_may_have_spaces(tmp_path):
    names = ["Toy Story (1995)", "Heat (1995)", "Amélie"]
    write_word2vec(embeddings_of([1, 2, 3]), tmp_path / "vectors.txt", names)
    read = read_word2vec(tmp_path / "vectors.txt")
    assert list(read) == ["Toy_Story_(1995)", "Heat_(1995)", "Amélie"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "2 names for 3 items"), (["a b", "a_b", "c"], "occur twice"),
     (["a", " ", "c"], "empty")],
    ids=["few", "twice", "empty"],
)  # fmt: skip
def test_invalid_word2vec_names_are_rejected(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        write_word2vec(embeddings_of([1, 2, 3]), tmp_path / "vectors.txt", names)
    assert not (tmp_path / "vectors.txt").exists()
