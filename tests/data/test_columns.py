"""Column names of well-known data sets, in every kind of source."""

import pandas as pd
import pytest

from recsys.data import DataWarning, read_ratings
from recsys.data.options import ReadOptions
from recsys.data.tables import select_columns
from recsys.errors import DataError

# Data set: its header, and the names of user, item, rating, time and session in it.
HEADERS = {
    "MovieLens": ("userId,movieId,rating,timestamp", "userId movieId rating timestamp"),
    "RecBole": (
        "user_id:token,item_id:token,rating:float,timestamp:float",
        "user_id:token item_id:token rating:float timestamp:float",
    ),
    "Amazon 2014": (
        "reviewerID,asin,reviewerName,helpful,overall,summary,unixReviewTime,reviewTime",
        "reviewerID asin overall unixReviewTime",
    ),
    "Amazon 2023": (
        "rating,title,asin,parent_asin,user_id,timestamp,helpful_vote",
        "user_id parent_asin rating timestamp",
    ),
    "Amazon US": (
        "marketplace,customer_id,review_id,product_id,product_parent,star_rating,review_date",
        "customer_id product_id star_rating review_date",
    ),
    "Yelp": (
        "review_id,user_id,business_id,stars,useful,date",
        "user_id business_id stars date",
    ),
    "RetailRocket": ("timestamp,visitorid,event,itemid", "visitorid itemid - timestamp - event"),
    "Last.fm": ("userid,artist,plays", "userid artist - -"),
    "HetRec": ("userID,artistID,weight", "userID artistID - -"),
    "Goodreads": (
        "user_id,book_id,is_read,rating,date_added,date_updated",
        "user_id book_id rating date_added",
    ),
    "Steam": ("app_id,helpful,date,is_recommended,hours,user_id", "user_id app_id - date"),
    "Netflix": ("Cust_Id,Movie_Id,Rating,Date", "Cust_Id Movie_Id Rating Date"),
    "Netflix 2": ("CustomerID,MovieID,Rating,Date", "CustomerID MovieID Rating Date"),
    "KuaiRec": (
        "user_id,video_id,play_duration,time,date,timestamp,watch_ratio",
        "user_id video_id - timestamp",
    ),
    "REES46": (
        "event_time,event_type,product_id,brand,price,user_id,user_session",
        "user_id product_id - event_time user_session event_type",
    ),
    "Book-Crossing": ("User-ID,ISBN,Book-Rating", "User-ID ISBN Book-Rating -"),
    "MyAnimeList": ("username,anime_id,my_score,my_last_updated", None),
    "own spelling": ("USER_ID,Item Id,RATING,Time Stamp", "USER_ID,Item Id,RATING,Time Stamp"),
    "YooChoose": ("session_id,timestamp,item_id,category", "- item_id - timestamp session_id"),
    "Diginetica": (
        "session_id,user_id,item_id,timeframe,eventdate",
        "user_id item_id - eventdate session_id",
    ),
    "exact names win": ("user_id,visitorid,item_id,asin,score,rating", "user_id item_id rating -"),
}
FIELDS = ("user_id", "item_id", "rating", "timestamp", "session_id", "event")


@pytest.mark.parametrize("name", HEADERS)
def test_the_names_of_well_known_data_sets_are_known(name):
    header, expected = HEADERS[name]
    available = header.split(",")
    expected = available if expected is None else expected.split("," if "," in expected else None)
    expected = [*expected, *["-"] * (len(FIELDS) - len(expected))]
    selected = select_columns(available, ReadOptions(), "log.csv")
    assert [selected.source_names.get(field, "-") for field in FIELDS] == expected
    assert set(selected.unused) == set(available) - set(expected)
    frame = pd.DataFrame([["1", "2", 3, 1_600_000_000, "a", "view"]], columns=list(FIELDS))
    wide = pd.DataFrame({column: ["1"] for column in available})
    for field, column in zip(FIELDS, expected, strict=True):
        if column != "-":
            wide[column] = frame[field]
    log = read_ratings(wide, on_report=lambda report: None)
    assert (log.rating is None) == (expected[2] == "-")
    assert (log.timestamp is None) == (expected[3] == "-")
    assert (log.sessions is None) == (expected[4] == "-")


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (["user_id", "userId", "item_id"], {}, "more than one column 'user_id': 'user_id', 'userI"),
        (["user_id", "artist_id", "track_id"], {}, "'artist_id', 'track_id'; choose one with"),
        (["user_id:token", "item_id:token_seq"], {}, "'item_id:token_seq' holds lists"),
        (["0", "1", "2"], ["user_id", "item_id"], "2 names, but there are 3 columns"),
        (["userId", "item"], ["item_id", "user_id"], "already have names: 'userId', 'item'"),
        (["a", "b"], ["_", "item_id"], "no column 'user_id' among '_', 'item_id'"),
    ],
)
def test_unclear_columns_are_refused(header, columns, message):
    options = ReadOptions(columns=columns if isinstance(columns, dict) else tuple(columns))
    with pytest.raises(DataError) as caught:
        select_columns(header, options, "log.csv")
    assert message in str(caught.value)


def test_a_mapped_column_is_used_for_nothing_else():
    options = ReadOptions(columns={"user_id": "item"})
    selected = select_columns(["item", "movieId"], options, "")
    assert selected.positions == {"user_id": 0, "item_id": 1}


def test_a_list_of_columns_names_them_in_order():
    frame = pd.DataFrame([[5, 1, "x", 7]])
    with pytest.warns(DataWarning, match="no timestamps"):
        log = read_ratings(frame, columns=["item_id", "user_id", "_", "rating"])
    assert (log.users.ids.tolist(), log.items.ids.tolist(), log.rating.tolist()) == ([1], [5], [7])


def test_the_columns_of_a_catalogue_are_known(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,4,1\n1,11,4,2\n")
    (tmp_path / "movies.csv").write_text("Movie_ID,name,genre\n10,Heat,Crime\n11,Net,Thriller\n")
    catalogue = read_ratings(tmp_path).catalogue
    assert catalogue["title"].tolist() == ["Heat", "Net"]
    assert catalogue["genres"].tolist() == ["Crime", "Thriller"]
