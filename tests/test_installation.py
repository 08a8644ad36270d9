"""The built wheel works with exactly the dependencies that it declares."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from recsys.recommender.bundle import save_bundle

ROOT = Path(__file__).parents[1]
NOT_IN_CORE = ["torch", "mlflow", "prefect", "numba", "sklearn", "matplotlib", "fastapi"]
# The environment's own packages alone.
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, check=True, **options):
    return subprocess.run(command, capture_output=True, text=True, check=check, env=ENV, **options)


def distributions(requirements, extras=("",)):
    """The installed distributions that requirements name, and all that these require."""
    found = {}
    for requirement in map(Requirement, requirements or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            needed = distribution(requirement.name)
            found |= {needed.metadata["Name"]: needed}
            found |= distributions(needed.requires, requirement.extras or ("",))
    return found


def environment(folder, wheel, *extras):
    """The Python of an environment with a wheel and what it requires, linked from our own.

    Linking takes no time, and the versions are those of all other tests.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    run(*pip, wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("*.dist-info")
    for needed in distributions(PathDistribution(metadata).requires, extras or ("",)).values():
        for top in {file.parts[0] for file in needed.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(needed.locate_file(top))
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("recsys_pipeline-*.whl")
    return wheel


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory):
    """The Python of an environment that holds the core alone."""
    return environment(tmp_path_factory.mktemp("core"), wheel)


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    return save_bundle(bundle, tmp_path_factory.mktemp("bundles") / "bundle")


def test_the_core_answers_from_a_bundle(core, bundle, folder, tmp_path):
    code = f"""
import importlib.util, json, recsys
rec = recsys.load_recommender({str(folder)!r})
title = rec.search("")["title"].iloc[0]
answers = [rec.next_items([title], k=3), rec.similar_items(title, k=3)]
present = [name for name in {NOT_IN_CORE} if importlib.util.find_spec(name)]
print(json.dumps({{"lengths": [len(answer) for answer in answers], "present": present}}))
"""
    found = run(core, "-c", code, cwd=tmp_path)
    assert json.loads(found.stdout) == {"lengths": [3, 3], "present": []}
    command = core.with_name("recsys")
    title = bundle.catalogue["title"].iloc[0]
    answer = run(command, "next", title, "--model", folder, "--json", cwd=tmp_path)
    assert len(json.loads(answer.stdout)) == 10


def test_the_core_reads_a_log(core, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id\nann,heat\nann,casino\nbob,heat\n")
    code = "import recsys; log = recsys.read_ratings('log.csv'); print(len(log), log.n_users)"
    assert run(core, "-c", code, cwd=tmp_path).stdout == "3 2\n"


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("train", ["python", "-c", "import recsys; recsys.fit_embeddings"]),
        ("flows", ["recsys", "train"]),
        ("serve", ["recsys", "serve", "bundle"]),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(core, extra, command, tmp_path):
    program, *arguments = command
    found = run(core.with_name(program), *arguments, check=False, cwd=tmp_path)
    assert found.returncode != 0
    assert f"pip install -e '.[{extra}]'" in found.stderr


def test_the_server_answers_with_its_extra_alone(wheel, folder, tmp_path):
    python = environment(tmp_path / "environment", wheel, "serve")
    command = [python.with_name("recsys"), "serve", folder, "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENV
    ) as server:
        try:
            lines = (json.loads(line) for line in server.stderr)
            address = next(line["url"] for line in lines if line["event"] == "serving")
            answer = httpx.post(f"{address}/v1/next", json={"history": [], "k": 3}, timeout=30)
            assert len(answer.json()["items"]) == 3
        finally:
            server.terminate()
            server.wait(timeout=30)


def find_python(version):
    """The interpreter of a version of Python on the path or in pyenv, if there is one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    return next(iter(installed), None) or shutil.which(f"python{version}")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_source_distribution_answers_on_every_python(version, folder, tmp_path, request):
    if not request.config.getoption("--chaos"):
        pytest.skip("installs from the package index, for minutes: --chaos")
    interpreter = find_python(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version}")
    run(interpreter, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    done = run(*pip, "hatchling", check=False)
    if done.returncode:
        pytest.skip(f"no packages can be had: {done.stderr.strip()[-200:]}")
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path / "dist", cwd=ROOT)
    (archive,) = (tmp_path / "dist").glob("recsys_pipeline-*.tar.gz")
    run(*pip, archive)
    answer = run(
        *(python.with_name("recsys"), "search", "", "--model", folder, "--json"), cwd=tmp_path
    )
    assert len(json.loads(answer.stdout)) == 10
