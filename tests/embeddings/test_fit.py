"""Fits, warm starts and PPMI embeddings."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import eigsh

from recsys import cooccurrence
from recsys.callbacks import History
from recsys.config import Runtime
from recsys.cooccurrence import (
    Cooccurrence,
    CooccurrenceBlocks,
    WeightingConfig,
    count_cooccurrence,
    planner,
    weight,
)
from recsys.data import read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings
from recsys.embeddings import (
    EmbeddingConfig,
    PairWeights,
    fit_embeddings,
    ppmi_embeddings,
    spectral_optimum,
)
from recsys.embeddings.objective import PairMatrix
from recsys.embeddings.optimizers import has_converged
from recsys.errors import ConfigError, DataError, TrainingError
from recsys.vocabulary import Vocabulary

CPU = Runtime(device="cpu", threads=1)
OPTIMIZERS = ["scaled_sgd", "sgd", "adam", "lbfgs"]


def counts_of(dense):
    dense = np.array(dense, dtype=np.int32)
    items = Vocabulary.of(range(len(dense)))
    return Cooccurrence(
        matrix=sp.csr_array(dense),
        item_counts=dense.sum(axis=1).astype(np.int64),
        n_users=9,
        min_rating=None,
        items=items,
    )


def fit(counts, on_epoch=lambda epoch, metrics: None, seed=0, **settings):
    runtime = CPU.model_copy(update={"seed": seed})
    return fit_embeddings(counts, EmbeddingConfig(**settings), runtime=runtime, on_epoch=on_epoch)


def sum_over_pairs(vectors, dense):
    """Σ_{i≠j} (v_iᵀv_j − X_ij)² in double precision."""
    errors = vectors.astype(np.float64) @ vectors.astype(np.float64).T - dense
    np.fill_diagonal(errors, 0)
    return float(np.square(errors).sum())


def planted(rank=4, n_items=40):
    """Counts that are products of vectors of length `rank`, but for rounding, and their loss."""
    rng = np.random.default_rng(0)
    groups = np.eye(rank)[np.arange(n_items) % rank] * rng.uniform(4, 8, (n_items, 1))
    vectors = groups + rng.uniform(0, 1, (n_items, rank))
    dense = np.rint(vectors @ vectors.T)
    np.fill_diagonal(dense, 0)
    return dense, sum_over_pairs(vectors, dense)


@pytest.fixture(scope="module")
def counts(sample):
    return count_cooccurrence(sample, min_rating=3.5)


def test_recovers_a_planted_matrix():
    dense, at_the_planted = planted()
    history = History()
    fitted = fit(counts_of(dense), history, dim=4, init="random")
    assert fitted.loss < 1.05 * at_the_planted
    assert fitted.loss < 0.1 * history.series("loss")[0], "the start was not there already"


@pytest.mark.parametrize("init", ["krylov", "random"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_comes_within_one_percent_of_the_optimum(counts, optimizer, init):
    settings = {"optimizer": optimizer, "init": init, "epochs": 2000, "tolerance": 1e-6}
    fitted = fit(counts, dim=5, **settings)
    assert fitted.optimum_loss == pytest.approx(spectral_optimum(counts, 5).loss, rel=1e-4)
    assert fitted.loss_ratio == fitted.loss / fitted.optimum_loss
    assert 0.9999 < fitted.loss_ratio < 1.01


WEIGHTINGS = {
    name: lambda counts, name=name: weight(counts, WeightingConfig(name=name))
    for name in cooccurrence.WEIGHTINGS
    if name != "conditional"  # it is not symmetric
} | {
    "binary": lambda counts: counts.matrix.sign(),
    # negative values among them
    "centred": lambda counts: counts.matrix.log1p() - 0.7 * counts.matrix.sign(),
}


# From noise it may end in another local optimum of so small a matrix.
@pytest.mark.parametrize(("init", "at_most"), [("krylov", 1.01), ("random", 1.015)])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_default_converges_for_every_weighting(counts, weighting, init, at_most):
    matrix = WEIGHTINGS[weighting](counts)
    for dim in (2, 8):
        assert fit(matrix, dim=dim, init=init).loss_ratio < at_most


def test_default_converges_with_very_negative_eigenvalues():
    """Two groups whose items co-occur with those of the other group only: λ_min is −λ₁."""
    random = np.random.default_rng(0)
    across = random.poisson(random.gamma(0.3, 10, size=(60, 40)))
    X = sp.block_array([[None, across], [across.T, None]], format="csr")
    for dim in (2, 8, 32):
        assert fit(X, dim=dim).loss_ratio < 1.01


@pytest.fixture(scope="module")
def movielens_counts(movielens):
    return count_cooccurrence(read_ratings(movielens), min_rating=4.0)


@pytest.mark.parametrize("weighting", ["log1p", "overlap"])
def test_default_converges_on_movielens(movielens_counts, weighting):
    matrix = weight(movielens_counts, WeightingConfig(name=weighting))
    assert fit(matrix, dim=32).loss_ratio < 1.01


@pytest.mark.parametrize("optimizer", ["scaled_sgd", "sgd", "adam"])
def test_minibatches_come_close_to_the_optimum(counts, optimizer):
    settings = {"optimizer": optimizer, "epochs": 300, "batch_rows": 16}
    assert fit(counts, dim=5, **settings).loss_ratio < 1.03


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("batch_rows", [None, 16])
def test_schedules_converge(counts, schedule, batch_rows):
    settings = {"schedule": schedule, "batch_rows": batch_rows, "epochs": 100}
    assert fit(counts, dim=5, **settings).loss_ratio < 1.01


def test_cosine_schedule_anneals_to_zero(counts):
    history = History()
    fit(counts, history, dim=5, schedule="cosine", optimizer="sgd", momentum=0.0, epochs=30,
        tolerance=0.0)  # fmt: skip
    losses = history.series("loss")
    assert losses[-2] - losses[-1] < 0.05 * (losses[14] - losses[15])


def test_spectral_method_returns_the_optimum(counts):
    history = History()
    fitted = fit(counts, history, dim=5, method="spectral")
    dense = counts.matrix.toarray()
    assert fitted.loss == pytest.approx(sum_over_pairs(fitted.vectors, dense), rel=1e-4)
    assert fitted.loss == pytest.approx(spectral_optimum(counts, 5).loss, rel=1e-4)
    assert fitted.loss_ratio == 1.0
    assert history.series("loss")[-1] == pytest.approx(fitted.loss, rel=1e-4)


def test_spectral_init_starts_at_the_optimum(counts):
    history = History()
    fit(counts, history, dim=5, init="spectral")
    assert history.series("loss_ratio")[0] < 1.001


def test_compute_optimum_false_reports_no_loss_ratio(counts):
    history = History()
    fitted = fit(counts, history, dim=5, epochs=2, compute_optimum=False)
    assert fitted.optimum_loss is None
    assert fitted.loss_ratio is None
    assert set(history.epochs[1]) == {"loss", "relative_loss"}


def test_pair_weights_minimise_the_weighted_loss(counts):
    weights = PairWeights(x_max=4.0, zero_weight=0.2)
    dense = counts.matrix.toarray()
    f = np.where(dense > 0, np.minimum(dense / 4.0, 1) ** 0.75, 0.2)
    np.fill_diagonal(f, 0)

    def weighted_loss(vectors):
        return float((f * np.square(vectors.astype(float) @ vectors.T - dense)).sum())

    fitted = fit(counts, dim=5, pair_weights=weights, epochs=500, init="spectral")
    assert fitted.loss == pytest.approx(weighted_loss(fitted.vectors), rel=1e-4)
    assert fitted.loss < 0.985 * weighted_loss(fit(counts, dim=5).vectors)
    assert fitted.optimum_loss is None


def in_blocks(matrix, size):
    return [(first, matrix[first : first + size]) for first in range(0, matrix.shape[0], size)]


def test_row_blocks_give_the_same_fit(counts):
    whole = fit(counts, dim=5, epochs=20)
    by_blocks = fit(in_blocks(counts.matrix, 7), dim=5, epochs=20)
    assert by_blocks.loss == pytest.approx(whole.loss, rel=1e-4)
    assert by_blocks.loss_ratio == pytest.approx(whole.loss_ratio, rel=1e-4)
    assert by_blocks.items.ids.tolist() == list(range(60))


@pytest.mark.parametrize("weighting", [None, "log1p"])
def test_counts_on_disk_give_the_same_fit(sample, counts, tmp_path, weighting, monkeypatch):
    """They are read in every epoch, or only twice if they fit into memory."""
    monkeypatch.setattr(planner, "BLOCK_ENTRIES", 500)
    on_disk = count_cooccurrence(sample, 3.5, folder=tmp_path / "counts")
    assert len(on_disk.parts) > 3
    blocks, whole = on_disk, counts
    if weighting is not None:
        config = WeightingConfig(name=weighting)
        blocks, whole = on_disk.weighted(config), weight(counts, config)
    read = []
    monkeypatch.setattr(
        CooccurrenceBlocks,
        "integer_blocks",
        lambda self, each=CooccurrenceBlocks.integer_blocks: read.append(1) or each(self),
    )
    needed = 24 * on_disk.n_entries
    whole, config = fit(whole, dim=5), EmbeddingConfig(dim=5)
    kept = fit_embeddings(blocks, config, runtime=Runtime(threads=1, memory_limit=needed))
    assert len(read) == 1
    assert kept.vectors.tobytes() == whole.vectors.tobytes()
    by_blocks = fit_embeddings(blocks, config, runtime=Runtime(threads=1, memory_limit=needed - 1))
    assert len(read) > 10
    assert by_blocks.loss == pytest.approx(whole.loss, rel=1e-4)
    assert by_blocks.loss_ratio == pytest.approx(whole.loss_ratio, rel=1e-4)
    assert by_blocks.items == sample.items


def test_bare_matrix_uses_the_given_items(counts):
    bare = fit_embeddings(
        counts.matrix, EmbeddingConfig(dim=3, epochs=2), items=counts.items, runtime=CPU
    )
    assert bare.items == counts.items
    with pytest.raises(DataError, match="X has 60 rows, but `items` has 3 ids"):
        fit_embeddings(counts.matrix, items=Vocabulary.of([1, 2, 3]), runtime=CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lbfgs", "batch_rows": 8}, "lbfgs needs the exact gradient"),
        (
            {"method": "spectral", "pair_weights": PairWeights()},
            "has no solution with pair_weights",
        ),
    ],
    ids=["lbfgs-batches", "weighted-spectral"],
)
def test_incompatible_settings_are_rejected(counts, settings, message):
    with pytest.raises(ConfigError, match=message):
        fit(counts, dim=3, **settings)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_reported_loss_is_that_of_the_vectors(counts, optimizer):
    fitted = fit(counts, dim=5, epochs=7, optimizer=optimizer)
    dense = counts.matrix.toarray()
    assert fitted.loss == pytest.approx(sum_over_pairs(fitted.vectors, dense), rel=1e-4)
    assert fitted.relative_loss == pytest.approx(fitted.loss / np.square(dense).sum(), rel=1e-6)


def test_callback_receives_the_loss_after_each_epoch(counts):
    history = History()
    fitted = fit(counts, history, dim=5, epochs=7)
    assert list(history.epochs) == [1, 2, 3, 4, 5, 6, 7]
    for epoch, after in ((7, fitted), (1, fit(counts, dim=5, epochs=1))):
        assert history.epochs[epoch] == pytest.approx(
            {
                "loss": after.loss,
                "relative_loss": after.relative_loss,
                "loss_ratio": after.loss_ratio,
            },
            rel=1e-5,
        )


def test_fit_stops_after_convergence(counts):
    history = History()
    fit(counts, history, dim=2, epochs=500)
    assert 10 <= len(history.epochs) < 500


@pytest.mark.parametrize("optimizer", ["scaled_sgd", "sgd", "adam"])
@pytest.mark.parametrize("dim", [1, 8, 30, 59])
def test_default_learning_rate_is_stable_in_any_dimension(counts, optimizer, dim):
    history = History()
    fitted = fit(counts, history, dim=dim, optimizer=optimizer, epochs=100)
    assert max(history.series("relative_loss")) < 1
    assert fitted.relative_loss <= history.series("relative_loss")[0]


def test_more_dimensions_fit_better(counts):
    losses = [fit(counts, dim=dim).relative_loss for dim in (1, 2, 4, 8, 16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("optimizer", ["scaled_sgd", "sgd"])
def test_divergence_error_names_the_settings_to_lower(counts, optimizer):
    with pytest.raises(
        TrainingError, match=r"diverged .* lower learning_rate \(now 30\) or momentum"
    ):
        fit(counts, dim=8, optimizer=optimizer, learning_rate=30.0)


def test_nan_loss_is_a_divergence(counts, monkeypatch):
    monkeypatch.setattr(
        "recsys.embeddings.optimizers.PairObjective.loss", lambda self, w_ND: w_ND.sum() * torch.nan
    )
    with pytest.raises(TrainingError, match=r"diverged \(nan times"):
        fit(counts, dim=8)


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([0.5] * 10, False),  # ten epochs have eleven losses
        ([0.5] * 11, True),
        ([0.9] + [0.5] * 10, False),
        ([0.9] + [0.5] * 11, True),
        ([0.5 + 0.01 * epoch for epoch in range(11)], False),  # increases
        ([0.5, *[0.6] * 9, 0.5], False),  # oscillates
        ([0.50001, *[0.5] * 10], True),
    ],
)
def test_has_converged(losses, converged):
    assert has_converged(losses, tolerance=1e-4) is converged


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_items_without_pairs_have_zero_vectors_and_no_neighbours(optimizer):
    ratings = pd.DataFrame(
        {"user_id": [1, 1, 1, 2, 2, 2, 3], "item_id": [1, 2, 4, 1, 4, 6, 5]}
    )  # item 5 is alone; item 3 has no positives
    ratings = pd.concat(
        [ratings.assign(rating=5.0), pd.DataFrame([(4, 3, 1.0)], columns=[*ratings, "rating"])]
    )
    fitted = fit(count_cooccurrence(read_ratings(ratings)), dim=2, optimizer=optimizer, epochs=50)
    isolated = fitted.items.indices([3, 5])
    assert fitted.vectors[isolated].tolist() == [[0, 0], [0, 0]]
    assert (np.abs(np.delete(fitted.vectors, isolated, axis=0)).max(axis=1) > 0).all()
    index, cosine = fitted.neighbours(k=5)
    assert (index[isolated] == -1).all()
    assert (cosine[isolated] == 0).all()
    assert not np.isin(index, isolated).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_seed_gives_identical_vectors(counts, optimizer):
    first, second = (fit(counts, dim=5, seed=3, optimizer=optimizer, epochs=20) for _ in range(2))
    assert first.vectors.tobytes() == second.vectors.tobytes()
    assert first.loss == second.loss


def test_global_random_state_is_neither_used_nor_changed(counts):
    torch.manual_seed(1)
    expected, first = torch.rand(2), fit(counts, dim=5, epochs=3)
    torch.manual_seed(1)
    second = fit(counts, dim=5, epochs=3)
    assert torch.equal(torch.rand(2), expected)
    assert first.vectors.tobytes() == second.vectors.tobytes()


def test_vectors_are_float32_with_one_row_per_item(counts):
    fitted = fit(counts, dim=5, epochs=1)
    assert fitted.vectors.shape == (60, 5)
    assert fitted.vectors.dtype == np.float32
    assert fitted.dim == 5
    assert fitted.items == counts.items


def test_perfect_fit_has_no_negative_loss():
    dense = np.kron(np.eye(3), np.ones((5, 5))) * 7
    np.fill_diagonal(dense, 0)
    history = History()
    fitted = fit(counts_of(dense), history, dim=6, tolerance=0.0)
    assert min(history.series("loss")) >= 0
    assert fitted.relative_loss < 1e-5


def test_empty_counts_are_rejected():
    with pytest.raises(DataError, match="nothing to fit"):
        fit(counts_of(np.zeros((3, 3))), dim=1)


@pytest.mark.parametrize("dim", [3, 4])
def test_too_many_dimensions_are_rejected(dim):
    with pytest.raises(DataError, match=f"only 3 items for embeddings of dim {dim}: lower dim"):
        fit(counts_of(1 - np.eye(3)), dim=dim)


@pytest.mark.parametrize("dim", [1, 59])
def test_random_init_has_a_small_loss(counts, dim):
    history = History()
    fit(counts, history, dim=dim, init="random", epochs=1, learning_rate=1e-9)
    assert history.series("relative_loss")[0] < 2.5


CONFIG = EmbeddingConfig(dim=5)


@pytest.fixture(scope="module")
def earlier(sample):
    """Fitted to the first 90 % of the users."""
    return fit_embeddings(
        count_cooccurrence(sample.filter(sample.user_index < 0.9 * sample.n_users), min_rating=3.5),
        CONFIG,
        runtime=CPU,
    )


def test_warm_start_begins_at_the_earlier_loss_and_converges(counts, earlier):
    histories = {}
    for name, start in (("cold", None), ("itself", fit_embeddings(counts, CONFIG, runtime=CPU))):
        histories[name] = History()
        fitted = fit_embeddings(counts, CONFIG, start=start, runtime=CPU, on_epoch=histories[name])
        assert fitted.loss_ratio < 1.01
    assert histories["itself"].series("loss")[0] < histories["cold"].series("loss")[0]
    assert fit_embeddings(counts, CONFIG, start=earlier, runtime=CPU).loss_ratio < 1.01


def test_warm_start_keeps_vectors_close(counts, earlier):
    """An independent fit finds rotated vectors."""

    def similarity(fitted):
        return (fitted.unit_vectors() * earlier.unit_vectors()).sum(axis=1).mean()

    random = CONFIG.model_copy(update={"init": "random", "learning_rate": 0.03})
    assert similarity(fit_embeddings(counts, CONFIG, start=earlier, runtime=CPU)) > 0.9
    assert similarity(fit_embeddings(counts, random, runtime=CPU)) < 0.7


def test_vectors_for_matches_by_id(earlier):
    ids = earlier.items.ids
    found = earlier.vectors_for(Vocabulary.of([int(ids[3]), int(ids[7]), 10**6]))
    assert np.array_equal(found[:2], earlier.vectors[[3, 7]])
    assert not found[2].any()


def test_warm_start_rejects_another_dimension(counts, earlier):
    with pytest.raises(ConfigError, match="has dim 5, expected 6"):
        fit_embeddings(counts, EmbeddingConfig(dim=6), start=earlier)


def test_warm_start_rejects_another_catalogue(counts, earlier):
    foreign = dataclasses.replace(earlier, items=Vocabulary(earlier.items.ids + 10**6))
    with pytest.raises(ConfigError, match=r"has none of the \d+ ids such as .*, but \d+ ids such"):
        fit_embeddings(counts, EmbeddingConfig(dim=5), start=foreign)


def dense_ppmi(interactions, size):
    """Count every pair of every user, in both orders."""
    counts = np.zeros((interactions.n_items, interactions.n_items))
    for user in range(interactions.n_users):
        history = interactions.history(user).tolist()
        for position, item in enumerate(history):
            for other in history[position + 1 : position + 1 + size]:
                counts[item, other] += item != other
                counts[other, item] += item != other
    occurrences = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts * counts.sum() / np.outer(occurrences, occurrences))
    return np.where(counts > 0, np.maximum(pmi, 0), 0)


def test_ppmi_embeddings_are_the_leading_eigenvectors(sample_split):
    interactions = sample_split.train
    values, vectors = np.linalg.eigh(dense_ppmi(interactions, 3))
    found = ppmi_embeddings(interactions, 20, size=3).astype(np.float64)
    leading = vectors[:, -20:] * np.sqrt(np.maximum(values[-20:], 0))
    np.testing.assert_allclose(found @ found.T, leading @ leading.T, atol=1e-4)
    norms = np.linalg.norm(found, axis=0)
    assert found.shape == (interactions.n_items, 20)
    assert (np.diff(norms) <= 1e-6).all(), "the leading component comes first"


@pytest.mark.parametrize("memory_limit", [None, "1MB"])
def test_ppmi_embeddings_are_as_good_as_exact_ones(memory_limit, monkeypatch):
    """In a catalogue of several blocks; the matrix is in memory, or read for each product."""
    monkeypatch.setattr(planner, "BLOCK_ENTRIES", 20_000)
    ratings, _ = synthesise_ratings(SyntheticConfig(n_users=300, n_items=500, mean_events=40))
    interactions = read_ratings(ratings)
    dense = dense_ppmi(interactions, 5)
    assert 24 * np.count_nonzero(dense) > 1e6
    values, vectors = eigsh(dense, k=32, which="LA")
    exact = vectors * np.sqrt(values)
    runtime = Runtime(device="cpu", threads=1, memory_limit=memory_limit)
    found = ppmi_embeddings(interactions, 32, runtime=runtime).astype(np.float64)
    losses = [np.square(v @ v.T - dense).sum() for v in (found, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert np.square(found).sum(axis=0)[:5] == pytest.approx(values[::-1][:5], rel=1e-4)
    # The spaces are equal as far as they explain the matrix.
    assert np.square(found.T @ vectors).sum() == pytest.approx(values.sum(), rel=1e-2)


def test_ppmi_embeddings_of_one_long_history_take_few_products(monkeypatch):
    """Its many eigenvalues are almost equal: eigsh takes thousands of products."""
    n, products = 1500, []
    multiply = PairMatrix.multiply
    monkeypatch.setattr(
        PairMatrix, "multiply", lambda self, w: products.append(w.shape[1]) or multiply(self, w)
    )
    items = np.random.default_rng(0).permutation(n)
    log = pd.DataFrame({"user_id": 1, "item_id": items, "timestamp": 10**9 + np.arange(n)})
    found = ppmi_embeddings(read_ratings(log), 16).astype(np.float64)
    assert len(products) <= 42
    # Each item is next to ten others; all pairs are as frequent as they can be.
    largest = 10 * np.log(10 * (n - 3) / 10**2)
    assert np.square(found).sum(axis=0) == pytest.approx(largest, rel=0.05)


def test_ppmi_embeddings_are_reproducible(sample_split):
    interactions = sample_split.train
    first, second = (ppmi_embeddings(interactions, 8, runtime=Runtime(seed=3)) for _ in range(2))
    assert (first == second).all()


def test_ppmi_without_pairs_is_rejected():
    interactions = read_ratings(pd.DataFrame({"user_id": [1, 2], "item_id": [7, 8]}))
    with pytest.raises(DataError, match="within"):
        ppmi_embeddings(interactions, 2)
