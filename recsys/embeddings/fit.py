"""Fit movie embeddings to co-occurrence counts."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.callbacks import EpochCallback, no_op
from recsys.config import Runtime
from recsys.embeddings.config import EmbeddingConfig
from recsys.embeddings.descent import descend
from recsys.embeddings.eigenvalues import SPARE, KrylovSpace
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.embeddings.matrices import PairMatrix
from recsys.embeddings.objective import PairObjective
from recsys.embeddings.sources import Counts, items_of, source_of
from recsys.embeddings.spectral import SpectralOptimum, find_optimum
from recsys.errors import ConfigError, DataError
from recsys.vocabulary import Vocabulary

_START_PASSES = 3
"""Products with X that the start costs; a step of the descent costs one."""

_LITTLE = 1e-3
"""Length of the noise that the start holds, in that of a random start."""

_YARDSTICK_TOLERANCE = 1e-4
"""Of the optimum that a fit is compared with: a hundredth of the 1 % that counts as converged."""


def fit_embeddings(
    counts: Counts,
    config: EmbeddingConfig | None = None,
    *,
    items: Vocabulary | None = None,
    start: ItemEmbeddings | None = None,
    runtime: Runtime | None = None,
    on_epoch: EpochCallback = no_op,
) -> ItemEmbeddings:
    """Minimise Σ_{i≠j} (v_iᵀv_j − X_ij)² over all ordered pairs, zeros included.

    Args:
        counts: X_ij: counts, in memory or on disk; any weighting of them, as a symmetric sparse
            matrix with a zero diagonal; or row blocks `(first row, rows)` one after the other,
            such as `CooccurrenceBlocks.weighted` gives, for a matrix that does not fit into
            memory. They are read anew in every epoch.
        config: dimension and optimiser.
        items: the items of a bare matrix or of row blocks; by default they are numbered.
        start: embeddings to go on from, of the same dimension; their items may be others. The
            vectors then stay close to what they were, while those of two fits from elsewhere
            are rotated against each other. `config.init` is not looked at.
        runtime: device, seed and threads.
        on_epoch: called after each epoch with `loss`, the value of the sum, `relative_loss`,
            its share of Σ X_ij², and, where the optimum is known, `loss_ratio`.

    Raises:
        DataError: X is not symmetric with a zero diagonal, no two items co-occur, or there are
            fewer items than dimensions.
        ConfigError: settings that do not go together, or `start` has another dimension.
        TrainingError: the loss grew without bound.
    """
    config = config or EmbeddingConfig()
    runtime = runtime or Runtime()
    source, items = source_of(counts), items_of(counts, items)
    with runtime.limit_threads():
        matrix = PairMatrix(source, runtime.torch_device(), config.pair_weights)
        items = _items(matrix, items)
        _check_dim(config.dim, matrix.n_items)
        if config.method == "spectral":
            return _spectral(matrix, config, items, runtime.seed, on_epoch)
        vectors_ND = None if start is None else _vectors_of(start, items, config.dim)
        return _descend(matrix, config, items, runtime.seed, on_epoch, vectors_ND)


def spectral_optimum(
    counts: Counts,
    dim: int,
    *,
    runtime: Runtime | None = None,
    tolerance: float = 1e-6,
) -> SpectralOptimum:
    """The least that Σ_{i≠j} (v_iᵀv_j − X_ij)² can be for vectors of length `dim`, and where.

    By eigenvectors with an imputed diagonal (`recsys.embeddings.spectral`). The objective is not
    convex, so that this is the best value known rather than one proven to be the best.

    Args:
        counts: X, as for `fit_embeddings`.
        dim: length of each vector.
        runtime: device, seed of the random start, and threads.
        tolerance: how exact the loss has to be, relative to itself.

    Raises:
        DataError: X cannot be used, or has no more items than `dim`.

    Example:
        Three items that all co-occur once: vectors of length one do it perfectly, all alike.

        >>> import scipy.sparse as sp
        >>> X = sp.csr_array(1 - np.eye(3))
        >>> best = spectral_optimum(X, dim=1)
        >>> round(best.loss, 6), (best.vectors @ best.vectors.T)[0, 1].round(decimals=4).item()
        (0.0, 1.0)
    """
    runtime = runtime or Runtime()
    with runtime.limit_threads():
        matrix = PairMatrix(source_of(counts), runtime.torch_device())
        _check_dim(dim, matrix.n_items)
        return find_optimum(matrix, dim, seed=runtime.seed, tolerance=tolerance)


def _items(matrix: PairMatrix, items: Vocabulary | None) -> Vocabulary:
    items = Vocabulary(np.arange(matrix.n_items)) if items is None else items
    if len(items) != matrix.n_items:
        raise DataError(f"X has {matrix.n_items} rows and `items` {len(items)}: they must agree")
    return items


def _check_dim(dim: int, n_items: int) -> None:
    if dim >= n_items:
        raise DataError(f"there are only {n_items} items for embeddings of dim {dim}: lower dim")


def _vectors_of(start: ItemEmbeddings, items: Vocabulary, dim: int) -> NDArray[np.float32]:
    if start.dim != dim:
        raise ConfigError(f"the embeddings to start from have dim {start.dim}, not {dim}")
    return start.vectors_of(items)


def _spectral(
    matrix: PairMatrix,
    config: EmbeddingConfig,
    items: Vocabulary,
    seed: int,
    on_epoch: EpochCallback,
) -> ItemEmbeddings:
    """The optimum as a model of its own."""
    if config.pair_weights is not None:
        raise ConfigError(
            "the optimum with pair_weights has no spectral solution: leave them out, or take "
            "method 'descent', which may start from init 'spectral'"
        )
    best = find_optimum(
        matrix,
        config.dim,
        seed=seed,
        tolerance=config.tolerance,
        max_rounds=config.epochs,
        on_epoch=on_epoch,
    )
    vectors_ND = best.vectors.to(torch.float32).cpu().numpy()
    return ItemEmbeddings(
        vectors_ND, items, best.loss, best.loss / matrix.sum_of_squares, best.loss
    )


def _descend(
    matrix: PairMatrix,
    config: EmbeddingConfig,
    items: Vocabulary,
    seed: int,
    on_epoch: EpochCallback,
    earlier_ND: NDArray[np.float32] | None,
) -> ItemEmbeddings:
    space = None
    if config.init == "krylov" and earlier_ND is None:
        space = KrylovSpace(matrix, config.dim + SPARE, _START_PASSES, seed)
    objective = PairObjective(matrix, space.ends if space else None)
    optimum = None
    if (config.compute_optimum and config.pair_weights is None) or config.init == "spectral":
        optimum = find_optimum(matrix, config.dim, seed=seed, tolerance=_YARDSTICK_TOLERANCE)
    best_loss = optimum.loss if optimum and config.pair_weights is None else None

    def tell(epoch: int, share: float) -> None:
        loss = share * objective.sum_of_squares
        metrics = {"loss": loss, "relative_loss": share}
        if best_loss:
            metrics["loss_ratio"] = loss / best_loss
        on_epoch(epoch, metrics)

    start_ND = _start(objective, config, seed, earlier_ND, space, optimum)
    # Line searches compare losses that hardly differ; the other optimizers do not.
    w_ND = torch.nn.Parameter(start_ND.double() if config.optimizer == "lbfgs" else start_ND)
    descend(objective, w_ND, config, seed=seed, on_loss=tell)
    # Once more with products in float64: what is written down is exact.
    share = max(objective.loss(w_ND.detach().double()).item(), 0.0)
    vectors_ND = w_ND.detach() * math.sqrt(objective.top_eigenvalue)
    loss = share * objective.sum_of_squares
    return ItemEmbeddings(vectors_ND.float().cpu().numpy(), items, loss, share, best_loss)


def _start(
    objective: PairObjective,
    config: EmbeddingConfig,
    seed: int,
    earlier_ND: NDArray[np.float32] | None,
    space: KrylovSpace | None,
    optimum: SpectralOptimum | None,
) -> Tensor:
    """W to start from; items without any co-occurrence start, and stay, at the zero vector."""
    matrix, scale = objective.matrix, 1.0 / math.sqrt(objective.top_eigenvalue)
    if earlier_ND is not None:
        start_ND = torch.from_numpy(earlier_ND).to(matrix.device) * scale
    elif space is not None:
        start_ND = (space.best_vectors(config.dim) * scale).float()
        # A direction of nothing would never leave zero.
        start_ND += _LITTLE * _noise(start_ND.shape, seed).to(matrix.device)
    elif config.init == "spectral" and optimum is not None:
        start_ND = (optimum.vectors * scale).float()
    else:
        start_ND = _noise((matrix.n_items, config.dim), seed).to(matrix.device)
    return start_ND * matrix.has_pairs[:, None]


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Of norm ‖W‖_F ≈ 1: products small beside the largest of X / λ₁, whatever the dimension."""
    noise_ND = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    scaled_ND: Tensor = noise_ND / math.sqrt(noise_ND.numel())
    return scaled_ND
