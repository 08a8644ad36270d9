"""Kinds of events: how they are recognised, what they count, and which form the histories."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import (
    Checks,
    DataWarning,
    global_time_cut,
    k_core,
    leave_last_n,
    leave_last_out,
    load_interactions,
    per_user_ratio,
    read_ratings,
    save_interactions,
)
from recsys.errors import ConfigError, DataError

RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433221999827,111016,addtocart,318965,
1433221999999,111016,transaction,318965,4000
1433223236124,257597,view,318965,
1433223236190,111016,view,355908,
"""
REES46 = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
TAOBAO = """1,2268318,2520377,pv,1511544070
1,2333346,2520771,cart,1511561733
2,2333346,2520771,buy,1511561734
2,2333347,2520771,fav,1511561735
"""


def read(rows, reports=None, **options):
    """Read rows of user, item and event, in order."""
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "event"])
    return read_ratings(table, **options, on_report=(reports if reports is not None else []).append)


def rows_of(log):
    """User, item, weight and whether it is in the sequence, of each row."""
    users, items = log.users.ids[log.user_index], log.items.ids[log.item_index]
    forms_history = np.ones(len(log), bool) if log.in_sequence is None else log.in_sequence
    return list(
        zip(
            users.tolist(),
            items.tolist(),
            [float(str(w)) for w in log.weight],
            forms_history.tolist(),
            strict=True,
        )
    )


def test_retailrocket_is_read_as_it_comes(tmp_path):
    (tmp_path / "events.csv").write_text(RETAILROCKET)
    for part in ("item_properties_part1.csv", "item_properties_part2.csv"):
        (tmp_path / part).write_text("timestamp,itemid,property,value\n1435460400000,1,a,b\n")
    (tmp_path / "category_tree.csv").write_text("categoryid,parentid\n1016,213\n")
    reports = []
    log = read_ratings(tmp_path, on_report=reports.append)
    assert rows_of(log) == [
        (111016, 318965, 0.5, False),
        (111016, 318965, 1.0, False),
        (111016, 355908, 0.1, True),
        (257597, 355908, 0.1, True),
        (257597, 318965, 0.1, True),
    ]
    assert log.timestamp.tolist()[:2] == [1433221999, 1433221999]
    assert reports[0].profile.unused_columns == ["transactionid"]
    assert reports[0].profile.events == [
        {"kind": "view", "n_rows": 3, "n_read": 3, "weight": 0.1, "in_sequence": True},
        {"kind": "addtocart", "n_rows": 1, "n_read": 1, "weight": 0.5, "in_sequence": False},
        {"kind": "transaction", "n_rows": 1, "n_read": 1, "weight": 1.0, "in_sequence": False},
    ]
    assert "view rows: 3, weight: 0.1, in the histories" in reports[0].summary()
    assert "events" in reports[0].profile.table()["property"].tolist()


def test_rows_of_a_kind_that_are_left_out_are_counted(tmp_path):
    rows = "1,7,buy\n1,8,buy\n1,8,buy\n1,7,return\n2,7,return\n,7,return\n"
    (tmp_path / "log.csv").write_text("user_id,item_id,event\n" + rows)
    reports = []
    weights = {"buy": 1, "return": 0}
    read_ratings(tmp_path, events=weights, repeats="exclude", on_report=reports.append)
    assert [(e["n_rows"], e["n_read"]) for e in reports[0].profile.events] == [(2, 3), (0, 3)]
    assert reports[0].profile.sections()["Events"] == {
        "buy": "rows: 2 of 3, weight: 1, in the histories",
        "return": "rows: 0 of 3, weight: 0, not in the histories",
    }


def test_rees46_is_read_as_it_comes(tmp_path):
    session = "72d76fde-8bb3-4e00-8c23-a032dfed738c"
    for month, rows in {
        "Oct": [("10-01", "view", 44600062), ("10-02", "remove_from_cart", 3900821)],
        "Nov": [("11-01", "view", 3900821), ("11-02", "purchase", 44600062)],
    }.items():
        lines = [
            f"2019-{day} 00:00:01 UTC,{kind},{item},2103807459595387724,,aqua,35.79,5,{session}\n"
            for day, kind, item in rows
        ]
        (tmp_path / f"2019-{month}.csv").write_text(REES46 + "".join(lines))
    reports = []
    log = read_ratings(tmp_path, on_report=reports.append)
    assert rows_of(log) == [
        (session, 44600062, 0.1, True),
        (session, 3900821, 0.1, True),
        (session, 44600062, 1.0, False),
    ]
    assert [(f.check, f.n_rows) for f in reports[0].findings] == [("unused_event", 1)]
    assert reports[0].n_invalid == 0
    assert reports[0].quarantined["event"].tolist() == ["remove_from_cart"]


