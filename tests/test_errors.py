"""What each stage says to the result of another one."""

import pytest

import recsys
from recsys.errors import DataError

STAGES = {
    "leave_last_out": recsys.leave_last_out,
    "leave_last_n": lambda data: recsys.leave_last_n(data, 1),
    "per_user_ratio": recsys.per_user_ratio,
    "global_time_cut": lambda data: recsys.global_time_cut(
        data, validation_from="2020-01-01", test_from="2021-01-01"
    ),
    "last_session": recsys.last_session,
    "last_days": recsys.last_days,
    "count_cooccurrence": recsys.count_cooccurrence,
    "fit_session_model": recsys.fit_session_model,
}


@pytest.mark.parametrize("stage", STAGES)
def test_table_instead_of_interactions_is_refused(small_log, stage):
    expected = "expected Interactions, as read_ratings returns, but got DataFrame"
    with pytest.raises(DataError, match=expected):
        STAGES[stage](small_log)


def test_results_of_other_stages_are_refused(sample, sample_split):
    with pytest.raises(DataError, match=r"expected Interactions.* but got Split"):
        recsys.fit_session_model(sample_split)
    with pytest.raises(DataError, match="expected Cooccurrence, as count_cooccurrence returns"):
        recsys.fit_embeddings(sample)
    with pytest.raises(DataError, match="expected Split, as leave_last_out returns"):
        recsys.evaluate(None, sample)
