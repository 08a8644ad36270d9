import numpy as np
import pytest

from recsys.callbacks import History
from recsys.embeddings import ItemEmbeddings, load_embeddings, save_embeddings
from recsys.errors import BundleError
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


def test_what_comes_back_is_what_was_saved(saved):
    before = embeddings()
    read, history = load_embeddings(saved, ITEMS)
    assert read.vectors.tobytes() == np.ascontiguousarray(before.vectors).tobytes()
    assert (read.loss, read.relative_loss, read.optimum_loss) == (1 / 3, 1 / 7, 0.1 + 0.2)
    assert history.epochs == {1: {"loss": 2 / 3}}
    assert read.digest == before.digest


def test_an_optimum_that_was_not_computed_stays_so(tmp_path):
    save_embeddings(embeddings(None), History(), tmp_path / "saved")
    assert load_embeddings(tmp_path / "saved", ITEMS)[0].loss_ratio is None


def test_vectors_of_other_items_are_refused(saved):
    with pytest.raises(BundleError, match="vectors of 3 items, expected 2"):
        load_embeddings(saved, Vocabulary.of([3, 10]))


@pytest.mark.parametrize("name", ["vectors.safetensors", "fit.json"])
def test_a_flipped_byte_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[-2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not have the bytes"):
        load_embeddings(saved, ITEMS)


def test_the_digest_tells_vectors_and_items_apart():
    one = embeddings()
    others = [
        ItemEmbeddings(one.vectors + np.float32(1e-6), ITEMS, 0.0, 0.0),
        ItemEmbeddings(one.vectors, Vocabulary.of([3, 10, 8]), 0.0, 0.0),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 3