def test_taobao_is_read_as_it_comes(tmp_path):
    (tmp_path / "UserBehavior.csv").write_text(TAOBAO)
    for source in (tmp_path, tmp_path / "UserBehavior.csv"):
        log = read_ratings(source, on_report=lambda report: None)
        assert [row[2:] for row in rows_of(log)] == [
            (0.1, True), (0.5, False), (1.0, False), (0.5, False),
        ]  # fmt: skip
        assert log.timestamp.tolist() == [1511544070, 1511561733, 1511561734, 1511561735]


def test_settings_give_weights_and_the_sequence_without_case_and_separators():
    rows = [(1, 1, "View"), (1, 2, "add-to-cart"), (1, 3, "PEEK"), (1, 4, "buy")]
    events = {"view": 0, "Peek": 0.25}
    log = read(rows, events=events, sequence_events=["addToCart", "BUY"])
    assert rows_of(log) == [(1, 2, 0.5, True), (1, 3, 0.25, False), (1, 4, 1.0, True)]
    with pytest.raises(DataError, match=r"'like' in sequence_events; the kinds .*'View', 'add-"):
        read(rows, events=events, sequence_events=["like"])
    with pytest.raises(DataError, match="'biew' in sequence_events; did you mean 'View'"):
        read(rows, events=events, sequence_events=["biew"])
    with pytest.raises(ConfigError, match="more than 4 decimals"):
        read(rows, events={"view": 0.00001})
    with pytest.raises(ConfigError, match="greater than or equal to 0"):
        read(rows, events={"view": -1})
    with pytest.raises(ConfigError, match="add-to-cart, AddToCart: two are equal"):
        read(rows, events={"add-to-cart": 1, "AddToCart": 0.5})


def test_without_views_all_that_count_form_the_histories():
    log = read([(1, 1, "cart"), (1, 2, "purchase"), (1, 2, "remove_from_cart")])
    assert rows_of(log) == [(1, 1, 0.5, True), (1, 2, 1.0, True)]
    assert log.in_sequence is None


def test_a_kind_that_is_not_known_is_refused_or_left_out():
    rows = [(1, 1, "view"), (1, 2, "peek"), (1, 3, None), (1, 4, "buy")]
    message = (
        r"row 1, column 'event': 'peek' is no known kind of event \(unknown_event, 2 such rows\); "
        r"set how much each kind counts, events = \{'view' = 0.1, 'peek' = \.\.\., 'buy' = 1\}, "
        r'or read the log without kinds, columns = \{event = ""\}'
    )
    with pytest.raises(DataError, match=message):
        read(rows)
    reports = []
    log = read(rows, reports, checks=Checks(unknown_event="quarantine"))
    assert [row[1] for row in rows_of(log)] == [1, 4]
    assert reports[0].n_invalid == 2


def test_views_in_another_language_must_be_named():
    """Else carts and purchases would form the histories, too, without a word."""
    rows = [(1, 1, "görüntüleme"), (1, 2, "sepet"), (1, 3, "iade"), (2, 1, "görüntüleme")]
    with pytest.raises(
        DataError, match=r"'iade' = \.\.\.}, and which are views, sequence_events = \['\.\.\.'\]"
    ):
        read(rows)
    weights, reports = {"görüntüleme": 0.1, "sepet": 0.5, "iade": 0}, []
    read(rows, reports, events=weights)
    note = "no kind of event is known to be a view, so that all that count form the histories; "
    assert any(text.startswith(note) for text in reports[0].notes)
    log = read(rows, reports, events=weights, sequence_events=["görüntüleme"])
    assert reports[1].notes == ()
    assert log.in_sequence.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", ["view", "klick", "1"])
def test_a_log_with_one_kind_has_no_weights(kind):
    rows = [(1, 1, kind), (1, 2, kind), (2, 1, kind)]
    log = read(rows)
    plain = read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "_"]))
    assert (log.weight, log.in_sequence) == (None, None)
    assert log.digest == plain.digest
    assert log.sequence() is log
    assert read([(1, 1, kind), (1, 2, kind.upper()), (2, 1, kind)]).weight is None
    assert rows_of(read(rows, events={kind: 0.5}))[0] == (1, 1, 0.5, True)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("type", ["film", "series", "film"]),
        ("action", [0, 1, 0]),
        ("action", ["comedy", "drama", "comedy"]),
        ("event", [True, False, True]),
        ("event", [0.5, 1.5, 2.5]),
        ("action", [["a"], ["b"], ["a"]]),
        ("kind", [None, None, None]),
    ],
)
def test_a_column_that_holds_something_else_is_not_used(column, values):
    table = pa.table({"user_id": [1, 1, 2], "item_id": [1, 2, 1], column: values})
    reports = []
    assert read_ratings(table, on_report=reports.append).weight is None
    assert reports[0].profile.unused_columns == [column]
    assert reports[0].profile.events is None


