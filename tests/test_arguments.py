"""Every public function with every odd argument: an answer, or an error of ours in one line."""

import importlib
import inspect
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import recsys
from recsys.arguments import shown
from recsys.callbacks import History
from recsys.cooccurrence import count_cooccurrence
from recsys.data import Split, leave_last_out, read_ratings, save_interactions
from recsys.embeddings import EmbeddingConfig, ItemEmbeddings, fit_embeddings, save_embeddings
from recsys.errors import ConfigError, QueryError, RecsysError
from recsys.evaluation import evaluate, segment_targets, write_report
from recsys.recommender import Recommender, Session
from recsys.recommender.bundle import make_bundle, save_bundle
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork, export_scorer


class Unshowable:
    def __repr__(self):
        raise RuntimeError


def odd_values():
    """New ones, since an iterator can be read only once."""
    return [
        None, True, np.True_, "", "5", "20%", "\ud800", "line\nline", b"5", -1, 0, 3, 2**31, 2**63,
        -(2**63), 10**400, 10**5000, 0.5, 2.5, -0.5, float("nan"), float("inf"), float("-inf"), 1j,
        np.int64(2), np.uint8(0), np.float32(0.5), np.float64("nan"), np.timedelta64(5, "D"),
        np.timedelta64("NaT"), np.datetime64("2020-01-01"), np.datetime64("NaT"), pd.NA, pd.NaT,
        pd.Timestamp("2020-01-01"),
        (), [], {}, set(), (1, 2), [0], [1.5], ["a"], [None], [2**63], [[]], {"a": 1}, {1: 10**400},
        {2**63: [1]}, {(1, 2): [], (3, 4): []}, {None: None}, {1, 2}, np.array(5), np.array([]),
        np.array([1.5]), np.array([0, 1]), np.array(["a"]), np.zeros((2, 2)), np.zeros((3, 3, 3)),
        np.array([None]), pd.DataFrame(), pd.DataFrame({"a": [1]}), pd.Series([1, 2]), object(),
        object, int, lambda: 1, lambda *_: 1 / 0, iter([1]), range(3),
        Unshowable(),
    ]  # fmt: skip


