import pandas as pd
import pytest

from recsys.data import (
    global_time_cut,
    leave_last_n,
    leave_last_out,
    load_interactions,
    per_user_ratio,
    read_ratings,
    save_interactions,
)
from recsys.errors import ConfigError, DataError

# Interactions by time, as item indices:
# user 0: 0@1 1@2 2@4 3@4 4@9; user 1: 2@1 0@4 1@8; user 2: 4@5 3@8; user 3: 1@3.
LOG = pd.DataFrame(
    [
        ("ann", "e", 9),
        ("bob", "c", 1),
        ("ann", "a", 1),
        ("ann", "c", 4),  # before d, as in the input
        ("cat", "d", 8),
        ("ann", "d", 4),
        ("bob", "b", 8),
        ("dan", "b", 3),
        ("bob", "a", 4),
        ("cat", "e", 5),
        ("ann", "b", 2),
    ],
    columns=["user_id", "item_id", "timestamp"],
)


@pytest.fixture
def log():
    return read_ratings(LOG)


def as_lists(split, target):
    """(user, history, target) of each case."""
    histories = [history.tolist() for history in split.histories(target)]
    return list(
        zip(split.users(target).tolist(), histories, split.targets(target).tolist(), strict=True)
    )


def train_of(split):
    return [split.train.history(user).tolist() for user in range(split.train.n_users)]


def test_leave_last_out_by_hand(log):
    split = leave_last_out(log)
    assert train_of(split) == [[0, 1, 2], [2], [4, 3], [1]]
    assert as_lists(split, "validation") == [(0, [0, 1, 2], 3), (1, [2], 0)]
    assert as_lists(split, "test") == [(0, [0, 1, 2, 3], 4), (1, [2, 0], 1)]
    assert len(split.excluded) == 0


def test_leave_last_n_by_hand(log):
    split = leave_last_n(log, 2)
    assert train_of(split) == [[0], [2, 0, 1], [4, 3], [1]]
    assert as_lists(split, "validation") == [(0, [0], 1), (0, [0, 1], 2)]
    assert as_lists(split, "test") == [(0, [0, 1, 2], 3), (0, [0, 1, 2, 3], 4)]


def test_per_user_ratio_by_hand(log):
    # Validation ⌊5 · 0.25⌋ = 1, ⌊3 · 0.25⌋ = 0, ...; test ⌊5 · 0.5⌋ = 2, 1, 1, 0.
    split = per_user_ratio(log, validation=0.25, test=0.5)
    assert train_of(split) == [[0, 1], [2, 0], [4], [1]]
    assert as_lists(split, "validation") == [(0, [0, 1], 2)]
    assert as_lists(split, "test") == [
        (0, [0, 1, 2], 3),
        (0, [0, 1, 2, 3], 4),
        (1, [2, 0], 1),
        (2, [4], 3),
    ]


def test_global_time_cut_by_hand(log):
    split = global_time_cut(log, validation_from=4, test_from=8)
    assert train_of(split) == [[0, 1], [2], [], [1]]
    assert as_lists(split, "validation") == [(0, [0, 1], 2), (0, [0, 1, 2], 3), (1, [2], 0)]
    assert as_lists(split, "test") == [(0, [0, 1, 2, 3], 4), (1, [2, 0], 1), (2, [4], 3)]
    assert split.excluded.tolist() == [8]  # the first of cat


def test_cold_users_and_items_by_hand(log):
    # Train knows the users 0 1 3 and the items 0 1 2.
    cold = global_time_cut(log, validation_from=4, test_from=8).cold("test")
    assert cold.users.tolist() == [False, False, True]
    assert cold.items.tolist() == [True, False, True]


def test_splits_within_users_have_no_cold_users(log):
    for split in (leave_last_out(log), leave_last_n(log, 1), per_user_ratio(log, 0.2, 0.4)):
        assert not split.cold("test").users.any()
        assert not split.cold("validation").users.any()


def test_ratios_are_exact_decimals():
    # 0.29 · 100 and 0.07 · 100 are not whole in binary.
    log = read_ratings(pd.DataFrame({"user_id": [1] * 100, "item_id": range(100)}))
    split = per_user_ratio(log, validation=0.29, test=0.07)
    assert (len(split.rows("validation")), len(split.rows("test"))) == (29, 7)


