import copy
import json
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_an_answer_is_a_frame(answer):
    plain = pd.DataFrame(COLUMNS)
    pd.testing.assert_frame_equal(answer, plain, check_frame_type=False)
    assert pickle.loads(pickle.dumps(answer)).equals(plain)
    assert copy.copy(answer).equals(plain)
    assert type(answer.head(1)) is pd.DataFrame
    answer["new"] = 1
    assert list(answer) == [*COLUMNS, "new"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = answer.nonsense


def test_threads_look_at_an_answer_for_the_first_time():
    looks = (len, list, repr, lambda a: a["rank"].tolist(), lambda a: a.as_records()) * 2
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(looks)) as pool:
            for _ in range(20):
                answer, barrier = Recommendations(COLUMNS), threading.Barrier(len(looks))
                list(pool.map(lambda look, a=answer, b=barrier: b.wait() and look(a), looks))
    finally:
        sys.setswitchinterval(before)


def test_changing_an_answer_changes_nothing_else():
    score = np.array([0.5, 0.25], dtype=np.float32)
    answer = Recommendations({"score": score})
    answer.loc[0, "score"] = 1.0
    assert score.tolist() == [0.5, 0.25]


def test_records_have_plain_values(answer):
    records = answer.as_records()
    assert records == [
        {"rank": 1, "title": "Heat", "cooccurrence": 3, "score": 0.5},
        {"rank": 2, "title": None, "cooccurrence": None, "score": 0.25},
    ]
    assert json.loads(json.dumps(records)) == records
