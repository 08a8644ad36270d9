"""Properties that every split has."""

import dataclasses
import pickle
from collections import Counter, defaultdict, deque
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import (
    Split,
    global_time_cut,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
    read_ratings,
)

TRAIN, VALIDATION, TEST, EXCLUDED = "train", "validation", "test", "excluded"


def counted(n_validation, n_test):
    """Return a function from position and timestamps of a history to the subset."""

    def part(position, times):
        after = len(times) - position  # 1 for the last
        if after <= n_test(len(times)):
            return TEST
        return VALIDATION if after <= n_test(len(times)) + n_validation(len(times)) else TRAIN

    return part


def cut_at_1_and_3(position, times):
    if times[position] < 1:
        return TRAIN
    if position == 0:
        return EXCLUDED
    return VALIDATION if times[position] < 3 else TEST


# Each split, and a slow restatement: (position in the history, its times) -> part.
SPLITS = {
    "leave_last_out": (leave_last_out, counted(lambda n: n >= 3, lambda n: n >= 3)),
    "leave_last_n": (
        lambda log: leave_last_n(log, 2),
        counted(lambda n: 2 * (n >= 5), lambda n: 2 * (n >= 5)),
    ),
    "per_user_ratio": (
        lambda log: per_user_ratio(log, validation=0.2, test=0.4),
        counted(lambda n: n // 5, lambda n: 2 * n // 5),
    ),
    "global_time_cut": (
        lambda log: global_time_cut(log, validation_from=1, test_from=3),
        cut_at_1_and_3,
    ),
}

# (user, item, time), each user and item once, with equal times; one user has a single early event.
logs = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 6)), st.integers(0, 3), max_size=30
).map(lambda log: [(9, 0, 0), *((user, item, time) for (user, item), time in log.items())])


def read(rows):
    return read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def events_of(rows):
    """Each user's (item, time), by time and then input order."""
    events = defaultdict(list)
    for user, item, time in rows:
        events[user].append((item, time))
    return {user: sorted(events[user], key=lambda event: event[1]) for user in sorted(events)}


def pairs(split, users, items):
    """(user, item) by their ids."""
    log = split.interactions
    return list(zip(log.users.ids[users].tolist(), log.items.ids[items].tolist(), strict=True))


def cases(split, target):
    return pairs(split, split.users(target), split.targets(target))


def train_of(split):
    return pairs(split, split.train.user_index, split.train.item_index)


