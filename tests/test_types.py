"""Type checkers understand the public API of an installed recsys."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "typing" / "public_api.py"


MISSPELLED = ("recsys", "recsys.embeddings", "recsys.sessions")


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """The errors that basedpyright reports for scripts outside of the checkout, by file."""
    folder = tmp_path_factory.mktemp("scripts")
    shutil.copy(EXAMPLE, folder)
    for package in MISSPELLED:
        code = f"import {package}\n\n{package}.load_recomender('bundle')\n"
        (folder / f"{package}_misspelled.py").write_text(code)
    command = [Path(sys.executable).with_name("basedpyright"), "--level", "error", "--outputjson"]
    found = subprocess.run(
        [*command, "--pythonpath", sys.executable, "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(found.stdout)
    assert result["summary"]["filesAnalyzed"] == 1 + len(MISSPELLED)
    errors = [(Path(e["file"]).name, e["message"]) for e in result["generalDiagnostics"]]
    return {file: [text for name, text in errors if name == file] for file, _ in errors}


def test_a_script_of_the_public_api_has_no_type_errors(errors):
    assert EXAMPLE.name not in errors, errors


@pytest.mark.parametrize("package", MISSPELLED)
def test_an_unknown_name_is_a_type_error(errors, package):
    (error,) = errors[f"{package}_misspelled.py"]
    assert "load_recomender" in error
