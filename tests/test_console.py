import re

import pandas as pd
import pytest

from recsys.console import print_table, progress_bar


@pytest.fixture
def terminal(monkeypatch):
    """Make rich treat standard error as a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def piped(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def test_progress_bar_shows_description_and_metric(terminal, capsys):
    with progress_bar("embeddings", epochs=3, metric="loss") as on_epoch:
        on_epoch(1, {"loss": 0.123456, "other": 9.0})
        on_epoch(2, {"loss": 0.0123456})
    shown = capsys.readouterr()
    assert "embeddings" in shown.err
    assert "0.01235" in shown.err
    assert "3/3" in shown.err, "it is full at the end, although the last epoch was not reported"
    assert not shown.out


def test_unreported_metric_is_not_shown(terminal, capsys):
    with progress_bar("lstm", epochs=1, metric="loss") as on_epoch:
        on_epoch(1, {"other": 9.0})
    assert "lstm" in capsys.readouterr().err


def test_without_a_terminal_each_epoch_is_one_line(piped, capsys, monkeypatch):
    clock = iter([0.0, 30.0, 50.0])
    monkeypatch.setattr("recsys.console.time.monotonic", lambda: next(clock))
    with progress_bar("lstm", epochs=3, metric="loss") as on_epoch:
        errors = {"loss_standard_error": 0.0123}
        on_epoch(1, {"loss": 0.5, "interactions_per_second": 12345.6} | errors)
        on_epoch(2, {"other": 0.25})
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "lstm: epoch 1/3, loss 0.5 ± 0.01, 12,346 interactions/s, 0:01:00 left",
        "lstm: epoch 2/3, 0:00:20 left",
        "lstm: finished early, after epoch 2/3",
    ]
    assert not shown.out


def test_many_fast_epochs_print_one_line_per_second(piped, capsys, monkeypatch):
    clock = iter(0.25 * step for step in range(200))
    monkeypatch.setattr("recsys.console.time.monotonic", lambda: next(clock))
    with progress_bar("embeddings", epochs=101, metric="loss") as on_epoch:
        for epoch in range(1, 102):
            on_epoch(epoch, {"loss": 0.5})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 26
    assert lines[-1].startswith("embeddings: epoch 101/101, loss 0.5")


def test_the_first_of_many_epochs_includes_the_setup_and_has_no_estimate(
    piped, capsys, monkeypatch
):
    clock = iter([0.0, 30.0, 32.0])
    monkeypatch.setattr("recsys.console.time.monotonic", lambda: next(clock))
    with progress_bar("embeddings", epochs=200, metric="loss") as on_epoch:
        on_epoch(1, {"loss": 0.5})
        on_epoch(2, {"loss": 0.5})
    assert capsys.readouterr().err.splitlines() == [
        "embeddings: epoch 1/200, loss 0.5",
        "embeddings: epoch 2/200, loss 0.5, 0:06:36 left",
        "embeddings: finished early, after epoch 2/200",
    ]


def test_lines_can_be_disabled(piped, capsys):
    with progress_bar("writing", epochs=1, metric="rows", print_line=None) as on_epoch:
        on_epoch(1, {"rows": 5})
    assert not capsys.readouterr().err


def printed(capsys, title="Next", **columns):
    print_table(pd.DataFrame(columns), title)
    return capsys.readouterr().out


def test_table_has_a_title_and_four_decimals(piped, capsys):
    text = printed(capsys, model=["lstm", "als"], score=[1 / 3, 2.0], rank=[1, 2])
    assert text.startswith("Next")
    rows = [line.split() for line in text.splitlines()[3:]]
    assert rows == [["lstm", "0.3333", "1"], ["als", "2.0000", "2"]]


def test_small_numbers_are_not_printed_as_zero(piped, capsys):
    text = printed(capsys, probability=[0.5, 3.21e-6, 0.0])
    assert [line.strip() for line in text.splitlines()[3:]] == ["0.5000", "3.2e-06", "0.0000"]


def test_text_is_left_aligned_and_numbers_right_aligned(piped, capsys):
    text = printed(capsys, model=["lstm", "x"], rank=[1000, 2])
    assert text.splitlines()[-2:] == ["lstm    1000", "x          2"]


def test_nine_metrics_fit_on_a_narrow_terminal(terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"{metric}@{k}" for metric in ("HitRate", "NDCG", "MRR") for k in (5, 10, 20)]
    shown = printed(capsys, model=["popularity"], **{name: [0.12345] for name in names})
    text = re.sub(r"\x1b\[\d*m", "", shown)  # the bold headings
    assert text.count("0.1235") == 9
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["[rec] (2007)", "[/b] (2007)", "[bold]Heat", ":smile:"])
def test_titles_are_not_interpreted_as_markup(piped, capsys, name):
    text = printed(capsys, title=f"Next after {name}", **{"title ": [name], name: [1]})
    assert text.count(name) == 3


def test_long_titles_are_not_cut_in_a_file(piped, capsys):
    assert "x" * 150 in printed(capsys, name=["x" * 150], score=[1.0])
