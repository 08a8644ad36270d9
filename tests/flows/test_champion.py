"""The ratings that flows read, and the champion that they compare with."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prefect import flow

from flows.cache import cache_path
from flows.recommend import recommend
from flows.settings import Settings
from flows.tasks.data import resolve_source
from flows.tasks.pending import register_and_promote
from flows.tasks.registry import example_query, find_champion, require_comparable
from flows.tasks.stages import Trained
from recsys import tracking
from recsys.cooccurrence import count_cooccurrence
from recsys.data import DataConfig, read_ratings, save_interactions
from recsys.data.config import LeaveLastN
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.errors import BundleError, DataError, NetworkError
from recsys.evaluation import evaluate
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle
from recsys.recommender.scoring import ItemScorer

FILMS = SyntheticConfig(n_users=60, n_items=50, mean_events=20)  # those of the bundle
SAMPLE = "data/synthetic-sample"
DEFAULT = "data/ml-latest-small"
NOTHING_SET, GIVEN = Settings(), Settings(source="films")


@pytest.fixture
def place(prefect_server, empty_database, tmp_path, monkeypatch):
    """An empty project folder with films, and no way to the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    Path("mlflow").mkdir()
    shutil.copy(empty_database, "mlflow")
    write_sample(tmp_path / "films", FILMS)
    return tmp_path


def in_a_flow(function, *arguments):
    @flow
    def check():
        return function(*arguments)

    return check()


@pytest.fixture
def promoted(place, bundle):
    """Registers the bundle as the champion, trained on a source; returns its version."""

    def register(source="films", config=DataConfig(), counts=None):
        log = read_ratings(place / "films")
        with tracking.start_run("train", "films") as run:
            if source is not None:
                run.log_dataset(log, "films", source)
            tracking.tag_data_config(run, config)
            run.log_params({"counts": counts} if counts else {})
            tracking.log_bundle(run, save_bundle(bundle, place / "bundle"))
            version = tracking.register(run, "recsys", "by hand")
            tracking.promote(run, "recsys", version)
        return version

    return register


def source_of(settings=NOTHING_SET):
    return in_a_flow(resolve_source, settings)[0]


def test_the_synthetic_sample_is_for_the_first_training_only(promoted):
    assert source_of() == SAMPLE
    version = promoted(SAMPLE)
    assert source_of() == SAMPLE, "the champion is of the sample too"
    assert in_a_flow(find_champion, Settings(source=SAMPLE)).version == version
    assert in_a_flow(find_champion, Settings(source="films")) is None, "it is replaced"
    write_sample(Path(DEFAULT), FILMS)
    assert source_of() == DEFAULT, "the network is back"


@pytest.mark.parametrize(
    ("title", "uri", "end"),
    [
        ("Heat (1995)", "models:/recsys@champion", "recsys next 'Heat (1995)'"),
        ("Heat", "models:/shop/3", "recsys next --model models:/shop/3 Heat"),
        ("-30-", "models:/recsys@champion", "recsys next -- -30-"),
        (None, "models:/recsys@champion", "recsys next {item_id}"),
    ],
    ids=["champion", "other", "dash", "ambiguous"],
)
def test_the_command_of_a_training_names_one_item(bundle, title, uri, end):
    catalogue = bundle.catalogue.copy()
    popular = Recommender(bundle).popular_items(1).loc[0]
    is_popular = catalogue["item_id"] == popular["item_id"]
    other = catalogue.index[~is_popular][0]
    catalogue.loc[other if title is None else is_popular, "title"] = title or popular["title"]
    command = example_query(Recommender(replace(bundle, catalogue=catalogue)), uri)
    assert command.endswith(end.format(item_id=popular["item_id"]))


def test_the_synthetic_sample_is_not_registered_over_other_versions(promoted, monkeypatch):
    monkeypatch.setattr(resolve_source, "retry_delay_seconds", 0.1)
    promoted()
    tracking.store.connect().delete_registered_model_alias("recsys", "champion")
    with pytest.raises(NetworkError, match="could not be fetched"):
        source_of()
    write_sample(Path(DEFAULT), FILMS)
    assert source_of() == DEFAULT


def test_the_source_is_that_of_the_champion_read_in_the_same_way(promoted):
    write_sample(Path(DEFAULT), FILMS)
    config = DataConfig(split=LeaveLastN(n=2))
    promoted(config=config)
    source, settings = in_a_flow(resolve_source, Settings())
    assert (source, settings.source, settings.data) == ("films", "films", config)
    own = DataConfig(split=LeaveLastN(n=3))
    assert in_a_flow(resolve_source, Settings(data=own))[1].data == own
    assert source_of(Settings(source="elsewhere")) == "elsewhere"
    assert source_of(Settings(model_name="books")) == DEFAULT
    shutil.move("films", "away")
    with pytest.raises(DataError, match=r"are not available \(films\): set `source`"):
        source_of()


