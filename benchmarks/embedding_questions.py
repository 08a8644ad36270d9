"""Draw the figures of docs/benchmarks/embeddings.md and print its tables.

python benchmarks/embedding_questions.py data/ml-latest-small docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import recsys
from recsys.callbacks import History
from recsys.errors import TrainingError

DIM = 32
EPOCHS = 40
TITLES = ("Apollo 13 (1995)", "Toy Story (1995)", "Home Alone (1990)")
ONE_CORE = recsys.Runtime(device="cpu", threads=1)
RATES = {
    "scaled_sgd": (0.03, 0.125, 0.3),
    "sgd": (0.01, 0.1, 1.0),
    "adam": (0.005, 0.05, 0.5),
}


def fit(X, items, **settings):
    history = History()
    config = recsys.EmbeddingConfig(
        **{"dim": DIM, "epochs": EPOCHS, "compute_optimum": False, **settings}
    )
    fitted = recsys.fit_embeddings(X, config, items=items, runtime=ONE_CORE, on_epoch=history)
    return fitted, history


def learning_rates(counts, optimum, rows, near):
    """Loss by epoch, and agreement of the neighbours, for learning rates and optimizers."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(RATES), sharey=True)
    print("| optimizer | learning rate | loss / optimum | shared of the top 10 |")
    print("| --- | --- | --- | --- |")
    for axes, (optimizer, rates) in zip(panels, RATES.items(), strict=True):
        for rate in rates:
            try:
                fitted, history = fit(
                    counts.matrix,
                    counts.items,
                    optimizer=optimizer,
                    learning_rate=rate,
                    init="random",
                    tolerance=0.0,
                )
            except TrainingError:
                print(f"| {optimizer} | {rate:g} | diverged | – |", flush=True)
                continue
            losses = np.array(history.series("loss")) / optimum.loss - 1
            axes.semilogy(range(1, len(losses) + 1), np.maximum(losses, 1e-5), label=f"{rate:g}")
            found = fitted.neighbours(10)[0][rows]
            shared = [len(set(a) & set(b)) for a, b in zip(near, found, strict=True)]
            ratio = fitted.loss / optimum.loss
            print(f"| {optimizer} | {rate:g} | {ratio:.3f} | {shared} |", flush=True)
        axes.axhline(0.01, color="0.7", lw=0.8)
        axes.set(title=optimizer, xlabel="epoch")
        axes.legend(title="learning rate")
    panels[0].set_ylabel("loss / optimum − 1")
    return figure


def dimensions(counts):
    """The optimum by dimension."""
    dims = (2, 4, 8, 16, 32, 64)
    squares = np.square(counts.matrix.data.astype(float)).sum()
    best = [
        recsys.spectral_optimum(counts, dim, runtime=ONE_CORE, tolerance=1e-3).loss / squares
        for dim in dims
    ]
    print("dim", dict(zip(dims, np.round(best, 5).tolist(), strict=True)), flush=True)
    return draw_dimensions(dims, best)


def draw_dimensions(dims, best):
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(dims, best, marker="o")
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, map(str, dims))
    axes.set(xlabel="dim", ylabel="optimum / Σ X²", ylim=(0, None), title="Dimension against loss")
    axes.grid(alpha=0.3)
    return figure


def main(data: str, folder: Path) -> None:
    ratings = recsys.read_ratings(data)
    counts = recsys.count_cooccurrence(ratings, min_rating=4.0)
    titles = ratings.catalogue["title"].to_numpy()
    rows = [int(np.flatnonzero(titles == title)[0]) for title in TITLES]
    folder.mkdir(parents=True, exist_ok=True)
    optimum = recsys.spectral_optimum(counts, DIM, runtime=ONE_CORE, tolerance=1e-5)
    best, _ = fit(counts.matrix, counts.items, method="spectral")
    near = best.neighbours(10)[0][rows]
    for title, index in zip(TITLES, near, strict=True):
        print(f"{title}: {'; '.join(titles[index])}", flush=True)
    learning_rates(counts, optimum, rows, near).savefig(folder / "learning_rates.png", dpi=110)
    dimensions(counts).savefig(folder / "dimensions.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
