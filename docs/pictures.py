"""Draw the pictures of the concept pages, and print the figures that the pages quote.

    python docs/pictures.py data/ml-latest-small

trains a small session model (kept in `--work`, so that a second run only draws) and writes
`cooccurrence.png`, `objective.png`, `map.png`, `gates.png`, `modes.png`, `sampled.png` and
`champion.png` into `--out`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import hypergeom, spearmanr

import recsys
from recsys import baselines, columns
from recsys.cooccurrence import Cooccurrence
from recsys.data import Interactions, Split
from recsys.errors import DataError, RecsysError
from recsys.evaluation import Report, Scorer, evaluate_metric
from recsys.evaluation.metrics import ndcg
from recsys.evaluation.statistics import paired_differences, randomization_p
from recsys.reporting import item_map_figure
from recsys.sessions import SessionConfig, SessionModel, beam_search
from recsys.titles import display_title

WIDTH = 8.6
"""Of a picture, in inches, so that its text is as large as that of the page."""
DPI = 110
N_FILMS = 30
DIMS = (2, 8, 64)
SESSION = SessionConfig(epochs=8, hidden_dim=64, attention=False)
"""Smaller than the default, so that it is trained in a minute or two."""
HISTORY = (
    "Star Wars: Episode IV - A New Hope (1977)",
    "Star Wars: Episode V - The Empire Strikes Back (1980)",
    "Star Wars: Episode VI - Return of the Jedi (1983)",
    "Terminator, The (1984)",
    "Aliens (1986)",
    "Terminator 2: Judgment Day (1991)",
    "Lion King, The (1994)",
    "Aladdin (1992)",
    "Beauty and the Beast (1991)",
    "Toy Story (1995)",
    "Shrek (2001)",
    "Finding Nemo (2003)",
)
"""Six action films, then six animated ones."""
SERIES = tuple(
    f"Lord of the Rings: The {title}"
    for title in ("Fellowship of the Ring, The (2001)", "Two Towers, The (2002)",
                  "Return of the King, The (2003)")
)  # fmt: skip
N_NEGATIVES = (10, 20, 50, 100, 200, 500, 1000, 2000)
RESAMPLES = 10_000
ONE_CORE = recsys.Runtime(device="cpu", threads=1)

Indices = NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", help="folder or file of ratings")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="of the pictures")
    parser.add_argument("--work", type=Path, default=Path("build/pictures"), help="of the training")
    parser.add_argument("--user", help="id of a user whose last watches replace the example")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    log, _ = recsys.k_core(recsys.read_ratings(options.data), 1, 5)
    split = recsys.leave_last_out(log)
    print(f"{len(log):,} interactions of {log.n_users:,} users with {log.n_items:,} items")
    model = train(split, options.work)
    history = example_history(log, options.user)
    figures = {
        "cooccurrence": draw_counts(log),
        "objective": draw_objective(log),
        "map": draw_map(log),
        "gates": draw_gates(model, split, history),
        "modes": draw_modes(),
    }
    print_decoded(model, log, history[-3:])
    print_order(model, log, history)
    print_reach(model, split)
    reports = evaluate_models(split, model)
    figures["sampled"] = draw_sampled(reports, split)
    figures["champion"] = draw_champion(reports)
    print_leakage(split)
    for name, figure in figures.items():
        figure.savefig(options.out / f"{name}.png", dpi=DPI)


def train(split: Split, work: Path) -> SessionModel:
    """Train the session model, or read what an earlier run has trained."""
    initial = recsys.ppmi_embeddings(split.train, dim=64, runtime=ONE_CORE)
    return recsys.fit_session_model(
        split.train,
        SESSION,
        item_embeddings=initial,
        runtime=ONE_CORE,
        checkpoint=work,
        embeddings_key="ppmi",
        notify=print,
    )


def titles_of(log: Interactions, items: Sequence[int] | Indices) -> list[str]:
    """Titles for a reader, without the year."""
    titles = log.catalogue[columns.TITLE].to_numpy()[np.asarray(items)]
    return [re.sub(r" \(\d{4}\)$", "", display_title(title)) for title in titles]


def find(log: Interactions, titles: Sequence[str]) -> Indices:
    """Indices of the titles that the catalogue has."""
    index = {title: item for item, title in enumerate(log.catalogue[columns.TITLE])}
    return np.array([index[title] for title in titles if title in index], dtype=np.int64)


def example_history(log: Interactions, user: str | None) -> Indices:
    """The history of the example, if the catalogue has its titles, or the last items of a user."""
    found = find(log, HISTORY)
    if user is None and len(found):
        return found
    ids = log.users.ids.astype(str)
    if user is not None and user not in ids:
        raise DataError(f"--user {user}: the data has no user with this id")
    row = 0 if user is None else int(np.flatnonzero(ids == user)[0])
    return log.history(row)[-len(HISTORY) :].astype(np.int64)


# Co-occurrence and embeddings.


def popular(counts: Cooccurrence, n: int) -> Indices:
    """The items that most users like."""
    return np.argsort(-counts.item_counts, kind="stable")[:n]


def submatrix(counts: Cooccurrence, items: Indices) -> NDArray[np.float64]:
    """X of some items, without its diagonal."""
    block = counts.matrix[items][:, items].toarray().astype(np.float64)
    np.fill_diagonal(block, np.nan)
    return block


def lift(counts: Cooccurrence, items: Indices) -> NDArray[np.float64]:
    """How many times more often than by chance two items are liked together."""
    share = counts.item_counts[items] / counts.n_users
    return submatrix(counts, items) / (counts.n_users * np.outer(share, share))


def seriate(similarity: NDArray[np.float64]) -> Indices:
    """An order in which similar rows are neighbours (optimal leaf ordering, Bar-Joseph 2001)."""
    distance = np.nanmax(similarity) - similarity
    np.fill_diagonal(distance, 0.0)
    return leaves_list(linkage(squareform(distance), "average", optimal_ordering=True))


def draw_counts(log: Interactions) -> Figure:
    """Heat maps of X, ordered by popularity and seriated, and of the lift."""
    counts = recsys.count_cooccurrence(log)
    items = popular(counts, N_FILMS)
    ordered = items[seriate(lift(counts, items))]
    figure = Figure(figsize=(WIDTH, 9.6), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    for axes, values, label in (
        (upper, submatrix(counts, ordered), "X: users who liked both films"),
        (lower, lift(counts, ordered), "lift: X / its value if likes were independent"),
    ):
        image = axes.imshow(values, cmap="viridis")
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set_title(label)
        axes.set_xticks([])
        axes.set_yticks(range(len(ordered)), titles_of(log, ordered), fontsize=8)
    block = submatrix(counts, ordered)
    i, j = np.unravel_index(np.nanargmax(block), block.shape)
    print(f"largest X: {titles_of(log, ordered[[i, j]])}, {block[i, j]:.0f} users")
    print(f"non-zero pairs: {counts.matrix.nnz / (log.n_items * (log.n_items - 1)):.1%}")
    everything = recsys.count_cooccurrence(log, min_rating=None)
    shared = counts.matrix.toarray() + 1.0
    disliked = everything.matrix.toarray() / shared * (everything.matrix.toarray() >= 40)
    i, j = np.unravel_index(np.argmax(disliked), disliked.shape)
    print(
        f"rated by the same users, but not liked: {titles_of(log, [i, j])}: both rated by "
        f"{everything.matrix[i, j]:.0f}, both liked by {counts.matrix[i, j]:.0f}"
    )
    return figure


def draw_objective(log: Interactions) -> Figure:
    """Heat maps of VᵀV for several dimensions, next to X."""
    counts = recsys.count_cooccurrence(log)
    items = popular(counts, N_FILMS)
    items = items[seriate(lift(counts, items))]
    panels = {}
    for dim in (dim for dim in DIMS if dim < log.n_items):
        config = recsys.EmbeddingConfig(dim=dim)
        fitted = recsys.fit_embeddings(counts, config, runtime=ONE_CORE)
        products = (fitted.vectors[items] @ fitted.vectors[items].T).astype(np.float64)
        np.fill_diagonal(products, np.nan)
        panels[f"d = {dim}: relative loss {fitted.relative_loss:.3f}"] = products
        print(f"d = {dim}: loss / optimum {fitted.loss_ratio:.4f}")
    panels["X"] = submatrix(counts, items)
    figure = Figure(figsize=(WIDTH, 7.5), layout="constrained")
    grid = figure.subplots(2, 2)
    for axes, (label, values) in zip(grid.flat, panels.items(), strict=False):
        image = axes.imshow(values, cmap="viridis", vmin=0, vmax=np.nanmax(panels["X"]))
        axes.set_title(label)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=grid, shrink=0.6)
    print_neighbours(log, counts, fitted)
    return figure


def draw_map(log: Interactions) -> Figure:
    """The map of the first page, with as many titles as can be read at its width."""
    counts = recsys.count_cooccurrence(log)
    return item_map_figure(log, recsys.fit_embeddings(counts, runtime=ONE_CORE), n_items=40)


def print_neighbours(
    log: Interactions, counts: Cooccurrence, fitted: recsys.ItemEmbeddings
) -> None:
    """Show what distance and inner product of the vectors mean."""
    norms = np.linalg.norm(fitted.vectors, axis=1)
    print(f"rank correlation of ‖v‖ and likes: {spearmanr(norms, counts.item_counts)[0]:.2f}")
    queries = find(log, (*SERIES, "Toy Story (1995)", "Home Alone (1990)"))
    for similarity in ("cosine", "dot"):
        found = fitted.neighbours(5, similarity=similarity)[0]
        for item in queries if len(queries) else [0]:
            print(f"{similarity}: {titles_of(log, [item])[0]}: {titles_of(log, found[item])}")


# The session model.


def lstm_gates(model: SessionModel, history: Indices) -> dict[str, NDArray[np.float32]]:
    """What the gates of the LSTM do at each step of a history, each [L, H].

    The formulas are those of `torch.nn.LSTM`: c ← f c + i g, h ← o tanh(c).
    """
    network, (lstm,) = model.network.eval(), model.network.layers
    steps: dict[str, list[torch.Tensor]] = {name: [] for name in ("i", "f", "o", "c", "h")}
    with torch.inference_mode():
        input_LX = network.input_norm(network.item_embeddings(torch.from_numpy(history)))
        h = c = torch.zeros(lstm.hidden_size)
        for x in input_LX:
            gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h
            i, f, g, o = (gates + lstm.bias_hh_l0).chunk(4)
            i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
            c = f * c + i * g.tanh()
            h = o * c.tanh()
            for name, value in (("i", i), ("f", f), ("o", o), ("c", c), ("h", h)):
                steps[name].append(value)
    return {name: torch.stack(values).numpy() for name, values in steps.items()}


def draw_gates(model: SessionModel, split: Split, history: Indices) -> Figure:
    """The gates and the cell state of the LSTM over one history, and over many."""
    gates = lstm_gates(model, history)
    order = np.argsort(gates["f"].mean(axis=0))
    figure = Figure(figsize=(WIDTH, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    panels, below = upper.subplots(1, 4), lower.subplots()
    labels = {"i": "input gate", "f": "forget gate", "o": "output gate", "c": "cell state"}
    for axes, (name, label) in zip(panels, labels.items(), strict=False):
        signed = {"cmap": "RdBu_r", "vmin": -2, "vmax": 2}
        style = signed if name == "c" else {"cmap": "viridis", "vmin": 0, "vmax": 1}
        image = axes.imshow(gates[name][:, order], aspect="auto", interpolation="nearest", **style)
        axes.set(title=label, xlabel=f"{len(order)} units", xticks=[], yticks=[])
        upper.colorbar(image, ax=axes, location="bottom")
    titles = [shorten(text, 30, placeholder="…") for text in titles_of(split.interactions, history)]
    panels[0].set_yticks(range(len(history)), titles, fontsize=9)
    histories = split.histories("validation")[:200]
    change, means = gates_by_change(model, histories)
    for name in ("i", "f", "o"):
        below.plot(change, means[name], marker="o", label=labels[name])
    below.set(title=f"mean of {len(histories)} users", xlabel="cosine to the item before")
    below.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    memory = 1 / (1 - gates["f"].mean(axis=0))
    low, middle, high = np.quantile(memory, (0.1, 0.5, 0.9))
    print(f"1 / (1 − mean forget gate): {low:.1f}, {middle:.1f}, {high:.1f} (10, 50, 90 %)")
    for name in ("i", "f", "o"):
        print(f"{labels[name]} by step: {gates[name].mean(axis=1).round(2)}; by cosine", end=" ")
        print(dict(zip(change.round(2).tolist(), means[name].round(3).tolist(), strict=True)))
    return figure


def gates_by_change(
    model: SessionModel, histories: Sequence[NDArray[np.int32]], n_groups: int = 5
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Mean gates, by the cosine of an item's embedding to that of the item before it."""
    embeddings = model.network.item_embeddings.weight.detach().numpy()
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    cosines, values = [], []
    for history in histories:
        items = history[-30:].astype(np.int64)
        gates = lstm_gates(model, items)
        cosines.append((unit[items[1:]] * unit[items[:-1]]).sum(axis=1))
        values.append(np.stack([gates[name][1:].mean(axis=1) for name in ("i", "f", "o")]))
    cosine, value = np.concatenate(cosines), np.concatenate(values, axis=1)
    groups = np.array_split(np.argsort(cosine), n_groups)
    means = {
        name: np.array([row[group].mean() for group in groups])
        for name, row in zip(("i", "f", "o"), value, strict=True)
    }
    return np.array([cosine[group].mean() for group in groups]), means


