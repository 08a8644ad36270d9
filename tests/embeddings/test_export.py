import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.embeddings import ItemEmbeddings, write_parquet, write_projector, write_word2vec
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


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
def test_parquet_holds_ids_and_vectors_exactly(tmp_path, ids):
    embeddings = embeddings_of(ids)
    write_parquet(embeddings, tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet").to_pandas()
    assert table["item_id"].tolist() == sorted(ids)
    assert np.stack(table["vector"]).tobytes() == embeddings.vectors.tobytes()


def test_word2vec_text_holds_the_vectors_exactly(tmp_path):
    embeddings = embeddings_of([3, 10, 7])
    write_word2vec(embeddings, tmp_path / "vectors.txt")
    read = read_word2vec(tmp_path / "vectors.txt")
    assert list(read) == ["3", "7", "10"]
    assert np.stack(list(read.values())).tobytes() == embeddings.vectors.tobytes()


def test_gensim_reads_it_and_finds_the_same_neighbours(tmp_path):
    models = pytest.importorskip("gensim.models")
    embeddings = embeddings_of(range(20))
    write_word2vec(embeddings, tmp_path / "vectors.txt", [f"Film {i}" for i in range(20)])
    read = models.KeyedVectors.load_word2vec_format(tmp_path / "vectors.txt")
    assert read.vectors.tobytes() == embeddings.vectors.tobytes()
    index, cosine = embeddings.neighbours(3)
    for item in range(20):
        names, scores = zip(*read.most_similar(f"Film_{item}", topn=3), strict=True)
        assert list(names) == [f"Film_{near}" for near in index[item]]
        assert scores == pytest.approx(cosine[item], abs=1e-6)


def test_the_projector_gets_a_line_per_item_in_each_of_two_files(tmp_path):
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


def test_names_may_have_spaces(tmp_path):
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
def test_names_that_do_not_name_each_item_are_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        write_word2vec(embeddings_of([1, 2, 3]), tmp_path / "vectors.txt", names)
    assert not (tmp_path / "vectors.txt").exists()
