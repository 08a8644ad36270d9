"""What a training says of its baselines."""

import contextlib
import errno
import io
import logging
from pathlib import Path

import pandas as pd
import pytest

from flows import best_effort
from flows.tasks.evaluation import SUBSETS, describe_better_baseline
from recsys.baselines import fit_item_knn, fit_popularity
from recsys.console import print_table
from recsys.data import leave_last_out
from recsys.evaluation import evaluate, significance_table


@pytest.fixture(scope="module")
def split(sample):
    return leave_last_out(sample)


@pytest.fixture(scope="module")
def by_model(split):
    models = {"popularity": fit_popularity(split.train), "item-knn": fit_item_knn(split.train)}
    return {
        name: {subset: evaluate(model, split, subset) for subset in SUBSETS}
        for name, model in models.items()
    }


class FullDisk(io.StringIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_table_that_cannot_be_printed_does_not_end_a_training(monkeypatch, caplog):
    monkeypatch.setattr(best_effort, "get_run_logger", logging.getLogger)
    with contextlib.redirect_stdout(FullDisk()):
        best_effort.try_print(print_table, pd.DataFrame({"model": ["lstm"]}), "Models")
    assert "Standard output cannot be written: No space left on device" in caplog.text


def test_a_better_baseline_is_named_with_the_page_that_helps(by_model):
    values = {name: each["validation"].metrics["ndcg_at_10"] for name, each in by_model.items()}
    best, worse = sorted(values, key=values.get, reverse=True)
    assert values[best] > values[worse]
    ranks = {name: reports["test"].to_frame() for name, reports in by_model.items()}
    assert describe_better_baseline(by_model, best, {}) == ""
    differences = significance_table(worse, ranks).to_dict("index")
    message = describe_better_baseline(by_model, worse, differences)
    assert f"{best} has a higher validation ndcg_at_10 than {worse}: {values[best]:.4f}" in message
    assert f"test targets {differences[best]['difference']:+.4f} (95% interval" in message
    page, _, heading = message.rpartition(" ")[2].partition("#")
    text = Path(__file__).parents[2].joinpath(page).read_text(encoding="utf-8")
    assert f"## {heading.replace('-', ' ')}\n" in text.lower()


def test_an_equal_baseline_is_not_better(by_model):
    reports = by_model["popularity"]
    assert describe_better_baseline({"lstm": reports, "popularity": reports}, "lstm", {}) == ""
