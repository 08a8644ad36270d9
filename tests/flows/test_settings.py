"""One class of settings: in TOML, on the command line, in Prefect's form and in deployments."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prefect.settings import get_current_settings
from typer.testing import CliRunner

from flows.cli import main, parse_settings
from flows.deploy import AUTOMATIONS, configure
from flows.deploy import main as deploy
from flows.orchestration import flow_parameters
from flows.recommend import recommend
from flows.refresh import refresh
from flows.settings import SearchSpace, Settings, read_settings
from flows.sweep import sweep
from flows.sync import sync
from flows.train import train
from recsys.cli.main import app
from recsys.cli.train import app as train_commands
from recsys.errors import ConfigError, ExitCode
from recsys.evaluation import PromotionRule

ROOT = Path(__file__).parents[2]
FLOWS = {
    "train": train,
    "refresh": refresh,
    "sweep": sweep,
    "recommend": recommend,
    "sync": sync,
}

TOML = """
source = "ratings.csv"
[data.split]
method = "leave_last_n"
n = 2
[cooccurrence]
min_rating = "null"
[session_model]
epochs = 8
cell = "gru"
[promotion]
min_improvement = 0.01
[warm_start]
epochs = 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "recsys.toml"
    path.write_text(TOML)
    return path


def test_every_setting_is_a_parameter_of_a_flow():
    flows = FLOWS.values()
    assert set(FLOWS) == {command.name for command in train_commands.registered_commands}
    parameters = {name for flow in flows for name in flow.parameters.properties}
    assert parameters == set(Settings.model_fields)


@pytest.mark.parametrize("flow", FLOWS.values())
def test_the_form_has_the_defaults_and_descriptions_of_the_class(flow):
    defaults = Settings().model_dump(mode="json")
    for name, schema in flow.parameters.properties.items():
        assert schema["default"] == defaults[name]
        assert schema["description"] == " ".join(Settings.model_fields[name].description.split())


def test_settings_are_read_from_toml(config):
    settings = read_settings(config)
    assert settings.source == "ratings.csv"
    assert settings.data.split.n == 2
    assert settings.cooccurrence.min_rating is None
    assert settings.promotion == PromotionRule(min_improvement=0.01)
    assert settings.warm_start.epochs == 2
    assert settings.embeddings == Settings().embeddings


def test_the_command_line_has_every_setting_and_takes_precedence(config):
    options = ["--config", str(config), "--source", "other", "--session-model.epochs", "3"]
    settings = parse_settings(refresh, [*options, "--promotion.alpha", "0.01"])
    expected = read_settings(config).model_dump()
    expected["source"] = "other"
    expected["session_model"]["epochs"] = 3
    expected["promotion"]["alpha"] = 0.01
    assert settings.model_dump() == expected


@pytest.mark.parametrize(
    ("flow", "options", "values"),
    [
        (train, ["--cooccurrence.min-rating", "null"], {"cooccurrence": {"min_rating": None}}),
        (train, ["--cooccurrence.window.size", "2"], {"cooccurrence": {"window": {"size": 2}}}),
        (train, ["--session-model.attention", "false"], {"session_model": {"attention": False}}),
        (train, ["--data.columns", "user_id=who"], {"data": {"columns": {"user_id": "who"}}}),
        (
            train,
            ["--data.split.method", "leave_last_n", "--data.split.n", "2"],
            {"data": {"split": {"method": "leave_last_n", "n": 2}}},
        ),
        (
            train,
            ["--session-model.ema-half-lives", "[1, 2]"],
            {"session_model": {"ema_half_lives": [1, 2]}},
        ),
        (sweep, ["--search.embeddings", '{"dim": [8]}'], {"search": {"embeddings": {"dim": [8]}}}),
        (refresh, ["--warm-start.learning-rate", "1e-4"], {"warm_start": {"learning_rate": 1e-4}}),
        (recommend, ["-k", "3", "--day", "2026-01-31"], {"k": 3, "day": "2026-01-31"}),
        (train, ["--cluster", "2"], {"cluster": 2}),
    ],
)  # fmt: skip
def test_command_line_options(flow, options, values):
    assert parse_settings(flow, options) == Settings.model_validate(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--session-model.epochs", "0"], "session_model.epochs = '0'"),
        (["--data.split", "nonsense"], "data"),
        (["--config", "nowhere.toml"], "nowhere.toml does not exist"),
        (["--cluster", "10.0.0.1"], "cluster = '10.0.0.1': expected the address of a Dask"),
    ],
)
def test_an_invalid_value_is_an_error(options, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(train, options)


@pytest.mark.parametrize("option", ["--session-model.epoch", "--warm-start.epochs", "--k"])
def test_an_option_that_the_flow_lacks_is_an_error(option, capsys):
    with pytest.raises(SystemExit) as raised:
        parse_settings(train, [option, "3"])
    assert raised.value.code == 2
    assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_a_similar_option_is_suggested(capsys):
    with pytest.raises(SystemExit):
        parse_settings(train, ["--sesion-model.epochs=3"])
    assert "did you mean '--session-model.epochs'?" in capsys.readouterr().err


def test_help_shows_only_defaults_that_say_something(capsys):
    with pytest.raises(SystemExit):
        parse_settings(train, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: leave_last_out)" in text
    for noise in ("ifdef", "undefined", "default: null", "default: None", "default: {}"):
        assert noise not in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.time-unit", "ms"], {"time_unit": "ms"}),
        (["--data.columns", "user_id=visitor"], {"columns": {"user_id": "visitor"}}),
        (["--data.columns", '["user_id","item_id"]'], {"columns": ("user_id", "item_id")}),
        (["--data.missing-ratings", "[-1]"], {"missing_ratings": (-1,)}),
        (["--data.separator", ";", "--data.encoding", "latin-1"], {"separator": ";"}),
    ],
)
def test_options_of_reading(options, expected):
    data = parse_settings(train, options).data
    assert {name: getattr(data, name) for name in expected} == expected


