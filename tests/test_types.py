"""Type checkers understand the public API of an installed recsys."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "typing" / "public_api.py"


def check(script, folder):
    """The errors that basedpyright reports for a script outside of the checkout."""
    command = [Path(sys.executable).with_name("basedpyright"), "--level", "error", "--outputjson"]
    found = subprocess.run(
        [*command, "--pythonpath", sys.executable, script.name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return [error["message"] for error in json.loads(found.stdout)["generalDiagnostics"]]


def test_a_script_of_the_public_api_has_no_type_errors(tmp_path):
    assert check(Path(shutil.copy(EXAMPLE, tmp_path)), tmp_path) == []


@pytest.mark.parametrize("package", ["recsys", "recsys.embeddings", "recsys.sessions"])
def test_an_unknown_name_is_a_type_error(package, tmp_path):
    script = tmp_path / "misspelled.py"
    script.write_text(f"import {package}\n\n{package}.load_recomender('bundle')\n")
    (error,) = check(script, tmp_path)
    assert "load_recomender" in error
