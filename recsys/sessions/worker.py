"""Take part in a training that another process leads.

`python -m recsys.sessions.worker FOLDER NODE` on each machine but the first, where NODE is 1, 2, …
and FOLDER is `runtime.shared_folder`. It waits for the training, and ends with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from recsys.callbacks import no_op
from recsys.errors import ConfigError, ExitCode, RecsysError, TrainingError
from recsys.sessions.distributed import (
    JOB,
    await_processes,
    connect,
    end,
    local_processes,
    lost_connection,
    read_histories,
    read_job,
    require_gpus,
)
from recsys.sessions.model import SessionModel
from recsys.sessions.network import SessionNetwork
from recsys.sessions.trainer import Trainer
from recsys.vocabulary import Vocabulary


def main(arguments: list[str] | None = None) -> int:
    """Take part in a training; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m recsys.sessions.worker",
        description="Take part in the next training of a folder, as one of several machines.",
    )
    parser.add_argument("folder", type=Path, help="`runtime.shared_folder` of the training")
    parser.add_argument("node", type=int, help="the number of this machine; the training is on 0")
    parser.add_argument("local_rank", type=int, nargs="?", default=0, help=argparse.SUPPRESS)
    place = parser.parse_args(arguments)
    try:
        _train(place.folder, place.node, place.local_rank)
    except RecsysError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.ERROR
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _train(folder: Path, node: int, local_rank: int) -> None:
    if local_rank:  # started by another process of this machine
        threading.Thread(target=_end_with_parent, daemon=True).start()
    elif not (folder / JOB).exists():
        print(f"Waiting for a training in {folder}.", flush=True)
    while (job := read_job(folder)) is None:
        time.sleep(1.0)
    if not (local_rank or 1 <= node < job.nodes):
        raise ConfigError(
            f"node is {node}, but the others of {job.nodes} nodes are 1 to {job.nodes - 1}"
        )
    group = connect(job, node, local_rank)
    with ExitStack() as stack:
        stack.enter_context(job.runtime.limit_threads())
        starts = [] if local_rank else [local_processes(job, folder, node)]
        children = [child for start in starts for child in stack.enter_context(start)]
        try:
            require_gpus(job.runtime, job.processes)
            await_processes(group, children, folder)
            network = SessionNetwork(job.n_items, job.session_model, repeats=job.repeats)
            model = SessionModel(network, Vocabulary(np.arange(job.n_items)))
            histories = read_histories(job, folder)
            group.announce()
            with group.joined():
                Trainer(model, histories, job.runtime, {}, None, group=group).run(no_op, None)
                end(children)
        except Exception as error:
            group.report(error)
            if not lost_connection(error):
                raise
            raise TrainingError(
                "the connection to the other processes was lost; the first machine says why"
            ) from error


def _end_with_parent() -> None:
    """Exit as soon as the process that started this one has ended."""
    os.read(0, 1)  # not of `sys.stdin`, whose lock would stop this process from exiting
    os._exit(ExitCode.ERROR)


if __name__ == "__main__":
    sys.exit(main())
