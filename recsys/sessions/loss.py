"""The training loss: cross-entropy of each next item, over the catalogue or over a sample.

Shapes: B sequences, L steps, P earlier items, M predictions, C predictions in a chunk, K drawn
items, D embedding, N items.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recsys.sessions.config import SessionConfig
from recsys.sessions.network import NO_DROPOUT, DropoutMasks, SessionNetwork

_Sums = tuple[Tensor, Tensor, Tensor]
"""A summed loss, and its gradients by item embeddings and biases."""

_CHUNK_BYTES = {"cpu": 3 * 2**20, "cuda": 256 * 2**20}
"""Size of a chunk of logits: fits the cache of a core, or keeps a GPU busy."""


class Draws(NamedTuple):
    """The random numbers of one training step."""

    masks: DropoutMasks = NO_DROPOUT
    uniform: Tensor | None = None  # items for the sampled loss, int64 [K − K // 2]
    positions: Tensor | None = None  # predictions whose targets it takes, too, int64 [K // 2]


class NextItemLoss(nn.Module):
    """A network and its loss as one module, as DistributedDataParallel requires."""

    helper: Executor | None = None
    """A thread that computes half of the loss over the catalogue on a CPU."""

    def __init__(self, network: SessionNetwork, config: SessionConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        is_large = network.n_items > 50_000
        self.is_sampled = config.loss == "sampled" or (config.loss == "auto" and is_large)

    def draw(
        self, items_BL: Tensor, n_targets: int, generator: torch.Generator | None = None
    ) -> Draws:
        """Draw the random numbers of a training step on a batch; see `cut_batches`."""
        n_sequences, length = items_BL.shape
        masks = self.network.draw_masks(n_sequences, length - 1, generator)
        if not self.is_sampled:
            return Draws(masks)
        n_popular = self.config.n_negatives // 2
        options: Any = {"device": items_BL.device, "generator": generator}
        n_uniform = self.config.n_negatives - n_popular
        uniform = torch.randint(self.network.n_items, (n_uniform,), **options)
        return Draws(masks, uniform, torch.randint(n_targets, (n_popular,), **options))

    def forward(self, items_BL: Tensor, context_BP: Tensor, n_targets: int, draws: Draws) -> Tensor:
        """Mean loss per prediction of a batch of items and contexts; see `cut_batches`."""
        network, n_steps = self.network, items_BL.shape[1] - 1
        inputs_BL, targets_BL = items_BL[:, :-1], items_BL[:, 1:]
        # The number of predictions is given, so that a GPU is not waited for.
        is_item = (targets_BL != network.n_items).flatten()
        position_M = is_item.nonzero_static(size=n_targets)[:, 0]
        query_MD = network(inputs_BL, draws.masks).flatten(0, 1).index_select(0, position_M)
        seen = None
        if not self.network.repeats:
            row_M, step_M = position_M // n_steps, position_M % n_steps
            seen = SeenItems(context_BP, inputs_BL, row_M, step_M)
        targets_M = targets_BL.flatten().index_select(0, position_M)
        return self.loss(query_MD.to(network.item_bias.dtype), targets_M, seen, draws)

    def loss(
        self, query_MD: Tensor, targets_M: Tensor, seen: SeenItems | None, draws: Draws
    ) -> Tensor:
        """Mean loss of predictions without padding."""
        network, smoothing = self.network, self.config.label_smoothing
        parameters = network.output_embeddings, network.item_bias, targets_M
        if draws.uniform is None or draws.positions is None:
            return full_cross_entropy(query_MD, *parameters, smoothing, seen, self.helper)
        drawn_K = torch.cat([draws.uniform, targets_M[draws.positions]])
        return sampled_cross_entropy(
            query_MD, *parameters, network.log_popularity, drawn_K, seen
        ).mean()


@dataclass(frozen=True, eq=False)
class SeenItems:
    """The items that a user has already seen at each prediction of a batch.

    They are excluded from rankings and therefore from the loss. Items before the chunk count,
    too; otherwise the ends of long histories would teach that popular items are improbable.
    """

    context: Tensor  # items before each sequence, padded with its first item, int64 [B, P]
    inputs: Tensor  # items of the sequences, int64 [B, L]; at step l the first l + 1 are seen
    row: Tensor  # sequence of each prediction, [M]
    step: Tensor  # step of each prediction, [M]

    def items(self, chunk: slice) -> Tensor:
        """The items seen at each of some predictions, possibly repeated, int64 [C, P + L]."""
        return torch.cat([self.context[self.row[chunk]], self._inputs_so_far(chunk)], dim=1)

    def counts(self) -> Tensor:
        """The number of items seen at each prediction, [M], if no history repeats an item."""
        n_before_B = (self.context != self.inputs[:, :1]).sum(1)
        return n_before_B[self.row] + self.step + 1

    def among(self, drawn_K: Tensor) -> Tensor:
        """Which of some items, ascending, are seen at each prediction, bool [M, K].

        Of equal ones, the first is marked.
        """
        context_BK = _contains(self.context, drawn_K)
        return context_BK[self.row] | _contains(self._inputs_so_far(slice(None)), drawn_K)

    def _inputs_so_far(self, chunk: slice) -> Tensor:
        """The inputs up to each prediction, padded with the first input, [C, L].

        inputs a b c     step 0: a a a     step 1: a b a     step 2: a b c
        """
        inputs_CL = self.inputs[self.row[chunk]]
        steps_L = torch.arange(inputs_CL.shape[1], device=inputs_CL.device)
        return torch.where(steps_L <= self.step[chunk, None], inputs_CL, inputs_CL[:, :1])


def full_cross_entropy(
    query_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    label_smoothing: float = 0.0,
    seen: SeenItems | None = None,
    helper: Executor | None = None,
) -> Tensor:
    """Mean cross-entropy over the whole catalogue, without storing all logits.

    Equal to `torch.nn.functional.cross_entropy(query @ item_embeddings.T + bias, targets)` with
    the logits of seen items at minus infinity. The logits of a few predictions at a time are
    turned into their gradient in place and multiplied out while they are in the cache: less than
    half the time on a CPU, and memory for a chunk of logits only, as in Wijmans et al. 2025, "Cut
    your losses in large-vocabulary language models".

    A target is never among the seen items. `label_smoothing` is the target probability spread over
    the items not seen (Szegedy et al. 2016). A CPU sums two halves, of which `helper` may compute
    one: the result does not depend on it.
    """
    loss: Tensor = _FullCrossEntropy.apply(  # type: ignore[no-untyped-call]
        query_MD, item_embeddings_ND, item_bias_N, targets_M, label_smoothing, seen, helper
    )
    return loss


class _FullCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass; backward scales them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query_MD, item_embeddings_ND, item_bias_N, targets_M, label_smoothing, seen, helper = inputs
        n_predictions, device = len(targets_M), query_MD.device.type
        rows = max(1, _CHUNK_BYTES[device] // (4 * len(item_bias_N)))
        n_seen_M = torch.zeros_like(targets_M) if seen is None else seen.counts()
        d_query_MD = torch.empty_like(query_MD)
        dtype = _product_dtype(query_MD)  # cast once instead of in each product
        compute = partial(
            _sum_chunks,
            query_MD.to(dtype),
            item_embeddings_ND.to(dtype),
            item_bias_N,
            targets_M,
            label_smoothing,
            seen,
            len(item_bias_N) - n_seen_M,
            rows,
            d_query_MD,
            not item_embeddings_ND.requires_grad,
        )
        middle = -(-n_predictions // (2 * rows)) * rows
        if device == "cuda" or middle >= n_predictions:
            loss, *gradients = compute(slice(0, n_predictions))
        else:
            halves = slice(0, middle), slice(middle, n_predictions)
            loss, *gradients = map(torch.add, *_both(compute, *halves, helper))
        ctx.save_for_backward(d_query_MD, *gradients)
        ctx.n_predictions = n_predictions
        return loss / n_predictions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0] / ctx.n_predictions
        return (*(scale * gradient for gradient in ctx.saved_tensors), *[None] * 4)


def _both(
    compute: Callable[[slice], _Sums], first: slice, second: slice, helper: Executor | None
) -> tuple[_Sums, _Sums]:
    """Compute two parts, the second in the helper's thread if there is one."""
    if helper is None:
        return compute(first), compute(second)
    future = helper.submit(compute, second)
    return compute(first), future.result()


