"""The training loss: cross-entropy of each next item, over the catalogue or over a sample.

Shapes: B sequences, L steps, P earlier items, M predictions, C predictions in a chunk, U distinct
drawn items, D embedding, N items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recsys.sessions.config import SessionConfig
from recsys.sessions.network import SessionNetwork

_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Size of a chunk of logits: fits the cache of a core, or keeps a GPU busy."""


class NextItemLoss(nn.Module):
    """A network and its loss as one module, as DistributedDataParallel requires."""

    def __init__(self, network: SessionNetwork, config: SessionConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        is_large = network.n_items > 50_000
        self.is_sampled = config.loss == "sampled" or (config.loss == "auto" and is_large)

    def forward(self, items_BL: Tensor, context_BP: Tensor) -> Tensor:
        """Mean loss per prediction of a batch of items and contexts; see `collate`."""
        network = self.network
        is_item_BL = items_BL[:, 1:] != network.n_items
        query_MD = network(items_BL[:, :-1])[is_item_BL].to(network.item_bias.dtype)
        seen = None
        if not self.network.repeats:
            seen = SeenMask(context_BP, items_BL[:, :-1], *is_item_BL.nonzero(as_tuple=True))
        return self.loss(query_MD, items_BL[:, 1:][is_item_BL], seen)

    def loss(self, query_MD: Tensor, targets_M: Tensor, seen: SeenMask | None) -> Tensor:
        """Mean loss of predictions without padding."""
        network, config = self.network, self.config
        parameters = network.output_embeddings, network.item_bias, targets_M
        if self.is_sampled:
            popularity, generator = network.log_popularity, network.generator
            return sampled_cross_entropy(
                query_MD, *parameters, popularity, config.n_negatives, seen, generator
            ).mean()
        return full_cross_entropy(query_MD, *parameters, config.label_smoothing, seen)


@dataclass(frozen=True, eq=False)
class SeenMask:
    """The items that a user has already seen at each prediction of a batch.

    They are excluded from rankings and therefore from the loss. Items before the chunk count,
    too; otherwise the ends of long histories would teach that popular items are improbable.
    """

    context: Tensor  # items before each sequence, possibly repeated, int64 [B, P]
    inputs: Tensor  # items of the sequences, int64 [B, L]; at step l the first l + 1 are seen
    row: Tensor  # sequence of each prediction, ascending, [M]
    step: Tensor  # step of each prediction, [M]

    def dense(self, chunk: slice, n_items: int) -> Tensor:
        """The mask of a chunk of predictions, bool [C, N]."""
        row_C = self.row[chunk]
        first, last = int(row_C[0]), int(row_C[-1])
        context_RP = self.context[first : last + 1]
        context_RN = context_RP.new_zeros(len(context_RP), n_items, dtype=torch.bool)
        seen_CN = context_RN.scatter_(1, context_RP, True)[row_C - first]
        return seen_CN.scatter_(1, self._inputs_so_far(chunk), True)

    def among(self, drawn_U: Tensor) -> Tensor:
        """Which of some items, ascending, are seen at each prediction, bool [M, U]."""
        context_BU = _contains(self.context, drawn_U)
        return context_BU[self.row] | _contains(self._inputs_so_far(slice(None)), drawn_U)

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
    seen: SeenMask | None = None,
) -> Tensor:
    """Mean cross-entropy over the whole catalogue, without storing all logits.

    Equal to `torch.nn.functional.cross_entropy(query @ item_embeddings.T + bias, targets)` with
    the logits of seen items at minus infinity. The logits of a few predictions at a time are
    turned into their gradient in place and multiplied out while they are in the cache: less than
    half the time on a CPU, and memory for a chunk of logits only, as in Wijmans et al. 2025, "Cut
    your losses in large-vocabulary language models".

    A target is never among the seen items. `label_smoothing` is the target probability spread over
    the items not seen (Szegedy et al. 2016).
    """
    loss: Tensor = _FullCrossEntropy.apply(  # type: ignore[no-untyped-call]
        query_MD, item_embeddings_ND, item_bias_N, targets_M, label_smoothing, seen
    )
    return loss


class _FullCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass; backward scales them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query_MD, item_embeddings_ND, item_bias_N, targets_M, label_smoothing, seen = inputs
        n_predictions, n_items = len(targets_M), len(item_bias_N)
        loss: Tensor = item_bias_N.new_zeros(())
        d_query_MD = torch.empty_like(query_MD)
        d_embeddings_ND = torch.zeros_like(item_embeddings_ND)
        d_bias_N = torch.zeros_like(item_bias_N)
        rows = max(1, _CHUNK_BYTES[query_MD.device.type] // (4 * n_items))
        for start in range(0, n_predictions, rows):
            chunk = slice(start, start + rows)
            logits_CN = nn.functional.linear(query_MD[chunk], item_embeddings_ND, item_bias_N)
            logits_CN = logits_CN.to(item_bias_N.dtype)
            seen_CN = None if seen is None else seen.dense(chunk, n_items)
            chunk_loss, d_logits_CN = _loss_and_gradient(
                logits_CN, targets_M[chunk], label_smoothing, seen_CN
            )
            loss += chunk_loss
            d_query_MD[chunk] = d_logits_CN @ item_embeddings_ND
            if item_embeddings_ND.requires_grad:
                d_embeddings_ND += d_logits_CN.T @ query_MD[chunk]
            d_bias_N += d_logits_CN.sum(0)
        ctx.save_for_backward(d_query_MD, d_embeddings_ND, d_bias_N)
        ctx.n_predictions = n_predictions
        return loss / n_predictions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0] / ctx.n_predictions
        return (*(scale * gradient for gradient in ctx.saved_tensors), None, None, None)


