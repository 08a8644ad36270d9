"""Cross-entropy against a sample of a catalogue that is too large to be scored as a whole.

The normaliser of the softmax is estimated without bias from K drawn items:

    Z = e^{s_y} + Σ_{j ≠ y} e^{s_j}  ≈  e^{s_y} + Σ_{drawn j ≠ y} e^{s_j − log(K q_j)}

q_j is the probability that a draw gives j: the logQ correction (Bengio & Senécal 2008), with the
target left uncorrected, as it is always there (Khrylchenko et al. 2025, "Correcting the LogQ
correction"). Half of the draws are uniform, half are targets of the batch, which come as often
as they are popular. All predictions of a batch share them.

Shapes: M predictions, U different drawn items, D embedding, N items.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys.sessions.seen import Seen


def sampled_cross_entropy(
    expected_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    log_popularity_N: Tensor,
    n_negatives: int,
    seen: Seen | None = None,
) -> Tensor:
    """Mean of log Z − s_y over the predictions, with Z estimated.

    Args:
        expected_MD: what the model expects, as points among the item vectors.
        item_embeddings_ND: one vector per item.
        item_bias_N: one bias per item.
        targets_M: the items that came, int64.
        log_popularity_N: logarithm of each item's share of all watches.
        n_negatives: draws, K.
        seen: which items each prediction cannot be.
    """
    return _losses(
        expected_MD, item_embeddings_ND, item_bias_N, targets_M, log_popularity_N, n_negatives, seen
    ).mean()


def _losses(
    expected_MD: Tensor,
    item_embeddings_ND: Tensor,
    item_bias_N: Tensor,
    targets_M: Tensor,
    log_popularity_N: Tensor,
    n_negatives: int,
    seen: Seen | None,
) -> Tensor:
    """The loss of each prediction, [M]."""
    n_items = len(item_bias_N)
    drawn_U, counts_U = _draw(targets_M, n_items, n_negatives)
    log_q_U = torch.logaddexp(
        log_popularity_N[drawn_U] + math.log(0.5),
        log_popularity_N.new_tensor(math.log(0.5 / n_items)),
    )
    # An item drawn c times counts c times.
    correction_U = log_q_U + math.log(n_negatives) - counts_U.log()
    logits_MU = expected_MD @ item_embeddings_ND[drawn_U].T + (item_bias_N[drawn_U] - correction_U)
    logits_MU = logits_MU.float().masked_fill(drawn_U == targets_M[:, None], -math.inf)
    if seen is not None:
        logits_MU = logits_MU.masked_fill(seen.among(drawn_U), -math.inf)
    target_M = (expected_MD * item_embeddings_ND[targets_M]).sum(1).float() + item_bias_N[targets_M]
    normaliser_M = torch.cat([target_M[:, None], logits_MU], dim=1).logsumexp(1)
    return normaliser_M - target_M


def _draw(targets_M: Tensor, n_items: int, n_draws: int) -> tuple[Tensor, Tensor]:
    """Different items, ascending, and how often each was drawn."""
    device = targets_M.device
    uniform = torch.randint(n_items, (n_draws - n_draws // 2,), device=device)
    popular = targets_M[torch.randint(len(targets_M), (n_draws // 2,), device=device)]
    drawn_U, counts_U = torch.unique(torch.cat([uniform, popular]), return_counts=True)
    return drawn_U, counts_U
