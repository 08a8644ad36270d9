"""Answers without scoring all items, compared with those that score all of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import BundleError
from recsys.recommender import Recommender
from recsys.recommender.bundle import load_bundle, make_bundle, save_bundle
from recsys.recommender.inverted_file import Clusters, InvertedFile

NO_ITEMS = np.empty(0, np.int64)
NEVER_MISS = 0.0


def search(features, clusters, query, k, usable=None, removed=NO_ITEMS):
    usable = np.full(len(features), True) if usable is None else usable
    return InvertedFile([features], clusters).search(query, k, usable, removed)


@given(st.data())
def test_search_equals_a_stable_sort_of_all_scores(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    n, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 20))
    features = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # with many equal scores
    cluster = rng.integers(0, data.draw(st.integers(1, 2 * n)), n)
    usable = rng.random(n) < data.draw(st.sampled_from([0.0, 0.2, 1.0]))
    removed = rng.permutation(n)[: data.draw(st.integers(0, n))]
    query = rng.integers(-2, 3, data.draw(st.integers(1, 3))).astype(np.float32)
    found = search(features, Clusters(cluster, NEVER_MISS), query, k, usable, removed)
    scores = features[:, : len(query)] @ query
    order = np.argsort(-scores, kind="stable")
    expected = [item for item in order if usable[item]][:k]
    assert found.item.tolist() == expected
    assert found.score.tolist() == scores[expected].tolist()
    kept = np.delete(scores, removed).astype(np.float64)
    assert found.log_z == pytest.approx(np.log(np.exp(kept).sum()) if len(kept) else 0, abs=1e-3)


@pytest.fixture(scope="module")
def groups():
    """A thousand items in 40 separate clusters."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 25)
    centres = rng.normal(size=(40, 8))
    features = centres[cluster] + 0.1 * rng.normal(size=(1000, 8))
    return features.astype(np.float32), rng.permutation(40)[cluster], centres.astype(np.float32)


def test_few_items_are_scored_if_clusters_are_separate(groups):
    features, cluster, centres = groups
    for centre in centres[:10]:
        scores = features @ centre
        found = search(features, Clusters(cluster, 1e-4), centre, 5)
        assert found.item.tolist() == np.argsort(-scores, kind="stable")[:5].tolist()
        assert found.n_scored < 500
        assert found.log_z == pytest.approx(np.log(np.exp(scores, dtype=float).sum()), abs=0.01)


OPTIONS = [
    {},
    {"k": 1000},
    {"include": {"genres": "Drama"}},
    {"exclude": {"genres": "Drama"}, "k": 1000},
    {"include": lambda items: items.index == 7},
    {"diversity": 0.5},
    {"popularity_weight": 0.3},
    {"embedding_weight": 0.4, "include": lambda items: items.index % 2 == 0},
    {"exclude_seen": True},
]


@pytest.fixture(params=[False, True], ids=["new", "repeating"])
def pair(full, request):
    """A recommender that scores all items, and one that need not, of the same bundle."""
    bundle = replace(full, weights=replace(full.weights, repeats=request.param))
    cluster = np.random.default_rng(0).integers(0, 9, len(bundle.items)).astype(np.int32)
    clusters = Clusters(cluster, NEVER_MISS)
    return Recommender(bundle), Recommender(replace(bundle, clusters=clusters))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(options) or "default")
def test_answers_equal_those_that_score_all_items(pair, options):
    exact, clustered = pair
    ids = exact.bundle.items.ids.tolist()
    histories = [ids[4:9], ids[7:8], [], [*ids[3:6], ids[3]], ids]
    expected = exact.recommend_batch(histories, **options)
    assert_close(clustered.recommend_batch(histories, **options), expected)
    for row, history in enumerate(histories):
        of_row = expected[expected["row"] == row].drop(columns="row").reset_index(drop=True)
        assert_close(clustered.next_items(history, **options), of_row)
        assert_close(clustered.session(history).next_items(**options), of_row)


def assert_close(answer, expected):
    assert answer["item_id"].tolist() == expected["item_id"].tolist()
    for name in ("score", "probability"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-3)


@pytest.fixture
def parts(full, log):
    """What a bundle is made of, with histories to cluster its items for."""
    histories = [log.history(user) for user in range(log.n_users)]
    results = full.catalogue, full.embeddings, full.session_model, {}, {}
    return lambda sample=histories: make_bundle(*results, sample=sample)


def test_the_items_of_a_large_catalogue_are_clustered(parts, log, tmp_path, monkeypatch):
    assert parts().clusters is None
    assert "search" not in parts().metrics
    monkeypatch.setattr("recsys.recommender.bundle.ANN_THRESHOLD", 49)
    assert parts(()).clusters is None
    made = parts()
    assert made.metrics["search"]["recall_at_10"] >= 0.99
    assert 0 <= made.metrics["search"]["probability_error"] < 0.05
    loaded = load_bundle(save_bundle(made, tmp_path / "bundle"))
    assert np.array_equal(loaded.clusters.cluster, made.clusters.cluster)
    assert loaded.clusters.max_missed == made.clusters.max_missed
    assert np.array_equal(parts().clusters.cluster, made.clusters.cluster)
    ids = made.items.ids[log.history(0)].tolist()
    assert_close(Recommender(loaded).next_items(ids), Recommender(made).next_items(ids))
    monkeypatch.setattr("recsys.recommender.clusters.MIN_RECALL", 1.1)
    refused = parts()
    assert refused.clusters is None
    assert refused.metrics == made.metrics


def test_recall_is_that_of_the_answers(parts, monkeypatch):
    """Scoring more clusters finds more; those of the lowest recall are refused."""
    monkeypatch.setattr("recsys.recommender.bundle.ANN_THRESHOLD", 49)
    found = {}
    for shares in ((100.0,), (100.0, 0.0)):  # too many are missed at first
        monkeypatch.setattr("recsys.recommender.clusters._MAX_MISSED", shares)
        found[shares] = parts()
    assert found[(100.0,)].clusters is None
    assert found[(100.0,)].metrics["search"]["recall_at_10"] < 0.99
    assert found[(100.0, 0.0)].clusters.max_missed == 0.0
    assert found[(100.0, 0.0)].metrics["search"]["recall_at_10"] == 1.0


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-1], lambda c: c - 1, lambda c: c + len(c), lambda c: c.astype(float)],
    ids=["too few", "negative", "too high", "fractions"],
)
def test_invalid_clusters_are_rejected(full, tmp_path, damage):
    cluster = np.arange(len(full.items), dtype=np.int32)
    clusters = Clusters(damage(cluster), 0.0)
    folder = save_bundle(replace(full, clusters=clusters), tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"has invalid content: .*clusters"):
        load_bundle(folder)


def test_modified_clusters_are_rejected(full, tmp_path):
    clusters = Clusters(np.zeros(len(full.items), np.int32), 0.0)
    folder = save_bundle(replace(full, clusters=clusters), tmp_path / "bundle")
    content = bytearray((folder / "clusters.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "clusters.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"clusters\.npz .*altered or damaged"):
        load_bundle(folder)
