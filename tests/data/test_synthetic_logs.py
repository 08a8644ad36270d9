from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.data import read_ratings
from recsys.data.synthetic_logs import LogConfig, synthesise_log, write_log
from recsys.errors import ConfigError

SMALL = {"n_users": 50, "n_items": 30, "mean_events": 20, "seed": 3}


@pytest.fixture(scope="module")
def music() -> tuple[pd.DataFrame, pd.DataFrame]:
    return synthesise_log(LogConfig(n_users=400, n_items=1_000))


@pytest.fixture(scope="module")
def plays(music: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return music[0].sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)


@pytest.fixture(scope="module")
def shop() -> pd.DataFrame:
    return synthesise_log(LogConfig(kind="shop", n_users=2_000))[0]


def test_columns_are_those_of_the_kind(
    music: tuple[pd.DataFrame, pd.DataFrame], shop: pd.DataFrame
) -> None:
    plays, tracks = music
    assert list(plays) == ["user_id", "item_id", "timestamp"]
    assert list(shop) == ["user_id", "session_id", "item_id", "event", "timestamp"]
    assert tracks["item_id"].tolist() == list(range(1, 1_001))
    assert tracks["title"].is_unique
    assert plays["item_id"].isin(tracks["item_id"]).all()
    assert plays["user_id"].nunique() == 400
    for log, n_users, mean in ((plays, 400, 80), (shop[shop["event"] == "view"], 2_000, 12)):
        assert log["timestamp"].is_monotonic_increasing
        assert len(log) / n_users == pytest.approx(mean, rel=0.15)


def test_long_histories_end_before_2025() -> None:
    log, _ = synthesise_log(LogConfig(kind="music", n_users=40, mean_events=4000))
    assert log["timestamp"].max() < pd.Timestamp("2025-01-01").timestamp()


@pytest.mark.parametrize("kind", ["music", "shop"])
def test_a_seed_decides_everything(kind: str) -> None:
    config = LogConfig.model_validate({"kind": kind, **SMALL})
    other = config.model_copy(update={"seed": 4})
    for same, different in zip(synthesise_log(config), synthesise_log(other), strict=True):
        assert not same.equals(different)
    pd.testing.assert_frame_equal(synthesise_log(config)[0], synthesise_log(config)[0])


def test_repeats_are_recent_and_frequent_items(plays: pd.DataFrame) -> None:
    assert 0.6 < plays.duplicated(["user_id", "item_id"]).mean() < 0.75
    by_user = plays.groupby("user_id")["item_id"]
    shares = np.array([(plays["item_id"] == by_user.shift(n)).mean() for n in (1, 2, 4, 8)])
    assert (shares[:-1] > 1.2 * shares[1:]).all()

    found, by_chance = [], []
    for _, history in by_user:
        items = history.tolist()
        for position in range(30, len(items), 5):
            counts = Counter(items[:position])
            found.append(items[position] == counts.most_common(1)[0][0])
            by_chance.append(1 / len(counts))
    assert np.mean(found) > 2 * np.mean(by_chance)


def test_new_tracks_follow_the_order_of_the_album(
    music: tuple[pd.DataFrame, pd.DataFrame], plays: pd.DataFrame
) -> None:
    titles = music[1].set_index("item_id")["title"].str.extract(r"Album (\d+), track (\d+)")
    album, track = (plays["item_id"].map(titles[part].astype(int)) for part in (0, 1))
    is_next = (album == album.shift()) & (track == track.shift() % 10 + 1)
    is_new = ~plays.duplicated(["user_id", "item_id"])
    assert 0.35 < is_next[is_new].mean() < 0.6


def test_music_is_played_in_the_evening_in_sessions(plays: pd.DataFrame) -> None:
    gaps = plays.groupby("user_id")["timestamp"].diff()
    is_start = ~(gaps < 3_600)
    assert len(plays) / is_start.sum() == pytest.approx(12, rel=0.1)
    assert (plays["timestamp"][is_start] % 86_400 // 3_600).between(18, 21).all()
    assert gaps[~is_start].between(150, 330).all()


def test_sessions_of_a_shop_are_short_and_half_of_the_visitors_come_once(
    shop: pd.DataFrame,
) -> None:
    sessions = shop[shop["event"] == "view"].groupby("session_id")
    assert sessions.size().mean() == pytest.approx(4, rel=0.05)
    assert sessions.size().eq(1).mean() == pytest.approx(0.25, abs=0.03)  # geometric
    assert shop.drop_duplicates(["user_id", "session_id"])["session_id"].is_unique
    n_sessions = shop.groupby("user_id")["session_id"].nunique()
    assert n_sessions.eq(1).mean() == pytest.approx(0.5, abs=0.08)
    # Sessions of a user do not overlap.
    in_order = shop.sort_values(["user_id", "timestamp"], kind="stable")["session_id"]
    assert in_order.ne(in_order.shift()).sum() == shop["session_id"].nunique()


def test_a_cart_follows_its_view_and_a_purchase_its_cart(shop: pd.DataFrame) -> None:
    counts = shop["event"].value_counts()
    assert counts["cart"] / counts["view"] == pytest.approx(0.15, abs=0.02)
    assert counts["purchase"] / counts["cart"] == pytest.approx(0.4, abs=0.04)
    first = shop.drop_duplicates(["session_id", "item_id", "event"])
    times = first.pivot_table(index=["session_id", "item_id"], columns="event", values="timestamp")
    assert times["view"].notna().all()
    assert times.loc[times["purchase"].notna(), "cart"].notna().all()
    assert (times["cart"].dropna() > times["view"][times["cart"].notna()]).all()
    assert (times["purchase"].dropna() > times["cart"][times["purchase"].notna()]).all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", ["music", "shop"])
def test_logs_are_read_as_they_are(kind: str, suffix: str, tmp_path: Path) -> None:
    config = LogConfig.model_validate({"kind": kind, **SMALL})
    log = write_log(tmp_path / "sample", config, suffix)
    read = read_ratings(tmp_path / "sample", repeats="allow", histories="user")
    assert read.n_users == 50
    assert read.catalogue["title"].str.contains(", ").all()
    if kind == "music":
        assert read.repeats == read_ratings(tmp_path / "sample").repeats
        in_order = log.sort_values(["user_id", "timestamp"], kind="stable")
        assert read.items.ids[read.item_index].tolist() == in_order["item_id"].tolist()
    assert sorted(path.name for path in (tmp_path / "sample").iterdir()) == [
        f"log{suffix}",
        "movies.csv",
    ]


@pytest.mark.parametrize(
    "sizes",
    [{"n_users": 1, "mean_events": 1}, {"n_items": 11}, {"mean_events": 400, "n_items": 10}],
)
@pytest.mark.parametrize("kind", ["music", "shop"])
def test_edge_cases_of_sizes(kind: str, sizes: dict[str, int]) -> None:
    config = LogConfig.model_validate({"kind": kind, "n_users": 20, **sizes})
    log, items = synthesise_log(config)
    assert log["user_id"].nunique() == config.n_users
    assert len(items) == config.n_items


def test_unknown_kinds_are_an_error() -> None:
    with pytest.raises(ConfigError, match="'music' or 'shop'"):
        LogConfig.model_validate({"kind": "books"})
