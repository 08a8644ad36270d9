"""Cross-entropy over the whole catalogue, without ever holding all the logits.

For M predictions over N items the usual way writes, and reads again, several M × N arrays. Here
the logits of a few predictions at a time are formed, turned in place into their gradient, and
multiplied out while they are still in the cache: less than half the time on a CPU, and memory
for a few rows of logits instead of M. The idea is that of Wijmans et al. 2025, "Cut your losses
in large-vocabulary language models".

Shapes: M predictions, C predictions in a chunk, D embedding, N items.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from recsys.sessions.seen import Seen

_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Size of a chunk of logits: what fits in a core's cache, or keeps a GPU busy."""


def tied_cross_entropy(
    expected_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    label_smoothing: float = 0.0,
    seen: Seen | None = None,
) -> Tensor:
    """Mean cross-entropy of softmax(expected · item embeddingsᵀ + bias) against the targets.

    Equal to `torch.nn.functional.cross_entropy(expected @ item_embeddings.T + bias, targets)`,
    with the logits of `seen` items at minus infinity.

    Args:
        expected_MD: what the model expects, as points among the item vectors.
        item_embeddings_ND: one vector per item.
        item_bias_N: one bias per item.
        targets_M: the items that came, int64; never among those seen.
        label_smoothing: share of the target's probability that is spread evenly over all items
            that are not seen (Szegedy et al. 2016, §7).
        seen: which items each prediction cannot be.
    """
    loss: Tensor = _TiedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        expected_MD, item_embeddings_ND, item_bias_N, targets_M, label_smoothing, seen
    )
    return loss


class _TiedCrossEntropy(torch.autograd.Function):
    """Forms the gradients in the forward pass; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        expected_MD: Tensor,
        item_embeddings_ND: Tensor,
        item_bias_N: Tensor,
        targets_M: Tensor,
        label_smoothing: float,
        seen: Seen | None,
    ) -> Tensor:
        n_predictions, n_items = len(targets_M), len(item_bias_N)
        loss = item_bias_N.new_zeros(())
        d_expected_MD = torch.empty_like(expected_MD)
        d_vectors_ND = torch.zeros_like(item_embeddings_ND)
        d_bias_N = torch.zeros_like(item_bias_N)
        rows = max(1, _CHUNK_BYTES[expected_MD.device.type] // (4 * n_items))
        for start in range(0, n_predictions, rows):
            chunk = slice(start, start + rows)
            logits_CN = torch.nn.functional.linear(
                expected_MD[chunk], item_embeddings_ND, item_bias_N
            )
            logits_CN = logits_CN.to(item_bias_N.dtype)
            seen_CN = None if seen is None else seen.mask(chunk, n_items)
            chunk_loss, d_logits_CN = _loss_and_gradient(
                logits_CN, targets_M[chunk], label_smoothing, seen_CN
            )
            loss += chunk_loss
            d_expected_MD[chunk] = d_logits_CN @ item_embeddings_ND
            if item_embeddings_ND.requires_grad:
                d_vectors_ND += d_logits_CN.T @ expected_MD[chunk]
            d_bias_N += d_logits_CN.sum(0)
        ctx.save_for_backward(d_expected_MD, d_vectors_ND, d_bias_N)
        ctx.n_predictions = n_predictions
        return loss / n_predictions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0] / ctx.n_predictions
        return (*(scale * gradient for gradient in ctx.saved_tensors), None, None, None)


def _loss_and_gradient(
    logits_CN: Tensor, targets_C: Tensor, label_smoothing: float, seen_CN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Summed loss of a chunk, and its gradient by the logits, which are overwritten."""
    rows_C = torch.arange(len(targets_C), device=targets_C.device)
    target_C = logits_CN[rows_C, targets_C]
    mean_C1, n_possible_C1 = _rule_out(logits_CN, seen_CN)
    # The softmax in place: one exponential an element, where logsumexp and exp would take two.
    highest_C1 = logits_CN.amax(1, keepdim=True)
    gradient_CN = logits_CN.sub_(highest_C1).exp_()
    sum_C1 = gradient_CN.sum(1, keepdim=True)
    gradient_CN.mul_(1.0 / sum_C1)
    loss = (sum_C1.log() + highest_C1).sum() - (1.0 - label_smoothing) * target_C.sum()
    if label_smoothing:
        loss -= label_smoothing * mean_C1.sum()
        gradient_CN -= label_smoothing / n_possible_C1
        if seen_CN is not None:
            gradient_CN.masked_fill_(seen_CN, 0.0)
    gradient_CN[rows_C, targets_C] -= 1.0 - label_smoothing
    return loss, gradient_CN


def _rule_out(logits_CN: Tensor, seen_CN: Tensor | None) -> tuple[Tensor, Tensor]:
    """Put the logits of seen items at minus infinity.

    Returns:
        Of the others, the mean logit, [C, 1], and how many they are, [C, 1].
    """
    n_items = logits_CN.shape[1]
    if seen_CN is None:
        return logits_CN.mean(1, keepdim=True), logits_CN.new_full((len(logits_CN), 1), n_items)
    sum_C1 = logits_CN.masked_fill_(seen_CN, 0.0).sum(1, keepdim=True)
    logits_CN.masked_fill_(seen_CN, -math.inf)
    n_possible_C1 = (n_items - seen_CN.sum(1, keepdim=True)).to(logits_CN.dtype)
    return sum_C1 / n_possible_C1, n_possible_C1
