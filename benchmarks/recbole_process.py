"""RecBole's GRU4Rec in a process and an environment of its own, see `recbole_gru4rec.py`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from recsys.data import Interactions

RECBOLE_SIZES = {
    "RecBole's GRU4Rec, its sizes": {},
    "RecBole's GRU4Rec, our sizes": {"embedding_size": 128, "hidden_size": 256},
}
_SCRIPT = Path(__file__).resolve().with_name("recbole_gru4rec.py")


class RecBole:
    """A training that runs on request."""

    def __init__(self, requests: IO[str], responses: IO[str]) -> None:
        self._requests, self._responses = requests, responses
        while self._line() != "ready\n":
            pass  # RecBole's own output

    def steps(self, n: int) -> list[float]:
        """Run n training steps; returns the targets per second of each."""
        return list(self._answer({"steps": n}))

    def rank(self) -> tuple[float, float, float]:
        """Epochs so far, CPU seconds of their steps, and NDCG@10 of the held-out items."""
        epochs, seconds, ndcg = self._answer({"rank": True})
        return epochs, seconds, ndcg

    def _answer(self, request: dict[str, Any]) -> Any:
        print(json.dumps(request), file=self._requests, flush=True)
        return json.loads(self._line())

    def _line(self) -> str:
        line = self._responses.readline()
        if not line:
            raise SystemExit(f"{_SCRIPT} ended, see above; its docstring describes the setup")
        return line


@contextmanager
def started(python: Path, log: Interactions, sizes: dict[str, int]) -> Iterator[RecBole]:
    """Start RecBole on prepared data; each user's last item is held out.

    Args:
        python: the Python of an environment with RecBole.
        log: all interactions.
        sizes: settings that differ from RecBole's defaults.
    """
    settings = [f"--set={name}={value}" for name, value in sizes.items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        np.savez(path, user=log.user_index, item=log.item_index)
        child = subprocess.Popen(
            [python.absolute(), "-W", "ignore", _SCRIPT, path, *settings],
            cwd=folder,  # where RecBole leaves its logs
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        assert child.stdout
        try:
            yield RecBole(child.stdin, child.stdout)
        finally:
            child.stdin.close()
            child.wait()