@torch.no_grad()  # which another thread does not inherit
def _sum_chunks(
    query_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    label_smoothing: float,
    seen: SeenItems | None,
    n_allowed_M: Tensor,
    rows: int,
    d_query_MD: Tensor,
    is_frozen: bool,
    part: slice,
) -> _Sums:
    """Sum over a part of the predictions; their rows of `d_query_MD` are set.

    There are logits for `rows` predictions at a time. Sums are of the type of the bias.
    """
    dtype = item_bias_N.dtype
    loss, d_bias_N = item_bias_N.new_zeros(()), torch.zeros_like(item_bias_N)
    d_embeddings_ND = torch.zeros_like(item_embeddings_ND, dtype=dtype)
    bias_N = item_bias_N.to(query_MD.dtype)
    for start in range(part.start, part.stop, rows):
        chunk = slice(start, min(start + rows, part.stop))
        logits_CN = nn.functional.linear(query_MD[chunk], item_embeddings_ND, bias_N)
        chunk_loss, d_logits_CN = _chunk_gradient(
            logits_CN.to(dtype),
            targets_M[chunk, None],
            label_smoothing,
            None if seen is None else seen.items(chunk),
            n_allowed_M[chunk, None],
        )
        loss += chunk_loss
        d_bias_N += d_logits_CN.sum(0)
        d_logits_CN = d_logits_CN.to(query_MD.dtype)
        d_query_MD[chunk] = d_logits_CN @ item_embeddings_ND
        if not is_frozen:
            d_embeddings_ND += d_logits_CN.T @ query_MD[chunk]
    return loss, d_embeddings_ND, d_bias_N