def test_options_of_reading_in_toml(tmp_path):
    path = tmp_path / "log.toml"
    path.write_text(
        '[data]\ntime_format = "%d.%m.%Y"\nfiles = "20*/log.csv"\n'
        'columns = ["user_id", "item_id"]\nmissing_ratings = [-1]\n'
    )
    data = read_settings(path).data
    assert (data.time_format, data.files) == ("%d.%m.%Y", "20*/log.csv")
    assert (data.columns, data.missing_ratings) == (("user_id", "item_id"), (-1,))


@pytest.fixture
def refuses(capsys):
    """A context in which the command line exits with status 1 and a message that matches."""

    @contextmanager
    def check(message):
        with pytest.raises(SystemExit) as raised:
            yield
        assert raised.value.code == ExitCode.ERROR
        assert re.search(message, capsys.readouterr().err)

    return check


def test_torchrun_is_refused(monkeypatch, refuses):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with refuses(r"^error: torchrun cannot start a flow: run `recsys train --runtime.processes 4`"):
        main(["train"])


def test_errors_name_settings(tmp_path, refuses):
    (tmp_path / "log.tab").touch()
    with refuses(r"choose layout= from movielens"):
        main(["train", "--source", str(tmp_path / "log.tab")])


def test_a_source_that_does_not_exist_is_an_error_before_servers_start(
    tmp_path, monkeypatch, refuses
):
    monkeypatch.setattr("flows.cli.prefect_api", lambda: pytest.fail("a server starts"))
    monkeypatch.chdir(tmp_path)
    with refuses(r"rating\.csv: no such file"):
        main(["train", "--source", "rating.csv"])
    assert not list(tmp_path.iterdir())


def test_a_file_may_be_json(tmp_path):
    settings = Settings.model_validate(
        {
            "session_model": {"epochs": 3, "patience": None},
            "data": {"split": {"method": "last_days"}},
        }
    )
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    assert read_settings(tmp_path / "config.json") == settings
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"wrong.json: cannot be read as JSON: expected an obj"):
        read_settings(tmp_path / "wrong.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[session_model]\nepoch = 3", r"wrong.toml: session_model.epoch = 3: .* 'epochs'"),
        ("[promotion]\nalpha = 2", r"wrong.toml: promotion.alpha = 2: "),
        ("sourc = 'x'", r"wrong.toml: sourc = 'x': .* did you mean 'source'"),
        ("model_name = 'a/b'", r"wrong.toml: model_name = 'a/b': "),
        ("model_name = ''", r"wrong.toml: model_name = '': "),
        ("encoding = 'cp1253'", r"no such setting; write it below \[data\]"),
        ("[data]\nmethod = 'last_days'", r"no such setting; write it below \[data.split\]"),
        ("[data]\nmax_decline = 0.1", r"no such setting; write it below \[promotion\]"),
        (
            "[data]\nepochs = 1",
            r"below \[embeddings\] or \[session_model\] or \[warm_start\]",
        ),
        (
            "[data]\nsplit = {method = 'last_two'}",
            r"data.split = {'method': 'last_two'}: 'method' must be one of 'last_days', ",
        ),
        ("[data]\nsplit = {days = 1}", r"data.split = {'days': 1}: 'method' is missing"),
        ("[data", r"wrong.toml: cannot be read as TOML"),
    ],
)
def test_a_mistake_in_a_file_is_an_error_with_file_and_key(tmp_path, text, message, refuses):
    (tmp_path / "wrong.toml").write_text(text)
    with refuses(message):
        main(["train", "--config", str(tmp_path / "wrong.toml")])
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,2\n1,3\n")
    check = ["data", "check", str(tmp_path / "log.csv"), "--config", str(tmp_path / "wrong.toml")]
    result = CliRunner().invoke(app, check)
    assert re.search(message, str(result.exception))


