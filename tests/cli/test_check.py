"""The page of `recsys data check`, its JSON and its exit status."""

import json
import shlex
from datetime import datetime

import pytest
from typer.testing import CliRunner

from flows.cli import parse_settings
from flows.train import train
from recsys.cli.main import app
from recsys.data.options import ReadOptions
from recsys.errors import ConfigError

HEADER = "userId,movieId,rating,timestamp"


@pytest.fixture
def log(tmp_path):
    """Three rows of two users, and the titles of two of three films."""
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n10,Heat (1995),\n20,[rec] (2007),\n"
    )
    path = tmp_path / "ratings.csv"
    path.write_text(
        f"{HEADER}\n1,10,4,1000000000\n1,20,2.5,1000000000\n2,10,4,1000000200\n2,30,5,1000086400\n"
    )
    return path


@pytest.fixture
def dirty(tmp_path):
    path = tmp_path / "ratings.csv"
    values = ["1,10,4", "1,10,5", "2,10,9", "2,20,3", "1,20,4"]
    rows = [f"{row},{time}" for time, row in enumerate(values, start=1_000_000_000)]
    path.write_text("\n".join([HEADER, *rows]))
    return path


def check(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def sections(page):
    """The lines of each section of a page, without indentation."""
    found = {}
    for block in page.split("\n\n"):
        title, *lines = block.splitlines()
        found[title] = [" ".join(line.split()) for line in lines]
    return found


def test_the_page_shows_what_was_understood(log):
    done = check(log)
    assert done.exit_code == 0, done.output
    page = sections(done.stdout)
    assert list(page)[:4] == ["Files", "Columns", "Ratings", "Times"]
    assert page["Files"][0].startswith(f"{log}: 4 rows, CSV")
    assert page["Columns"][0] == "user_id ← userId, integers, 2 distinct"
    assert page["Columns"][3] == "timestamp ← timestamp, times"
    repeats = "repeats no row has a later row of the same user and item"
    assert repeats in page["Columns"]
    assert f"4 {'█' * 32} 2 50.0%" in page["Ratings"]
    assert f"5 {'█' * 16} 1 25.0%" in page["Ratings"]
    assert page["Times"][0] == "unit seconds since 1970"
    assert page["Times"][1] == "first 2001-09-09 01:46:40 UTC"
    assert page["Times"][3] == "last 2001-09-10 01:46:40 UTC"
    assert page["Times"][4].startswith(
        "ties 25.0% of the rows have the time of the user's row before"
    )
    rows = page["The first rows, as they were understood"]
    assert rows[1] == "line 2 1 10 Heat (1995) 4 2001-09-09 01:46:40 UTC"
    assert rows[2] == "line 3 1 20 [rec] (2007) 2.5 2001-09-09 01:46:40 UTC"
    assert page["Checks"][0].startswith("unknown_item: 1 row used: line ")
    assert page["Result"][0] == "All 4 rows are used."
    assert page["Result"][2] == f"recsys train --source {log} --model-name ratings"


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("Shop Berlin.csv", "shop-berlin"),
        ("πωλήσεις έως 10-2026.csv", "πωλήσεις-έως-10-2026"),
        ("βιβλία/2026-10.csv", "βιβλία"),
    ],
)
def test_the_name_of_the_model_is_that_of_the_source(tmp_path, name, suggested):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("user_id,item_id\n1,10\n1,20\n2,10\n")
    command = shlex.split(sections(check(str(path)).stdout)["Result"][-1])
    assert parse_settings(train, command[2:]).model_name == suggested


