"""Splits that hold out whole sessions, and the protocol of the literature on them."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import DataConfig, global_time_cut, last_days, last_session, read_ratings
from recsys.data.splitters import EXCLUDED, TEST, TRAIN, VALIDATION, Split
from recsys.errors import ConfigError, DataError

DAY = 86_400
TIMES = 1_600_000_000
NAMES = {EXCLUDED: "-", TRAIN: "t", VALIDATION: "v", TEST: "T"}


def read(rows, histories="auto", names="user_id session_id item_id timestamp"):
    table = pd.DataFrame(rows, columns=names.split())
    if "timestamp" in table:
        table["timestamp"] += TIMES
    return read_ratings(table, histories=histories, repeats="allow", on_report=lambda report: None)


def shown(split):
    """The subset of each row, in a string per session."""
    text = "".join(NAMES[subset] for subset in split.assignment)
    offsets = split.interactions.sessions.offsets
    return [text[start:stop] for start, stop in pairwise(offsets)]


FOUR = [("ann", s, 10 * s + i, 100 * s + i) for s in range(4) for i in range(3)]
TWO = [("bob", 10 + s, 10 * s + i, 100 * s + i) for s in range(2) for i in range(3)]


@pytest.mark.parametrize("kind", ["session", "user"])
def test_the_last_sessions_of_each_user_are_held_out(kind):
    split = last_session(read(FOUR + TWO, kind))
    assert shown(split) == ["ttt", "ttt", "-vv", "-TT", "ttt", "ttt"]
    assert split.fingerprint("test")["protocol"] == "last-session"
    assert split.fingerprint("test")["histories"] == kind


def test_histories_of_targets_begin_with_the_session_or_with_the_user():
    ids = np.array(sorted({row[2] for row in FOUR}))
    by_session, by_user = (last_session(read(FOUR, kind)) for kind in ("session", "user"))
    assert ids[by_session.targets("test")].tolist() == [31, 32]
    assert [ids[h].tolist() for h in by_session.histories("test")] == [[30], [30, 31]]
    assert [ids[h].tolist() for h in by_user.histories("test")] == [
        [0, 1, 2, 10, 11, 12, 20, 21, 22, 30],
        [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31],
    ]


@pytest.mark.parametrize("kind", ["session", "user"])
def test_sessions_belong_to_the_day_in_which_they_end(kind):
    end = 10 * DAY
    rows = [
        ("ann", 1, 1, 0), ("ann", 1, 2, end - 2 * DAY - 1),
        ("ann", 2, 3, 10), ("ann", 2, 4, end - 2 * DAY),  # starts in train, ends in validation
        ("bob", 3, 1, end - DAY - 1), ("bob", 3, 5, end - DAY - 1),
        ("bob", 4, 1, end - DAY - 1), ("bob", 4, 5, end - DAY),
        ("cat", 5, 1, 5), ("cat", 5, 2, end),
        ("cat", 6, 1, 6), ("cat", 6, 2, 7), ("cat", 6, 2, 8),  # within the session before it
        ("dan", 7, 1, end - 5),
    ]  # fmt: skip
    split = last_days(read(rows, kind))
    assert shown(split) == ["tt", "-v", "-v", "-T", "-T", "-TT", "-"]
    assert last_days(read(rows, kind)).fingerprint("test")["days"] == 1


def test_an_anonymous_log_has_last_days_and_no_last_session():
    names = "session_id item_id timestamp"
    log = read([(s, i, s * DAY + i) for s in range(4) for i in range(3)], names=names)
    assert shown(last_days(log)) == ["ttt", "-vv", "-TT", "-TT"]
    with pytest.raises(DataError, match="no user has three sessions; use last_days"):
        last_session(log)


def test_a_log_without_sessions_is_refused():
    log = read([(1, 2, 3)], names="user_id item_id timestamp")
    for split in (last_session, last_days):
        with pytest.raises(DataError, match=f"{split.__name__} needs sessions: the data has no"):
            split(log)
    with pytest.raises(DataError, match="last_days needs timestamps"):
        last_days(read([(1, 2, 3)], names="user_id item_id session_id"))
    with pytest.raises(DataError, match="no session ends before the last 2 days"):
        last_days(read(FOUR))
    with pytest.raises(ConfigError, match="days is 0"):
        last_days(read(FOUR), 0)


def test_a_time_cut_of_sessions_that_overlap_is_refused():
    rows = [("ann", 1, 1, 0), ("ann", 1, 2, 30), ("ann", 2, 3, 10), ("ann", 2, 4, 40)]
    cuts = {"validation_from": TIMES + 20, "test_from": TIMES + 35}
    with pytest.raises(DataError, match="sessions of user ann overlap: use last_days"):
        global_time_cut(read(rows, "user"), **cuts)
    assert shown(global_time_cut(read(rows), **cuts)) == ["tv", "tT"]


def test_excluded_rows_may_be_anywhere_and_others_are_in_order():
    log = read(FOUR, "user")
    Split(log, np.array([0, -1, 0, -1, 1, -1, 2, 2, -1, -1, -1, -1], np.int8), "p")
    with pytest.raises(ValueError, match="train rows first"):
        Split(log, np.array([0, -1, 0, -1, 1, -1, 0, 2, -1, -1, -1, -1], np.int8), "p")


def test_users_of_earlier_sessions_are_not_cold():
    rows = [*FOUR, ("eve", 40, 1, 20 * DAY), ("eve", 40, 2, 20 * DAY), ("ann", 41, 0, 20 * DAY)]
    rows += [("ann", 41, 99, 20 * DAY + 1)]
    for kind in ("session", "user"):
        cold = last_days(read(rows, kind)).cold("test")
        assert cold.users.tolist() == [False, True]
        assert cold.items.tolist() == [True, False]


@pytest.mark.parametrize("kind", ["session", "user"])
@pytest.mark.parametrize("split", [last_session, last_days])
def test_only_events_before_the_held_out_sessions_count(kind, split):
    """Carts count in sessions before those that are held out; views form the histories."""
    rows = [
        ("ann", s, i, s * DAY + i, event)
        for s in range(5)
        for i, event in enumerate(["view", "cart", "view", "cart"])
    ]
    rows += [("ann", 9, 8, 5 * DAY, "cart"), ("bob", 20, 1, 7, "view"), ("bob", 20, 2, 8, "cart")]
    names = "user_id session_id item_id timestamp event"
    made = split(read(rows, kind, names))
    assert len(made.interactions) == 11
    times = made.positives.timestamp - TIMES
    n_train = {"last_session": 3, "last_days": 2}[split.__name__]
    expected = [s * DAY + i for s in range(n_train) for i in range(4)]
    assert times.tolist() == [*expected, 7, 8]
    assert (made.train.timestamp - TIMES).tolist() == [
        *(t for t in expected if t % DAY in (0, 2)),
        7,
    ]


def test_the_settings_name_the_splits():
    log = read(FOUR)
    split = DataConfig.model_validate({"split": {"method": "last_session"}}).split.apply(log)
    assert split.protocol == "last-session"
    days = DataConfig.model_validate({"split": {"method": "last_days", "days": 3}}).split
    with pytest.raises(DataError, match="last 6 days"):
        days.apply(log)


events = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 3), st.integers(0, 8 * 24)),
    min_size=1,
    max_size=40,
)


@given(rows=events, days=st.integers(1, 2))
@settings(max_examples=80, deadline=None)
def test_splits_are_those_of_a_slow_restatement(rows, days):
    rows = [(user, session, item, hour * 3600) for user, session, item, hour in rows]
    sessions = {}
    for user, session, item, time in rows:
        sessions.setdefault((user, session), []).append((time, item))
    end = max(time for *_, time in rows)

    def day(user, start):
        """The subset: the latest of the user's sessions up to this one."""
        ends = [
            max(session)[0]
            for (u, _), session in sessions.items()
            if u == user and min(session)[0] <= start
        ]
        age = end - max(ends)
        return "T" if age <= days * DAY else "v" if age <= 2 * days * DAY else "t"

    starts = [min(session)[0] for session in sessions.values()]
    owners = [user for user, _ in sessions]
    if len({*zip(owners, starts, strict=True)}) < len(starts):
        return  # the order of sessions that start at the same time is tested elsewhere
    expected = [
        (user, day(user, min(session)[0]), len(session))
        for (user, _), session in sorted(
            sessions.items(), key=lambda pair: (pair[0][0], min(pair[1])[0])
        )
    ]
    text = [s * n if s == "t" else "-" + s * (n - 1) for _, s, n in expected]
    if not any(s == "t" for _, s, _ in expected):
        with pytest.raises(DataError, match="no session ends before"):
            last_days(read(rows), days)
        return
    by_session, by_user = (last_days(read(rows, kind), days) for kind in ("session", "user"))
    assert shown(by_session) == shown(by_user) == text
    for subset in ("validation", "test"):
        assert by_session.rows(subset).tolist() == by_user.rows(subset).tolist()
        pairs = zip(by_session.histories(subset), by_user.histories(subset), strict=True)
        assert all(h.tolist() == long[len(long) - len(h) :].tolist() for h, long in pairs)