@pytest.mark.parametrize(
    "values",
    [
        {"embeddings": {"dim": [0]}},
        {"embeddings": {"dimension": [8]}},
        {"session_model": {"cell": ["transformer"]}},
        {"embeddings": {}, "session_model": {}},
    ],
)
def test_an_invalid_search_space_is_refused_as_a_whole(values):
    with pytest.raises(ConfigError):
        SearchSpace.model_validate(values)


def test_an_invalid_trial_is_named_with_its_stage():
    with pytest.raises(ConfigError, match=r"session_model\.epoch = 1: no such setting"):
        SearchSpace.model_validate({"session_model": {"epoch": [1, 2]}})


@pytest.fixture
def deployments(monkeypatch):
    monkeypatch.chdir(ROOT)
    return yaml.safe_load(Path("prefect.yaml").read_text())


def test_all_deployments_have_the_settings_of_one_file(config, deployments):
    found = {
        deployment["entrypoint"].rpartition(":")[2]: deployment["parameters"]
        for deployment in configure(deployments, read_settings(config))["deployments"]
    }
    assert set(found) == set(FLOWS) - {"sync"}
    expected = read_settings(config)
    for name, given in found.items():
        flow = FLOWS[name]
        settings = Settings.model_validate(given)
        assert flow_parameters(flow, settings) == flow_parameters(flow, expected)
    assert found["train"]["promotion"] == found["refresh"]["promotion"] == {"min_improvement": 0.01}
    assert "promotion" not in found["recommend"]


def test_deployments_are_named_after_another_model_than_the_default(deployments):
    names = [each["name"] for each in deployments["deployments"]]
    configured = configure(deployments, Settings(model_name="shop"))
    assert [each["name"] for each in configured["deployments"]] == [
        f"shop-{name}" for name in names
    ]


def test_deployments_without_a_file_have_the_defaults(deployments):
    configured = configure(deployments, read_settings(None))
    assert all(deployment["parameters"] == {} for deployment in configured["deployments"])


def test_a_source_is_deployed_with_every_flow(deployments):
    configured = configure(deployments, Settings(source="films"))
    assert [each["parameters"] for each in configured["deployments"]] == [{"source": "films"}] * 4


def test_a_source_that_does_not_exist_is_not_deployed(monkeypatch, tmp_path, refuses):
    monkeypatch.chdir(ROOT)
    with refuses("no such file"):
        deploy(source=str(tmp_path / "gone"))


def test_heartbeats_are_more_frequent_than_the_automation_expects(deployments):
    within = yaml.safe_load(AUTOMATIONS.read_text())["automations"][0]["trigger"]["within"]
    for deployment in deployments["deployments"]:
        environment = deployment["work_pool"]["job_variables"]["env"]
        heartbeat = float(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert heartbeat < within / 2, "or running flows would be marked as crashed"


def test_a_temporary_server_that_does_not_start_is_an_error(monkeypatch, tmp_path, refuses):
    def time_out(**options):  # as Prefect does, after this time
        seconds = get_current_settings().server.ephemeral.startup_timeout_seconds
        raise RuntimeError(f"Timed out after {seconds} s")

    (tmp_path / "log.csv").write_text("user_id,item_id\n1,2\n")
    monkeypatch.setattr("flows.cli.get_client", time_out)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # would stay set in this process
    with refuses(r"error: .* did not start \(Timed out after 300 s\)"):
        main(["train", "--source", str(tmp_path / "log.csv")])
