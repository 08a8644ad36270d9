import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from recsys.data import DataWarning, read_ratings
from recsys.errors import DataError

RATINGS = "userId,movieId,rating,timestamp\n1,30,4.0,20\n1,10,3.5,10\n2,10,5.0,30\n"
MOVIES = 'movieId,title,genres\n10,Heat (1995),Action|Crime\n30,"Net, The (1995)",Thriller\n'


@pytest.fixture
def write(tmp_path):
    """Writes the given files into a folder, and names it."""

    def write(**contents):
        for stem, content in contents.items():
            (tmp_path / f"{stem}.csv").write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        return tmp_path

    return write


def items_of(interactions, user):
    history = interactions.history(interactions.users.index(user))
    return interactions.items.ids[history].tolist()


def refused(source, *parts):
    """Check that the source is refused with a message that has all parts."""
    with pytest.raises(DataError) as caught:
        read_ratings(source)
    for part in parts:
        assert part in str(caught.value)


def test_a_folder_in_the_layout_of_movielens(write):
    interactions = read_ratings(write(ratings=RATINGS, movies=MOVIES))
    assert interactions.users.ids.tolist() == [1, 2]
    assert interactions.items.ids.tolist() == [10, 30]
    assert interactions.user_index.tolist() == [0, 0, 1]
    assert interactions.item_index.tolist() == [0, 1, 0]
    assert interactions.rating.tolist() == [3.5, 4.0, 5.0]
    assert interactions.timestamp.tolist() == [10, 20, 30]
    assert interactions.user_offsets.tolist() == [0, 2, 3]
    assert interactions.catalogue["title"].tolist() == ["Heat (1995)", "Net, The (1995)"]
    assert interactions.catalogue["genres"].tolist() == ["Action|Crime", "Thriller"]


def test_arrays_have_the_documented_types(small_log):
    interactions = read_ratings(small_log)
    assert interactions.user_index.dtype == interactions.item_index.dtype == np.int32
    assert interactions.rating.dtype == np.float32
    assert interactions.timestamp.dtype == interactions.user_offsets.dtype == np.int64


@pytest.mark.parametrize("form", ["own names", "file", "text path", "table", "parquet", "BOM"])
def test_all_forms_of_the_same_ratings_are_equal(write, form):
    folder = write(ratings=RATINGS)
    expected = read_ratings(folder).digest
    path, table = folder / "ratings.csv", pd.read_csv(folder / "ratings.csv")
    if form == "own names":
        own = RATINGS.replace("userId", "user_id").replace("movieId", "item_id")
        source = write(ratings=own)
    elif form == "BOM":
        source = write(ratings=b"\xef\xbb\xbf" + RATINGS.encode())
    elif form == "parquet":
        source = folder / "log.parquet"
        table.to_parquet(source)
    else:
        source = {"file": path, "text path": str(path), "table": table}[form]
    assert read_ratings(source).digest == expected


@pytest.mark.parametrize(
    "ids",
    [
        ["007", "07", "7"],
        ["Na", "none", "nil"],
        ["1", "2", "x"],
        [" 1", "1", "2"],
        ["1.0", "1", "x.0"],
        ["1e3", "1000", "é"],
        ["9007199254740993", "9007199254740992", "a"],
        ["18446744073709551615", "18446744073709551614", "1"],
    ],
)
@pytest.mark.parametrize("form", ["csv", "table", "parquet"])
def test_text_ids_are_read_unchanged(tmp_path, ids, form):
    log = pd.DataFrame({"user_id": ids, "item_id": ids})
    source = log
    if form == "csv":
        source = tmp_path / "log.csv"
        log.to_csv(source, index=False)
    elif form == "parquet":
        source = tmp_path / "log.parquet"
        log.to_parquet(source)
    interactions = read_ratings(source)
    assert interactions.users.ids.tolist() == sorted(ids)
    assert interactions.items.ids.tolist() == sorted(ids)


def test_without_timestamps_rows_are_in_input_order(write):
    interactions = read_ratings(write(ratings="user_id,item_id\n1,30\n2,10\n1,10\n1,20\n"))
    assert interactions.timestamp is None
    assert interactions.rating is None
    assert items_of(interactions, 1) == [30, 10, 20]


def test_equal_timestamps_are_in_input_order():
    items = [30, 10, 20, 40]
    log = pd.DataFrame({"user_id": 1, "item_id": items, "timestamp": [5, 5, 5, 4]})
    assert items_of(read_ratings(log), 1) == [40, 30, 10, 20]


