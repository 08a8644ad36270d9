import numpy as np
import pytest

from recsys.baselines import fit_item_knn
from recsys.data import leave_last_n, leave_last_out, read_ratings
from recsys.errors import BundleError
from recsys.evaluation import evaluate, read_report, write_report


@pytest.fixture
def log(small_log):
    return read_ratings(small_log)


@pytest.mark.parametrize("target", ["validation", "test"])
def test_what_comes_back_is_what_was_written(tmp_path, log, target):
    split = leave_last_out(log)
    report = evaluate(fit_item_knn(split.train), split, target)
    write_report(report, tmp_path)
    read = read_report(tmp_path, split, target)
    for name in ("metrics", "beyond", "lists", "fingerprint"):
        assert dict(getattr(read, name)) == dict(getattr(report, name)), name
    for name in ("ranks", "recommended", "users"):
        assert np.array_equal(getattr(read, name), getattr(report, name)), name
        assert getattr(read, name).dtype == getattr(report, name).dtype
    assert read.per_user().equals(report.per_user())


def test_a_report_on_something_else_is_refused(tmp_path, log):
    split = leave_last_out(log)
    write_report(evaluate(fit_item_knn(split.train), split, "test"), tmp_path)
    for other, target in ((split, "validation"), (leave_last_n(log, 2), "test")):
        with pytest.raises(BundleError, match="on other targets, or on other data"):
            read_report(tmp_path, other, target)


def test_a_missing_file_is_named(tmp_path, log):
    split = leave_last_out(log)
    write_report(evaluate(fit_item_knn(split.train), split, "test"), tmp_path)
    (tmp_path / "ranks.npz").unlink()
    with pytest.raises(BundleError, match="does not hold a report"):
        read_report(tmp_path, split, "test")
