"""The catalogue: how much text it may have."""

import pandas as pd
import pytest

from recsys.data import k_core, read_ratings
from recsys.data.catalogue import max_catalogue_bytes
from recsys.errors import DataError

MIB = 2**20


@pytest.fixture
def put(tmp_path):
    def write(titles, ids=None):
        ids = list(range(len(titles))) if ids is None else ids
        log = pd.DataFrame({"user_id": 1, "item_id": ids})
        log = pd.concat([log, log.iloc[:2].assign(user_id=2)])
        log.to_csv(tmp_path / "log.csv", index=False)
        table = pd.DataFrame({"item_id": ids, "title": titles})
        table.to_csv(tmp_path / "items.csv", index=False)
        return tmp_path / "log.csv"

    return write


def test_the_limit_is_4096_bytes_for_each_item_and_1_mib():
    assert max_catalogue_bytes(60) == MIB + 60 * 4096


def test_too_much_text_is_refused_when_it_is_read(put):
    path = put(["x" * 25_001] * 59 + ["é" * 20_000])
    with pytest.raises(DataError) as refusal:
        read_ratings(path)
    size = 59 * 25_001 + 40_000 + 60 * 8  # UTF-8, and the ids
    assert str(refusal.value) == (
        f"{path.parent}/items.csv, column 'title': the text of item 59 has 40,000 bytes; the "
        f"columns of 60 items have {size:,} bytes and may have 1,294,336, 4,096 for each item and "
        "1 MiB: shorten the longest texts, or remove the column"
    )


@pytest.mark.parametrize(("length", "is_read"), [(MIB + 2 * 4096 - 17, True), (2 * MIB, False)])
def test_text_up_to_the_limit_is_read(put, length, is_read):
    path = put(["x", "y" * length])
    if is_read:
        assert read_ratings(path).catalogue["title"].str.len().tolist() == [1, length]
        return
    with pytest.raises(DataError, match="the text of item 1 has 2,097,152 bytes"):
        read_ratings(path)


def test_long_ids_count_twice_without_titles():
    ids = ["a" * 600_000, "b" * 600_000]
    with pytest.raises(DataError, match="the items, column 'item_id': the text of item 'aaa"):
        read_ratings(pd.DataFrame({"user_id": [1, 1], "item_id": ids}))


def test_the_limit_holds_for_what_a_filter_leaves(put):
    log = read_ratings(put(["x" * MIB, "y" * 100_000, *["z"] * 100]))
    with pytest.raises(
        DataError, match=r"k_core.*, the remaining items, column 'title': .* item 0"
    ):
        k_core(log, 1, 2)
