"""What a notebook shows of an object is one line with counts, however large the object is."""

import pytest

import recsys
from recsys.baselines import BASELINES, fit_baseline
from recsys.recommender import Recommender
from recsys.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def objects(sample, sample_split, bundle):
    counts = recsys.count_cooccurrence(sample_split.train)
    embeddings = recsys.fit_embeddings(counts, recsys.EmbeddingConfig(dim=4, epochs=1))
    recommender = Recommender(bundle)
    return {
        "Interactions": sample,
        "Split": sample_split,
        "Cooccurrence": counts,
        "ItemEmbeddings": embeddings,
        "SpectralOptimum": recsys.spectral_optimum(counts, 4),
        "Report": recsys.evaluate(
            fit_baseline("popularity", sample_split.train).model, sample_split
        ),
        "SessionModel": bundle.session_model,
        "Recommender": recommender,
        "Session": recommender.session(bundle.items.ids.tolist()),
        "Bundle": bundle,
        "Vocabulary": sample.items,
    }


def test_a_repr_is_one_line(objects):
    for name, thing in objects.items():
        assert type(thing).__name__ == name
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 120, name


@pytest.mark.parametrize("name", BASELINES)
def test_the_repr_of_a_baseline_is_one_line(sample, name):
    vectors = sample.user_item_matrix().T.toarray().astype("float32")
    assert "\n" not in repr(fit_baseline(name, sample, item_vectors=vectors))


def test_counts_are_those_of_the_object(objects, sample, sample_split, bundle):
    assert repr(sample) == (
        f"<Interactions of 80 users and 60 items: {len(sample):,} rows with ratings, timestamps>"
    )
    n_train = len(sample_split.train)
    targets = "80 validation targets, 80 test targets"
    assert repr(sample_split) == (
        f"<Split by leave-last-out: {n_train:,} rows to train on, {targets}>"
    )
    assert repr(objects["Cooccurrence"]) == "<Cooccurrence of 60 items, counted over 80 users>"
    ids = bundle.items.ids.tolist()
    assert repr(objects["Session"]) == f"<Session of {len(ids)} items, the latest {ids[-3:]}>"
    assert repr(Vocabulary.of([])) == "<Vocabulary of 0 ids>"
