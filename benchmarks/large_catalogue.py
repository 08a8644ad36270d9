"""Time and recall of single answers from a large catalogue.

    python benchmarks/large_catalogue.py [--items 1000000] [--dim 64] [--requests 200]

The item vectors are synthetic: a mixture of clusters of very different sizes, in which clusters
form larger ones, with a bias for popularity. The session model has random weights, except that its
query vector points to the average of the latest items, as that of a trained model does. Histories
have 20 items of three clusters. Recall is that of the ten best items of exact scores.

The peers search for the query vectors, which are given: exactly in numpy, in implicit and in faiss,
and with an index of faiss whose probes are doubled until its recall is at least 0.99.

OMP_NUM_THREADS sets the number of threads, by default one.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import faiss
import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.embeddings import ItemEmbeddings
from recsys.recommender import Recommender
from recsys.recommender.bundle import Bundle
from recsys.recommender.clusters import cluster_items
from recsys.sessions import NumpySessionModel, SessionConfig, Weights
from recsys.sessions.numpy_model import parameter_shapes
from recsys.vocabulary import Vocabulary

K, LENGTH = 10, 20
QUERY_SCALE = 0.3
Histories = list[NDArray[np.int32]]


def clustered_vectors(
    n_items: int, dim: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors with a length of about one, and the cluster of each."""
    n_clusters = n_items // 200
    groups = rng.standard_normal((n_clusters // 50, dim), dtype=np.float32)
    centres = groups[rng.integers(0, len(groups), n_clusters)]
    centres = centres + rng.standard_normal(centres.shape, dtype=np.float32)
    size = rng.pareto(1.5, n_clusters) + 1
    cluster = rng.choice(n_clusters, n_items, p=size / size.sum())
    vectors = centres[cluster] + rng.standard_normal((n_items, dim), dtype=np.float32)
    vectors *= np.arange(1, dim + 1, dtype=np.float32) ** -0.25  # directions differ in variance
    return vectors / np.sqrt(np.square(vectors).sum(axis=1).mean()), cluster


def synthetic_bundle(n_items: int, dim: int) -> tuple[Bundle, Histories]:
    """A bundle, and a thousand histories."""
    rng = np.random.default_rng(0)
    vectors, cluster = clustered_vectors(n_items, dim, rng)
    config = SessionConfig(embedding_dim=dim).resolve(0)
    shapes = parameter_shapes(config, n_items)
    arrays = {n: 0.05 * rng.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
    arrays["item_embeddings.weight"][:-1] = vectors
    arrays["item_bias"] = rng.standard_normal(n_items, dtype=np.float32)
    arrays["log_popularity"] = arrays["item_bias"]
    arrays["input_norm.weight"] = np.ones(dim, np.float32)
    averages = arrays["ema_features.weight"].reshape(dim, -1, dim)
    averages[:, :4] += QUERY_SCALE * np.eye(dim, dtype=np.float32)[:, None]
    items = Vocabulary(np.arange(1, n_items + 1))
    members = np.argsort(cluster, kind="stable")
    first = np.searchsorted(cluster[members], np.arange(cluster.max() + 2))
    histories = []
    for _ in range(1000):
        visited = rng.permutation(np.repeat(cluster[rng.integers(0, n_items, 3)], LENGTH // 3 + 1))
        positions = rng.integers(first[visited], first[visited + 1])
        histories.append(members[positions[:LENGTH]].astype(np.int32))
    noise = 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32) / dim**0.5
    bundle = Bundle(
        catalogue=pd.DataFrame(
            {
                "item_id": items.ids,
                "title": items.ids.astype(str),
                "genres": np.where(items.ids % 10 == 0, "Drama", "Comedy"),
            }
        ),
        embeddings=ItemEmbeddings(vectors + noise, items, 1.0, 1.0),
        neighbour_index=np.full((n_items, 1), -1, np.int32),
        neighbour_cosine=np.zeros((n_items, 1), np.float32),
        weights=Weights(config, arrays),
        config={},
        metrics={},
    )
    return bundle, histories


def measure(
    name: str, answer: Callable[[int], object], expected: list[list[int]], requests: int
) -> float:
    """Print a row of the table, and return the recall."""
    found = [set(np.asarray(answer(row)).tolist()) for row in range(len(expected))]
    recall = float(np.mean([len(f & set(e)) / K for f, e in zip(found, expected, strict=True)]))
    times = np.empty(requests)
    for request in range(requests):
        started = time.perf_counter()
        answer(request % len(expected))
        times[request] = time.perf_counter() - started
    p10, p50, p99 = np.quantile(times, (0.1, 0.5, 0.99)) * 1e3
    print(f"| {name} | {p10:.1f} | {p50:.1f} | {p99:.1f} | {recall:.4f} |", flush=True)
    return recall


def answers(
    exact: Recommender, clustered: Recommender, histories: Histories, requests: int
) -> None:
    ids = [exact.bundle.items.ids[history].tolist() for history in histories]
    kinds: dict[str, tuple[int, dict[str, object]]] = {
        "history of 20": (LENGTH, {}),
        "history of 20, a tenth of the items": (LENGTH, {"include": {"genres": "Drama"}}),
        "history of 20, diversity 0.3": (LENGTH, {"diversity": 0.3}),
        "history of one": (1, {}),
    }
    for kind, (length, options) in kinds.items():

        def answer(rec: Recommender, row: int, n: int = length, given: object = options) -> object:
            return rec.next_items(ids[row][:n], K, **given)["item_id"]  # type: ignore[arg-type]

        expected = [np.asarray(answer(exact, row)).tolist() for row in range(len(ids))]
        name = f"`next_items`, {kind}"
        measure(f"{name}, all items scored", partial(answer, exact), expected, requests // 5)
        measure(name, partial(answer, clustered), expected, requests)


def batches(exact: Recommender, clustered: Recommender, histories: Histories) -> None:
    ids = [exact.bundle.items.ids[history].tolist() for history in histories]
    for name, rec in (("all items scored", exact), ("by clusters", clustered)):
        started = time.perf_counter()
        rec.recommend_batch(ids, K)
        milliseconds = (time.perf_counter() - started) / len(ids) * 1e3
        print(f"`recommend_batch`, {name}: {milliseconds:.1f} ms per history")


def peers(model: NumpySessionModel, histories: Histories, requests: int) -> None:
    query_BD = model.encode_batch(histories)
    query_BC = np.hstack([query_BD, np.ones((len(query_BD), 1), np.float32)])
    features_NC = np.hstack([model.item_embeddings_ND, model.item_bias_N[:, None]])
    n_items, n_features = features_NC.shape

    def dot_products(row: int) -> NDArray[np.int64]:
        scores = features_NC @ query_BC[row]
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    expected = [dot_products(row).tolist() for row in range(len(histories))]
    few = requests // 5
    measure("numpy: dot products, `argpartition`", dot_products, expected, few)
    als = AlternatingLeastSquares(factors=n_features, num_threads=1)
    als.user_factors, als.item_factors = query_BC, features_NC
    none = csr_matrix((len(query_BC), n_items), dtype=np.float32)
    measure("implicit: `recommend`", lambda r: als.recommend(r, none[r], N=K)[0], expected, few)
    faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    flat = faiss.IndexFlatIP(n_features)
    flat.add(features_NC)
    measure("faiss: `IndexFlatIP`", partial(search, flat, query_BC), expected, few)
    started = time.perf_counter()
    n_cells = int(4 * n_items**0.5)
    # Cells of near vectors, probed by dot product. By default, cells are those of directions, and
    # most of the best items are missed.
    cells, centres = faiss.IndexFlatL2(n_features), faiss.IndexFlatIP(n_features)
    index = faiss.IndexIVFFlat(cells, n_features, n_cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = False
    index.train(features_NC)
    index.add(features_NC)
    centres.add(cells.reconstruct_n(0, n_cells))
    index.quantizer = centres
    seconds = time.perf_counter() - started
    index.nprobe, recall = 16, 0.0
    while recall < 0.99 and index.nprobe < n_cells:
        index.nprobe *= 2
        name = f"faiss: `IndexIVFFlat`, {index.nprobe} of {n_cells} cells, made in {seconds:.0f} s"
        recall = measure(name, partial(search, index, query_BC), expected, requests)


def search(index: faiss.Index, query_BC: NDArray[np.float32], row: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = index.search(query_BC[row : row + 1], K)[1][0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args()
    bundle, histories = synthetic_bundle(options.items, options.dim)
    fitted, measured = histories[:-100], histories[-100:]
    started = time.perf_counter()
    clusters, metrics = cluster_items(bundle.embeddings, bundle.weights, fitted)
    print(f"clusters: {time.perf_counter() - started:.0f} s, {metrics}")
    bundle = replace(bundle, clusters=clusters)
    recommenders = []
    for each in (replace(bundle, clusters=None), bundle):
        started = time.perf_counter()
        recommenders.append(Recommender(each))
        print(f"ready after {time.perf_counter() - started:.1f} s")
    exact, clustered = recommenders
    print("\n| | p10 | p50 | p99 | recall@10 |\n| --- | --- | --- | --- | --- |")
    answers(exact, clustered, measured, options.requests)
    peers(exact.scorer.model, measured, options.requests)
    print()
    batches(exact, clustered, histories)


if __name__ == "__main__":
    main()
