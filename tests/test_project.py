"""Properties of the whole project."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


FIND = "import importlib.util; print(importlib.util.find_spec('mlflow').origin)"


@pytest.mark.parametrize("command", [["-c", FIND], ["-m", "probe"]], ids=["-c", "-m"])
def test_mlflow_is_the_library_and_not_the_folder(command, tmp_path):
    (tmp_path / "probe.py").write_text(FIND)
    found = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "site-packages" in found.stdout


def test_the_folder_mlflow_contains_no_python():
    assert not [path for path in (ROOT / "mlflow").rglob("*.py") if "artifacts" not in path.parts]


def test_recommending_imports_neither_mlflow_nor_prefect():
    code = (
        "import sys, recsys; recsys.load_recommender; recsys.Recommender; "
        "print({'mlflow', 'prefect', 'implicit', 'sklearn', 'lightning_fabric'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_public_name_exists():
    import recsys

    assert all(getattr(recsys, name) is not None for name in recsys.__all__)
    with pytest.raises(AttributeError, match="No recsys attribute nonsense"):
        _ = recsys.nonsense


def test_every_extra_that_is_named_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    sources = [ROOT / "README.md", *(ROOT / "recsys").rglob("*.py"), *ROOT.glob("docs/**/*.md")]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    named = {name for names in re.findall(r"\.\[([a-z,]+)\]'", text) for name in names.split(",")}
    assert named <= set(extras)


def test_no_text_installs_another_project_of_the_same_name():
    sources = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    for folder in ("recsys", "flows", "tests", "examples"):
        sources += [path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    pattern = re.compile(r"\binstall\b[^\n]{0,20}\brecsys\b(?!-pipeline)")
    for source in sources:
        assert not pattern.search(source.read_text(encoding="utf-8")), source
