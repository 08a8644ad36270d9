import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys import columns
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings, write_sample

Floats = NDArray[np.float64]

SMALL = SyntheticConfig(n_users=80, n_items=100, mean_events=20, seed=3)
NUMERALS = {"": 1, " II": 2, " III": 3, " IV": 4, " V": 5}


@pytest.fixture(scope="module")
def sample() -> tuple[pd.DataFrame, pd.DataFrame]:
    return synthesise_ratings()


@pytest.fixture(scope="module")
def ratings(sample: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return sample[0]


@pytest.fixture(scope="module")
def movies(sample: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return sample[1]


def test_the_same_seed_gives_the_same_tables() -> None:
    for first, second in zip(synthesise_ratings(SMALL), synthesise_ratings(SMALL), strict=True):
        pd.testing.assert_frame_equal(first, second)


def test_another_seed_gives_other_tables() -> None:
    other = SMALL.model_copy(update={"seed": 4})
    for first, second in zip(synthesise_ratings(SMALL), synthesise_ratings(other), strict=True):
        assert not first.equals(second)


def test_tables_have_the_sizes_asked_for(ratings: pd.DataFrame, movies: pd.DataFrame) -> None:
    assert list(ratings) == [columns.USER_ID, columns.ITEM_ID, columns.RATING, columns.TIMESTAMP]
    assert list(movies) == [columns.ITEM_ID, columns.TITLE, columns.GENRES]
    assert ratings[columns.USER_ID].nunique() == 400
    assert movies[columns.ITEM_ID].tolist() == list(range(1, 301))
    assert ratings[columns.ITEM_ID].isin(movies[columns.ITEM_ID]).all()
    assert 50 < len(ratings) / 400 < 70


def test_nobody_rates_a_film_twice(ratings: pd.DataFrame) -> None:
    assert not ratings.duplicated([columns.USER_ID, columns.ITEM_ID]).any()


def test_ratings_are_half_steps_from_half_to_five(ratings: pd.DataFrame) -> None:
    assert set(ratings[columns.RATING].unique()) <= set(np.arange(1, 11) / 2)
    assert ratings[columns.RATING].nunique() >= 8
    assert 3.0 < ratings[columns.RATING].mean() < 4.0


def test_ratings_are_higher_for_the_genres_that_a_viewer_watches_most(
    ratings: pd.DataFrame, movies: pd.DataFrame
) -> None:
    rated = ratings.merge(movies, on=columns.ITEM_ID)
    rated = rated.assign(genre=rated[columns.GENRES].str.split("|")).explode("genre")
    shares = rated.groupby(columns.USER_ID)["genre"].value_counts(normalize=True)
    rated = rated.merge(shares.reset_index(), on=[columns.USER_ID, "genre"])
    event = rated.groupby([columns.USER_ID, columns.ITEM_ID])
    assert event["proportion"].max().corr(event[columns.RATING].first()) > 0.2


def test_time_passes_between_the_ratings_of_a_viewer(ratings: pd.DataFrame) -> None:
    assert ratings[columns.TIMESTAMP].dtype == np.int64
    assert (ratings.groupby(columns.USER_ID)[columns.TIMESTAMP].diff().dropna() > 0).all()


def test_a_few_films_and_viewers_have_most_of_the_ratings(ratings: pd.DataFrame) -> None:
    # With equal chances the first tenth of 300 films would have about 12 % of the ratings.
    assert _share_of_first_tenth(ratings[columns.ITEM_ID]) > 0.2
    assert _share_of_first_tenth(ratings[columns.USER_ID]) > 0.2


def test_titles_are_unique_and_have_years(movies: pd.DataFrame) -> None:
    assert movies[columns.TITLE].is_unique
    assert movies[columns.TITLE].str.fullmatch(r"[A-Z].+ \((19|20)\d\d\)").all()


def test_titles_are_unique_in_the_largest_catalogue() -> None:
    _, movies = synthesise_ratings(SyntheticConfig(n_users=5, n_items=5_000, franchise_share=0))
    assert len(movies) == 5_000
    assert movies[columns.TITLE].is_unique


def test_franchises_are_watched_in_order_and_from_the_first(
    ratings: pd.DataFrame, movies: pd.DataFrame
) -> None:
    name, part, year = _parse(movies[columns.TITLE])
    release = pd.DataFrame({"name": name, "part": part, "year": year}).sort_values(["name", "part"])
    assert (release.groupby("name")["year"].diff().dropna() > 0).all()

    films = movies.assign(name=name, part=part)
    watched = ratings.merge(films, on=columns.ITEM_ID)
    watched = watched.sort_values([columns.USER_ID, columns.TIMESTAMP])
    nth = watched.groupby([columns.USER_ID, "name"]).cumcount() + 1
    assert (nth == watched["part"]).all()
    assert (watched["part"] > 1).mean() > 0.2  # sequels are worth predicting


def test_the_last_film_says_more_of_the_next_than_the_set_of_films_watched(
    ratings: pd.DataFrame,
) -> None:
    histories = [
        group.to_numpy() - 1 for _, group in ratings.groupby(columns.USER_ID)[columns.ITEM_ID]
    ]
    n_items = 300
    seen = np.zeros((len(histories), n_items))  # [n_users, n_items]
    follows = np.zeros((n_items, n_items))  # [before, after]
    for user, history in enumerate(histories):
        seen[user, history[:-1]] = 1
        for before, after in pairwise(history[:-1]):
            follows[before, after] += 1
    popularity = seen.sum(axis=0)
    together = seen.T @ seen * (1 - np.eye(n_items))
    cosine = together / np.sqrt(np.outer(popularity, popularity).clip(1))
    before_last = np.array([history[-2] for history in histories])
    last = np.array([history[-1] for history in histories])

    by_popularity = _hit_rate(np.tile(popularity, (len(histories), 1)), seen, last)
    by_knn = _hit_rate(seen @ cosine, seen, last)
    by_markov = _hit_rate(follows[before_last] + popularity / 1e6, seen, last)

    assert by_popularity < by_knn < by_markov
    assert by_markov > 1.5 * by_knn


def test_a_larger_sample_takes_little_time() -> None:
    ratings, _ = synthesise_ratings(SyntheticConfig(n_users=1_000, n_items=600))
    assert ratings[columns.USER_ID].nunique() == 1_000


@pytest.mark.parametrize(
    "config",
    [
        SyntheticConfig(n_users=1, n_items=10, mean_events=5),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, n_tastes=1),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, franchise_share=1),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, sequel_appetite=0),
    ],
)
def test_corner_cases_still_give_ratings(config: SyntheticConfig) -> None:
    ratings, movies = synthesise_ratings(config)
    assert ratings[columns.USER_ID].nunique() == config.n_users
    assert len(movies) == config.n_items


