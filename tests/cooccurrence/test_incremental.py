"""Updated counts are exactly those of a rebuild."""

import tempfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.cooccurrence import (
    Window,
    count_cooccurrence,
    incremental,
    planner,
    update_cooccurrence,
)
from recsys.data import read_ratings
from recsys.errors import DataError

# (user, item) -> (rating, day); users and items appear and disappear; one positive remains.
logs = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 6)),
    st.tuples(st.sampled_from([1.0, 3.5, 4.0, 5.0]), st.integers(0, 9)),
    max_size=25,
).map(lambda log: log | {(2, 3): (5.0, 4)})
windows = st.sampled_from(
    [None, Window(size=2), Window(size=3, direction="forward", half_life_days=2, decay="harmonic")]
)


def interactions_of(log):
    rows = [
        (user, item, rating, (18_000 + day) * 86_400) for (user, item), (rating, day) in log.items()
    ]
    columns = ["user_id", "item_id", "rating", "timestamp"]
    return read_ratings(pd.DataFrame(rows, columns=columns))


def check(counts, rebuilt):
    for name in ("indptr", "indices", "data"):
        found, expected = getattr(counts.matrix, name), getattr(rebuilt.matrix, name)
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()
    assert counts.matrix.shape == rebuilt.matrix.shape
    assert counts.item_counts.dtype == rebuilt.item_counts.dtype
    assert counts.item_counts.tolist() == rebuilt.item_counts.tolist()
    assert counts.items == rebuilt.items
    for name in ("n_users", "min_rating", "window"):
        assert getattr(counts, name) == getattr(rebuilt, name)


@given(before=logs, after=logs, window=windows, min_rating=st.sampled_from([None, 3.5, 4.0]))
def test_arbitrary_changes(before, after, window, min_rating):
    old, new = interactions_of(before), interactions_of(after)
    counts = count_cooccurrence(old, min_rating, window=window)
    updated = update_cooccurrence(counts, old, new)
    check(updated, count_cooccurrence(new, min_rating, window=window))


@settings(max_examples=15)
@given(before=logs, after=logs, window=windows)
def test_blocks_on_disk(before, after, window):
    old, new = interactions_of(before), interactions_of(after)
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "BLOCK_ENTRIES", 8)  # one row or two of these logs
        counts = count_cooccurrence(old, 4.0, window=window, folder=f"{home}/old")
        updated = update_cooccurrence(counts, old, new, folder=f"{home}/new")
        rebuilt = count_cooccurrence(new, 4.0, window=window, folder=f"{home}/rebuilt")
        check(updated.load(), rebuilt.load())
        assert updated.n_entries == rebuilt.n_entries
        assert updated.row_sums.tolist() == rebuilt.row_sums.tolist()
        assert updated.column_sums.tolist() == rebuilt.column_sums.tolist()


@given(before=logs, data=st.data(), window=windows)
def test_few_changes(before, data, window):
    after = dict(before)
    for key in data.draw(st.lists(st.sampled_from(sorted(before)), max_size=3, unique=True)):
        rating, day = after.pop(key)
        if key == (2, 3) or data.draw(st.booleans()):  # across the threshold, or removed
            after[key] = (8.0 - rating if key != (2, 3) else 4.0, day)
    after |= data.draw(st.dictionaries(st.just((7, 8)), st.just((4.5, 1))))  # a new user and item
    old, new = interactions_of(before), interactions_of(after)
    counts = count_cooccurrence(old, 4.0, window=window)
    check(update_cooccurrence(counts, old, new), count_cooccurrence(new, 4.0, window=window))


def test_only_changed_users_are_counted(monkeypatch):
    log = {(user, item): (5.0, 0) for user in range(50) for item in range(4)}
    old = interactions_of(log)
    new = interactions_of(log | {(7, 2): (1.0, 0), (60, 0): (5.0, 0), (60, 1): (5.0, 0)})
    counts = count_cooccurrence(old)
    counted = []
    plan_count = incremental.plan_count
    monkeypatch.setattr(
        incremental,
        "plan_count",
        lambda rows, *rest, **more: counted.append(len(rows)) or plan_count(rows, *rest, **more),
    )
    updated = update_cooccurrence(counts, old, new)
    assert counted == [4, 4 + 2], "user 7 before; users 7 and 60 after"
    check(updated, count_cooccurrence(new))


def test_the_old_counts_do_not_change():
    old = interactions_of({(0, 0): (5.0, 0), (0, 1): (5.0, 0)})
    counts = count_cooccurrence(old)
    update_cooccurrence(counts, old, interactions_of({(0, 1): (5.0, 0), (0, 2): (5.0, 0)}))
    check(counts, count_cooccurrence(old))


def test_mismatched_arguments_are_rejected():
    old = interactions_of({(0, 0): (5.0, 0), (0, 1): (5.0, 0)})
    other = interactions_of({(0, 0): (5.0, 0), (0, 2): (5.0, 0)})
    counts = count_cooccurrence(old)
    with pytest.raises(DataError, match="not made from `old`: pass the interactions"):
        update_cooccurrence(counts, other, old)
    third = interactions_of({(0, 0): (5.0, 0), (0, 1): (1.0, 0)})
    with pytest.raises(DataError, match="not made from `old`: some of them are too small"):
        update_cooccurrence(count_cooccurrence(third), old, third)
    with pytest.raises(DataError, match=r"no rating is 4.0 or higher"):
        update_cooccurrence(counts, old, interactions_of({(0, 0): (1.0, 0)}))
