"""Column names: ours, and those that data sets use for the same."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
SESSION_ID: Final = "session_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
EVENT: Final = "event"
TITLE: Final = "title"
GENRES: Final = "genres"
RANK: Final = "rank"
SCORE: Final = "score"
PROBABILITY: Final = "probability"

IDS: Final = (USER_ID, ITEM_ID, SESSION_ID)

MOVIELENS: Final = {
    "userId": USER_ID,
    "movieId": ITEM_ID,
    "rating": RATING,
    "timestamp": TIMESTAMP,
    "title": TITLE,
    "genres": GENRES,
}
"""Column names in MovieLens' ratings.csv and movies.csv, and their standard names."""

# Per field, the names that data sets use, as `normalize` writes them. Those of an earlier line are
# preferred: many logs have both a time and a date, or ids and names.
_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    USER_ID: (
        "userid",
        "user uid useridx",
        "visitorid customerid custid reviewerid profileid memberid accountid steamid",
        "username profilename reviewprofilename",
    ),
    ITEM_ID: (
        "itemid",
        "item parentasin",
        (
            "movieid filmid productid asin businessid bookid isbn artistid trackid songid videoid "
            "gameid appid animeid newsid articleid recipeid jokeid beerid beerbeerid placeid "
            "venueid poiid locationid goodsid sku"
        ),
        "artist artistname game gametitle",
    ),
    SESSION_ID: (
        "sessionid",
        "session usersession usersessionid sessionkey sessionuuid visitid visit visitnumber",
    ),
    RATING: (
        "rating",
        (
            "ratings overall stars score starrating bookrating userrating ratingvalue myrating "
            "reviewoverall reviewscore myscore vote grade"
        ),
    ),
    TIMESTAMP: (
        "timestamp",
        (
            "unixreviewtime unixtime unixtimestamp eventtime eventtimestamp ratingtimestamp ts "
            "tsms timestampms timems epoch epochms createdat ratedat playedat viewedat listenedat "
            "datetime"
        ),
        "time reviewtime utctime viewtime endtime",
        (
            "date eventdate reviewdate dateadded mylastupdated ratingdate purchasedate orderdate "
            "transactiondate invoicedate tdat created datecreated day ds dt"
        ),
        "updatedat dateupdated",
    ),
    EVENT: (
        "event",
        "eventtype",
        "eventname",
        "behaviortype behaviourtype",
        "behavior behaviour",
        "interactiontype",
        "actiontype",
        "action",
        "kind",
        "type",
    ),
    TITLE: (
        "title",
        "name itemtitle itemname movietitle booktitle producttitle productname gametitle animename",
        "artistname trackname",
    ),
    GENRES: ("genres", "genre", "categories category"),
}

_TYPE: Final = re.compile(r":(token|float)(_seq)?$")


def normalize(name: str) -> str:
    """A column name without case, punctuation and RecBole's type: `User-ID:token` is `userid`."""
    return re.sub(r"[\W_]+", "", _TYPE.sub("", name)).casefold()


def match(available: Sequence[str], fields: Iterable[str]) -> dict[str, list[int]]:
    """Positions of the columns that may be each field; more than one if none is preferred.

    >>> match(["User-ID", "asin", "parent_asin", "date"], ["user_id", "item_id", "rating"])
    {'user_id': [0], 'item_id': [2]}
    """
    positions: dict[str, list[int]] = {}
    plain = [normalize(name) for name in available]
    for field in fields:
        for aliases in _ALIASES[field]:
            words = aliases.split()
            if found := [i for i, name in enumerate(plain) if name in words]:
                positions[field] = found
                break
    return positions