def test_at_least_one_row_is_in_train():
    log = read_ratings(pd.DataFrame({"user_id": [1] * 9, "item_id": range(9)}))
    split = per_user_ratio(log, validation=0.4999999, test=0.5)
    assert train_of(split) == [[0]]


def test_without_timestamps_rows_are_in_input_order():
    log = read_ratings(pd.DataFrame({"user_id": [1, 1, 1], "item_id": [30, 10, 20]}))
    assert as_lists(leave_last_n(log, 1), "test") == [(0, [2, 0], 1)]
    with pytest.raises(DataError, match=r"global_time_cut needs timestamps.*no column 'timestamp'"):
        global_time_cut(log, validation_from=1, test_from=2)


def test_users_without_rows_have_no_targets(log):
    few = log.filter(log.user_index != 1)
    assert as_lists(per_user_ratio(few, 0.2, 0.4), "validation") == [(0, [0, 1], 2)]
    assert leave_last_out(few).users("test").tolist() == [0]
    split = global_time_cut(few, validation_from=4, test_from=8)
    assert split.users("test").tolist() == [0, 2]


def test_the_fingerprint_of_leave_last_out_is_stable(small_log):
    # Unchanged, so that results stay comparable with earlier ones.
    split = leave_last_out(read_ratings(small_log))
    assert split.fingerprint("test") == {
        "protocol": "leave-last-out",
        "subset": "test",
        "n_items": 5,
        "n_users": 2,
        "data_digest": "a807219ed9d7a78136ffcff79b86021ac3d2600fac94a62548670c3795818eb4",
        "targets_digest": "d5ac1f53c091bdef51e013148bd8d2023e3a71c3a290aa7537660c9b1a4f0513",
    }
    validation = split.fingerprint("validation")["targets_digest"]
    assert validation == "ab25350e3e65efebe24584461683ecda68725576e825e550038b90e7b1479946"
    louder = leave_last_out(read_ratings(small_log.assign(rating=5.0))).fingerprint("test")
    assert louder["data_digest"] != split.fingerprint("test")["data_digest"]
    assert louder["targets_digest"] == split.fingerprint("test")["targets_digest"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda log: leave_last_n(log, 0), "n is 0"),
        (lambda log: per_user_ratio(log, -0.1, 0.1), "validation is -0.1"),
        (lambda log: per_user_ratio(log, 0.5, 0.5), "add up to less than 1"),
        (lambda log: global_time_cut(log, validation_from=5, test_from=5), "later"),
        (lambda log: global_time_cut(log, validation_from="x", test_from=5), "'x' is not a time"),
    ],
)
def test_invalid_arguments_are_an_error(log, make, message):
    with pytest.raises(ConfigError, match=message):
        make(log)


def test_an_empty_train_set_is_an_error(log):
    reach = "from 1970-01-01T00:00:01 to 1970-01-01T00:00:09"
    with pytest.raises(DataError, match=rf"before validation_from \(1\).*{reach}"):
        global_time_cut(log, validation_from=1, test_from=5)


def test_returns_to_an_item_are_no_targets_where_repeats_are_excluded(tmp_path):
    plays = {"ann": "abac", "bob": "abca", "eve": "abc"}
    rows = [(user, item) for user, items in plays.items() for item in items]
    table = pd.DataFrame(rows, columns=["user_id", "item_id"])
    log = read_ratings(table, repeats="exclude", on_report=lambda report: None)
    for kept in (log, load_interactions(save_interactions(log, tmp_path / "log"))):
        split = leave_last_out(kept)
        # The last row of bob is the latest of two of the same item.
        assert split.users("test").tolist() == [0, 2]
        assert [history.tolist() for history in split.histories("test")] == [[1, 0], [0, 1]]
        assert split.users("validation").tolist() == [1, 2]  # that of ann is a return too
        assert split.excluded.tolist() == [1, 5]
    assert leave_last_out(read_ratings(table, repeats="allow")).users("test").tolist() == [0, 1, 2]
    rated = read_ratings(table.assign(rating=4.0), on_report=lambda report: None)
    assert rated.is_return is None  # a later rating corrects the earlier one
    assert leave_last_out(rated).users("test").tolist() == [0, 1, 2]