def _product_dtype(tensor: Tensor) -> torch.dtype:
    """The type that autocast chooses for a product of a tensor."""
    device = tensor.device.type
    is_cast = torch.is_autocast_enabled(device) and tensor.dtype == torch.float32
    return torch.get_autocast_dtype(device) if is_cast else tensor.dtype


def _chunk_gradient(
    logits_CN: Tensor,
    targets_C1: Tensor,
    label_smoothing: float,
    seen_CS: Tensor | None,
    n_allowed_C1: Tensor,
) -> tuple[Tensor, Tensor]:
    """Summed loss of a chunk, and its gradient by the logits, which are overwritten."""
    loss = -(1.0 - label_smoothing) * logits_CN.gather(1, targets_C1).sum()
    if label_smoothing:
        if seen_CS is not None:
            logits_CN.scatter_(1, seen_CS, 0.0)
        loss -= label_smoothing * (logits_CN.sum(1, keepdim=True) / n_allowed_C1).sum()
    if seen_CS is not None:
        logits_CN.scatter_(1, seen_CS, -math.inf)
    gradient_CN = logits_CN.softmax(1)
    # The normalizer follows from the largest logit and its probability.
    loss += (logits_CN.amax(1) - gradient_CN.amax(1).log()).sum()
    if label_smoothing:
        gradient_CN -= label_smoothing / n_allowed_C1
        if seen_CS is not None:
            gradient_CN.scatter_(1, seen_CS, 0.0)
    gradient_CN.scatter_add_(
        1, targets_C1, gradient_CN.new_full(targets_C1.shape, label_smoothing - 1.0)
    )
    return loss, gradient_CN


def sampled_cross_entropy(
    query_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    log_popularity_N: Tensor,
    drawn_K: Tensor,
    seen: SeenItems | None = None,
) -> Tensor:
    """Sampled loss of each prediction, [M]: log Z − s_y with Z estimated from K drawn items.

    Z = e^{s_y} + Σ_{j ≠ y} e^{s_j}  ≈  e^{s_y} + Σ_{drawn j ≠ y} e^{s_j − log(K q_j)}

    q_j is the probability of drawing j: the logQ correction (Bengio & Senécal 2008), not applied
    to the target (Khrylchenko et al. 2025, "Correcting the LogQ correction"). Half of `drawn_K`
    are drawn uniformly, half from the targets of the batch. All predictions of a batch share them.
    `log_popularity_N` is the logarithm of each item's share of interactions.
    """
    n_items, n_draws = len(item_bias_N), len(drawn_K)
    drawn_K, count_K = _count_draws(drawn_K)
    log_q_K = torch.logaddexp(
        log_popularity_N[drawn_K] + math.log(0.5),
        log_popularity_N.new_full((), math.log(0.5 / n_items)),
    )
    # An item drawn c times counts c times: once, with log c, and as nothing the other times.
    correction_K = log_q_K + math.log(n_draws) - count_K.log()
    logits_MK = query_MD @ item_embeddings_ND[drawn_K].T + (item_bias_N[drawn_K] - correction_K)
    logits_MK = logits_MK.float().masked_fill(drawn_K == targets_M[:, None], -math.inf)
    if seen is not None:
        logits_MK = logits_MK.masked_fill(seen.among(drawn_K), -math.inf)
    target_M = (query_MD * item_embeddings_ND[targets_M]).sum(1).float() + item_bias_N[targets_M]
    return torch.cat([target_M[:, None], logits_MK], dim=1).logsumexp(1) - target_M


def _count_draws(drawn_K: Tensor) -> tuple[Tensor, Tensor]:
    """Sort draws, [K], and count those of each item at its first place; 0 elsewhere."""
    drawn_K = drawn_K.sort().values
    place_K = torch.arange(len(drawn_K), device=drawn_K.device)
    first_K = torch.searchsorted(drawn_K, drawn_K)
    count_K = torch.searchsorted(drawn_K, drawn_K, right=True) - first_K
    return drawn_K, torch.where(first_K == place_K, count_K, 0)


def _contains(items_MS: Tensor, drawn_K: Tensor) -> Tensor:
    """Which drawn items, ascending, occur in each row of items, bool [M, K].

    Of equal ones, the first is marked.
    """
    position_MS = torch.searchsorted(drawn_K, items_MS).clamp_(max=len(drawn_K) - 1)
    is_drawn_MS = drawn_K[position_MS] == items_MS
    # Items that were not drawn mark an extra column.
    position_MS = torch.where(is_drawn_MS, position_MS, len(drawn_K))
    marks = torch.zeros(len(items_MS), len(drawn_K) + 1, dtype=torch.bool, device=items_MS.device)
    return marks.scatter_(1, position_MS, True)[:, :-1]
