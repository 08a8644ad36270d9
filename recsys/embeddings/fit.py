"""Fit item embeddings to co-occurrence counts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.arguments import require, require_type, to_int, to_number
from recsys.callbacks import EpochCallback, no_op
from recsys.config import Runtime
from recsys.cooccurrence import WeightingConfig, Window, count_cooccurrence
from recsys.data import Interactions
from recsys.embeddings.config import EmbeddingConfig
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.embeddings.objective import Counts, PairMatrix, PairObjective
from recsys.embeddings.optimizers import Descent
from recsys.embeddings.optimum import (
    OVERSAMPLING,
    KrylovSpace,
    SpectralOptimum,
    find_optimum,
    leading_eigenvectors,
)
from recsys.errors import ConfigError, DataError
from recsys.vocabulary import Vocabulary

INIT_PASSES = 3  # products with X for the initial vectors; each costs as much as an epoch
INIT_NOISE = 1e-3  # norm of the noise in the initial vectors, relative to that of a random start
_OPTIMUM_TOLERANCE = 1e-4  # a hundredth of the 1 % within which a fit has converged


def fit_embeddings(
    counts: Counts,
    config: EmbeddingConfig | None = None,
    *,
    items: Vocabulary | None = None,
    start: ItemEmbeddings | None = None,
    runtime: Runtime | None = None,
    on_epoch: EpochCallback = no_op,
) -> ItemEmbeddings:
    """Minimise Σ_{i≠j} (v_iᵀv_j − X_ij)² over all ordered pairs, including zeros.

    Args:
        counts: X: counts in memory or on disk, any symmetric sparse matrix with a zero diagonal,
            or consecutive row blocks `(first row, rows)`, which are read in every epoch. Counts on
            disk are read once if they fit into `runtime.memory_limit`.
        config: Hyper-parameters.
        items: Items of a bare matrix or of row blocks. Default: integers from 0.
        start: Embeddings to start from instead of `config.init`; items are matched by id. The
            vectors stay close to them, whereas independent fits differ by a rotation.
        runtime: Device, seed, threads and memory.
        on_epoch: Called after each epoch with `loss`, `relative_loss` (loss / Σ X_ij²) and, if the
            optimum is known, `loss_ratio` (loss / optimum).

    Raises:
        DataError: X is invalid, or does not have more items than dimensions.
        ConfigError: Incompatible settings, or `start` has another dimension or no common item.
        TrainingError: The loss diverged.
    """
    require(EmbeddingConfig | None, config=config)
    require(Runtime | None, runtime=runtime)
    require(Vocabulary | None, items=items)
    require(ItemEmbeddings | None, start=start)
    require(Callable, on_epoch=on_epoch)
    config, runtime = config or EmbeddingConfig(), runtime or Runtime()
    with runtime.limit_threads():
        matrix = PairMatrix(
            counts, runtime.torch_device(), config.pair_weights, items, runtime.memory_bytes()
        )
        matrix.check_dim(config.dim)
        if config.method == "descent":
            return _fit_descent(matrix, config, runtime.seed, on_epoch, start)
        if config.pair_weights is not None:
            raise ConfigError(
                "method 'spectral' has no solution with pair_weights: remove them, or use method "
                "'descent' with init 'spectral'"
            )
        dim, seed, tolerance, epochs = config.dim, runtime.seed, config.tolerance, config.epochs
        best = find_optimum(
            matrix, dim, seed=seed, tolerance=tolerance, max_iter=epochs, on_epoch=on_epoch
        )
        vectors = best.vectors.float().cpu().numpy()
        relative_loss = best.loss / matrix.sum_of_squares
        return ItemEmbeddings(vectors, matrix.items, best.loss, relative_loss, best.loss)


def spectral_optimum(
    counts: Counts, dim: int, *, runtime: Runtime | None = None, tolerance: float = 1e-6
) -> SpectralOptimum:
    """Compute the lowest known loss for vectors of dimension `dim`, to a relative tolerance.

    The objective is not convex, so the loss is not proven to be optimal
    (see `recsys.embeddings.optimum`).

    Raises:
        ConfigError: `dim` is not an integer of 1 or more, or `tolerance` is negative.
        DataError: X is invalid, or does not have more items than `dim`.

    Example:
        >>> import scipy.sparse as sp
        >>> best = spectral_optimum(sp.csr_array(1 - np.eye(3)), dim=1)
        >>> round(best.loss, 6), (best.vectors @ best.vectors.T)[0, 1].round(decimals=4).item()
        (0.0, 1.0)
    """
    require(Runtime | None, runtime=runtime)
    dim, tolerance = to_int("dim", dim), to_number("tolerance", tolerance, 0)
    runtime = runtime or Runtime()
    with runtime.limit_threads():
        device, memory = runtime.torch_device(), runtime.memory_bytes()
        matrix = PairMatrix(counts, device, memory_limit=memory)
        matrix.check_dim(dim)
        return find_optimum(matrix, dim, seed=runtime.seed, tolerance=tolerance)


def ppmi_embeddings(
    interactions: Interactions, dim: int, *, size: int = 5, runtime: Runtime | None = None
) -> NDArray[np.float32]:
    """Factorise the positive pointwise mutual information of items in a sliding window.

    The leading eigenvectors, scaled by the square roots of their eigenvalues, so that products of
    vectors approximate PPMI (Levy & Goldberg 2014, "Neural word embedding as implicit matrix
    factorization", §5, with α = 1/2). They initialise the item vectors of a session model.

    All interactions are used, whatever their rating. `size` is the maximum distance between the
    two interactions of a pair.

    Returns:
        One vector per item, [n_items, min(dim, n_items − 1)], the leading component first.

    Raises:
        ConfigError: `dim` or `size` is not an integer of 1 or more.
        DataError: No two items co-occur within the window more often than by chance.
    """
    require_type(interactions, Interactions, "read_ratings")
    require(Runtime | None, runtime=runtime)
    dim, size, runtime = to_int("dim", dim), to_int("size", size), runtime or Runtime()
    interactions = interactions.sequence()
    window = Window(size=size)
    with runtime.limit_threads(), tempfile.TemporaryDirectory() as home:
        folder = Path(home, "counts")
        counts = count_cooccurrence(
            interactions,
            None,
            window=window,
            memory_limit=runtime.memory_limit,
            folder=folder,
            runtime=runtime,
        )
        ppmi = counts.weighted(WeightingConfig(name="ppmi"))
        if not any(block.matrix.nnz for block in ppmi):
            raise DataError(
                f"no two items co-occur within {size} interactions more often than chance"
            )
        device, memory = runtime.torch_device(), runtime.memory_bytes()
        matrix = PairMatrix(ppmi, device, memory_limit=memory)
        vectors = leading_eigenvectors(matrix, min(dim, counts.n_items - 1), seed=runtime.seed)
        return vectors.float().cpu().numpy()


def _fit_descent(
    matrix: PairMatrix,
    config: EmbeddingConfig,
    seed: int,
    on_epoch: EpochCallback,
    start: ItemEmbeddings | None,
) -> ItemEmbeddings:
    if start is not None and start.dim != config.dim:
        raise ConfigError(f"`start` has dim {start.dim}, expected {config.dim}")
    if start is not None and not (start.items.indices(matrix.items.ids) >= 0).any():
        raise ConfigError(
            f"`start` is of another catalogue: it has none of the {matrix.items}, but {start.items}"
        )
    init = config.init if start is None else "start"
    size = (config.dim + OVERSAMPLING, INIT_PASSES, seed) if init == "krylov" else ()
    space = KrylovSpace(matrix, *size)
    objective = PairObjective(matrix, space.bounds)
    optimum = optimum_loss = None
    if (config.compute_optimum and config.pair_weights is None) or config.init == "spectral":
        optimum = find_optimum(matrix, config.dim, seed=seed, tolerance=_OPTIMUM_TOLERANCE)
        optimum_loss = optimum.loss if config.pair_weights is None else None

    def on_loss(epoch: int, relative_loss: float) -> None:
        loss = relative_loss * objective.sum_of_squares
        metrics = {"loss": loss, "relative_loss": relative_loss}
        if optimum_loss:
            metrics["loss_ratio"] = loss / optimum_loss
        on_epoch(epoch, metrics)

    scale = 1.0 / math.sqrt(objective.top_eigenvalue)
    if start is not None:
        init_ND = torch.from_numpy(start.vectors_for(matrix.items)).to(matrix.device) * scale
    elif optimum is not None and init == "spectral":
        init_ND = (optimum.vectors * scale).float()
    else:
        # ‖W‖_F ≈ 1, so that products are small relative to X / λ₁ in any dimension.
        generator = torch.Generator().manual_seed(seed)
        noise_ND = torch.randn((matrix.n_items, config.dim), generator=generator)
        init_ND = (noise_ND / math.sqrt(noise_ND.numel())).to(matrix.device)
        if init == "krylov":
            # Without noise, a column of zeros would never change.
            init_ND = (space.best_vectors(config.dim) * scale).float() + INIT_NOISE * init_ND
    init_ND = init_ND * matrix.has_pairs[:, None]  # items without co-occurrence remain at zero
    # Line searches compare nearly equal losses, so L-BFGS needs float64.
    w_ND = torch.nn.Parameter(init_ND.double() if config.optimizer == "lbfgs" else init_ND)
    Descent(objective, w_ND, config, on_loss).run(seed)
    relative_loss = max(objective.loss(w_ND.detach().double()).item(), 0.0)
    vectors = (w_ND.detach() * math.sqrt(objective.top_eigenvalue)).float().cpu().numpy()
    loss = relative_loss * objective.sum_of_squares
    return ItemEmbeddings(vectors, matrix.items, loss, relative_loss, optimum_loss)
