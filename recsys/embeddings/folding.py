"""Vectors for items that came after the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.errors import DataError

if TYPE_CHECKING:
    import scipy.sparse as sp


def fold_in(
    vectors_ND: NDArray[np.float32], rows: sp.csr_array, ridge: float = 1e-6
) -> NDArray[np.float32]:
    """The best vectors of new items, those of the others held fixed.

    For each new item, the v that minimises Σ_j (vᵀv_j − x_j)² + ridge · ‖v‖² · tr(VᵀV) / d, which
    has the closed form v = (VᵀV + ridge · tr(VᵀV) / d · I)⁻¹ Vᵀx: one round of alternating least
    squares (Hu, Koren & Volinsky 2008, eq. 4) for these items alone.

    Args:
        vectors_ND: of the items that are known.
        rows: X between each new item and all known ones, in the same weighting, [B, N].
        ridge: how much to hold a vector down, relative to the mean eigenvalue of VᵀV.

    Returns:
        One vector per new item, [B, d]; zero where it co-occurs with none.

    Raises:
        DataError: the rows have other columns than there are vectors.

    Example:
        >>> import scipy.sparse as sp
        >>> known = np.array([[2, 0], [0, 1]], dtype=np.float32)
        >>> fold_in(known, sp.csr_array([[6, 0], [0, 4]]), ridge=0).tolist()
        [[3.0, 0.0], [0.0, 4.0]]
    """
    if rows.shape[1] != len(vectors_ND):
        raise DataError(
            f"the rows have {rows.shape[1]} columns and there are {len(vectors_ND)} vectors: "
            "they need the co-occurrence with every known item"
        )
    exact_ND = vectors_ND.astype(np.float64)
    gram_DD = exact_ND.T @ exact_ND
    gram_DD += ridge * gram_DD.trace() / len(gram_DD) * np.eye(len(gram_DD))
    pulled_BD = rows.astype(np.float64) @ exact_ND
    # lstsq, as without a ridge columns of zeros are allowed.
    solved_DB = np.linalg.lstsq(gram_DD, pulled_BD.T, rcond=None)[0]
    new_BD: NDArray[np.float32] = solved_DB.T.astype(np.float32)
    return new_BD