ARGUMENTS = {
    "AutoReloader": lambda w: {"source": w.bundle},
    "load_recommender": lambda w: {"source": w.bundle},
    "count_cooccurrence": lambda w: {"interactions": w.log},
    "read_ratings": lambda w: {"source": w.table},
    "data.k_core": lambda w: {"interactions": w.log},
    "data.min_rating": lambda w: {"interactions": w.log, "min_rating": 1},
    "data.time_window": lambda w: {"interactions": w.log},
    "data.leave_last_out": lambda w: {"interactions": w.log},
    "data.leave_last_n": lambda w: {"interactions": w.log, "n": 1},
    "data.per_user_ratio": lambda w: {"interactions": w.log},
    "data.global_time_cut": lambda w: {
        "interactions": w.log,
        "validation_from": 1_600_001_500,
        "test_from": 1_600_002_500,
    },
    "data.last_days": lambda w: {"interactions": w.log},
    "data.last_session": lambda w: {"interactions": w.log},
    "data.load_interactions": lambda w: {"folder": w.folder / "log"},
    "data.save_interactions": lambda w: {"interactions": w.log, "folder": w.new / "log"},
    "split.rows": lambda w: {"subset": "test"},
    "split.users": lambda w: {"subset": "test"},
    "split.targets": lambda w: {"subset": "test"},
    "split.histories": lambda w: {"subset": "test"},
    "split.cold": lambda w: {"subset": "test"},
    "split.fingerprint": lambda w: {"subset": "test"},
    "split.without_leakage": lambda w: {"earlier": w.log},
    "rec.search": lambda w: {},
    "rec.popular_items": lambda w: {},
    "rec.similar_items": lambda w: {"item": w.item},
    "rec.similar_to_new_item": lambda w: {"co_counts": {w.item: 1}},
    "rec.next_items": lambda w: {"history": [w.item]},
    "rec.recommend_user": lambda w: {"user_id": w.user},
    "rec.recommend_users": lambda w: {},
    "rec.recommend_batch": lambda w: {"histories": [[w.item]]},
    "rec.next_sequences": lambda w: {"history": [w.item], "length": 2},
    "rec.explain": lambda w: {"history": [w.item]},
    "rec.session": lambda w: {},
    "rec.index_of": lambda w: {"item": w.item},
    "session.add": lambda w: {"item": w.item},
    "session.next_items": lambda w: {},
    "embeddings.fit_embeddings": lambda w: {"counts": w.counts, "config": w.fit},
    "embeddings.spectral_optimum": lambda w: {"counts": w.counts, "dim": 2},
    "embeddings.ppmi_embeddings": lambda w: {"interactions": w.log, "dim": 2},
    "embeddings.fold_in": lambda w: {"vectors_ND": w.vectors, "rows": w.counts.matrix},
    "embeddings.load_embeddings": lambda w: {
        "folder": w.folder / "embeddings",
        "items": w.log.items,
    },
    "embeddings.save_embeddings": lambda w: {
        "embeddings": w.item_embeddings,
        "history": History(),
        "folder": w.new / "vectors",
    },
    "embeddings.most_popular": lambda w: {
        "interactions": w.log,
        "embeddings": w.item_embeddings,
        "n_items": 3,
    },
    "embeddings.pca_plane": lambda w: {"vectors_ND": w.vectors},
    "embeddings.project_items": lambda w: {
        "embeddings": w.item_embeddings,
        "items": np.arange(9),
        "method": "pca",
    },
    "embeddings.write_parquet": lambda w: {
        "embeddings": w.item_embeddings,
        "path": w.new / "vectors.parquet",
    },
    "embeddings.write_projector": lambda w: {
        "embeddings": w.item_embeddings,
        "folder": w.new / "projector",
    },
    "embeddings.write_word2vec": lambda w: {
        "embeddings": w.item_embeddings,
        "path": w.new / "vectors.txt",
    },
    "item_embeddings.vectors_for": lambda w: {"items": w.log.items},
    "item_embeddings.unit_vectors": lambda w: {},
    "item_embeddings.neighbours": lambda w: {"k": 3},
    "item_embeddings.analogy": lambda w: {"a": 0, "b": 1, "c": 2},
    "item_embeddings.user_vector": lambda w: {"history": np.array([0, 1])},
    "item_embeddings.similar_to_history": lambda w: {"history": np.array([0, 1])},
    "evaluation.evaluate": lambda w: {"model": w.model, "split": w.split},
    "evaluation.evaluate_metric": lambda w: {"model": w.model, "split": w.split},
    "evaluation.estimate_metric": lambda w: {"model": w.model, "split": w.split},
    "evaluation.comparison_table": lambda w: {"reports": {"a": w.report, "b": w.report}},
    "evaluation.confidence_intervals": lambda w: {"ranks": w.ranks, "ks": [5]},
    "evaluation.significance_table": lambda w: {
        "reference": "a",
        "ranks": {"a": w.ranks, "b": w.ranks},
    },
    "evaluation.segment_targets": lambda w: {"split": w.split, "subset": "test"},
    "evaluation.segment_metrics": lambda w: {"report": w.report, "segments": w.segments},
    "evaluation.promote_if_better": lambda w: {
        "challenger": w.report,
        "champion": None,
        "split": w.split,
    },
    "evaluation.tune_baseline": lambda w: {"name": "popularity", "split": w.split},
    "evaluation.measure_latency": lambda w: {"answer": lambda _: None, "histories": w.histories},
    "evaluation.rank": lambda w: {"scorer": w.model, "histories": w.histories},
    "evaluation.read_report": lambda w: {
        "folder": w.folder / "report",
        "split": w.split,
        "subset": "validation",
    },
    "evaluation.write_report": lambda w: {"report": w.report, "folder": w.new},
    "sessions.fit_session_model": lambda w: {"interactions": w.log, "config": w.tiny},
    "sessions.training_digest": lambda w: {"interactions": w.log, "config": w.tiny},
    "sessions.beam_search": lambda w: {"model": w.model, "history": [0], "length": 2},
    "sessions.expected_calibration_error": lambda w: {
        "scores_BN": w.model.score(w.histories),
        "targets_B": np.arange(len(w.histories)),
    },
    "model.score": lambda w: {"histories": w.histories},
    "model.step": lambda w: {"state": w.model.start(), "item": 0},
}


