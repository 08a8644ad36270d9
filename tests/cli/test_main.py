import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import parse_settings
from recsys.cli.examples import EXAMPLES
from recsys.cli.main import app, main
from recsys.errors import ExitCode

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("data", "train", "refresh", "sweep", "recommend", "sync", "compare", "report", "serve"),
    *("next", "similar", "search", "explain", "sequences", "gc", "doctor"),
]
FLOWS = ["train", "refresh", "sweep", "recommend", "sync"]


def test_help_lists_the_commands_in_the_order_of_use():
    context = click.Context(command := get_command(app))
    assert command.list_commands(context) == COMMANDS
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert [output.index(f" {name} ") for name in COMMANDS]


def commands_of(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield " ".join([*path, name]), command


def test_help_of_every_command_has_examples_that_are_valid():
    commands = dict(commands_of(get_command(app)))
    assert set(commands) == set(EXAMPLES)
    for name, command in commands.items():
        for example in EXAMPLES[name]:
            words = shlex.split(example)
            assert words[: 1 + len(name.split())] == ["recsys", *name.split()]
            command.make_context(name, words[1 + len(name.split()) :])
        if name not in FLOWS:
            output = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
            assert all(example in output.stdout for example in EXAMPLES[name])


@pytest.mark.parametrize("name", FLOWS)
def test_help_of_flows_has_an_example_that_is_valid(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("search.toml").touch()
    flow = getattr(import_module(f"flows.{name}"), name)
    (example,) = EXAMPLES[name]
    parse_settings(flow, shlex.split(example)[2:])
    with pytest.raises(SystemExit):
        parse_settings(flow, ["--help"])
    assert example in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "completions"),
    [("recsys d", ["data", "doctor"]), ("recsys serve --po", ["--port", "--poll-interval"])],
)
def test_the_shell_completes_commands_and_options(line, completions):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = CliRunner().invoke(
        app, prog_name="recsys", env={"_RECSYS_COMPLETE": "complete_bash", **words}
    )
    assert done.stdout.split() == completions


def test_the_docs_list_the_exit_codes():
    text = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, flags=re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code.value for code in ExitCode]


@pytest.mark.parametrize("command", ["", "data", "serve", "next", "gc", "doctor", "compare"])
def test_help_imports_no_heavy_library(command):
    code = (
        "import sys; from typer.testing import CliRunner; from recsys.cli.main import app\n"
        f"assert CliRunner().invoke(app, [*{command.split()}, '--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'torch', 'mlflow', 'prefect', 'fastapi', 'httpx'}\n"
        "print(heavy & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("name", FLOWS)
def test_flow_commands_pass_all_arguments_on(name, monkeypatch):
    calls = []
    cli = SimpleNamespace(main=calls.append)
    monkeypatch.setattr("recsys.cli.train.import_module", {"flows.cli": cli}.get)
    arguments = ["--data", "data/x", "--session-model.epochs=3", "--help", "-k", "7"]
    assert CliRunner().invoke(app, [name, *arguments]).exit_code == 0
    assert calls == [[name, *arguments]]


@pytest.mark.parametrize(("command", "extra", "module"), [
    (["train"], "flows", "prefect"),
    (["gc"], "flows", "mlflow"),
    (["serve"], "serve", "uvicorn"),
])  # fmt: skip
def test_missing_extra_is_an_error_with_the_command_that_installs_it(
    command, extra, module, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    (tmp_path / "none.db").touch()  # a missing database would be the first error
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['recsys', *{command}]\n"
        "from recsys.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith(f"is not installed: pip install -e '.[{extra}]'\n"), done.stderr
    assert done.stderr.count("\n") == 1


def test_help_of_flows_names_the_extra_that_they_need(start_recsys):
    hide = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("httpx", "mlflow", "prefect", "pydantic_settings"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""
    process = start_recsys("train", "--help", patch=hide)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err == "error: prefect is not installed: pip install -e '.[flows]'\n"


@pytest.mark.parametrize(
    "command",
    [["next", "1", "--model"], ["data", "check"], ["data", "synth"], ["data", "check", "--config"]],
    ids=" ".join,
)
def test_a_path_that_is_too_long_is_an_error_of_one_line(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recsys", *command, "/x" * 5000])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == ExitCode.ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"error: .*(/x){49}.*File name too long", line)
    assert len(line) < 300


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments", [["data", "list"], ["doctor", "--json", "--no-self-test"], ["--help"]]
)
def test_output_that_cannot_be_written_is_an_error_of_one_line(arguments):
    command = [sys.executable, "-m", "recsys.cli", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.ERROR
    expected = "error: standard output cannot be written: No space left on device"
    assert done.stderr.splitlines()[-1] == expected
    assert "Traceback" not in done.stderr


def test_output_that_is_no_longer_read_ends_a_command_silently():
    command = f"{sys.executable} -m recsys.cli data list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
