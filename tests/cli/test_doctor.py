import json
import shutil

import pytest
from typer.testing import CliRunner

from recsys.cli.main import app


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory without a store, and no server in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def doctor(*arguments, code=0):
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    assert done.exit_code == code, done.output
    content = json.loads(done.stdout)
    assert content["ok"] == (code == 0)
    return content["findings"]


def named(findings, name):
    (finding,) = [finding for finding in findings if finding["name"] == name]
    return finding


def test_a_working_installation_is_well(home, empty_database):
    (home / "mlflow").mkdir()
    shutil.copy(empty_database, home / "mlflow")
    findings = doctor()
    assert named(findings, "self-test")["message"].startswith("trained and queried a model")
    assert "answers" in named(findings, "MLflow")["message"]
    assert named(findings, "champion")["status"] == "warning"  # there is none yet
    assert {finding["status"] for finding in findings} <= {"ok", "warning"}
    assert not list(home.glob("*.tmp"))


def test_servers_that_do_not_answer_are_errors_with_a_remedy(home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://ann:secret@127.0.0.1:9/db")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    findings = doctor("--no-self-test", code=1)
    for name in ("MLflow", "registry", "Prefect"):
        finding = named(findings, name)
        assert finding["status"] == "error"
        assert "127.0.0.1:9" in finding["message"]
        assert "does not answer" in finding["message"]
        assert finding["remedy"]
    assert "secret" not in json.dumps(findings)
    lines = CliRunner().invoke(app, ["doctor", "--no-self-test"]).stdout.splitlines()
    assert lines[-1] == "There are 3 errors."
    assert sum("→ start it, or correct MLFLOW_TRACKING_URI" in line for line in lines) == 1


def test_a_damaged_store_and_a_wrong_setting_are_errors(home, monkeypatch):
    (home / "mlflow").mkdir()
    (home / "mlflow" / "mlflow.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("OMP_NUM_THREADS", "none")
    findings = doctor("--no-self-test", code=1)
    assert "not a database" in named(findings, "MLflow")["message"]
    assert "OMP_NUM_THREADS" in named(findings, "device")["message"]