def print_decoded(model: SessionModel, log: Interactions, history: Indices) -> None:
    """Sequences of three next items by greedy decoding, sampling and beam search."""
    print("after", titles_of(log, history))
    decoded = {"greedy": beam_search(model, history, 3, beam_width=1)[0]}
    for index, sequence in enumerate(beam_search(model, history, 3, beam_width=8)[:3]):
        decoded[f"beam search, {index + 1}"] = sequence
    for name, sequence in decoded.items():
        factors = np.exp(sequence.log_probabilities).round(4)
        print(f"{name}: {titles_of(log, sequence.items)}, p = {factors.prod():.2e} = {factors}")
    for seed in range(3):
        items, log_p = sample(model, history, 3, np.random.default_rng(seed))
        print(f"sampling, seed {seed}: {titles_of(log, items)}, p = {np.exp(log_p):.2e}")


def print_order(model: SessionModel, log: Interactions, history: Indices) -> None:
    """What the two models say about a history and about the same items in reverse."""
    fitted = recsys.fit_embeddings(recsys.count_cooccurrence(log), runtime=ONE_CORE)
    for items in (history, history[::-1]):
        following = np.argsort(-model.score([items.astype(np.int32)])[0])[:5]
        print(f"after {titles_of(log, items[-1:])[0]}, session model: {titles_of(log, following)}")
        near, _ = fitted.similar_to_history(items, 5)
        print(f"after {titles_of(log, items[-1:])[0]}, embeddings: {titles_of(log, near)}")


