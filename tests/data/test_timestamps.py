from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from recsys.data.timestamps import time_range, to_unix
from recsys.errors import ConfigError

NEW_YEAR = 1_420_070_400  # 2015-01-01, UTC


@pytest.mark.parametrize(
    "moment",
    [
        NEW_YEAR,
        np.int64(NEW_YEAR),
        "2015-01-01",
        "2015-01-01T00:00",
        "2015-01-01T01:00+01:00",
        datetime(2015, 1, 1),  # noqa: DTZ001
        datetime(2015, 1, 1, tzinfo=UTC),
        datetime(2015, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2015-01-01"),
        pd.Timestamp("2014-12-31 23:59:59.5"),  # no whole second lies between
    ],
)
def test_a_moment_is_the_same_however_it_is_written(moment):
    assert to_unix(moment) == NEW_YEAR


@pytest.mark.parametrize("moment", ["", "soon", "NaT", "2015-13-01", 1.5, None, pd.NaT])
def test_what_is_no_moment_is_refused(moment):
    with pytest.raises(ConfigError, match="is not a time"):
        to_unix(moment)


def test_no_times_reach_nowhere():
    assert time_range(np.array([], dtype=np.int64)) == "empty"