def test_a_column_with_many_values_is_not_used_unless_it_is_named():
    rows = [(1, item, f"concert {item}") for item in range(51)]
    assert read(rows).weight is None
    with pytest.raises(DataError, match="'concert 0' is no known kind of event"):
        read(rows, columns={"event": "event"})
    assert read(rows[:3], columns={"event": ""}).weight is None


@pytest.mark.parametrize("setting", [{"events": {"view": 1}}, {"sequence_events": ["view"]}])
@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("what", ["view", "buy"], "'; name it with columns"),
        ("event", [0.5, 1.5], "', but column 'event' holds double, not text or whole numbers"),
        ("event", [True, False], "', but column 'event' holds bool, "),
        ("event", [["view"], ["buy"]], "', but column 'event' holds list"),
        ("event", [f"concert {i}" for i in range(51)], "', but column 'event' has 51 kinds"),
        ("type", ["film", "song"], "', but column 'type' has no known kind \\('film', 'song'\\); "),
    ],
)
def test_settings_without_a_column_of_kinds_are_refused(tmp_path, setting, column, values, reason):
    table = pd.DataFrame({"user_id": 1, "item_id": range(len(values)), column: values})
    table.to_parquet(tmp_path / "log.parquet")
    for source in (table, tmp_path / "log.parquet"):
        with pytest.raises(DataError, match=f"{next(iter(setting))} needs a column 'event{reason}"):
            read_ratings(source, **setting)
    if isinstance(values[0], list):
        with pytest.raises(DataError, match=f"columns needs a column 'event{reason}"):
            read_ratings(table, columns={"event": column})


def test_a_kind_of_the_settings_that_no_row_has_is_told():
    rows, reports = [(1, 1, "view"), (1, 2, "buy")], []
    settings = {"events": {"veiw": 0.3, "cart": 0.5}, "sequence_events": ["buy", "views"]}
    log = read(rows, reports, **settings)
    assert rows_of(log) == [(1, 1, 0.1, False), (1, 2, 1.0, True)]
    assert reports[0].notes == (
        "no row is of the kind 'veiw' in events; did you mean 'view'?",
        "no row is of the kind 'cart' in events",
        "no row is of the kind 'views' in sequence_events; did you mean 'view'?",
    )
    assert reports[0].notes[0] in reports[0].summary()
    assert reports[0].to_dict()["notes"] == [*reports[0].notes]
    with pytest.warns(DataWarning, match="'veiw' in events"):
        read_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "event"]), **settings)


def test_signs_and_other_characters_tell_kinds_apart():
    rows = [(1, 1, "1"), (1, 2, "-1"), (1, 3, "+"), (1, 4, "-"), (1, 5, "page view"), (1, 6, "a_1")]
    events = {"1": 0.1, "-1": 0.2, "+": 0.3, "-": 0.4, "PageView": 0.5, "a_1": 0.6}
    log = read(rows, events=events)
    assert [row[2] for row in rows_of(log)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    with pytest.raises(DataError, match="'-1' is no known kind"):
        read([(1, 1, 1), (1, 2, -1)], events={"1": 0.1})


def test_whole_floats_are_kinds(tmp_path):
    table = pd.DataFrame({"user_id": 1, "item_id": range(4), "behavior_type": [1, None, 2, -1]})
    table.to_csv(tmp_path / "log.csv", index=False)
    settings = {
        "events": {"1": 0.1, "2": 1, "-1": 0.5}, "checks": Checks(unknown_event="quarantine")
    }  # fmt: skip
    with_nan = pa.table({name: column.to_numpy() for name, column in table.items()})
    for source in (table, with_nan, tmp_path / "log.csv"):
        log = read_ratings(source, **settings, on_report=lambda report: None)
        assert [row[1:3] for row in rows_of(log)] == [(0, 0.1), (2, 1), (3, 0.5)]


def test_integers_are_kinds(tmp_path):
    table = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "behavior_type": [1, 4, 3]})
    options = {"events": {"1": 0.1, "3": 0.5, "4": 1}, "sequence_events": ["1", "4"]}
    table.to_parquet(tmp_path / "log.parquet")
    table.to_csv(tmp_path / "log.csv", index=False)
    table.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    expected = [(1, 1, 0.1, True), (1, 2, 1.0, True), (1, 3, 0.5, False)]
    for source in (table, *map(tmp_path.joinpath, ("log.parquet", "log.csv", "log.jsonl"))):
        log = read_ratings(source, **options, on_report=lambda report: None)
        assert rows_of(log) == expected