def test_a_deployment_trains_on_nothing_but_its_own_source_or_the_champions(promoted, monkeypatch):
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "one")
    with pytest.raises(DataError, match=r"no champion 'recsys' whose source would be used: deploy"):
        source_of()
    assert source_of(Settings(source="films")) == "films"
    write_sample(Path(SAMPLE), FILMS)
    promoted(SAMPLE)
    write_sample(Path(DEFAULT), FILMS)
    assert source_of() == SAMPLE


def test_a_champion_that_cannot_be_read_is_not_absent(promoted, caplog):
    version = promoted()
    (weights,) = Path("mlflow/artifacts").rglob("session_model.safetensors")
    weights.rename("elsewhere")
    with pytest.raises(BundleError) as stopped:
        in_a_flow(find_champion, Settings(source="films"))
    for text in (f"version {version} of 'recsys'", str(weights), "--replace-champion"):
        assert text in str(stopped.value)
    assert in_a_flow(find_champion, Settings(source="films", replace_champion=True)) is None
    assert "is replaced by any model" in caplog.text
    Path("elsewhere").rename(weights)
    assert in_a_flow(find_champion, Settings(source="films")).version == version


def split_of(name):
    return DataConfig().split.apply(read_ratings(name))


def test_a_model_of_another_catalogue_does_not_compete(promoted, place):
    """Both number their items from 1."""
    promoted()
    movies = place / "films/movies.csv"
    titles = movies.read_text().replace(" (", " II (")
    movies.write_text(titles)
    settings = Settings(source="films")
    champion = in_a_flow(find_champion, settings)
    message = r"version 1 of 'recsys': the model is of another catalogue.* setting `model_name`"
    with pytest.raises(DataError, match=message):
        require_comparable(champion, split_of("films"), settings)
    require_comparable(None, split_of("films"), settings)
    with pytest.raises(DataError, match="of another catalogue"):
        recommend("films")
    assert not list(Path("data/recommendations").glob("*day=*"))


def decide(split, bundle, settings=GIVEN):
    """Register the champion's own weights once more; returns the verdict."""

    @flow
    def register_again():
        model = ItemScorer(bundle.embeddings, bundle.weights)
        reports = {"validation": evaluate(model, split, "validation")}
        counts = count_cooccurrence(split.train, 3.0)
        trained = Trained(split, counts, bundle.embeddings, bundle.session_model, reports)
        with tracking.start_run("train", "films") as run:
            return register_and_promote(trained, settings, run)

    return register_again()


def test_unknown_training_data_of_the_champion_is_reported(promoted, bundle, caplog):
    promoted(counts="gone")
    decide(split_of("films"), bundle)
    assert "Cannot determine whether the champion was trained on the validation" in caplog.text
    assert "data/cache/counts/gone" in caplog.text


def test_a_champion_is_not_judged_on_what_it_has_learned(promoted, bundle):
    split = split_of("films")
    save_interactions(split.interactions, cache_path("counts", "all") / "interactions")
    promoted(counts="all")
    n = len(split.rows("validation"))
    verdict = decide(split, bundle)
    assert f"not compared on 0 of {n} targets" in str(verdict)
    assert not verdict.promoted
    assert decide(split, bundle, Settings(source="films", replace_champion=True)).promoted


def test_a_model_that_does_not_answer_is_not_registered(place, bundle):
    split = split_of("films")
    network = bundle.session_model.network
    bias = network.item_bias.detach().clone()
    try:
        network.item_bias.data.fill_(np.nan)
        with pytest.raises(BundleError, match="'item_bias' has values that are not finite"):
            decide(split, bundle)
    finally:
        network.item_bias.data.copy_(bias)
    assert not tracking.has_versions("recsys")


def test_a_model_of_data_without_repeats_does_not_compete_on_data_with_repeats(promoted):
    promoted()
    champion = in_a_flow(find_champion, Settings(source="films"))
    require_comparable(champion, split_of("films"), Settings())
    repeated = DataConfig().split.apply(read_ratings("films", repeats="allow"))
    message = r"version 1 of 'recsys': the data repeats items .* setting `model_name`"
    with pytest.raises(DataError, match=message):
        require_comparable(champion, repeated, Settings())
