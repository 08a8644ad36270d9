import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from recsys import columns
from recsys.callbacks import History
from recsys.cooccurrence import count_cooccurrence, weight
from recsys.data import read_ratings
from recsys.data.synthetic import (
    SyntheticConfig,
    generate_block,
    generate_movies,
    planted_pairs,
    sample_titles,
    synthesise_ratings,
    write_parquet,
    write_sample,
)
from recsys.errors import ConfigError
from recsys.storage import sha256_of

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


def test_ratings_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """Figures in the documentation depend on them."""
    config = SyntheticConfig(n_users=200, n_items=150, planted_pairs=5, seed=2)
    folder = write_sample(tmp_path / "sample", config)
    assert sha256_of(folder / "movies.csv").startswith("35745d38b9b268d6")
    assert sha256_of(folder / "ratings.csv").startswith("26d4a15773e9186a")


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


def test_no_user_rates_a_movie_twice(ratings: pd.DataFrame) -> None:
    assert not ratings.duplicated([columns.USER_ID, columns.ITEM_ID]).any()


def test_ratings_are_half_steps_from_half_to_five(ratings: pd.DataFrame) -> None:
    assert set(ratings[columns.RATING].unique()) <= set(np.arange(1, 11) / 2)
    assert ratings[columns.RATING].nunique() >= 8
    assert 3.0 < ratings[columns.RATING].mean() < 4.0


def test_ratings_are_higher_for_the_genres_that_a_user_watches_most(
    ratings: pd.DataFrame, movies: pd.DataFrame
) -> None:
    rated = ratings.merge(movies, on=columns.ITEM_ID)
    rated = rated.assign(genre=rated[columns.GENRES].str.split("|")).explode("genre")
    shares = rated.groupby(columns.USER_ID)["genre"].value_counts(normalize=True)
    rated = rated.merge(shares.reset_index(), on=[columns.USER_ID, "genre"])
    event = rated.groupby([columns.USER_ID, columns.ITEM_ID])
    assert event["proportion"].max().corr(event[columns.RATING].first()) > 0.2


def test_timestamps_of_a_user_increase(ratings: pd.DataFrame) -> None:
    assert ratings[columns.TIMESTAMP].dtype == np.int64
    assert (ratings.groupby(columns.USER_ID)[columns.TIMESTAMP].diff().dropna() > 0).all()


def test_long_histories_end_before_2025() -> None:
    """A reader would refuse ratings from the future."""
    many, _ = synthesise_ratings(SyntheticConfig(n_users=40, n_items=9000, mean_events=2500))
    assert many[columns.TIMESTAMP].max() <= pd.Timestamp("2025-01-01").timestamp()
    assert (many.groupby(columns.USER_ID)[columns.TIMESTAMP].diff().dropna() > 0).all()


def test_a_few_movies_and_users_have_most_of_the_ratings(ratings: pd.DataFrame) -> None:
    # With equal chances the first tenth of 300 movies would have about 12 % of the ratings.
    assert _share_of_first_tenth(ratings[columns.ITEM_ID]) > 0.2
    assert _share_of_first_tenth(ratings[columns.USER_ID]) > 0.2


def test_titles_are_unique_and_have_years(movies: pd.DataFrame) -> None:
    assert movies[columns.TITLE].is_unique
    assert movies[columns.TITLE].str.fullmatch(r"[A-Z].+ \((19|20)\d\d\)").all()


def test_titles_are_unique_in_the_largest_catalogue() -> None:
    largest = SyntheticConfig(n_items=200_000, series_fraction=0, planted_pairs=20_000)
    _, movies = generate_movies(largest)
    assert len(movies) == 200_000
    assert movies[columns.TITLE].is_unique
    assert movies[columns.TITLE].str.len().max() < 50


def test_series_are_watched_in_order_from_the_first(
    ratings: pd.DataFrame, movies: pd.DataFrame
) -> None:
    name, part, year = _parse(movies[columns.TITLE])
    release = pd.DataFrame({"name": name, "part": part, "year": year}).sort_values(["name", "part"])
    assert (release.groupby("name")["year"].diff().dropna() > 0).all()

    movies = movies.assign(name=name, part=part)
    watched = ratings.merge(movies, on=columns.ITEM_ID)
    watched = watched.sort_values([columns.USER_ID, columns.TIMESTAMP])
    nth = watched.groupby([columns.USER_ID, "name"]).cumcount() + 1
    assert (nth == watched["part"]).all()
    assert (watched["part"] > 1).mean() > 0.2  # sequels are worth predicting


def test_the_last_item_predicts_the_next_better_than_the_set_of_items(
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


def test_a_sample_of_a_thousand_users() -> None:
    ratings, _ = synthesise_ratings(SyntheticConfig(n_users=1_000, n_items=600))
    assert ratings[columns.USER_ID].nunique() == 1_000


@pytest.mark.parametrize(
    "config",
    [
        SyntheticConfig(n_users=1, n_items=10, mean_events=5),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, n_tastes=1),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, series_fraction=1),
        SyntheticConfig(n_users=20, n_items=30, mean_events=10, sequel_probability=0),
    ],
)
def test_edge_cases(config: SyntheticConfig) -> None:
    ratings, movies = synthesise_ratings(config)
    assert ratings[columns.USER_ID].nunique() == config.n_users
    assert len(movies) == config.n_items


def test_too_many_events_are_an_error() -> None:
    with pytest.raises(ConfigError, match="mean_events 60 is more than half of n_items 100"):
        SyntheticConfig(n_items=100)


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match="n_movies"):
        SyntheticConfig.model_validate({"n_movies": 10})