def test_the_latest_row_has_the_largest_weight_of_those_it_stands_for():
    rows = [
        (1, 1, "view"), (1, 1, "buy"), (1, 2, "view"), (1, 1, "view"), (1, 1, "cart"),
        (1, 2, "cart"),
    ]  # fmt: skip
    assert rows_of(read(rows, repeats="exclude")) == [
        (1, 2, 0.1, True),
        (1, 1, 1.0, True),
        (1, 1, 1.0, False),  # the cart: the user has bought it
        (1, 2, 0.5, False),
    ]


def test_repeats_are_judged_on_the_histories():
    carts = [(1, item, kind) for item in range(10) for kind in ("view", "cart", "buy")]
    assert not read(carts).repeats
    assert read([*carts, (1, 0, "view"), (1, 1, "view")]).repeats


def test_saved_filtered_and_changed_weights(tmp_path):
    log = read([(1, 1, "view"), (1, 2, "buy"), (2, 2, "view"), (2, 1, "view"), (3, 3, "buy")])
    loaded = load_interactions(save_interactions(log, tmp_path / "log"))
    assert rows_of(loaded) == rows_of(log)
    assert loaded.digest == log.digest
    heavier = read([(1, 1, "view"), (1, 2, "cart"), (2, 2, "view"), (2, 1, "view"), (3, 3, "buy")])
    assert heavier.digest != log.digest
    assert rows_of(log.filter(log.item_index == 1)) == [(1, 2, 1.0, False), (2, 2, 0.1, True)]
    core, _ = k_core(log, 2, 1)  # only views are counted
    assert rows_of(core) == [(2, 1, 0.1, True), (2, 2, 0.1, True)][::-1]
    core, _ = k_core(log, 1, 2)
    assert core.users.ids.tolist() == [1, 2]


SPLITS = {
    "leave_last_out": leave_last_out,
    "leave_last_n": lambda log: leave_last_n(log, 2),
    "per_user_ratio": lambda log: per_user_ratio(log, 0.2, 0.3),
    "global_time_cut": lambda log: global_time_cut(log, validation_from=5, test_from=8),
}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 5), st.integers(0, 10), st.sampled_from("vcbr")
        ),
        min_size=6,
        max_size=40,
    ),
    st.sampled_from(sorted(SPLITS)),
    st.sampled_from(["allow", "exclude"]),
)
def test_nothing_held_out_is_counted(rows, name, repeats):
    words = {"v": "view", "c": "cart", "b": "buy", "r": "peek"}
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event"])
    table["event"] = table["event"].map(words)
    plain = table[table["event"].isin(["view", "peek"])].drop(columns="event")
    if table["event"].nunique() < 2 or not len(plain) or plain["timestamp"].min() >= 5:
        return
    options = {"repeats": repeats, "on_report": lambda report: None}
    events = {"view": 0.1, "peek": 0}
    log = read_ratings(table, events=events, sequence_events=["view", "peek"], **options)
    split, expected = SPLITS[name](log), SPLITS[name](read_ratings(plain, **options))
    assert split.interactions.weight is None
    for subset in ("validation", "test"):  # events that form no history change no target
        ids = [s.interactions.items.ids[s.targets(subset)].tolist() for s in (split, expected)]
        assert ids[0] == ids[1]
    # Restated: a user's rows in order, up to the first target, and before the cut in time.
    counted, is_target, sequence_row = [], split.assignment > 0, 0
    forms_history = np.ones(len(log), bool) if log.in_sequence is None else log.in_sequence
    for user in range(log.n_users):
        seen = False
        for position in range(log.user_offsets[user], log.user_offsets[user + 1]):
            if forms_history[position]:
                seen |= bool(is_target[sequence_row])
                if split.assignment[sequence_row] == 0:
                    counted.append(position)
                sequence_row += 1
            elif not seen and (name != "global_time_cut" or log.timestamp[position] < 5):
                counted.append(position)
    mask = np.zeros(len(log), bool)
    mask[counted] = True
    assert split.positives.digest == log.filter(mask).digest
    assert split.positives.sequence().digest == split.train.digest


def test_without_events_the_positives_are_the_train_rows():
    table = pd.DataFrame({"user_id": [1] * 4, "item_id": [1, 2, 3, 4]})
    split = leave_last_out(read_ratings(table, on_report=lambda report: None))
    assert split.positives is split.train