@pytest.fixture(scope="module", params=SPLITS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def split_by(name):
    return SPLITS[name][0]


@given(rows=logs)
def test_every_row_is_in_exactly_the_right_subset(name, rows):
    make, part_at = SPLITS[name]
    split = make(read(rows))
    expected = defaultdict(list)
    for user, events in events_of(rows).items():
        times = [time for _, time in events]
        for position, (item, _) in enumerate(events):
            expected[part_at(position, times)].append((user, item))
    assert train_of(split) == expected[TRAIN]
    assert cases(split, "validation") == expected[VALIDATION]
    assert cases(split, "test") == expected[TEST]
    whole = split.interactions
    excluded = pairs(split, *(x[split.excluded] for x in (whole.user_index, whole.item_index)))
    assert excluded == expected[EXCLUDED]
    assert sum(map(len, expected.values())) == len(rows)


@given(rows=logs)
def test_train_comes_before_validation_and_that_before_test(split_by, rows):
    split = split_by(read(rows))
    position = {
        (user, item): at
        for user, events in events_of(rows).items()
        for at, (item, _) in enumerate(events)
    }
    parts = [train_of(split), cases(split, "validation"), cases(split, "test")]
    for earlier, later in combinations(parts, 2):
        for user, item in earlier:
            assert all(
                position[user, item] < position[who, what] for who, what in later if who == user
            )


@given(rows=logs)
def test_a_history_is_everything_before_the_target(split_by, rows):
    split = split_by(read(rows))
    for target in ("validation", "test"):
        found = zip(cases(split, target), split.histories(target), strict=True)
        for (user, item), history in found:
            items = [item for item, _ in events_of(rows)[user]]
            assert split.interactions.items.ids[history].tolist() == items[: items.index(item)]
            assert len(history)


@given(rows=logs)
def test_train_is_before_a_global_time_cut(rows):
    split = SPLITS["global_time_cut"][0](read(rows))
    assert (split.train.timestamp < 1).all()
    times = split.interactions.timestamp
    assert ((times[split.rows("validation")] >= 1) & (times[split.rows("validation")] < 3)).all()
    assert (times[split.rows("test")] >= 3).all()


@given(rows=logs, mix=st.randoms(use_true_random=False))
def test_only_the_order_of_simultaneous_rows_of_a_user_matters(split_by, rows, mix):
    waiting = defaultdict(deque)
    for row in rows:
        waiting[row[0], row[2]].append(row)
    keys = [(user, time) for user, _, time in rows]
    mix.shuffle(keys)
    mixed = [waiting[key].popleft() for key in keys]
    one, other = split_by(read(rows)), split_by(read(mixed))
    assert one.assignment.tolist() == other.assignment.tolist()
    for target in ("validation", "test"):
        assert one.fingerprint(target) == other.fingerprint(target)


@settings(max_examples=20)
@given(rows=logs, others=logs)
def test_fingerprints_are_equal_if_and_only_if_the_data_is(split_by, rows, others):
    for target in ("validation", "test"):
        one, other = (split_by(read(log)).fingerprint(target) for log in (rows, others))
        assert (one == other) == (events_of(rows) == events_of(others))


def test_a_small_change_of_the_data_changes_the_fingerprint(split_by):
    rows = [(user, item, item) for user in range(3) for item in range(5)]
    changed = [[(*rows[0][:2], -0), *rows[1:]], rows[1:], [*rows, (3, 0, 0)]]
    before = split_by(read(rows)).fingerprint("test")
    assert [split_by(read(log)).fingerprint("test") == before for log in changed] == [1, 0, 0]


def test_different_splits_have_different_fingerprints():
    log = read([(1, item, item) for item in range(10)] + [(2, item, 0) for item in range(10)])
    splits = [
        leave_last_out(log),
        leave_last_n(log, 1),  # the same targets, but by another name
        leave_last_n(log, 2),
        per_user_ratio(log),
        per_user_ratio(log, 0.2, 0.1),
        per_user_ratio(log, 0.19, 0.1),  # the same targets as with 0.1
        per_user_ratio(log, 0.1, 0.2),
        global_time_cut(log, validation_from=8, test_from=9),
        global_time_cut(log, validation_from=7, test_from=9),
        global_time_cut(log, validation_from=7, test_from=8),
    ]
    prints = [split.fingerprint(target) for split in splits for target in ("validation", "test")]
    assert all(one != other for one, other in combinations(prints, 2))


def test_equivalent_parameters_have_equal_fingerprints():
    log = read([(1, item, item) for item in range(10)])
    same = [
        (leave_last_n(log, 2), leave_last_n(log, np.int64(2))),
        (per_user_ratio(log, 0, 0.2), per_user_ratio(log, 0.0, np.float64(0.2))),
        (
            global_time_cut(log, validation_from=5, test_from=8),
            global_time_cut(log, validation_from="1970-01-01 00:00:05", test_from=np.int64(8)),
        ),
    ]
    for one, other in same:
        assert one.fingerprint("test") == other.fingerprint("test")


def test_histories_are_views_of_the_log(split_by):
    split = split_by(read([(1, item, item // 2) for item in range(7)]))
    histories = split.histories("test")
    assert len(histories) == len(split.targets("test")) > 0
    for history in [*histories, *histories[:], histories[0], histories[-1]]:
        assert np.shares_memory(history, split.interactions.item_index)
    assert [h.tolist() for h in histories[::-1]] == [h.tolist() for h in histories][::-1]


def test_what_follows_from_the_fields_is_not_pickled():
    table = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [10, 20, 30, 40]})
    split = leave_last_out(read_ratings(table))
    assert split.train.history(0).tolist() == [0, 1]
    copy = pickle.loads(pickle.dumps(split))
    assert not {"train", "positives"} & set(vars(copy))
    assert copy.train.digest == split.train.digest
    assert copy.fingerprint("test") == split.fingerprint("test")


def test_a_split_does_not_modify_the_interactions(split_by):
    split = split_by(read([(1, item, item // 2) for item in range(7)]))
    before = split.interactions.digest
    split.train.item_index[:] = 0
    assert dataclasses.replace(split.interactions).digest == before


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ([0, 0], "shape"),
        ([0, 1, 0], "train rows first"),
        ([0, 2, 1], "train rows first"),
        ([1, 1, 2], "has no history"),
    ],
)
def test_a_split_with_leakage_is_an_error(part, message):
    log = read([(1, 10, 0), (1, 20, 1), (1, 30, 2)])
    with pytest.raises(ValueError, match=message):
        Split(log, np.array(part, dtype=np.int8), "by hand")


def test_repeated_items_are_distinct_events():
    # Reading removes duplicates, so they are added here.
    log = read([(1, 10, 0), (1, 20, 1), (1, 30, 2), (1, 40, 3)])
    again = dataclasses.replace(log, item_index=np.array([0, 1, 0, 0], dtype=np.int32))
    split = leave_last_out(again)
    assert Counter(split.train.item_index.tolist()) == {0: 1, 1: 1}
    assert [history.tolist() for history in split.histories("test")] == [[0, 1, 0]]


EVENTS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), min_size=1, max_size=30)


@given(early=EVENTS, late=EVENTS, ratio=st.sampled_from([0.1, 0.25, 0.4]))
def test_trained_on_interactions_are_not_targets(early, late, ratio):
    """Compare with a loop over every row, for late ratings of any time."""

    def split_of(events):
        log = pd.DataFrame(list(dict.fromkeys(events)), columns=["user_id", "timestamp"])
        log["item_id"] = 100 + log["timestamp"]
        return per_user_ratio(read_ratings(log), validation=ratio, test=ratio)

    def pairs_of(log):
        users, items = log.users.ids[log.user_index], log.items.ids[log.item_index]
        return list(zip(users.tolist(), items.tolist(), strict=True))

    earlier = split_of(early).train
    trained_on = set(pairs_of(earlier))
    split = split_of([*late, *early])
    pairs = pairs_of(split.interactions)
    expected = split.assignment.tolist()
    for row, (user, _) in enumerate(pairs):
        later = [pairs[at] for at in range(row, len(pairs)) if split.assignment[at] > 0]
        if any(pair in trained_on and pair[0] == user for pair in later):
            expected[row] = 0
    assert split.without_leakage(earlier).assignment.tolist() == expected


def test_late_ratings_with_early_timestamps_shift_targets():
    times = range(10, 20)
    before = per_user_ratio(read_ratings(pd.DataFrame({
        "user_id": [1] * 10, "item_id": times, "timestamp": times,
    })))  # fmt: skip
    after = per_user_ratio(read_ratings(pd.DataFrame({
        "user_id": [1] * 20, "item_id": range(20), "timestamp": range(20),
    })))  # fmt: skip
    assert after.targets("validation").tolist() == [16, 17]
    assert before.train.items.ids[before.train.item_index].tolist() == list(range(10, 18))
    fair = after.without_leakage(before.train)
    assert fair.targets("validation").tolist() == []
    assert fair.targets("test").tolist() == [18, 19]


def test_a_repeat_of_what_a_model_was_trained_on_stays_a_target():
    def split_of(items):
        log = pd.DataFrame({"user_id": 1, "item_id": list(items), "timestamp": range(len(items))})
        return leave_last_out(read_ratings(log, repeats="allow"))

    earlier = split_of("abaab").train  # aba
    later = split_of("abaabaab")
    assert later.without_leakage(earlier).assignment.tolist() == later.assignment.tolist()
    # The third a is in train, too, if the model was trained on four of them.
    trained_on_all = split_of("aaaabc").train
    assert (split_of("abaa").without_leakage(trained_on_all).assignment == 0).all()
