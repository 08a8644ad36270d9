"""Sessions from a column, from gaps, and without users; histories of sessions and of users."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import load_interactions, read_ratings, save_interactions
from recsys.data.sessions import Sessions
from recsys.errors import ConfigError, DataError

TIMES = 1_600_000_000  # 2020-09-13 12:26:40


def read(rows, names="user_id session_id item_id timestamp", **options):
    """Read rows whose times are seconds after `TIMES`; repeats are allowed."""
    table = pd.DataFrame(rows, columns=names.split())
    if "timestamp" in table:
        table["timestamp"] += TIMES
    options.setdefault("repeats", "allow")
    return read_ratings(table, **options, on_report=lambda report: None)


def histories(log):
    """The items of each history by its id."""
    items = log.items.ids
    return {
        log.users.ids[user : user + 1].tolist()[0]: items[log.history(user)].tolist()
        for user in range(log.n_users)
    }


LOG = [
    ("bob", "s3", 1, 0),
    ("ann", "s9", 2, 50),  # the later session of ann, although its id sorts first here
    ("ann", "t1", 4, 20),
    ("ann", "t1", 3, 10),
    ("ann", "s9", 5, 40),
]


def test_histories_are_sessions_in_order_of_user_and_start():
    log = read(LOG)
    assert histories(log) == {"t1": [3, 4], "s9": [5, 2], "s3": [1]}
    assert log.histories == "session"
    assert log.sessions.users.ids.tolist() == ["ann", "bob"]
    assert log.sessions.user_index.tolist() == [0, 0, 1]


def test_histories_of_users_have_the_same_rows_in_the_same_order():
    log, by_session = read(LOG, histories="user"), read(LOG, histories="session")
    assert histories(log) == {"ann": [3, 4, 5, 2], "bob": [1]}
    assert log.histories == "user"
    assert log.sessions.offsets.tolist() == [0, 2, 4, 5]
    assert log.item_index.tolist() == by_session.item_index.tolist()
    assert log.timestamp.tolist() == by_session.timestamp.tolist()
    assert log.digest != by_session.digest


def test_interleaved_sessions_stay_apart():
    rows = [("ann", s, i, t) for t, (s, i) in enumerate([("a", 1), ("b", 2), ("a", 3), ("b", 4)])]
    log = read(rows, histories="user")
    assert histories(log) == {"ann": [1, 3, 2, 4]}  # times 0 2 1 3
    assert log.timestamp.tolist() == [TIMES, TIMES + 2, TIMES + 1, TIMES + 3]


def test_sessions_of_one_id_are_named_after_their_users():
    log = read([("ann", 1, 7, 0), ("bob", 1, 8, 0), ("ann", 2, 9, 5)])
    assert histories(log) == {"ann/1": [7], "ann/2": [9], "bob/1": [8]}
    unique = read([("ann", 1, 7, 0), ("bob", 3, 8, 0), ("ann", 2, 9, 5)])
    assert histories(unique) == {1: [7], 2: [9], 3: [8]}
    with pytest.raises(DataError, match="two sessions would be called 'a/b/c'"):
        read([("a", "b/c", 7, 0), ("a/b", "c", 8, 0), ("x", "c", 8, 0)])


def test_a_gap_cuts_a_log_into_sessions_named_by_their_start():
    rows = [("ann", 1, 0), ("ann", 2, 1800), ("ann", 3, 3601), ("bob", 4, 3601)]
    log = read(rows, "user_id item_id timestamp", session_gap="30min")
    first, second = "2020-09-13T12:26:40", "2020-09-13T13:26:41"
    assert histories(log) == {f"ann/{first}": [1, 2], f"ann/{second}": [3], f"bob/{second}": [4]}
    # Names stay when earlier rows are gone.
    assert histories(read(rows[2:], "user_id item_id timestamp", session_gap="30min")) == {
        f"ann/{second}": [3],
        f"bob/{second}": [4],
    }
    one = read(rows, "user_id item_id timestamp", session_gap="2h", histories="user")
    assert len(one.sessions) == 2


def test_fractions_of_seconds_are_in_the_names_where_they_are_not_zero():
    table = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3]})
    table["timestamp"] = [1_600_000_000_000, 1_600_000_000_250, 1_600_000_000_000]
    log = read_ratings(table, session_gap="100ms", on_report=lambda report: None)
    starts = ["1/2020-09-13T12:26:40", "1/2020-09-13T12:26:40.250", "2/2020-09-13T12:26:40"]
    assert log.users.ids.tolist() == starts


def test_a_log_without_users_is_anonymous():
    log = read([(2, 7, 5), (2, 8, 1), (1, 9, 0)], "session_id item_id timestamp")
    assert histories(log) == {1: [9], 2: [8, 7]}
    assert log.histories == "session"
    assert log.sessions.users == log.users
    assert log.latest_sessions() is log


def test_sessions_without_times_keep_the_order_of_rows():
    rows = [("ann", "b", 1), ("ann", "a", 2), ("ann", "b", 3)]
    assert histories(read(rows, "user_id session_id item_id")) == {"b": [1, 3], "a": [2]}


def test_repeats_and_single_rows_are_those_of_a_history():
    rows = [("ann", "a", 1, 0), ("ann", "a", 1, 5), ("ann", "b", 1, 10), ("bob", "c", 2, 0)]
    findings = {}
    for kind in ("session", "user"):
        table = pd.DataFrame(rows, columns=["user_id", "session_id", "item_id", "timestamp"])
        reports = []
        log = read_ratings(table, histories=kind, repeats="exclude", on_report=reports.append)
        findings[kind] = {f.check: (f.n_rows, f.first) for f in reports[0].findings}
        assert log.item_index.tolist() == {"session": [0, 0, 1], "user": [0, 1]}[kind]
    assert findings["session"] == {
        "duplicate": (1, "the table, row 0 has a later row of the same session and item"),
        "single_event": (3, "the table, row 1 is the only row of its session"),
    }
    assert findings["user"]["duplicate"][0] == 2


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (
            "user_id session_id item_id timestamp",
            {"session_gap": "1h"},
            "'session_id' has sessions, but",
        ),
        ("user_id a item_id b", {"session_gap": "1h"}, "session_gap needs a column 'timestamp'"),
        ("user_id a item_id b", {"histories": "session"}, "'session' needs session_gap or a col"),
    ],
)
def test_sessions_that_are_not_there_are_refused(names, options, message):
    with pytest.raises(DataError, match=message):
        read(LOG, names, **options)


def test_a_gap_needs_points_in_time():
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2]})
    with pytest.raises(
        DataError, match="session_gap needs a column 'timestamp' with points in time"
    ):
        read_ratings(table, session_gap="1h")


@pytest.mark.parametrize("gap", ["30", "-1h", "0min", "half an hour", "", "NaT"])
def test_a_gap_that_is_no_time_is_refused(gap):
    with pytest.raises(ConfigError, match=r"session_gap.*not a positive time with a unit"):
        read(LOG, session_gap=gap)


@pytest.mark.parametrize("kind", ["user", "session"])
def test_the_report_says_what_a_history_is(kind):
    reports = []
    table = pd.DataFrame(LOG, columns=["user_id", "visit", "item_id", "timestamp"])
    log = read_ratings(table, histories=kind, on_report=reports.append)
    profile = reports[0].profile
    assert (profile.n_users, profile.n_sessions, profile.histories) == (2, 3, kind)
    unit = {"user": "the first of its user", "session": "its session"}[kind]
    assert f"sessions 3; a history begins with {unit}" in reports[0].summary()
    assert "session_id ← visit, ids" in reports[0].summary()
    assert "2 users, 5 items, 3 sessions" in reports[0].summary()
    assert profile.examples[0]["user_id"] == log.users.ids[-1]


def test_the_profile_of_an_anonymous_log_names_no_user():
    reports = []
    table = pd.DataFrame({"session": [1, 1, 2], "item_id": [1, 2, 1]})
    read_ratings(table, on_report=reports.append)
    assert "user_id" not in reports[0].profile.sections()["Columns"]


def test_a_missing_session_is_quarantined():
    table = pd.DataFrame(LOG, columns=["user_id", "session_id", "item_id", "timestamp"])
    table.loc[0, "session_id"] = None
    reports = []
    log = read_ratings(table, columns={"timestamp": ""}, on_report=reports.append)
    assert len(log) == 4
    assert "row 0, column 'session_id': (empty) is not an id" in reports[0].findings[0].first


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
@pytest.mark.parametrize("is_anonymous", [False, True])
def test_every_kind_of_source_has_sessions(tmp_path, name, is_anonymous):
    table = pd.DataFrame(LOG, columns=["user_id", "visit", "item_id", "timestamp"])
    table["timestamp"] += TIMES
    expected = {"t1": [3, 4], "s9": [5, 2], "s3": [1]}
    if is_anonymous:
        table = table.drop(columns="user_id")
    match name.split(".")[1]:
        case "csv":
            table.to_csv(tmp_path / name, index=False)
        case "jsonl":
            table.to_json(tmp_path / name, orient="records", lines=True)
        case _:
            table.to_parquet(tmp_path / name)
    log = read_ratings(tmp_path / name, repeats="allow", on_report=lambda report: None)
    assert histories(log) == expected
    # In a folder, the columns tell it from another table.
    (tmp_path / "prices.csv").write_text("item_id,price\n1,5\n")
    assert histories(read_ratings(tmp_path, on_report=lambda report: None)) == expected


def test_padded_ids_of_sessions_stay_text(tmp_path):
    (tmp_path / "log.csv").write_text("session_id,item_id\n007,1\n8,1\n")
    log = read_ratings(tmp_path / "log.csv", on_report=lambda report: None)
    assert log.users.ids.tolist() == ["007", "8"]


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4), st.integers(0, 9)),
    min_size=1,
    max_size=30,
)


@given(rows=rows, has_times=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_order_is_that_of_a_slow_sort(rows, has_times):
    """By user, start of the session, first row of the session, time, and row."""
    sessions = {}
    for position, (user, session, _, time) in enumerate(rows):
        start = time if has_times else position
        old = sessions.get((user, session), (start, position))
        sessions[user, session] = (min(old[0], start), old[1])

    def key(position):
        user, session, _, time = rows[position]
        return user, *sessions[user, session], time if has_times else 0, position

    expected = [rows[position] for position in sorted(range(len(rows)), key=key)]
    names = "user_id session_id item_id" + (" timestamp" if has_times else "")
    given_rows = [row[: 3 + has_times] for row in rows]
    by_session = read(given_rows, names)
    by_user = read(given_rows, names, histories="user")
    for log in (by_session, by_user):
        assert log.items.ids[log.item_index].tolist() == [row[2] for row in expected]
        starts = [i for i, r in enumerate(expected) if i == 0 or r[:2] != expected[i - 1][:2]]
        assert log.sessions.offsets.tolist() == [*starts, len(rows)]
        owners = log.sessions.users.ids[log.sessions.user_index]
        assert owners.tolist() == [expected[start][0] for start in starts]
    assert by_user.users.ids[by_user.user_index].tolist() == [row[0] for row in expected]


@given(rows=rows, seed=st.integers(0, 9), kind=st.sampled_from(["user", "session"]))
@settings(max_examples=40, deadline=None)
def test_rows_that_are_selected_keep_their_session(rows, seed, kind):
    log = read(rows, histories=kind)
    mask = np.random.default_rng(seed).random(len(log)) < 0.5
    session = np.repeat(np.arange(len(log.sessions)), log.sessions.lengths)
    part = log.filter(mask)
    assert np.repeat(np.arange(len(log.sessions)), part.sessions.lengths).tolist() == (
        session[mask].tolist()
    )
    small = part.compact()
    assert (small.sessions.lengths > 0).all()
    owners = small.sessions.users.ids[small.sessions.user_index]
    assert owners.tolist() == [
        log.sessions.users.ids[log.sessions.user_index[s]] for s in np.unique(session[mask])
    ]


@pytest.mark.parametrize("kind", ["user", "session"])
def test_sessions_are_saved(tmp_path, kind):
    for number, log in enumerate([read(LOG, histories=kind), read(LOG[:1], histories=kind)]):
        loaded = load_interactions(save_interactions(log, tmp_path / str(number)))
        assert loaded.digest == log.digest
        assert (loaded.histories, histories(loaded)) == (log.histories, histories(log))


def test_the_latest_session_of_each_user_is_theirs():
    latest = read(LOG).latest_sessions()
    assert histories(latest) == {"ann": [5, 2], "bob": [1]}
    by_user = read(LOG, histories="user")
    assert by_user.latest_sessions() is by_user
    log = read(LOG)
    without_last = log.filter(log.user_index != 1)
    assert histories(without_last.latest_sessions()) == {"ann": [3, 4], "bob": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 1, 5])}, "do not fit 5 items"),
        ({"offsets": np.array([0, 3, 2, 5])}, "do not fit 5 items"),
        ({"user_index": np.array([1, 0, 1], np.int32)}, "do not fit 5 items"),
        ({"user_index": np.array([0, 1, 2], np.int32)}, "do not fit 5 items"),
        ({"offsets": np.array([0, 2, 3, 5])}, "row 3: the session goes on in the rows of another"),
        ({"offsets": np.array([0, 0, 4, 5])}, "row 1: the next row of the session is earlier"),
    ],
)
def test_sessions_that_do_not_fit_are_refused(change, message):
    rows = [("ann", s, i, t) for s, i, t in [("a", 1, 0), ("a", 2, 3), ("b", 3, 1), ("b", 4, 4)]]
    log = read([*rows, ("bob", "c", 1, 0)], histories="user")
    with pytest.raises(DataError, match=message):
        replace(log, sessions=Sessions(**{**vars(log.sessions), **change}))


def test_mostly_missing_users_name_the_setting_for_sessions_alone(tmp_path):
    path = tmp_path / "train-item-views.csv"
    rows = ["1;NA;81766;526309", "1;NA;31331;1031018", "2;5;9654;75848", "2;NA;32627;2408"]
    lines = ["sessionId;userId;itemId;timeframe;eventdate", *(f"{r};2016-05-09" for r in rows)]
    path.write_text("\n".join(lines))
    remedy = (
        r'75% of the rows are invalid.*missing_id.*set columns = \{user_id = ""\} for histories'
    )
    with pytest.raises(DataError, match=remedy):
        read_ratings(path)
    reports = []
    log = read_ratings(path, columns={"user_id": ""}, on_report=reports.append)
    assert log.users.ids.tolist() == [1, 2]
    assert reports[0].profile.unused_columns == ["userId", "timeframe"]
