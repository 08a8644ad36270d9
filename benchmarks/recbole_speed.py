"""Training steps of RecBole's GRU4Rec, timed on request. Run by `sessions.py speed`, not by hand.

RecBole 1.2.1 needs numpy 1 and an old setuptools, so it lives in an environment of its own, in
which nothing of recsys is installed:

    python -m venv recbole-venv
    recbole-venv/bin/pip install torch==2.13.0 'numpy<2' 'pandas<3' 'setuptools<81' \
        recbole==1.2.1
    python benchmarks/sessions.py speed path/to/ml-1m --recbole recbole-venv/bin/python

Reads the log as a .npz file (`user`, `item`: one watch a row, a user's in order) and says "ready"
when RecBole has made its prefixes of it. Then, for each line `n` that it is sent, it goes n
training steps on and answers with a line of JSON: the targets learned per second of each step. A
step is one of `Trainer._train_epoch`, from one batch to the next, the making of the batch with it.
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
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer

NAME = "watches"


def write_atomic_file(log: Path, folder: Path) -> None:
    """The log as RecBole reads it; the place in the log stands for the time."""
    with np.load(log) as arrays:
        rows = np.column_stack([arrays["user"], arrays["item"], np.arange(len(arrays["user"]))])
    (folder / NAME).mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    path = folder / NAME / f"{NAME}.inter"
    np.savetxt(path, rows, fmt="%d", delimiter="\t", header=header, comments="")


def trainer_and_batches(folder: Path, sizes: dict[str, int]) -> tuple[Any, Any]:
    config = Config(
        model="GRU4Rec",
        dataset=NAME,
        config_dict={
            "data_path": str(folder),
            "checkpoint_dir": str(folder / "saved"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
            "use_gpu": False,
            "show_progress": False,
            **sizes,
        },
    )
    batches = data_preparation(config, create_dataset(config))[0]
    model = get_model("GRU4Rec")(config, batches._dataset)  # noqa: SLF001 - as its quick start does
    return get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, model), batches


def clocked(batches: Iterator[Any], rates: list[float]) -> Iterator[Any]:
    """The batches, and how many targets a second went by between one and the next."""
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
        trainer, batches = trainer_and_batches(Path(folder), sizes)
        print("ready", flush=True)
        for line in sys.stdin:
            rates: list[float] = []
            trainer._train_epoch(clocked(islice(iter(batches), int(line)), rates), 0)  # noqa: SLF001
            print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    main()
