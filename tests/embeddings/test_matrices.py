import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.embeddings.config import PairWeights
from recsys.embeddings.objective import PairMatrix
from recsys.errors import ConfigError, DataError

CPU = torch.device("cpu")
RING = sp.csr_array(np.roll(np.eye(5), 1, axis=0) + np.roll(np.eye(5), -1, axis=0))


def test_a_product_has_the_precision_of_what_it_is_multiplied_with():
    w_ND = torch.arange(10.0).reshape(5, 2)
    for dtype in (torch.float32, torch.float64):
        product_ND = PairMatrix(RING, CPU).multiply(w_ND.to(dtype))
        assert product_ND.dtype == dtype
        assert product_ND.tolist() == (RING @ w_ND.numpy()).tolist()


def with_entry(row, column, value):
    changed = RING.tolil()
    changed[row, column] = value
    return sp.csr_array(changed)


FAULTS = {
    "diagonal": (with_entry(3, 3, 2.0), r"on its diagonal.*X\.setdiag\(0\)"),
    "asymmetric": (with_entry(0, 3, 1.0), r"not symmetric: fit \(X \+ X\.T\) / 2"),
    "infinite": (with_entry(0, 1, np.inf), "not finite"),
    "empty": (sp.csr_array((5, 5)), "nothing to fit"),
    "wide": (RING[:3], "5 columns but 3 rows"),
    "gap": ([(0, RING[:2]), (3, RING[3:])], "starts at row 3, expected row 2"),
    "ragged": ([(0, RING[:2]), (2, RING[2:, :4])], "at row 2 has 4 columns, the first 5"),
    "diagonal-in-a-block": ([(0, RING[:2]), (2, with_entry(3, 3, 2.0)[2:])], "on its diagonal"),
    "iterator": (iter([(0, RING)]), "can be read only once"),
}


@pytest.mark.parametrize(("source", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_fitted_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        PairMatrix(source, CPU)


def test_powers_of_negative_values_are_refused():
    with pytest.raises(DataError, match="has the value -1"):
        PairMatrix(-RING, CPU, PairWeights())


def test_random_rows_of_blocks_are_refused():
    with pytest.raises(ConfigError, match="remove batch_rows"):
        PairMatrix([(0, RING)], CPU).sample(np.array([1]))


def test_the_matrix_given_is_not_changed():
    before = RING.copy()
    PairMatrix(RING, CPU)
    assert (before != RING).nnz == 0
