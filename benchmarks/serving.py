"""Latency, throughput and memory of the recommendation API.

    python benchmarks/serving.py [--items 10000 --items 60000] [--requests 500] [--users 20000]
        [--dim 64] [--only "next_items, history of 50" --only session]

The bundles are synthetic: random weights of the default sizes and random histories. Every request
is timed separately, with one thread. `frame` accesses the result as a DataFrame, `records` as a
list of dictionaries. The peers run in the same process, in turn:

- implicit's `recommend` of an ALS model with vectors of the same length: the user vector is known;
- straightforward torch code: the same network, a history as a padded batch of one, softmax, `topk`
  and a DataFrame.

OMP_NUM_THREADS sets the number of threads of BLAS and torch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import scipy.sparse as sp

import recsys
from recsys.embeddings import ItemEmbeddings
from recsys.recommender.bundle import Bundle, PairCounts, UserHistories, save_bundle
from recsys.sessions import NumpySessionModel, SessionConfig, Weights
from recsys.sessions.numpy_model import parameter_shapes
from recsys.vocabulary import Vocabulary

K, LENGTH = 10, 50


def synthetic_bundle(n_items: int, n_users: int, dim: int = 64) -> Bundle:
    rng = np.random.default_rng(0)
    items = Vocabulary(np.arange(1, n_items + 1))
    config = SessionConfig(embedding_dim=dim).resolve(0)
    shapes = parameter_shapes(config, n_items)
    arrays = {n: 0.05 * rng.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
    vectors = rng.standard_normal((n_items, dim), dtype=np.float32)
    embeddings = ItemEmbeddings(vectors, items, 1.0, 1.0)
    index, cosine = embeddings.neighbours(100)
    partners = np.sort(rng.integers(0, n_items, (n_items, 256), dtype=np.int32), axis=1)
    weights = Weights(config, arrays)
    model = NumpySessionModel(weights)
    histories = rng.integers(0, n_items, n_users * LENGTH, dtype=np.int32)
    return Bundle(
        catalogue=pd.DataFrame(
            {
                "item_id": items.ids,
                "title": [f"Synthetic item number {i} ({1950 + i % 75})" for i in items.ids],
                "genres": [("Comedy|Drama", "Crime", "Drama|War")[i % 3] for i in items.ids],
            }
        ),
        embeddings=embeddings,
        neighbour_index=index,
        neighbour_cosine=cosine,
        weights=weights,
        config={},
        metrics={},
        pair_counts=PairCounts(
            np.arange(n_items + 1) * 256,
            partners.ravel(),
            rng.integers(1, 1000, partners.size, dtype=np.int32),
            np.zeros(n_items, np.bool_),
        ),
        user_histories=UserHistories(
            Vocabulary(np.arange(n_users)),
            np.arange(n_users + 1) * LENGTH,
            histories,
            model.encode_batch([histories[:LENGTH]]).repeat(n_users, axis=0),
        ),
    )


def timed(call: Callable[[int], object], requests: int) -> list[float]:
    """10th, 50th and 99th percentile in milliseconds."""
    for warm in range(10):
        call(warm)
    times = np.empty(requests)
    for request in range(requests):
        started = time.perf_counter()
        call(request)
        times[request] = time.perf_counter() - started
    return [float(np.quantile(times, q) * 1e3) for q in (0.1, 0.5, 0.99)]


PROBE = """
import json, os, sys, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
began = time.perf_counter()
import io, numpy, pandas, scipy.special, rapidfuzz, recsys
from recsys.loading import load_recommender
table = io.BytesIO()
pandas.DataFrame({"a": ["b"]}).to_parquet(table)
pandas.read_parquet(table)  # starts the threads of Arrow
libraries, before = time.perf_counter() - began, resident()
began = time.perf_counter()
rec = load_recommender(sys.argv[1])
loaded = time.perf_counter() - began
rec.next_items(rec.catalogue.ids[:50].tolist()).as_records()
first = time.perf_counter() - began
heavy = sorted({"mlflow", "prefect", "torch", "numba", "sklearn"} & set(sys.modules))
print(json.dumps([libraries, loaded, first, resident() - before, heavy]))
"""


def loading(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(folder)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    libraries, loaded, first, memory, heavy = min(runs, key=lambda run: run[1])
    print(f"  bundle on disk                      {size / 2**20:8.1f} MiB")
    print(f"  import numpy, pandas, pyarrow, …    {libraries:8.2f} s   (best of three processes)")
    print(f"  load, verify                        {loaded:8.2f} s")
    print(f"  load, verify, first result          {first:8.2f} s")
    print(f"  memory used                         {memory / 2**20:8.1f} MiB = "
          f"{memory / size:.2f} times the bundle")  # fmt: skip
    print(f"  imported of mlflow, prefect, torch, numba, sklearn: {', '.join(heavy) or 'none'}")


def naive(bundle: Bundle) -> Callable[[list[int]], pd.DataFrame]:
    import torch

    network, titles = bundle.session_model.network, bundle.catalogue["title"]

    def call(history: list[int]) -> pd.DataFrame:
        index = [bundle.items.index(item) for item in history]
        with torch.no_grad():
            logits = network.logits(network(torch.tensor([index]))[:, -1])[0]
            logits[index] = -torch.inf
            score, best = logits.softmax(0).topk(K)
        chosen = best.numpy()
        columns = {"item_id": bundle.items.ids[chosen], "title": titles.iloc[chosen].to_numpy()}
        return pd.DataFrame({"rank": range(1, K + 1), **columns, "score": score.numpy()})

    return call


def single(bundle: Bundle, requests: int, only: list[str] | None) -> None:
    rec = recsys.Recommender(bundle)
    rng = np.random.default_rng(1)
    ids = bundle.items.ids
    histories = [rng.choice(ids, LENGTH).tolist() for _ in range(100)]
    session, call_torch = rec.session(histories[0]), naive(bundle)
    als, user_items = implicit_model(bundle)

    def history(request: int) -> list[int]:
        return histories[request % 100]

    def item(request: int) -> int:
        return int(ids[request * 7 % len(ids)])

    rows: dict[str, Callable[[int], object]] = {
        "next_items, history of 50": lambda r: rec.next_items(history(r), K),
        "next_items, history of 50, records": lambda r: rec.next_items(history(r), K).as_records(),
        "next_items, history of 50, frame": lambda r: len(rec.next_items(history(r), K)),
        "naive torch, history of 50, frame": lambda r: len(call_torch(history(r))),
        "session.add + next_items": lambda r: session.add(item(r)).next_items(K),
        "session.add + next_items, records": (
            lambda r: session.add(item(r)).next_items(K).as_records()
        ),
        "recommend_user, records": lambda r: rec.recommend_user(r, K).as_records(),
        "implicit recommend, one user": lambda r: als.recommend(r, user_items[r], N=K),
        "similar_items": lambda r: rec.similar_items(item(r), K),
        "similar_items, records": lambda r: rec.similar_items(item(r), K).as_records(),
        "similar_items, frame": lambda r: len(rec.similar_items(item(r), K)),
        "implicit similar_items": lambda r: als.similar_items(r, N=K),
        "next_items, diversity 0.3, records": (
            lambda r: rec.next_items(history(r), K, diversity=0.3).as_records()
        ),
        "explain 10 items, records": lambda r: rec.explain(history(r)).as_records(),
        "next_sequences, length 5, beam 8": lambda r: rec.next_sequences(
            history(r), 5
        ).as_records(),
        "search('sinthetic itm numbr 77')": lambda _: rec.search(
            "sinthetic itm numbr 77"
        ).as_records(),
    }
    print(f"  {'milliseconds':40}     p10      p50      p99")
    for name, call in rows.items():
        if only and not name.startswith(tuple(only)):
            continue
        slow = name.startswith(("search", "next_sequences", "explain"))
        times = timed(call, max(requests // 10, 20) if slow else requests)
        print(f"  {name:40}" + " ".join(f"{each:8.3f}" for each in times), flush=True)


SERVE = "from recsys.cli.main import main; main()"


def explanations(bundle: Bundle) -> None:
    """50 items explained by a history of 500, over HTTP: one request, and twelve at once."""
    ids = bundle.items.ids.tolist()
    body = {"history": ids[:500], "items": ids[500:550]}
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(bundle, Path(folder) / "bundle")
        command = [sys.executable, "-c", SERVE, "serve", f"{folder}/bundle", "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                events = map(json.loads, server.stderr)
                url = next(event["url"] for event in events if event["event"] == "serving")
                status = Path(f"/proc/{server.pid}/status")

                def ask(_: int) -> None:
                    httpx.post(f"{url}/v1/explain", json=body, timeout=600).raise_for_status()

                small = {"history": ids[:5]}  # loads what the first request needs
                httpx.post(f"{url}/v1/explain", json=small, timeout=600).raise_for_status()
                for n in (1, 12):
                    before = kibibytes(status, "VmRSS")
                    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # resets the peak
                    began = time.perf_counter()
                    with ThreadPoolExecutor(n) as pool:
                        list(pool.map(ask, range(n)))
                    seconds = time.perf_counter() - began
                    more = (kibibytes(status, "VmHWM") - before) / 1024
                    print(f"  explain 50 items by 500, {n:2} at once over HTTP: "
                          f"{seconds:.2f} s, {more:.0f} MiB more")  # fmt: skip
            finally:
                server.kill()


def kibibytes(status: Path, name: str) -> int:
    return next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith(name))


def implicit_model(bundle: Bundle) -> tuple[object, sp.csr_matrix]:
    from implicit.als import AlternatingLeastSquares

    histories = bundle.user_histories
    assert histories is not None
    model = AlternatingLeastSquares(
        factors=histories.state_vectors.shape[1], num_threads=len(os.sched_getaffinity(0))
    )
    model.user_factors = histories.state_vectors.copy()
    model.item_factors = np.array(bundle.weights.arrays["item_embeddings.weight"][:-1])
    shape = (len(histories.users), len(bundle.items))
    ones = np.ones(len(histories.item_index), np.float32)
    return model, sp.csr_matrix((ones, histories.item_index, histories.offsets), shape=shape)


def batch(bundle: Bundle, only: list[str] | None) -> None:
    rec = recsys.Recommender(bundle)
    als, user_items = implicit_model(bundle)
    call_torch = naive(bundle)
    histories = bundle.user_histories
    assert histories is not None
    n_users, users = len(histories.users), np.arange(len(histories.users))
    n_sample = min(1000, n_users)
    sample = {u: bundle.items.ids[histories.history(u)].tolist() for u in range(n_sample)}
    short = {u: history[-10:] for u, history in sample.items()}
    rows: dict[str, tuple[int, Callable[[], object]]] = {
        "recommend_users (vectors in the bundle)": (n_users, lambda: rec.recommend_users(k=K)),
        "implicit recommend, all at once": (
            n_users, lambda: als.recommend(users, user_items, N=K)
        ),
        "recommend_batch, histories of 10": (n_sample, lambda: rec.recommend_batch(short, K)),
        "recommend_batch, histories of 50": (n_sample, lambda: rec.recommend_batch(sample, K)),
        "naive torch, one by one, 50": (
            50, lambda: [call_torch(sample[u]) for u in range(50)]
        ),
    }  # fmt: skip
    print(f"  {'users per second, best of three':40}")
    for name, (n, call) in rows.items():
        if only and not name.startswith(tuple(only)):
            continue
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        print(f"  {name:40}{n / min(seconds):10,.0f}", flush=True)


def sessions(bundle: Bundle, n_sessions: int = 100_000) -> None:
    rec = recsys.Recommender(bundle)
    before = resident()
    live = []
    for number in range(n_sessions):
        live.append(rec.session())
        live[-1].add(int(bundle.items.ids[number % len(bundle.items)]))
    times = (resident() - before) / 2**20
    print(f"  {n_sessions:,} live sessions of one item: {times:.0f} MiB, "
          f"{len(rec.state_cache):,} states cached")  # fmt: skip
    before = resident()
    long = [rec.session(bundle.items.ids[:LENGTH].tolist()) for _ in range(n_sessions)]
    for session in long[:20_000]:
        session.next_items(K)
    times = (resident() - before) / 2**20
    print(f"  {n_sessions:,} more of {LENGTH} items, 20,000 of them queried: {times:.0f} MiB more, "
          f"{len(rec.state_cache):,} states cached")  # fmt: skip


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, action="append")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--sessions", action="store_true", help="measure the memory of sessions")
    parser.add_argument("--dim", type=int, default=64, help="dimension of the vectors")
    parser.add_argument("--only", action="append", help="time only rows with this prefix")
    options = parser.parse_args()
    for n_items in options.items or [10_000, 60_000]:
        print(f"{n_items:,} items, vectors of {options.dim}, state of 256")
        bundle = synthetic_bundle(n_items, options.users, options.dim)
        if not options.only:
            with tempfile.TemporaryDirectory() as folder:
                loading(save_bundle(bundle, Path(folder) / "bundle"))
        single(bundle, options.requests, options.only)
        batch(bundle, options.only)
        if not options.only or any(row.startswith("explain") for row in options.only):
            explanations(bundle)
        if options.sessions:
            sessions(bundle)


if __name__ == "__main__":
    main()
