"""How fast each optimizer comes within 10 %, 1 % and 0.1 % of the optimum.

    python benchmarks/embeddings.py data/ml-latest-small --min-rating 4
    python benchmarks/embeddings.py data/ml-1m --dim 32 --budget 40

On one thread. Times are CPU seconds, which other programs affect little, of the
whole fit from the sparse matrix in memory; each method ends at its budget. Peers: autograd through
the dense n × n loss, `implicit`'s ALS on X with every pair weighted alike, and scikit-learn's
TruncatedSVD.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

import recsys
from recsys.embeddings import spectral_optimum
from recsys.errors import TrainingError

GAPS = (0.1, 0.01, 0.001)
ONE_CORE = recsys.Runtime(device="cpu", threads=1)
FITS = {
    "scaled_sgd (default)": {},
    "scaled_sgd, 256 random rows": {"batch_rows": 256},
    "sgd, Nesterov 0.95": {"optimizer": "sgd"},
    "sgd, no momentum": {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.2},
    "adam": {"optimizer": "adam"},
    "lbfgs (float64)": {"optimizer": "lbfgs"},
    "spectral": {"method": "spectral"},
}


class BudgetSpentError(Exception):
    """The time budget of a fit is spent."""


@dataclass
class Clock:
    """A callback that records when a fit first came within each gap of the optimum."""

    optimum: float
    budget: float
    start: float = field(default_factory=time.process_time)
    reached: dict[float, tuple[float, int]] = field(default_factory=dict)
    best: float = float("inf")

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        seconds = time.process_time() - self.start
        self.best = min(self.best, metrics["loss"] / self.optimum - 1)
        for gap in GAPS:
            if self.best <= gap:
                self.reached.setdefault(gap, (seconds, epoch))
        if seconds > self.budget or GAPS[-1] in self.reached:
            raise BudgetSpentError

    def row(self) -> str:
        cells = [
            f"{self.reached[gap][0]:.2f} ({self.reached[gap][1]})" if gap in self.reached else "–"
            for gap in GAPS
        ]
        return f"{' | '.join(cells)} | {max(self.best, 0):.2%}"


def exact_loss(vectors: NDArray[np.floating], X: sp.csr_array) -> float:
    V = vectors.astype(np.float64)
    norms = np.square(V).sum(axis=1)
    squares = np.square(X.data.astype(np.float64)).sum()
    return float(np.square(V.T @ V).sum() - norms @ norms - 2 * ((X @ V) * V).sum() + squares)


def ours(X: sp.csr_array, dim: int, clock: Clock, **settings: object) -> None:
    config = recsys.EmbeddingConfig(
        dim=dim, epochs=5000, tolerance=0.0, compute_optimum=False, **settings
    )
    recsys.fit_embeddings(X, config, runtime=ONE_CORE, on_epoch=clock)


def naive_dense(X: sp.csr_array, dim: int, clock: Clock) -> None:
    """The dense loss with Nesterov momentum, on X / λ₁."""
    n_items = X.shape[0]
    scale = float(np.linalg.norm(X @ np.ones(n_items)) / np.sqrt(n_items))
    targets = torch.from_numpy((X / scale).toarray().astype(np.float32))
    noise = torch.randn(n_items, dim, generator=torch.Generator().manual_seed(0))
    W = torch.nn.Parameter(noise / n_items**0.5)
    optimizer = torch.optim.SGD([W], lr=0.1, momentum=0.9, nesterov=True)
    off_diagonal = 1 - torch.eye(n_items)
    for epoch in range(1, 10_000):
        optimizer.zero_grad(set_to_none=True)
        loss = ((W @ W.T - targets) * off_diagonal).square().sum()
        loss.backward()
        clock(epoch - 1, {"loss": loss.item() * scale**2})
        optimizer.step()


def implicit_als(X: sp.csr_array, dim: int, clock: Clock) -> None:
    from implicit.als import AlternatingLeastSquares

    # With alpha 1 its confidence is X and its target 1, which is another objective.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AlternatingLeastSquares(dim, iterations=15, num_threads=1, random_state=0)
        model.fit(sp.csr_matrix(X.astype(np.float32)), show_progress=False)
    factors = model.item_factors
    # Rescale the factors optimally, for a fair comparison.
    gram = factors.T.astype(np.float64) @ factors
    cross = ((X @ factors) * factors).sum()
    best = max(cross, 0) / np.square(gram).sum()
    clock(15, {"loss": exact_loss(factors * best**0.5, X)})


def truncated_svd(X: sp.csr_array, dim: int, clock: Clock) -> None:
    from sklearn.decomposition import TruncatedSVD

    model = TruncatedSVD(dim, n_iter=4, random_state=0).fit(X.astype(np.float64))
    basis, values = model.components_.T, model.singular_values_
    # Singular values have no sign; the sign of an eigenvalue is that of qᵀ X q.
    signs = np.sign((basis * (X @ basis)).sum(axis=0))
    clock(4, {"loss": exact_loss(basis * np.sqrt(np.where(signs > 0, values, 0)), X)})


def compare(X: sp.csr_array, dim: int, budget: float) -> None:
    start = time.process_time()
    optimum = spectral_optimum(X, dim, runtime=ONE_CORE)
    seconds = time.process_time() - start
    share = optimum.loss / np.square(X.data.astype(np.float64)).sum()
    print(f"optimum {optimum.loss:.6g}, {share:.4%} of Σ X², in {seconds:.1f} s", flush=True)
    print("| method | 10 %: s (epochs) | 1 % | 0.1 % | closest |\n| --- | --- | --- | --- | --- |")
    methods: dict[str, Callable[[Clock], None]] = {
        name: lambda clock, settings=settings: ours(X, dim, clock, **settings)
        for name, settings in FITS.items()
    }
    methods["naive dense autograd"] = lambda clock: naive_dense(X, dim, clock)
    methods["implicit ALS (its own objective)"] = lambda clock: implicit_als(X, dim, clock)
    methods["TruncatedSVD (diagonal of zeros)"] = lambda clock: truncated_svd(X, dim, clock)
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])  # slow imports
    for name, method in methods.items():
        clock = Clock(optimum.loss, budget)
        try:
            method(clock)
        except BudgetSpentError:
            pass
        except TrainingError as error:
            print(f"| {name} | {error} |", flush=True)
            continue
        print(f"| {name} | {clock.row()} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--min-rating", type=float, help="minimum rating of a positive")
    parser.add_argument("--dim", type=int, action="append", help="can be repeated")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds for each method")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    ratings = recsys.read_ratings(options.data)
    dims = options.dim or [32]
    X = recsys.count_cooccurrence(ratings, options.min_rating).matrix
    for dim in dims:
        print(f"\n{options.data.name}: {X.shape[0]:,} items, {X.nnz:,} non-zeros, dim {dim}")
        compare(X, dim, options.budget)


if __name__ == "__main__":
    main()