@pytest.mark.parametrize(
    ("timestamps", "rating", "order"),
    [
        ([30, 20, 10], 1.0, [20, 10]),
        ([10, 20, 30], 3.0, [20, 10]),
        ([10, 20, 10], 3.0, [10, 20]),  # of equal times, the last row
        (None, 3.0, [20, 10]),
    ],
)
def test_the_latest_of_repeated_rows_is_used_with_a_warning(timestamps, rating, order):
    log = pd.DataFrame({"user_id": 1, "item_id": [10, 20, 10], "rating": [1.0, 2.0, 3.0]})
    if timestamps:
        log["timestamp"] = timestamps
    with pytest.warns(DataWarning, match="2 of 3 rows are used; duplicate: 1 row quarantined"):
        interactions = read_ratings(log)
    ratings = {10: rating, 20: 2.0}
    assert items_of(interactions, 1) == order
    assert interactions.rating.tolist() == [ratings[item] for item in order]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            RATINGS.replace("movieId", "film"),
            ["no column 'item_id' among 'userId', 'film'", "columns="],
        ),
        ("a;b\n1;2\n", ["no column 'user_id', 'item_id' among 'a', 'b'"]),
        ("user_id,userId,item_id\n1,2,3\n", ["more than one column 'user_id'"]),
        ('user_id,item_id\n1,"10\n', ["line 2: a quotation mark is not closed"]),
        ('user_id,item_id,note\n1,2,"a\n2,3,b\n3,4,c"\n', ["line 2: a quotation mark"]),
        (b"user_id,item_id\n1,1\n\n\xe9,10\n", ["line 4: byte 0xe9 is not utf-8 text"]),
        ("user_id,item_id\n", ["there are no rows in it"]),
        ("user_id,item_id", ["there are no rows in it"]),
        ("\n\n", ["the file is empty"]),
        ("", ["the file is empty"]),
    ],
)
def test_files_that_are_not_ratings_are_an_error(write, content, parts):
    folder = write(ratings=content)
    refused(folder, str(folder / "ratings.csv"), *parts)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv"])
def test_a_missing_path_is_an_error(tmp_path, name):
    refused(tmp_path / name, f"{tmp_path / name}: no such file")


def test_a_folder_without_ratings_is_an_error(tmp_path):
    refused(tmp_path, str(tmp_path), "no file of ratings in it", "choose the files with files=")


def test_a_broken_parquet_file_is_an_error(tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"no parquet")
    refused(tmp_path / "log.parquet", "log.parquet: cannot be read as Parquet")


def test_a_trailing_comma_is_refused_unless_the_header_has_one(write):
    rows = "1,10,4.0,\n2,20,5.0,\n"
    refused(
        write(ratings="user_id,item_id,rating\n" + rows),
        "line 1: rows have 4 columns, but the header has 3",
        "name every column in the header",
    )
    interactions = read_ratings(write(ratings="user_id,item_id,rating,\n" + rows))
    assert interactions.users.ids.tolist() == [1, 2]
    assert interactions.rating.tolist() == [4.0, 5.0]


@pytest.mark.parametrize(
    ("movies", "titles"),
    [
        (None, ["10", "30"]),
        (MOVIES, ["Heat (1995)", "Net, The (1995)"]),
        ("movieId,title\n30,Net\n", ["10", "Net"]),
        ("movieId,title\n30,\n10,Heat\n", ["Heat", "30"]),
        ("movieId,title\n30,\n10,\n", ["10", "30"]),
        ("movieId,title\n30,300\n", ["10", "300"]),
        ("movieId,title\n10,007\n30,Null\n", ["007", "Null"]),
        ("movieId,title\n10,NA\n30,1e5\n", ["NA", "1e5"]),
        ("item_id,title\n10,Heat\n10,Heat\n30,Net\n", ["Heat", "Net"]),
        ("movieId,title\n10,Heat\n20,Unseen\n30,Net\n", ["Heat", "Net"]),
    ],
)
def test_items_without_a_title_get_their_id_as_title(write, movies, titles):
    contents = {"ratings": RATINGS} | ({} if movies is None else {"movies": movies})
    catalogue = read_ratings(write(**contents)).catalogue
    assert catalogue["item_id"].tolist() == [10, 30]
    assert catalogue["title"].tolist() == titles


def test_an_item_with_two_titles_is_told(write):
    movies = "item_id,title\n10,Heat\n\n10,Cold\n30,Net\n30,Web\n"
    with pytest.warns(DataWarning, match=r"movies\.csv, line 4: '10' has another.*; 2 items have"):
        catalogue = read_ratings(write(ratings=RATINGS, movies=movies)).catalogue
    assert catalogue["title"].tolist() == ["Heat", "Net"]


def test_text_ids_find_their_titles(write):
    movies = "movieId,title\n7,Seven\n007,Bond\n"
    interactions = read_ratings(write(ratings="userId,movieId\n1,007\n1,7\n", movies=movies))
    assert interactions.catalogue["title"].tolist() == ["Bond", "Seven"]