def test_a_log_of_pairs_says_what_follows(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,country\na,x,de\na,y,fr\n")
    page = sections(check(path).stdout)
    assert page["Ratings"][0].startswith("none: every row is positive; ")
    assert page["Times"][0].startswith("none: rows are in chronological order; ")
    assert "user_id ← user_id, text, such as 'a', 1 distinct" in page["Columns"]
    assert "not used country" in page["Columns"]
    hint = "titles of items are read from items.csv next to the log, not from a column of it"
    assert page["Columns"][-1] == hint
    (tmp_path / "items.csv").write_text("item_id,title\nx,Heat\ny,Casino\n")
    assert hint not in check(path).stdout


def test_invalid_rows_are_shown_and_counted(dirty):
    done = check(dirty)
    assert done.exit_code == 1
    page = sections(done.stdout)
    assert page["Checks"][0] == "rating_scale: 1 row left out"
    assert page["Checks"][1].startswith("line 4, column 'rating': 9")
    at = page["Checks"].index("duplicate: 1 row left out")
    remedy = page["Checks"][at + 2]
    assert remedy == '→ set repeats = "allow" if users come back to items, as to songs'
    file = dirty.parent / "ratings.csv.quarantine.parquet"
    assert page["Result"][0] == f"2 rows left out: {file}"
    assert page["Result"][1] == "3 of 5 rows are used; 1 invalid."


def test_what_is_used_as_it_is_takes_one_line(tmp_path):
    path = tmp_path / "log.csv"
    rows = [f"{user},00{item}" for user in ("01", "02") for item in range(9)]
    path.write_text("\n".join(["user_id,item_id", *rows]))
    text = "would change as a 64-bit integer, so the ids of this column are text"
    assert sections(check(path).stdout)["Checks"] == [
        f"id_type: 18 rows used: line 2, column 'user_id': '01' {text}",
        f"id_type: 18 rows used: line 2, column 'item_id': '000' {text}",
    ]


def test_at_most_three_examples_are_shown(tmp_path):
    path = tmp_path / "log.csv"
    rows = [f"{user},{item}" for user in "ab" for item in "vwxyz"]
    path.write_text("\n".join(["user_id,item_id", *rows, *rows[:4]]))
    lines = sections(check(path, "--repeats", "exclude").stdout)["Checks"]
    assert lines[0] == "duplicate: 4 rows left out"
    assert [line for line in lines if "has a later row" in line] == [
        f"line {line} has a later row of the same user and item" for line in (2, 3, 4)
    ]
    assert not any("repeats =" in line for line in lines)  # it is decided


def test_rows_that_are_repeated_are_not_invalid(dirty):
    dirty.write_text(dirty.read_text().replace("2,10,9", "2,10,3"))
    done = check(dirty)
    assert done.exit_code == 0
    assert "4 of 5 rows are used." in done.stdout


def test_policies_scale_and_columns_are_options(dirty):
    dirty.write_text(dirty.read_text().replace("movieId", "film"))
    done = check(dirty, "--columns", "item_id=film", "--scale", 0, 9, "--repeats", "allow")
    assert "All 5 rows are used" in done.stdout
    assert [path.name for path in dirty.parent.iterdir()] == ["ratings.csv"]


def test_the_command_to_train_has_the_same_options(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("visitor;film;stars;when\n1;10;7;1.2.2020\n1;11;-1;1.2.2020\n")
    columns = "user_id=visitor,item_id=film,rating=stars"
    options = ["--columns", columns, "--time-format", "%d.%m.%Y", "--missing-ratings", "[-1, nr]"]
    options += ["--checks", "future_time=keep,duplicate=error", "--repeats", "allow"]
    done = check(path, *options, "--columns", "timestamp=when", "--scale", 1, 10)
    assert done.exit_code == 0, done.output
    command = sections(done.stdout)["Result"][-1]
    settings = parse_settings(train, shlex.split(command)[2:])
    assert (settings.source, settings.model_name) == (str(path), "log")
    assert settings.data.columns["rating"] == "stars"
    assert settings.data.time_format == "%d.%m.%Y"
    assert settings.data.missing_ratings == (-1, "nr")
    assert settings.data.repeats == "allow"
    assert settings.data.checks.scale == (1, 10)
    assert (settings.data.checks.duplicate, settings.data.checks.future_time) == ("error", "keep")


def test_a_file_of_settings_is_checked_as_it_is_trained_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("visitor;film;liking\n1;10;7\n1;10;n\n1;10;8\n")
    config = tmp_path / "my.toml"
    config.write_text(
        'source = "log.csv"\n[data]\ncolumns = {user_id = "visitor", item_id = "film"}\n'
        'repeats = "allow"\nmissing_ratings = ["n"]\n[session_model]\nepochs = 2\n'
    )
    done = check("--config", "my.toml")
    assert done.exit_code == 0, done.output
    page = sections(done.stdout)
    assert "All 3 rows are used." in page["Result"]
    assert "not used liking" in page["Columns"]
    assert page["Result"][-1] == "recsys train --config my.toml --model-name log"
    config.write_text(f'model_name = "films"\n{config.read_text()}')
    options = ["--columns", "rating=liking", "--repeats", "exclude", "--checks", "duplicate=error"]
    done = check("--config", "my.toml", *options)
    assert "line 2 has a later row of the same user and item" in str(done.exception)
    page = sections(check("log.csv", "--config", "my.toml", *options[:4]).stdout)
    assert "rating ← liking, numbers" in page["Columns"]
    assert "1 of 3 rows are used." in page["Result"]
    settings = parse_settings(train, shlex.split(page["Result"][-1])[2:])
    assert (settings.source, settings.model_name) == ("log.csv", "films")
    assert settings.session_model.epochs == 2
    assert settings.data.columns == {"user_id": "visitor", "item_id": "film", "rating": "liking"}
    assert (settings.data.repeats, settings.data.missing_ratings) == ("exclude", ("n",))


def test_a_file_of_settings_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, message in (
        ("[data]\ncolumnz = {}", "my.toml: data.columnz = {}: no such setting; did you mean 'col"),
        ("[data", "my.toml: cannot be read as TOML: "),
    ):
        (tmp_path / "my.toml").write_text(text)
        error = check("--config", "my.toml").exception
        assert isinstance(error, ConfigError)
        assert message in str(error)
    assert "no.toml does not exist" in str(check("--config", "no.toml").exception)
    (tmp_path / "my.toml").write_text("[data]")
    for arguments in ((), ("--config", "my.toml")):
        done = check(*arguments)
        assert done.exit_code == 2
        assert "name a folder or file" in done.output


def test_options_as_messages_and_the_command_to_train_show_them(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,film,event\n1,10,look\n1,11,buy\n2,10,buy\n")
    for columns, events, kinds in (
        ("item_id=film", "look=0.3,buy=1", "buy"),
        ('{"item_id": "film"}', '{"look": 0.3, "buy": 1}', '["buy"]'),
        ('{item_id = "film"}', "{'look' = 0.3, 'buy' = 1}", "['buy']"),
    ):
        options = ["--columns", columns, "--events", events, "--sequence-events", kinds]
        done = check(path, *options)
        assert done.exit_code == 0, done.output
        command = shlex.split(sections(done.stdout)["Result"][-1])
        assert json.loads(command[command.index("--data.events") + 1]) == {"look": 0.3, "buy": 1}
        data = parse_settings(train, command[2:]).data
        assert (data.columns, data.sequence_events) == ({"item_id": "film"}, ("buy",))
    done = check(path, "--columns", '["user_id", "film", "item_id"]')
    assert "the columns already have names" in str(done.exception)
    done = check(path, "--columns", '{item_id = "film", event = ""}')
    assert "not used event" in sections(done.stdout)["Columns"]
    for option, message in (("{a", "neither JSON nor"), ("a=x", "give numbers, such as view=0.1")):
        done = check(path, "--columns", "item_id=film", "--events", option)
        assert isinstance(done.exception, ConfigError)
        assert message in str(done.exception)


def test_a_setting_that_no_row_is_affected_by_is_shown(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,event\n1,10,view\n1,11,buy\n")
    page = sections(check(path, "--events", "veiw=0.3").stdout)
    assert page["Checks"] == ["no row is of the kind 'veiw' in events; did you mean 'view'?"]


def test_columns_without_a_header_are_named_in_order(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("1,red,10\n1,blue,11\n")
    page = sections(check(path, "--columns", "user_id,colour", "--columns", "item_id").stdout)
    assert "item_id ← item_id, integers, 2 distinct" in page["Columns"]
    assert "not used colour" in page["Columns"]


def test_a_log_without_rows_that_are_used_is_refused(dirty):
    dirty.write_text(f"{HEADER}\n1,10,4,1000000000\n2,10,4,1000000000\n")
    done = check(dirty, "--checks", "single_event=quarantine")
    assert done.exit_code == 1
    assert "0 of 2 rows are used: there is nothing to train on." in done.stdout


def test_text_of_a_log_does_not_control_the_terminal(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,\x1b[31mred\n1,7,x\n1,8,y\n")
    (tmp_path / "movies.csv").write_text("item_id,title\n7,\x1b[2JHeat\n8,Casino\n")
    shown = check(tmp_path / "log.csv").stdout
    assert "\x1b" not in shown
    assert "7 \N{REPLACEMENT CHARACTER}[2JHeat" in shown


def test_json_has_the_same_figures(log):
    done = check(log, "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["n_rows"], report["n_used"], report["n_invalid"]) == (4, 4, 0)
    assert (report["n_users"], report["n_items"]) == (2, 3)
    assert report["columns"][0]["source_name"] == "userId"
    assert report["ratings"]["histogram"][-1] == {"lowest": 5, "highest": 5, "n_rows": 1}
    assert datetime.fromisoformat(report["times"]["last"]).timestamp() == 1_000_086_400
    assert report["examples"][1]["title"] == "[rec] (2007)"
    assert report["findings"][0]["check"] == "unknown_item"
    assert report["findings"][0]["examples"] == [
        f"{log}, line 5, column 'item_id': 30 is not in the catalogue"
    ]


def test_json_of_a_refused_source_has_the_error(log):
    log.write_text("a,b\n1,2\n")
    done = check(log, "--json")
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert f"{log}: no column" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checks", "duplicate=error"], "line 2 has a later row of the same user and item"),
        (["--checks", "duplicate=error"], "or set duplicate=quarantine in checks"),
        (["--checks", "duplicate"], "'duplicate' is not of the form NAME=VALUE"),
        (["--checks", "speed=error"], "speed = 'error'"),
        (["--columns", "item_id=film"], "no column 'film' for item_id"),
    ],
)
def test_errors_are_printed_in_one_line(dirty, arguments, message, start_recsys):
    done = start_recsys("data", "check", str(dirty), *arguments)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_options_are_named_as_settings():
    settings = *ReadOptions.model_fields, "quarantine_path", "checks"
    shown = check("--help").stdout
    missing = [name for name in settings if f"--{name.replace('_', '-')} " not in shown]
    assert not missing


def test_several_files_are_named_and_others_shown(tmp_path):
    for name in ("ekim", "eylül", "kasım"):
        text = f"user_id,item_id\n{len(name)},10\n{len(name)},20\n1,10\n"
        (tmp_path / f"{name}.csv").write_text(text)
    for options in (
        ["--files", "e*.csv"],
        ["--files", "*.csv,!kasım.csv"],
        ["--files", '["ekim.csv", "eylül.csv"]'],
        ["--files", "ekim.csv", "--files", "eylül.csv"],
    ):
        page = sections(check(tmp_path, "--repeats", "allow", *options).stdout)
        assert page["Files"][-1] == "not read: kasım.csv"
        settings = parse_settings(train, shlex.split(page["Result"][-1])[2:])
        assert settings.data.read_options()["files"] in (
            ("e*.csv",), ("*.csv", "!kasım.csv"), ("ekim.csv", "eylül.csv")
        )  # fmt: skip


def test_columns_that_are_not_used_are_pointed_out(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,liking,moment\n7,1,4,1593865815\n7,2,1,1593865814\n")
    page = sections(check(path).stdout)
    for name in ("Ratings", "Times"):
        assert "if a column that is not used has them, map it with columns=" in page[name][0]