def log_table():
    """Twelve users with four sessions of three different items."""
    rng = np.random.default_rng(0)
    rows = [
        (user, item, 1.0 + (user + item) % 5, 1_600_000_000 + 1000 * (n // 3) + n)
        for user in range(12)
        for n, item in enumerate(rng.permutation(20)[:12].tolist())
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Small results of every stage, in memory and in a folder."""
    folder, table = tmp_path_factory.mktemp("saved"), log_table()
    log = read_ratings(table, session_gap="10min", histories="user")
    split = leave_last_out(log)
    counts = count_cooccurrence(log, None)
    embeddings = fit_embeddings(counts, EmbeddingConfig(dim=4, epochs=3))
    network = SessionNetwork(log.n_items, SessionConfig(embedding_dim=4, hidden_dim=4).resolve(0))
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(log.n_items))
    model = SessionModel(network.eval(), log.items)
    parts = log.catalogue, embeddings, model, {}, {}
    bundle = make_bundle(*parts, cooccurrence=counts, interactions=log)
    rec = Recommender(bundle)
    save_interactions(log, folder / "log")
    item, user = log.items.ids[0].item(), log.users.ids[0].item()
    report = evaluate(model, split, "validation")
    write_report(report, folder / "report")
    save_embeddings(embeddings, History(), folder / "embeddings")
    small = SessionConfig(embedding_dim=4, hidden_dim=4, epochs=1)
    return SimpleNamespace(
        fit=EmbeddingConfig(dim=2, epochs=1), tiny=small, report=report, ranks=report.to_frame(),
        segments=segment_targets(split, "validation"), histories=split.histories("test"),
        item_embeddings=embeddings, vectors=embeddings.vectors,
        folder=folder, table=table, log=log, split=split, counts=counts,
        model=model, rec=rec, item=item, user=user, session=rec.session([item]),
        bundle=save_bundle(bundle, folder / "bundle"),
    )  # fmt: skip


@pytest.fixture
def world(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some text is a path
    return SimpleNamespace(**vars(saved), new=tmp_path)


def find(world, name):
    """The function, class or method of a name."""
    owner, _, attribute = name.rpartition(".")
    if hasattr(world, owner):
        return getattr(getattr(world, owner), attribute)
    return getattr(importlib.import_module(f"recsys.{owner}".rstrip(".")), attribute)


FUNCTIONS = {"on_step", "on_epoch", "on_report", "on_trial", "notify", "validate", "answer"}
"""Arguments whose errors are those of the caller."""


def check(function, arguments, argument, value, kind=RecsysError):
    if argument in FUNCTIONS and callable(value):
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            result = function(**{**arguments, argument: value})
        if hasattr(result, "close"):
            result.close()
    except kind as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
    assert message


@pytest.mark.parametrize("name", ARGUMENTS)
def test_any_argument_gives_a_result_or_an_error_of_one_line(world, name):
    function, arguments = find(world, name), ARGUMENTS[name](world)
    kind = QueryError if name.startswith(("rec.", "session.")) else RecsysError
    for argument in inspect.signature(function).parameters:
        for value in odd_values():
            check(function, arguments, argument, value, kind)


CONFIGS = {
    "Checks": {},
    "CooccurrenceConfig": {},
    "EmbeddingConfig": {},
    "Runtime": {},
    "SessionConfig": {},
    "data.DataConfig": {},
    "embeddings.PairWeights": {},
    "evaluation.PromotionRule": {},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_any_setting_gives_a_configuration_or_an_error_of_one_line(world, name):
    config = find(world, name)
    for setting in config.model_fields:
        for value in odd_values():
            check(config, {}, setting, value, ConfigError)


METHODS = {
    "item_embeddings": ItemEmbeddings,
    "model": SessionModel,
    "rec": Recommender,
    "session": Session,
    "split": Split,
}

NOT_CALLED = {
    "data": "ColdStart DataWarning FilterReport Finding Interactions LogProfile ReadReport Split",
    "embeddings": "ItemEmbeddings SpectralOptimum vector_bytes",
    "evaluation": "CatalogueAdapter DotProductScorer Report Scorer Verdict",
    "sessions": "ItemSequence NumpySessionModel SessionModel SessionNetwork SessionState Weights "
    "checkpoint_bytes from_torch parameter_bytes to_torch",
    "": "Cooccurrence Recommendations Recommender RecsysError Session",
    "rec": "load",
    "session": "rank",
    "split": "with_filters",
    "model": "sequences start step_batch",
}
"""Results that functions return, types, and what only this library and its flows call."""

SLOW = {"export_scorer"}
"""What takes seconds for each valid argument; see below for the others."""


@pytest.mark.parametrize("package", ["", "data", "embeddings", "evaluation", "sessions", *METHODS])
def test_every_public_function_is_called(package):
    owner = METHODS.get(package) or importlib.import_module(f"recsys.{package}".rstrip("."))
    public = [name for name in vars(owner) if not name.startswith("_")]
    names = public if package in METHODS else owner.__all__
    values = {name: getattr(owner, name) for name in names}
    kinds = inspect.isfunction, inspect.ismethod, inspect.isclass
    callables = {name for name, value in values.items() if any(is_kind(value) for is_kind in kinds)}
    called = {name.rpartition(".")[2] for name in [*ARGUMENTS, *CONFIGS]}
    left_out = {name for listed in NOT_CALLED.values() for name in listed.split()}
    assert callables <= called | left_out | SLOW


REFUSED = [
    ("AutoReloader", "poll_interval", ["30", None, float("nan"), -1, 0, 10**400], "a number from"),
    ("data.k_core", "min_user_interactions", [float("nan"), -1, 2.5, "5", True], "an integer of 1"),
    ("data.leave_last_n", "n", ["1", 1.5, np.float64(2)], "an integer of 1 or more"),
    ("data.last_days", "days", ["7", 1.5], "an integer of 1 or more"),
    ("data.per_user_ratio", "validation", ["20%", float("nan"), -0.1, None], "a number from 0"),
    ("data.min_rating", "min_rating", ["4", None, True, float("inf")], "a number"),
    ("count_cooccurrence", "min_rating", ["4", np.timedelta64(4, "D")], "a number"),
    ("count_cooccurrence", "window", [5], "Window or None"),
    ("read_ratings", "on_report", [None], "a function"),
    ("split.targets", "subset", ["valid", None], "'validation' or 'test'"),
    ("embeddings.ppmi_embeddings", "dim", ["8", 2.5, -1, 0], "an integer of 1 or more"),
    ("embeddings.spectral_optimum", "dim", ["8", 2.5, -1, 0], "an integer of 1 or more"),
    ("embeddings.fit_embeddings", "config", [1, {}], "EmbeddingConfig or None"),
    ("sessions.fit_session_model", "config", [1, {}], "SessionConfig or None"),
    ("sessions.fit_session_model", "on_epoch", [None], "a function"),
    ("sessions.beam_search", "length", ["2", 0, 1.5], "an integer of 1 or more"),
    ("evaluation.evaluate", "model", [None], "Scorer"),
    ("evaluation.evaluate", "ks", [None, 10, ["10"], [1.5]], "an array of integers"),
    ("evaluation.comparison_table", "reports", [None], "Mapping"),
    ("evaluation.tune_baseline", "runtime", [1], "Runtime or None"),
    ("item_embeddings.neighbours", "k", ["3", 0, 2**63], "an integer from 1"),
    ("rec.next_items", "k", [np.timedelta64(5, "D"), "5", 10**400], "an integer"),
    ("rec.next_items", "diversity", [np.timedelta64(5, "D")], "a number from 0 to 1"),
    ("rec.explain", "on_step", [None], "a function"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument", "values", "allowed"), REFUSED)
def test_an_argument_that_is_not_allowed_is_named(world, name, argument, values, allowed):
    function, arguments = find(world, name), ARGUMENTS[name](world)
    for value in values:
        with pytest.raises(RecsysError) as caught:
            function(**{**arguments, argument: value})
        message = str(caught.value)
        assert message.startswith(f"{argument} is {shown(value)}: it must be {allowed}")


def test_an_export_refuses_wrong_arguments(world):
    for wrong in ({"model": None}, {"path": None}, {"length": "5"}, {"length": 0}):
        with pytest.raises(RecsysError, match=r"None|length is .*: it must be an integer of 1"):
            export_scorer(**{"model": world.model, "path": world.new / "a.pt2", **wrong})


def test_numpy_numbers_are_numbers(world):
    assert world.rec.next_items(k=np.uint8(3)).equals(world.rec.next_items(k=3))
    splits = [recsys.leave_last_n(world.log, n) for n in (2, np.int64(2))]
    assert splits[0].fingerprint("test") == splits[1].fingerprint("test")
    logs = [recsys.min_rating(world.log, rating)[0] for rating in (4, np.float32(4))]
    assert logs[0].digest == logs[1].digest