@pytest.mark.parametrize(
    ("movies", "parts"),
    [
        ("movieId,label\n10,Heat\n", ["no column 'title'"]),
        ("title\nHeat\n", ["no column 'item_id'"]),
        ("movieId,title\n10,Heat\nx,Net\n", ["line 3", "'item_id'", "'x' is not an integer"]),
        ("movieId,title\n10.5,Heat\n", ["line 2", "'item_id'", "'10.5' is not an integer"]),
        ("", ["the file is empty"]),
        ("movieId,title\n10,Heat\n11,b\n\n30,Net, The\n", ["line 5: '30,Net, The' has 3 columns"]),
        ("movieId,title\n30,Net, The\n", ["line 1: rows have 3 columns, but the header has 2"]),
        ("movieId,title\n10,Heat\n30\n", ["line 3: '30' has 1 columns instead of 2"]),
    ],
)
def test_invalid_catalogues_are_an_error(write, movies, parts):
    folder = write(ratings=RATINGS, movies=movies)
    refused(folder, str(folder / "movies.csv"), *parts)


def test_a_dataframe_is_not_modified():
    log = pd.DataFrame(
        {"userId": ["2", "1", "2"], "movieId": [3.0, 1.0, 3.0], "timestamp": [9, 8, 7]},
        index=[5, 3, 3],
    )
    before = log.copy(deep=True)
    with pytest.warns(DataWarning):
        interactions = read_ratings(log, repeats="exclude")
    interactions.timestamp[:] = 0
    interactions.item_index[:] = 0
    pd.testing.assert_frame_equal(log, before)


def test_reading_works_without_the_packages_for_training(write):
    folder = write(ratings=RATINGS, movies=MOVIES)
    code = (
        "import sys\n"
        "for name in ('numba', 'fsspec', 'pooch', 'requests', 'torch'): sys.modules[name] = None\n"
        "from recsys.data import read_ratings\n"
        "print(read_ratings(sys.argv[1]).digest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == read_ratings(folder).digest


def test_movielens_is_read_completely(movielens):
    interactions = read_ratings(movielens)
    assert (len(interactions), interactions.n_users, interactions.n_items) == (100_836, 610, 9_724)
    titles = interactions.catalogue.set_index("item_id")["title"]
    assert titles[1] == "Toy Story (1995)"
    first = pd.read_csv(movielens / "ratings.csv").query("userId == 1")
    in_order = first.sort_values("timestamp", kind="stable")["movieId"]
    assert items_of(interactions, 1) == in_order.tolist()


def test_a_time_is_preferred_to_a_date(tmp_path):
    (tmp_path / "log.csv").write_text(
        "user_id,video_id,date,hourmin,time_ms\n0,1,20220408,100,1649348425000\n"
        "0,2,20220408,100,1649348424000\n"
    )
    log = read_ratings(tmp_path / "log.csv")
    assert log.timestamp.tolist() == [1649348424, 1649348425]
    assert log.items.ids[log.item_index].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id, item_id\n1, 10\n2, 20\n", "line 1: there are blanks next to ','; remove them"),
        (
            "user_id,item_id,rating,timestamp\n7,10,1593865815,4\n7,20,1593865814,5\n7,30,,6\n",
            "the ratings look like times; map them with columns=",
        ),
        ("user_id,user_id,item_id\n1,1,2\n", "'user_id', 'user_id'; drop the others"),
    ],
)
def test_columns_that_are_not_what_they_seem_are_refused(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_ratings(tmp_path / "log.csv")


def test_two_meanings_of_one_column_are_refused(small_log):
    with pytest.raises(DataError, match="columns names a column twice: 'a', 'a'"):
        read_ratings(small_log, columns={"user_id": "a", "item_id": "a"})


def test_ids_may_have_invisible_characters(tmp_path):
    ids = ["می‌خواهم", "👨‍👩‍👧", "été\xa02"]
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(f"{i},{i}\n" for i in ids))
    assert read_ratings(tmp_path / "log.csv").users.ids.tolist() == sorted(ids)


def test_a_part_with_only_a_header_has_no_rows(tmp_path):
    header = "user_id,item_id\n"
    for number, rows in enumerate(["1,10\n", "", "1,11\n"]):
        (tmp_path / f"log-{number}.csv").write_text(header + rows)
    reports = []
    log = read_ratings(tmp_path, on_report=reports.append)
    assert log.items.ids[log.item_index].tolist() == [10, 11]
    files = [(group["format"], group["n_rows"]) for group in reports[0].profile.files]
    assert files == [("CSV, UTF-8", 2), ("a header only", 0)]
    for number in (0, 2):
        (tmp_path / f"log-{number}.csv").write_text(header)
    with pytest.raises(DataError, match="there are no rows in its files, only headers"):
        read_ratings(tmp_path)


def test_ratings_can_be_ignored(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating\n1,10,like\n1,11,dislike\n")
    with pytest.raises(DataError, match=re.escape('set columns = {rating = ""} to use all rows')):
        read_ratings(path)
    log = read_ratings(path, columns={"rating": ""})
    assert log.rating is None
    assert len(log) == 2
