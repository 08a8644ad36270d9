"""Column names."""

from typing import Final

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
TITLE: Final = "title"
GENRES: Final = "genres"
RANK: Final = "rank"
SCORE: Final = "score"
PROBABILITY: Final = "probability"

MOVIELENS: Final = {
    "userId": USER_ID,
    "movieId": ITEM_ID,
    "rating": RATING,
    "timestamp": TIMESTAMP,
    "title": TITLE,
    "genres": GENRES,
}
"""Column names in MovieLens' ratings.csv and movies.csv, and their standard names."""