def _loss_and_gradient(
    logits_CN: Tensor, targets_C: Tensor, label_smoothing: float, seen_CN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Summed loss of a chunk and its gradient by the logits, which are overwritten."""
    rows_C = torch.arange(len(targets_C), device=targets_C.device)
    target_C = logits_CN[rows_C, targets_C]
    n_allowed_C1 = logits_CN.new_full((len(logits_CN), 1), logits_CN.shape[1])
    if seen_CN is None:
        mean_C1 = logits_CN.mean(1, keepdim=True)
    else:
        n_allowed_C1 -= seen_CN.sum(1, keepdim=True)
        mean_C1 = logits_CN.masked_fill_(seen_CN, 0.0).sum(1, keepdim=True) / n_allowed_C1
        logits_CN.masked_fill_(seen_CN, -math.inf)
    # Softmax in place: one exponential per element instead of two for logsumexp and exp.
    max_C1 = logits_CN.amax(1, keepdim=True)
    gradient_CN = logits_CN.sub_(max_C1).exp_()
    sum_C1 = gradient_CN.sum(1, keepdim=True)
    gradient_CN.mul_(1.0 / sum_C1)
    loss = (sum_C1.log() + max_C1).sum() - (1.0 - label_smoothing) * target_C.sum()
    if label_smoothing:
        loss -= label_smoothing * mean_C1.sum()
        gradient_CN -= label_smoothing / n_allowed_C1
        if seen_CN is not None:
            gradient_CN.masked_fill_(seen_CN, 0.0)
    gradient_CN[rows_C, targets_C] -= 1.0 - label_smoothing
    return loss, gradient_CN


def sampled_cross_entropy(
    query_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    log_popularity_N: Tensor,
    n_negatives: int,
    seen: SeenMask | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sampled loss of each prediction, [M]: log Z − s_y with Z estimated from K drawn items.

    Z = e^{s_y} + Σ_{j ≠ y} e^{s_j}  ≈  e^{s_y} + Σ_{drawn j ≠ y} e^{s_j − log(K q_j)}

    q_j is the probability of drawing j: the logQ correction (Bengio & Senécal 2008), not applied
    to the target (Khrylchenko et al. 2025, "Correcting the LogQ correction"). Half of the draws
    are uniform, half are targets of the batch. All predictions of a batch share them.
    `n_negatives` is K and `log_popularity_N` the logarithm of each item's share of interactions.
    """
    n_items = len(item_bias_N)
    half, device = n_negatives // 2, targets_M.device
    options: Any = {"device": device, "generator": generator}
    uniform = torch.randint(n_items, (n_negatives - half,), **options)
    popular = targets_M[torch.randint(len(targets_M), (half,), **options)]
    drawn_U, counts_U = torch.unique(torch.cat([uniform, popular]), return_counts=True)
    log_q_U = torch.logaddexp(
        log_popularity_N[drawn_U] + math.log(0.5),
        log_popularity_N.new_tensor(math.log(0.5 / n_items)),
    )
    # An item drawn c times counts c times.
    correction_U = log_q_U + math.log(n_negatives) - counts_U.log()
    logits_MU = query_MD @ item_embeddings_ND[drawn_U].T + (item_bias_N[drawn_U] - correction_U)
    logits_MU = logits_MU.float().masked_fill(drawn_U == targets_M[:, None], -math.inf)
    if seen is not None:
        logits_MU = logits_MU.masked_fill(seen.among(drawn_U), -math.inf)
    target_M = (query_MD * item_embeddings_ND[targets_M]).sum(1).float() + item_bias_N[targets_M]
    return torch.cat([target_M[:, None], logits_MU], dim=1).logsumexp(1) - target_M


def _contains(items_MS: Tensor, drawn_U: Tensor) -> Tensor:
    """Which drawn items, ascending, occur in each row of items, bool [M, U]."""
    position_MS = torch.searchsorted(drawn_U, items_MS).clamp_(max=len(drawn_U) - 1)
    is_drawn_MS = drawn_U[position_MS] == items_MS
    # Items that were not drawn mark an extra column.
    position_MS = torch.where(is_drawn_MS, position_MS, len(drawn_U))
    marks = torch.zeros(len(items_MS), len(drawn_U) + 1, dtype=torch.bool, device=items_MS.device)
    return marks.scatter_(1, position_MS, True)[:, :-1]