def sample(
    model: SessionModel, history: Indices, length: int, rng: np.random.Generator
) -> tuple[list[int], float]:
    """Draw each next item with its probability; the items and their log-probability."""
    sequence, items, total = model.sequences(history), list[int](), 0.0
    for _ in range(length):
        log_p = sequence.log_probabilities()[0].astype(np.float64)
        p = np.exp(log_p)
        item = int(rng.choice(len(p), p=p / p.sum()))
        sequence = sequence.extend(np.array([0]), np.array([item]))
        items.append(item)
        total += float(log_p[item])
    return items, total


def print_reach(model: SessionModel, split: Split) -> None:
    """NDCG@10 of the session model if it is given only the last items of each history."""
    histories, targets = split.histories("validation"), split.targets("validation")
    for n in (1, 2, 5, 10, 20, 50, 100):
        scores = model.score([history[-n:] for history in histories])
        for row, history in zip(scores, histories, strict=True):
            row[history] = -np.inf
        ahead = scores > scores[np.arange(len(targets)), targets][:, None]
        print(f"last {n}: NDCG@10 {ndcg(1 + ahead.sum(axis=1), 10).mean():.4f}")


def draw_modes() -> Figure:
    """One-to-many, many-to-one and many-to-many."""
    modes = (
        ("many to one", "next_items(history)", (1, 1, 1), (0, 0, 1), False),
        ("one to many", "next_sequences([item])", (1, 0, 0), (1, 1, 1), True),
        ("many to many, in step", "training: teacher forcing", (1, 1, 1), (1, 1, 1), False),
        ("many to many, delayed", "next_sequences(history)", (1, 1, 0), (0, 1, 1), True),
    )
    figure = Figure(figsize=(WIDTH, 6), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, (title, use, inputs, outputs, fed_back) in zip(panels, modes, strict=True):
        _draw_mode(axes, inputs, outputs, fed_back=fed_back)
        axes.set_title(f"{title}\n{use}")
    return figure


def _draw_mode(
    axes: Axes, inputs: Sequence[int], outputs: Sequence[int], *, fed_back: bool
) -> None:
    """Three steps, from left to right: inputs below, states, outputs above."""
    arrow = {"arrowstyle": "->", "lw": 1.5, "color": "0.3"}
    box = {"boxstyle": "round,pad=0.4", "fc": "#cfe0f3", "ec": "0.4"}
    item = {"boxstyle": "round,pad=0.4", "fc": "#f6e3c5", "ec": "0.4"}
    guess = {**item, "fc": "white", "ec": "#d55e00", "ls": "--"}
    first_free = sum(inputs)
    for step, (given, put_out) in enumerate(zip(inputs, outputs, strict=True)):
        axes.text(step, 1, f"h{step + 1}", ha="center", va="center", bbox=box)
        if step:
            axes.annotate("", (step - 0.2, 1), (step - 0.8, 1), arrowprops=arrow)
        if given:
            axes.text(step, 0, f"item {step + 1}", ha="center", va="center", bbox=item)
            axes.annotate("", (step, 0.8), (step, 0.2), arrowprops=arrow)
        if put_out:
            axes.text(step, 2, f"p(item {step + 2})", ha="center", va="center", bbox=item)
            axes.annotate("", (step, 1.8), (step, 1.2), arrowprops=arrow)
        if fed_back and step >= first_free:  # the item chosen from the output before
            axes.text(step, 0, f"item {step + 1}", ha="center", va="center", bbox=guess)
            axes.annotate("", (step, 0.8), (step, 0.2), arrowprops=arrow)
            feedback = {**arrow, "ls": "--", "color": "#d55e00"}
            axes.annotate("", (step - 0.15, 0.25), (step - 0.85, 1.75), arrowprops=feedback)
    axes.set(xlim=(-0.6, 2.6), ylim=(-0.5, 2.5))
    axes.set_axis_off()


# Evaluation.


def evaluate_models(split: Split, model: SessionModel) -> dict[str, Report]:
    """Rank the validation targets with the session model and four baselines."""
    models: dict[str, Scorer] = {
        "lstm": model,
        "item-knn": baselines.fit_item_knn(split.train),
        "als": baselines.fit_als(split.train, runtime=ONE_CORE),
        "markov": baselines.fit_markov_chain(split.train),
        "popularity": baselines.fit_popularity(split.train),
    }
    return {name: recsys.evaluate(model, split, "validation") for name, model in models.items()}


def sampled_ndcg(ranks: Indices, n_others: Indices, n_negatives: int, k: int = 10) -> float:
    """Expected NDCG@k if each target is ranked among `n_negatives` others, drawn at random.

    The number of drawn items ahead of the target has a hypergeometric distribution.
    """
    ahead = np.arange(k)
    n_drawn = np.minimum(n_negatives, n_others)[:, None]
    p = hypergeom(n_others[:, None], ranks[:, None] - 1, n_drawn).pmf(ahead)
    return float((p / np.log2(ahead + 2)).sum(axis=1).mean())


def draw_sampled(reports: Mapping[str, Report], split: Split) -> Figure:
    """NDCG@10 of each model by the number of sampled negatives."""
    seen = np.array([len(np.unique(history)) for history in split.histories("validation")])
    n_others = split.interactions.n_items - seen - 1
    sizes = [n for n in N_NEGATIVES if n < n_others.min()]
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes, relative = figure.subplots(1, 2)
    curves = {}
    for name, report in reports.items():
        curve = [sampled_ndcg(report.ranks, n_others, n) for n in sizes]
        curves[name] = np.array([*curve, ndcg(report.ranks, 10).mean()])
        print(f"NDCG@10, {name}:", dict(zip([*sizes, "all"], curves[name].round(4), strict=True)))
    labels = [*map(str, sizes), "all"]
    best = np.max([*curves.values()], axis=0)
    for name, curve in curves.items():
        axes.plot(labels, curve, marker=".", label=name)
        relative.plot(labels, curve / best, marker=".", label=name)
    axes.set(xlabel="items that the target is ranked among", ylabel="NDCG@10")
    relative.set(xlabel="items that the target is ranked among", ylabel="NDCG@10 / best")
    for each in (axes, relative):
        each.tick_params(axis="x", labelrotation=45)
        each.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_champion(reports: Mapping[str, Report]) -> Figure:
    """The randomisation test: the observed difference, and those under random signs."""
    tables = {name: report.to_frame() for name, report in reports.items()}
    pairs = (("lstm", "item-knn"), ("item-knn", "markov"))
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    for axes, (first, second) in zip(figure.subplots(1, 2, sharex=True), pairs, strict=True):
        differences = paired_differences(tables[first], tables[second])
        p_value = randomization_p(differences, resamples=RESAMPLES)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (RESAMPLES, len(differences)))
        axes.hist(signs @ differences / len(differences), 60, color="0.7", label="random signs")
        axes.axvline(differences.mean(), color="#d55e00", lw=2, label="observed")
        text = f"{first} − {second}: {differences.mean():+.4f}, p = {p_value:.4f}"
        axes.set_title(text, fontsize=10)
        axes.set(xlabel="mean difference in NDCG@10", yticks=[])
        axes.locator_params(axis="x", nbins=5)
        axes.legend()
        zero = np.mean(differences == 0)
        print(f"{text}; no difference for {zero:.0%} of {len(differences)} users")
    return figure


def print_leakage(split: Split) -> None:
    """NDCG@10 of models that have not seen the targets, and of the same models that have."""
    for name, log in (("train", split.train), ("train and targets", split.interactions)):
        knn = evaluate_metric(baselines.fit_item_knn(log), split)
        vectors = recsys.ppmi_embeddings(log, dim=64, runtime=ONE_CORE)
        mean = evaluate_metric(baselines.fit_mean_embedding(vectors), split)
        print(f"fitted to {name}: item-knn {knn:.4f}, mean-embedding {mean:.4f}")


if __name__ == "__main__":
    try:
        main()
    except RecsysError as error:
        sys.exit(f"pictures.py: {error}")
