import json
import pickle

import numpy as np
import pandas as pd
import pytest

from recsys.recommender import Recommendations

COLUMNS = {
    "rank": np.array([1, 2]),
    "title": np.array(["Heat", None], dtype=object),
    "cooccurrence": pd.array([3, None], dtype="Int64"),
    "score": np.array([0.5, 0.25], dtype=np.float32),
}


@pytest.fixture
def answer():
    return Recommendations(COLUMNS)


def test_frame_is_created_by_any_first_access(answer):
    plain = pd.DataFrame(COLUMNS)
    pd.testing.assert_frame_equal(answer, plain, check_frame_type=False)
    assert Recommendations(COLUMNS).shape == (2, 4)
    assert list(Recommendations(COLUMNS)) == list(COLUMNS)
    assert len(Recommendations(COLUMNS)) == 2
    assert Recommendations(COLUMNS)["rank"].tolist() == [1, 2]
    assert Recommendations(COLUMNS).attrs == {}
    assert "Heat" in repr(Recommendations(COLUMNS))
    assert pd.concat([Recommendations(COLUMNS), plain]).shape == (4, 4)
    assert pickle.loads(pickle.dumps(Recommendations(COLUMNS))).equals(plain)
    assert type(answer.head(1)) is pd.DataFrame
    changed = Recommendations(COLUMNS)
    changed["new"] = 1
    assert list(changed) == [*COLUMNS, "new"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = Recommendations(COLUMNS).nonsense


def test_records_are_the_same_before_and_after_the_frame_is_created(answer):
    before = answer.as_records()
    assert len(answer) == 2
    after = answer.as_records()
    assert before == [
        {"rank": 1, "title": "Heat", "cooccurrence": 3, "score": 0.5},
        {"rank": 2, "title": None, "cooccurrence": None, "score": 0.25},
    ]
    assert after == before
    assert json.loads(json.dumps(before)) == json.loads(json.dumps(after))