def test_the_sample_is_written_in_the_layout_of_movielens(tmp_path: Path) -> None:
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


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty users of SMALL per block."""
    monkeypatch.setattr("recsys.data.synthetic._BLOCK_RATINGS", 30 * SMALL.mean_events)


def test_blocks_do_not_depend_on_their_order(small_blocks: None) -> None:
    assert SMALL.n_blocks == 3
    titles, _ = generate_movies(SMALL)
    backwards = [generate_block(titles, SMALL, block) for block in (2, 1, 0)]
    in_order = pd.concat(backwards[::-1], ignore_index=True)
    pd.testing.assert_frame_equal(in_order, synthesise_ratings(SMALL)[0])
    assert in_order[columns.USER_ID].unique().tolist() == list(range(1, 81))
    # Each block draws random numbers of its own.
    first, second = backwards[2][columns.ITEM_ID], backwards[1][columns.ITEM_ID]
    assert first.head(20).tolist() != second.head(20).tolist()


def test_parquet_has_the_same_tables_and_a_row_group_for_each_block(
    small_blocks: None, tmp_path: Path
) -> None:
    history = History()
    folder = write_parquet(tmp_path / "sample", SMALL, history)

    assert sorted(path.name for path in folder.iterdir()) == ["movies.csv", "ratings.parquet"]
    ratings, movies = synthesise_ratings(SMALL)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "ratings.parquet"), ratings)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "movies.csv"), movies)
    assert pq.read_metadata(folder / "ratings.parquet").num_row_groups == 3
    assert list(history.epochs) == [1, 2, 3]
    assert history.series("ratings")[-1] == len(ratings)


def test_csv_of_several_blocks_is_one_table(small_blocks: None, tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample", SMALL)
    written = pd.read_csv(folder / "ratings.csv").rename(columns=columns.MOVIELENS)
    pd.testing.assert_frame_equal(written, synthesise_ratings(SMALL)[0])


def test_an_interrupted_sample_leaves_nothing(tmp_path: Path) -> None:
    def stop(_block: int, _metrics: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(tmp_path / "sample", SMALL, stop)
    assert not list(tmp_path.iterdir())


def test_sampling_with_and_without_replacement_agree() -> None:
    """Both ways of sampling give the same distribution."""
    n_users = 20_000
    small = SyntheticConfig(n_items=24, mean_events=8, n_tastes=3)
    titles, _ = generate_movies(small)
    tastes = np.tile([0.7, 0.3, 0.0], (n_users, 1))
    shares = []
    for rounds, seed in [(0, 1), (1, 2), (6, 3)]:
        rng = np.random.default_rng(seed)
        n_events = np.full(n_users, small.mean_events)
        user, title, n_movies = sample_titles(titles, tastes, n_events, small, rng, rounds).T
        assert (np.bincount(user, n_movies) == small.mean_events).all()
        is_first = np.diff(user, prepend=-1) != 0
        n_titles = len(titles.n_movies)
        shares.append(
            [
                np.bincount(title, minlength=n_titles) / n_users,
                np.bincount(title[is_first], minlength=n_titles) / n_users,
                np.bincount(title, n_movies, n_titles) / n_users / 5,
            ]
        )
    # The standard error of the difference of two shares is 0.005 at most.
    np.testing.assert_allclose(shares[1], shares[0], atol=0.02)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.02)
    weights = np.exp(titles.log_appeal) * (tastes[0] + 1e-3)[titles.taste]
    np.testing.assert_allclose(shares[2][1], weights / weights.sum(), atol=0.015)


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_users": 80, "n_items": 60, "mean_events": 20, "planted_pairs": 3},
        {"planted_pairs": 10, "seed": 1},
        {"n_users": 2_000, "n_items": 1_000, "planted_pairs": 100, "seed": 2},
    ],
)
def test_planted_pairs_are_each_others_nearest_neighbours(sizes: dict[str, int]) -> None:
    planted = SyntheticConfig.model_validate(sizes)
    ratings, _ = synthesise_ratings(planted)
    counts = count_cooccurrence(read_ratings(ratings), min_rating=4.0)
    similarity = weight(counts).toarray()
    first, second = (counts.items.indices(ids) for ids in planted_pairs(planted).T)
    assert len(first) == planted.planted_pairs
    assert (similarity[first].argmax(axis=1) == second).all()
    assert (similarity[second].argmax(axis=1) == first).all()
    # With a margin, so that similarities other than the cosine find them, too.
    runner_up = np.sort(similarity[first], axis=1)[:, -2]
    assert (similarity[first, second] > 1.1 * runner_up).all()


def test_planted_pairs_look_like_other_movies() -> None:
    planted = SyntheticConfig(planted_pairs=20)
    ratings, movies = synthesise_ratings(planted)
    title = movies.set_index(columns.ITEM_ID)[columns.TITLE]
    names = [re.sub(r"( [IV]+)? \(.*", "", title[item]) for item in planted_pairs(planted).ravel()]
    assert len(set(names)) == 40
    assert not ratings.duplicated([columns.USER_ID, columns.ITEM_ID]).any()
    assert movies[columns.TITLE].is_unique


def test_too_many_planted_pairs_are_an_error() -> None:
    with pytest.raises(ConfigError, match="planted_pairs 31 is more than a tenth of n_items"):
        SyntheticConfig(planted_pairs=31)


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