def test_more_events_than_films_allow_are_refused() -> None:
    with pytest.raises(ValidationError, match="mean_events 60 is more than half of n_items 100"):
        SyntheticConfig(n_items=100)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="n_movies"):
        SyntheticConfig.model_validate({"n_movies": 10})


def test_the_sample_is_written_as_movielens_does(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample", SMALL)

    assert folder == tmp_path / "sample"
    assert sorted(path.name for path in folder.iterdir()) == ["movies.csv", "ratings.csv"]
    ratings, movies = synthesise_ratings(SMALL)
    written = pd.read_csv(folder / "ratings.csv")
    assert list(written) == ["userId", "movieId", "rating", "timestamp"]
    pd.testing.assert_frame_equal(written.rename(columns=columns.MOVIELENS), ratings)
    written = pd.read_csv(folder / "movies.csv")
    assert list(written) == ["movieId", "title", "genres"]
    assert written["title"].tolist() == movies[columns.TITLE].tolist()


def _share_of_first_tenth(ids: pd.Series) -> float:
    counts = ids.value_counts().to_numpy()
    return float(counts[: len(counts) // 10].sum() / counts.sum())


def _parse(titles: pd.Series) -> tuple[list[str], list[int], list[int]]:
    """The name, part and year of each title."""
    found = [re.fullmatch(r"(.+?)( [IV]+)? \((\d{4})\)", title) for title in titles]
    rows = [match.groups(default="") for match in found if match]
    return (
        [name for name, _, _ in rows],
        [NUMERALS[numeral] for _, numeral, _ in rows],
        [int(year) for _, _, year in rows],
    )


def _hit_rate(scores: Floats, seen: Floats, target: NDArray[np.int64], k: int = 10) -> float:
    """HitRate@k over all unseen items."""
    unseen = np.where(seen > 0, -np.inf, scores)
    at_target = unseen[np.arange(len(target)), target]
    return float(((unseen > at_target[:, None]).sum(axis=1) < k).mean())
