"""Training of RecBole's GRU4Rec, on request. Run by `sessions.py`, not by hand.

RecBole 1.2.1 needs numpy 1 and an old setuptools, so it lives in an environment of its own, in
which nothing of recsys is installed:

    python -m venv recbole-venv
    recbole-venv/bin/pip install torch==2.13.0 'numpy<2' 'pandas<3' 'setuptools<81' \
        recbole==1.2.1
    python benchmarks/sessions.py speed path/to/ml-1m --recbole recbole-venv/bin/python

Reads interactions from a .npz file (`user`, `item`, in order for each user), holds out each user's
last item, and prints "ready" when RecBole has created its prefixes. It then answers each line of
JSON with another:

- `{"steps": n}`: runs n training steps and returns the targets per second of each. A step of
  `Trainer._train_epoch` includes the creation of its batch.
- `{"rank": true}`: epochs so far, CPU seconds of their steps, and NDCG@10 of the held-out items,
  ranked among all items outside the histories.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer

NAME = "interactions"


def write_atomic_file(log: Path, folder: Path) -> None:
    """Write the interactions for RecBole, with their position as timestamp."""
    with np.load(log) as arrays:
        rows = np.column_stack([arrays["user"], arrays["item"], np.arange(len(arrays["user"]))])
    (folder / NAME).mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    path = folder / NAME / f"{NAME}.inter"
    np.savetxt(path, rows, fmt="%d", delimiter="\t", header=header, comments="")


class Training:
    """RecBole's trainer, step by step."""

    def __init__(self, log: Path, folder: Path, sizes: dict[str, int]) -> None:
        config = Config(
            model="GRU4Rec",
            dataset=NAME,
            config_dict={
                "data_path": str(folder),
                "checkpoint_dir": str(folder / "saved"),
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "train_neg_sample_args": None,
                "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "mode": "full"},
                "eval_batch_size": 512,
                "use_gpu": False,
                "show_progress": False,
                **sizes,
            },
        )
        dataset = create_dataset(config)
        self.batches, self.held_back, _ = data_preparation(config, dataset)
        self.model = get_model("GRU4Rec")(config, self.batches._dataset)  # noqa: SLF001 - as its quick start does
        self.trainer = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, self.model)
        self.coming: Iterator[Any] = iter(())
        self.n_steps, self.seconds = 0, 0.0
        self.seen = np.zeros((dataset.user_num, dataset.item_num), dtype=np.bool_)
        with np.load(log) as arrays:
            users, items = arrays["user"].astype(str), arrays["item"].astype(str)
        self.seen[dataset.token2id("user_id", users), dataset.token2id("item_id", items)] = True

    def steps(self, n: int) -> list[float]:
        rates: list[float] = []
        started = time.process_time()
        self.trainer._train_epoch(clocked(islice(self._endless(), n), rates), 0)  # noqa: SLF001
        self.seconds += time.process_time() - started
        self.n_steps += n
        return rates

    def _endless(self) -> Iterator[Any]:
        """Batches, epoch after epoch."""
        while True:
            yield from self.coming
            self.coming = iter(self.batches)

    def rank(self) -> tuple[float, float, float]:
        self.model.eval()
        gains: list[NDArray[np.float64]] = []
        with torch.inference_mode():
            for batch, *_ in self.held_back:
                scores = self.model.full_sort_predict(batch).numpy()
                user, target = batch["user_id"].numpy(), batch["item_id"].numpy()
                rows = np.arange(len(user))
                own = scores[rows, target][:, None]
                better = (scores > own) & ~self.seen[user]
                position = better[:, 1:].sum(1)  # the first is the padding
                gains.append(np.where(position < 10, 1.0 / np.log2(position + 2.0), 0.0))
        ndcg = float(np.concatenate(gains).mean())
        return self.n_steps / len(self.batches), self.seconds, ndcg


def clocked(batches: Iterator[Any], rates: list[float]) -> Iterator[Any]:
    """The batches; appends the targets per second between one and the next to `rates`."""
    started = time.perf_counter()
    for batch in batches:
        yield batch
        now = time.perf_counter()
        rates.append(len(batch) / (now - started))
        started = now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    sizes = {name: int(value) for name, value in (pair.split("=") for pair in given.set)}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_atomic_file(given.log, Path(folder))
        training = Training(given.log, Path(folder), sizes)
        print("ready", flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            answer = training.steps(request["steps"]) if "steps" in request else training.rank()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
