"""Points in time of every form, in nanoseconds."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import Checks, read_ratings
from recsys.data.options import ReadOptions
from recsys.data.tables import INVALID, Times
from recsys.data.times import format_times, is_near_the_others, parse_times
from recsys.errors import ConfigError, DataError

UTC = dt.UTC
CODES = {1: "s", 10**3: "ms", 10**6: "us", 10**9: "ns"}


def parse(values, kind=None, **options):
    column = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return parse_times(pa.chunked_array([column]), ReadOptions(**options))


def written(times):
    """Times as ISO 8601 in UTC; None if invalid."""
    return [None if t == INVALID else format_times(np.array([t]))[0] for t in times.ticks]


NUMBERS = [
    ([1593878903], ["2020-07-04T16:08:23"], "seconds since 1970"),
    ([1593878903900], ["2020-07-04T16:08:23.900"], "milliseconds since 1970"),
    ([1593878903900100], ["2020-07-04T16:08:23.900100"], "microseconds since 1970"),
    ([1593878903900100200], ["2020-07-04T16:08:23.900100200"], "nanoseconds since 1970"),
    ([1593878903.438, None], ["2020-07-04T16:08:23.438", None], "seconds since 1970"),
    ([1593878903900.5], ["2020-07-04T16:08:23.900500"], "milliseconds since 1970"),
    (
        [20200704, 20200731],
        ["2020-07-04T00:00:00", "2020-07-31T00:00:00"],
        "dates such as 20200704",
    ),
    ([202007041230], ["2020-07-04T12:30:00"], "dates such as 202007041230"),
    ([20200704123015], ["2020-07-04T12:30:15"], "dates such as 20200704123015,"),
    ([20200704123015250], ["2020-07-04T12:30:15.250"], "dates such as 2020"),
    ([20200228, 20200229, 20200230], ["2020-02-28T00:00:00", "2020-02-29T00:00:00", None], "dates"),
    ([44016, 44017], ["2020-07-04T00:00:00", "2020-07-05T00:00:00"], "Excel"),
    ([44016.5, 44017.75], ["2020-07-04T12:00:00", "2020-07-05T18:00:00"], "Excel"),
    ([2019, 2020], ["2019-01-01T00:00:00", "2020-01-01T00:00:00"], "dates such as 2019"),
    ([3, 1, 2], [f"1970-01-01T00:00:0{n}" for n in (3, 1, 2)], "positions, not points in time"),
]


@pytest.mark.parametrize(("values", "expected", "description"), NUMBERS)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_form_of_numbers_is_the_plausible_one(values, expected, description, as_text):
    times = parse([None if v is None else str(v) for v in values] if as_text else values)
    assert written(times) == expected
    assert description in times.description


def test_numbers_of_several_sizes_are_read_row_by_row():
    times = parse([1593878903, 1593878902000, 1593878901000, 1593878900000])
    assert times.seconds.tolist() == [1593878903, 1593878902, 1593878901, 1593878900]
    assert times.description == "milliseconds since 1970; 1 in other units"
    times = parse([1593878903, 1593878902000])
    assert times.seconds.tolist() == [1593878903, 1593878902]
    assert times.description == "seconds since 1970; 1 in other units"
    times = parse([1593878903, 1593878902000, 1593878901000000, 7])
    assert times.seconds.tolist() == [1593878903, 1593878902, 1593878901, 7]
    with pytest.raises(DataError, match=r"row 1, .* 20200704 is not from 1990 to 2100 in seconds"):
        parse([1593878903, 20200704])
    times = parse([1593878903, 1593878903, 1593878903000000001])
    assert written(times)[2] == "2020-07-04T16:08:23.000000001"


TEXT = [
    ("2014-04-07T10:51:09", "2014-04-07T10:51:09"),
    ("2014-04-07 10:51", "2014-04-07T10:51:00"),
    ("2014-04-07", "2014-04-07T00:00:00"),
    ("2014/04/07", "2014-04-07T00:00:00"),
    ("2014/4/7 9:05", "2014-04-07T09:05:00"),
    ("2014-04-07T10:51:09.5Z", "2014-04-07T10:51:09.500"),
    ("2014-04-07T10:51:09,277", "2014-04-07T10:51:09.277"),
    ("2014-04-07T10:51:09.277123", "2014-04-07T10:51:09.277123"),
    ("2014-04-07T10:51:09+02:00", "2014-04-07T08:51:09"),
    ("2014-04-07 10:51:09 -0530", "2014-04-07T16:21:09"),
    ("2014-04-07 10:51:09 UTC", "2014-04-07T10:51:09"),
    ("2014-04-07 10:51:09.250 UTC", "2014-04-07T10:51:09.250"),
    ("20140407T105109Z", "2014-04-07T10:51:09"),
    (" 2014-04-07T10:51:09 ", "2014-04-07T10:51:09"),
    ("2014-04-07 10:51:09.000000009 +02:00", "2014-04-07T08:51:09.000000009"),
    ("2014-4-7 9:05:00.0000000091 UTC", "2014-04-07T09:05:00.000000009"),
    ("2014-04-07 10", "2014-04-07T10:00:00"),
    ("1.396867869E+09", "2014-04-07T10:51:09"),
    ("1396867869.277123456", "2014-04-07T10:51:09.277123456"),
]


@pytest.mark.parametrize(("text", "expected"), TEXT)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_that_begins_with_the_year_is_read(text, expected, kind):
    assert written(parse([text, None], kind)) == [expected, None]


@pytest.mark.parametrize("is_date", [True, False])
def test_each_row_of_text_may_have_its_own_form(is_date):
    rows = [row for row in TEXT if row[0].strip().startswith("2014") == is_date]
    assert written(parse([text for text, _ in rows])) == [expected for _, expected in rows]


def test_dates_among_numbers_and_numbers_among_dates_are_invalid():
    assert written(parse(["1396867869", "1396867870", "2014-04-07"]))[2] is None
    assert written(parse(["2014-04-07", "2014-04-08", "1396867870"]))[2] is None


@pytest.mark.parametrize(
    "text",
    ["2014-02-30", "2014-13-01", "2014-04-07T24:00", "2014-04-07T10:60", "2014-04-07 10:51:09x",
     "2014-04-07T10:51:09+25:00", "2014-W15-1", "2014-04-07+02:00", "2014-04-07-05:00",
     "2014-04-07 12-05", "2014-4-7-1", "2014-04-07_10:51", "2014-04/07", "201447", "noon",
     "07.04.2014", "20", "9" * 30, "", "nan", "2014-04"],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["", " 10:51:09Z"])
def test_other_text_is_invalid_and_changes_no_other_row(text, zone):
    clock = "T10:51:09" if zone else "T00:00:00"
    assert written(parse([f"2014-04-07{zone}", text, f"2014-04-08{zone}"])) == [
        f"2014-04-07{clock}", None, f"2014-04-08{clock}"
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["2014-02-30", "9999-12-31", "0001-01-01", "2014-04-07 9:05", "x"])
@pytest.mark.parametrize("zone", ["", "+00:00"])
def test_odd_dates_cost_no_other_row_its_nanoseconds(odd, zone):
    fine = [f"2014-04-07 10:51:09.00000000{digit}{zone}" for digit in (9, 1, 5)]
    assert written(parse([fine[0], odd, *fine[1:]]))[::2] == written(parse([fine[0], fine[1]]))
    assert written(parse([odd, *fine]))[1:] == written(parse(fine))
    assert written(parse(fine))[0] == "2014-04-07T10:51:09.000000009"


@pytest.mark.parametrize("missing", [None, "", " ", "NULL"])
def test_many_missing_values_decide_nothing(missing):
    dates = parse([missing] * 1000 + ["2014-04-07"])
    assert written(dates)[-2:] == [None, "2014-04-07T00:00:00"]
    assert written(parse([missing] * 1000 + ["1396867869"]))[-1] == "2014-04-07T10:51:09"


@pytest.mark.parametrize(
    ("times", "options", "form"),
    [
        (
            ["30/01/2024 10:00", "31/02/2024 10:00"],
            {"time_format": "%d/%m/%Y %H:%M"},
            "time_format = '%d/%m/%Y %H:%M'",
        ),
        (["2024-01-30", "31/02/2024"], {}, "ISO 8601, such as 2024-05-31 10:00"),
        (["1593878903", "2020-07-04"], {}, "seconds since 1970"),
        (["20200704", "2020-07-05"], {}, "dates such as 20200704, read as UTC"),
    ],
    ids=["format", "ISO 8601", "seconds", "digits"],
)
def test_the_report_says_how_other_times_are_written(tmp_path, times, options, form):
    rows = [f"1,{item},{time}" for item, time in enumerate([times[0]] * 9 + [times[1]])]
    _, report = read(tmp_path, *rows, **options)
    (finding,) = report.findings
    assert finding.first.endswith(f"{times[1]!r} is not a time as the others are: {form}")


def test_hexadecimal_text_is_no_number(tmp_path):
    assert written(parse(["1593878903", "0x5F5E1000", "1593878903"])) == [
        "2020-07-04T16:08:23", None, "2020-07-04T16:08:23"
    ]  # fmt: skip
    interactions, report = read(tmp_path, "1,1,1593878903", "1,2,0x5F5E1000", "1,3,1593878904")
    assert interactions.timestamp.tolist() == [1593878903, 1593878904]
    assert [(f.check, f.n_rows) for f in report.findings] == [("bad_timestamp", 1)]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_outside_of_the_years_of_python_are_in_the_future_or_the_past(unit):
    rows = {"user_id": [1] * 5, "item_id": [1, 2, 3, 4, 5]}
    times = pa.array([NOON] * 3, pa.timestamp(unit)).cast(pa.int64()).to_pylist()
    times = pa.array([*times, 2**62, -(2**62)]).cast(pa.timestamp(unit))
    reports = []
    read_ratings(pa.table({**rows, "timestamp": times}), on_report=reports.append)
    findings = {f.check: f.examples[0] for f in reports[0].findings}
    assert findings.keys() == {"negative_time", "future_time"}
    assert f"'{2**62} {unit} since 1970' is in the future" in findings["future_time"]


NOON = dt.datetime(2020, 7, 4, 12, tzinfo=UTC)
TYPED = [
    ([NOON], pa.timestamp("s"), "2020-07-04T12:00:00"),
    ([NOON], pa.timestamp("ns"), "2020-07-04T12:00:00"),
    ([NOON], pa.timestamp("ms", "Europe/Berlin"), "2020-07-04T12:00:00"),
    ([Decimal("1593878903.438")], pa.decimal128(20, 3), "2020-07-04T16:08:23.438"),
    ([1593878903], pa.uint64(), "2020-07-04T16:08:23"),
    ([1593878903.5], pa.float64(), "2020-07-04T16:08:23.500"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "kind", "expected"), TYPED)
def test_types_of_arrow(values, kind, expected):
    assert written(parse([*values, None], kind)) == [expected, None]


def test_timestamps_that_were_converted_with_a_wrong_unit_are_told():
    wrong = pd.to_datetime([1593878903, 1593878904])  # as nanoseconds
    assert "January 1970" in parse(pa.array(wrong)).description
    right = pd.to_datetime([1593878903, 1593878904], unit="s")
    assert parse(pa.array(right)).description == "timestamps without a time zone, read as UTC"


@pytest.mark.parametrize(
    "values", [[dt.time(1)], [dt.timedelta(1)], [True], [b"x"], [[1]], [{"a": 1}]]
)
def test_other_types_are_refused(values):
    with pytest.raises(DataError, match=r"column 'timestamp': .*does not hold points in time"):
        parse(values)


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([18447], {"time_unit": "D"}, "2020-07-04T00:00:00"),
        ([18447.5], {"time_unit": "D"}, "2020-07-04T12:00:00"),
        ([442744], {"time_unit": "h"}, "2020-07-04T16:00:00"),
        (["26564648"], {"time_unit": "min"}, "2020-07-04T16:08:00"),
        ([1593878903], {"time_unit": "ms"}, "1970-01-19T10:44:38.903"),
        ([44016], {"time_unit": "excel"}, "2020-07-04T00:00:00"),
        ([100], {"time_unit": "ns"}, "1970-01-01T00:00:00.000000100"),
        (["07/04/2020"], {"time_format": "%m/%d/%Y"}, "2020-07-04T00:00:00"),
        (["04.07.2020 12:30"], {"time_format": "%d.%m.%Y %H:%M"}, "2020-07-04T12:30:00"),
        (["Mon Apr 07 10:51:09 +0200 2014"], {"time_format": "%a %b %d %H:%M:%S %z %Y"},
         "2014-04-07T08:51:09"),
        ([20200704], {"time_format": "%Y%m%d"}, "2020-07-04T00:00:00"),
        (["04.07.2020 12:30:00.000000009"], {"time_format": "%d.%m.%Y %H:%M:%S.%f"},
         "2020-07-04T12:30:00.000000009"),
        (["07/04/2020 1:02:03.25 PM"], {"time_format": "%m/%d/%Y %I:%M:%S.%f %p"},
         "2020-07-04T13:02:03.250"),
    ],
)  # fmt: skip
def test_a_declared_unit_or_format_wins(values, options, expected):
    assert written(parse(values, **options)) == [expected]
    if isinstance(values[0], str):
        assert written(parse([*values, "x"], **options)) == [expected, None]


def test_what_is_not_plausible_is_refused_with_the_way_out():
    for values, example in [
        ([18447, 18448, 18449], "such as time_unit = 'D'"),
        ([442744], "declare time_unit"),  # hours, but 202007 would be plausible, too
        ([26564648], "declare time_unit"),
        ([637294752000000000], "time_unit"),  # ticks of .NET
        ([132388000000000000], "time_unit"),  # ticks of Windows since 1601
        (["07/04/2020"], r"such as time_format = '%m/%d/%Y' or '%d/%m/%Y'"),
        (["04.07.2020 12:30"], r"such as time_format = '%d.%m.%Y %H:%M'"),
        (["Mon Apr 07 10:51:09 +0000 2014"], "such as time_format = '%a %b %d %H:%M:%S %z %Y'"),
        (["Mon, 07 Apr 2014 10:51:09 +0000"], "such as time_format = '%a, %d %b %Y %H:%M:%S %z'"),
    ]:
        with pytest.raises(DataError) as caught:
            parse(values)
        for part in (example, "row ", "column 'timestamp'", "time_unit", "time_format"):
            assert part in str(caught.value)
    with pytest.raises(DataError, match="'2020/7/4' does not fit 's'"):
        parse(["2020/7/4"], time_unit="s")
    with pytest.raises(DataError, match="'2020-07-04' does not fit '%d/%m/%Y'"):
        parse(["2020-07-04"], time_format="%d/%m/%Y")
    with pytest.raises(ConfigError, match="'%Q' is not a format of strptime"):
        parse(["2020-07-04"], time_format="%Q")
    with pytest.raises(ConfigError, match="set one of them"):
        ReadOptions(time_unit="s", time_format="%Y")
    with pytest.raises(DataError, match="remove time_unit"):
        parse([NOON], time_unit="s")
    with pytest.raises(DataError, match="such as time_format = '%Y%m'"):
        parse([202007, 202008])


@pytest.mark.parametrize(
    ("values", "rounded"),
    [
        (["1.59388E+09", "1.59388E+09"], [True, True]),
        (["1.593878903E+09", "1.593878904e9"], None),
        (["1.593878903E9", "1.5938789E9", "1.593878905E9", "1.593878907E9"], None),  # as in Java
        (["1.5938208E9", "1.5939072E9"], None),  # midnights
        (["1.593879E+09", "1.593880E+09"], [True, True]),
        (["1.593878903E12"], None),
        (["1.5938E12", "1593878903000"], [True, False]),
        (["1593878903", "1593878904"], None),
    ],
)
def test_lost_digits_are_noticed(values, rounded):
    found = parse(values).rounded
    assert (None if found is None else found.tolist()) == rounded


@pytest.mark.parametrize(
    ("years", "near"),
    [
        ([2019, 2020, 2020, 2021], None),
        ([2000, 2020, 2020, 2020, 2021], [False, True, True, True, True]),
        ([1970, 2020, 2020], [False, True, True]),
        ([1970, 1970, 2010, 2020, 2020], [False, False, True, True, True]),
        ([1995, 2000, 2005, 2010, 2018], [True] * 5),
        ([1970, 1972, 1980, 1990], [True] * 4),
    ],
)
def test_times_far_from_the_others_are_noticed(years, near):
    seconds = np.array([f"{year}" for year in years], "datetime64[s]").astype(np.int64)
    found = is_near_the_others(Times(seconds * 10**9, ""))
    assert (None if found is None else found.tolist()) == near
    found = is_near_the_others(Times(np.append(seconds * 10**9, INVALID), ""))
    assert (None if found is None else found.tolist()) == (near and [*near, True])


def read(folder, *rows, name="log.csv", **settings):
    path = folder / name
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    reports = []
    log = read_ratings(path, on_report=reports.append, **settings)
    return log, reports[0]


@pytest.mark.parametrize(
    "times",
    [
        ["2014-04-07T10:51:09.900Z", "2014-04-07T10:51:09.500Z", "2014-04-07T10:51:09.277Z"],
        ["1593878903900", "1593878903500", "1593878903100"],
        ["20200704", "20200703", "20200701"],
        ["202007041230", "202007031230", "202007031229"],
        ["1593878903", "1593878902000", "1593878901000"],
        ["2019-10-01 00:00:02 UTC", "2019-10-01 00:00:01 UTC", "2019-10-01 00:00:00 UTC"],
        ["1593878903.438", "1593878902.371", "1593878901.5"],
    ],
)
def test_logs_with_the_newest_row_first_are_sorted(times, tmp_path):
    log, report = read(tmp_path, *(f"1,{10 + i},{time}" for i, time in enumerate(times)))
    assert log.items.ids[log.item_index].tolist() == [12, 11, 10]
    assert report.n_used == 3
    assert log.timestamp.dtype == np.int64
    assert log.timestamp[0] >= 1_396_867_869


def test_lost_digits_are_an_error_unless_kept(tmp_path):
    rows = [f"1,{item},1.59388E+09" for item in (10, 11, 12)]
    with pytest.raises(DataError, match=r"log.csv, line 2, .*'1.59388E\+09' has lost digits"):
        read(tmp_path, *rows)
    log, report = read(tmp_path, *rows, checks=Checks(rounded_time="keep"))
    assert log.timestamp.tolist() == [1_593_880_000] * 3
    assert report.metrics()["rounded_time_rows"] == 3


def test_a_time_of_day_next_to_a_date_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,date,time\n1,10,2020-07-04,12:30:15\n")
    message = "line 2, column 'timestamp': '12:30:15' .* it is a time of day: join it with the date"
    with pytest.raises(DataError, match=message):
        read_ratings(tmp_path / "log.csv")


def test_a_refused_time_names_file_line_and_column(tmp_path):
    with pytest.raises(
        DataError, match=r"log.csv, line 3, column 'timestamp': 18448 is not from 1990 to 2100"
    ):
        read(tmp_path, "1,10,18447", "1,11,18448", "1,12,18449")


@pytest.mark.parametrize(
    ("damage", "check"),
    [("yesterday", "bad_timestamp"), ("", "bad_timestamp"), ("0", "outlying_time"),
     ("159387890", "outlying_time"), ("-1593878903", "negative_time"),
     ("9593878903", "future_time"), ("9593878903000000", "future_time"),
     ("2020-02-30", "bad_timestamp"), ("1970-01-01", "bad_timestamp"),
     ("1.59388E+09", "rounded_time")],
)  # fmt: skip
def test_a_damaged_time_is_quarantined_alone(damage, check, tmp_path):
    times = [str(1593878903 + second) for second in range(6)]
    times[3] = damage
    log, report = read(
        tmp_path,
        *(f"1,{10 + i},{time}" for i, time in enumerate(times)),
        checks=Checks(rounded_time="quarantine"),
    )
    assert report.quarantined[["line", "check"]].to_numpy().tolist() == [[5, check]]
    assert log.timestamp.tolist() == [1593878903 + second for second in (0, 1, 2, 4, 5)]


def test_decimals_are_exact_among_other_text():
    texts = ["1593878903.438", "", "1593878903.4380015", "1.5938789035E9", "x", "1593878904.000001"]
    nanoseconds = parse([*texts, None]).ticks.tolist()
    seconds = 1_593_878_903 * 10**9
    assert nanoseconds == [
        seconds + 438_000_000, INVALID, seconds + 438_001_500, seconds + 500_000_000, INVALID,
        seconds + 1_000_001_000, INVALID,
    ]  # fmt: skip


def test_tables_of_pandas():
    times = pd.to_datetime(["2020-07-04 12:00:00.2", "2020-07-04 12:00:00.1"])
    for values in (times, times.tz_localize("Europe/Berlin"), times.to_pydatetime()):
        log = pd.DataFrame({"user_id": 1, "item_id": [10, 11], "timestamp": values})
        ratings = read_ratings(log, on_report=lambda report: None)
        assert ratings.items.ids[ratings.item_index].tolist() == [11, 10]


FORMS = {
    "integers": lambda ticks, unit: pa.array(ticks),
    "text of integers": lambda ticks, unit: pa.array(list(map(str, ticks))),
    "timestamps": lambda ticks, unit: pa.array(ticks).cast(pa.timestamp(unit)),
    "zoned": lambda ticks, unit: pa.array(ticks).cast(pa.timestamp(unit, "Asia/Tokyo")),
    "ISO": lambda ticks, unit: pa.array(iso(ticks, unit)),
    "ISO with a blank": lambda ticks, unit: pa.array(
        [t.replace("T", " ") for t in iso(ticks, unit)]
    ),
    "ISO with Z": lambda ticks, unit: pa.array([f"{t}Z" for t in iso(ticks, unit)]),
    "ISO with UTC": lambda ticks, unit: pa.array([f"{t} UTC" for t in iso(ticks, unit)]),
    "ISO an hour ahead": lambda ticks, unit: pa.array(
        [f"{t}+01:00" for t in iso([t + 3600 * PER_SECOND[unit] for t in ticks], unit)]
    ),
    "ISO without zeros": lambda ticks, unit: pa.array(
        [t.rstrip("0").rstrip(".") if "." in t else t for t in iso(ticks, unit)]
    ),
    "decimals": lambda ticks, unit: pa.array([decimal(t, unit) for t in ticks]),
}
PER_SECOND = {code: per_second for per_second, code in CODES.items()}


def iso(ticks, unit):
    return [str(np.datetime64(t, unit)) for t in ticks]


def decimal(tick, unit):
    whole, rest = divmod(tick, PER_SECOND[unit])
    return f"{whole}.{rest * (10**9 // PER_SECOND[unit]):09d}"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(
    nanoseconds=st.lists(st.integers(10**18, 2 * 10**18), min_size=1, max_size=20),
    unit=st.sampled_from(list(PER_SECOND)),
)
@settings(max_examples=25)
def test_any_time_of_any_form_comes_back_the_same(form, nanoseconds, unit):
    ticks = [n // (10**9 // PER_SECOND[unit]) for n in nanoseconds]
    times = parse(form(ticks, unit))
    expected = [t * (10**9 // PER_SECOND[unit]) for t in ticks]
    assert times.ticks.tolist() == expected
    assert times.seconds.tolist() == [t // PER_SECOND[unit] for t in ticks]
