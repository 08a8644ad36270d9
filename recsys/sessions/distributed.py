"""The processes of a training: `Runtime.processes` on each of `Runtime.nodes` machines.

The calling process is rank 0. It starts the others of its machine; on each other machine,
`python -m recsys.sessions.worker` starts them. They read the histories from files, which are mapped
into memory, and receive parameters, checkpoint and metrics from rank 0.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # no stub has it
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from recsys.config import Runtime, available_threads
from recsys.data import Interactions
from recsys.errors import ConfigError, TrainingError
from recsys.sessions.batches import Histories
from recsys.sessions.config import SessionConfig
from recsys.storage import atomic_file

JOB, _ARRAYS = "job.json", ("item_index", "user_offsets")

_JOIN_SECONDS = 1800.0
"""How long to wait for the processes of other machines."""

_CONNECT_SECONDS = 60.0
"""How long the processes may take to connect, once all have started."""

_REPORT_SECONDS = 10.0
"""How long the processes that are left have to report that they lost the connection."""

_END_SECONDS = 60.0
"""How long the other processes may take to end after the last epoch."""


class Job(BaseModel, frozen=True):
    """What a process needs to know to take part in a training."""

    address: str
    port: int
    nodes: int
    processes: int
    n_items: int
    repeats: bool
    session_model: SessionConfig
    runtime: Runtime

    @property
    def world_size(self) -> int:
        """The number of processes of all machines."""
        return self.nodes * self.processes


@dataclass(frozen=True, eq=False)
class MappedHistories:
    """The histories of a job, which the processes of a machine share."""

    item_index: NDArray[np.int32]
    user_offsets: NDArray[np.int64]
    n_items: int

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """Number of rows of each user, [n_users]."""
        return np.diff(self.user_offsets)


class _Environment(LightningEnvironment):
    """The place of this process, which Fabric otherwise reads from environment variables."""

    def __init__(self, node: int, local_rank: int) -> None:
        super().__init__()
        self._node, self._local_rank = node, local_rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def node_rank(self) -> int:
        return self._node

    def local_rank(self) -> int:
        return self._local_rank


class Strategy(DDPStrategy):
    """How Fabric averages gradients.

    Without the launcher, which sets the number of threads and refuses notebooks.
    """

    def __init__(
        self, world_size: int, device: torch.device, environment: _Environment | None = None
    ) -> None:
        # After the first step, DistributedDataParallel reorders the gradients, unless some may be
        # unused. The sum over more than two processes depends on the order, so that a training
        # that resumes would differ.
        keeps_order = world_size > 2 and device.type == "cpu"
        super().__init__(cluster_environment=environment, find_unused_parameters=keeps_order)

    def setup_module(self, module: Module) -> DistributedDataParallel:
        """Broadcast the buffers, which never change, now instead of before each step.

        After that, no process only sends: gloo may wait half an hour to send to a process that has
        ended, and notices at once if it receives, too.
        """
        parallel = super().setup_module(module)
        parallel.broadcast_buffers = False
        return parallel

    def _configure_launcher(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class Group:
    """The processes of a training, as one of them sees them."""

    job: Job
    node: int
    local_rank: int
    store: TCPStore

    @property
    def rank(self) -> int:
        """The number of this process among those of all machines."""
        return self.node * self.job.processes + self.local_rank

    def strategy(self) -> DDPStrategy:
        """How Fabric averages the gradients of these processes."""
        device = self.job.runtime.torch_device()
        return Strategy(self.job.world_size, device, _Environment(self.node, self.local_rank))

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Communicate with the others in the block. Rank 0 enters it when all are ready."""
        patience = timedelta(seconds=_JOIN_SECONDS)
        if self.rank == 0:
            self.store.set("start", "")
        else:
            self.store.wait(["start"], patience)
        dist.init_process_group(
            "nccl" if self.job.runtime.torch_device().type == "cuda" else "gloo",
            store=self.store,
            rank=self.rank,
            world_size=self.job.world_size,
            timeout=timedelta(seconds=_CONNECT_SECONDS),
        )
        try:
            world: Any = dist.group.WORLD
            world.set_timeout(patience)  # the others wait while rank 0 validates
            yield
        finally:
            dist.destroy_process_group()

    def announce(self) -> None:
        """Tell rank 0 that this process has started."""
        self.store.set(f"ready/{self.rank}", "")

    def report(self, error: Exception) -> None:
        """Tell rank 0 why this process ends."""
        with suppress(dist.DistError):  # then rank 0 has ended
            self.store.set(f"failed/{self.rank}", "" if lost_connection(error) else f"{error}")


@contextmanager
def launch(
    interactions: Interactions,
    config: SessionConfig,
    runtime: Runtime,
    *,
    is_resumable: bool,
    notify: Callable[[str], object],
) -> Iterator[Group]:
    """Start the other processes of a training; the block is that of rank 0.

    Raises:
        ConfigError: there are fewer GPUs than processes, the process is already one of several, or
            another training uses the shared folder.
        TrainingError: another process ended, or those of another machine did not join.
    """
    nodes, processes = runtime.nodes, runtime.processes
    _require_single()
    require_gpus(runtime, processes)
    threads = max(available_threads(runtime) // processes, 1)
    own = runtime.model_copy(update={"threads": threads, "processes": 1, "nodes": 1})
    host, store = _start_store(nodes, nodes * processes)
    job = Job(
        address=host,
        port=store.port,
        nodes=nodes,
        processes=processes,
        n_items=interactions.n_items,
        repeats=interactions.repeats,
        session_model=config,
        runtime=own,
    )
    group = Group(job, node=0, local_rank=0, store=store)
    with ExitStack() as stack:
        stack.enter_context(own.limit_threads())
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            if runtime.shared_folder is None or nodes == 1
            else runtime.shared_folder
        )
        if read_job(folder) is not None:
            raise ConfigError(f"another training uses shared_folder {folder}: name another folder")
        stack.enter_context(published(job, interactions, folder))
        children = stack.enter_context(local_processes(job, folder, node=0))
        try:
            if nodes > 1:
                notify(
                    "Waiting for the other machines. Run there: python -m recsys.sessions.worker "
                    f"{folder} NODE, where NODE is 1 to {nodes - 1}."
                )
            await_processes(group, children, folder)
            with group.joined():
                yield group
                end(children)
        except RuntimeError as error:
            if not lost_connection(error):
                raise
            remedy = "start the training again"
            if is_resumable:
                remedy += ": it resumes after the latest complete epoch"
            raise TrainingError(f"{_find_failure(group, children)}; {remedy}") from error


def _start_store(nodes: int, world_size: int) -> tuple[str, TCPStore]:
    """The store through which processes find each other, and the host that it is on."""
    if nodes > 1:
        host = os.environ.get("MASTER_ADDR") or socket.gethostname()
        port = int(os.environ.get("MASTER_PORT") or 0)
        return host, TCPStore(host, port, world_size, is_master=True, wait_for_workers=False)
    listener = socket.create_server(("127.0.0.1", 0))  # by itself, it listens on all interfaces
    (host, port), descriptor = listener.getsockname(), listener.detach()
    options: Any = {"wait_for_workers": False, "master_listen_fd": descriptor}
    return host, TCPStore(host, port, world_size, is_master=True, **options)


def _require_single() -> None:
    if "WORLD_SIZE" in os.environ or dist.is_initialized():
        raise ConfigError(
            "processes or nodes is more than 1, but this process is already one of a distributed "
            "training, as torchrun starts them: set one of the two only"
        )


def require_gpus(runtime: Runtime, processes: int) -> None:
    """Refuse more processes than the GPUs of this machine with a `ConfigError`."""
    is_gpu = runtime.torch_device().type == "cuda"
    if is_gpu and (n_gpus := torch.cuda.device_count()) < processes:
        raise ConfigError(
            f"processes is {processes}, but the number of GPUs is {n_gpus}: each process needs one"
        )


@contextmanager
def published(job: Job, histories: Histories, folder: Path) -> Iterator[None]:
    """Write what the other processes read. The job is last, and is removed at the end."""
    for name in _ARRAYS:
        with atomic_file(folder / f"{name}.npy") as tmp_path:
            np.save(tmp_path, getattr(histories, name), allow_pickle=False)
    with atomic_file(folder / JOB) as tmp_path:
        tmp_path.write_text(job.model_dump_json())
    try:
        yield
    finally:
        for name in (JOB, *(f"{name}.npy" for name in _ARRAYS)):
            (folder / name).unlink(missing_ok=True)


def read_job(folder: Path) -> Job | None:
    """The job of a folder; None if there is none, or if its training has ended."""
    try:
        job = Job.model_validate_json((folder / JOB).read_text())
        with socket.create_connection((job.address, job.port), timeout=10):
            return job
    except OSError:
        return None


def read_histories(job: Job, folder: Path) -> MappedHistories:
    """Map the histories of a job into memory."""
    # torch asks for writable memory; what is written there does not reach the file.
    items, offsets = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS)
    return MappedHistories(items.view(np.ndarray), offsets.view(np.ndarray), job.n_items)


@contextmanager
def local_processes(job: Job, folder: Path, node: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the other processes of this machine. They are killed at the end of the block.

    They end with this process, too: then their standard input is closed.
    """
    children: list[subprocess.Popen[bytes]] = []
    logs = [_log(folder, job, node, local_rank) for local_rank in range(1, job.processes)]
    threads = {"OMP_NUM_THREADS": str(job.runtime.threads)}
    try:
        for local_rank, path in enumerate(logs, start=1):
            place = [str(folder.absolute()), str(node), str(local_rank)]
            with path.open("wb") as log:
                child = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "recsys.sessions.worker", *place],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **threads},
                    start_new_session=True,  # Ctrl-C reaches only this process
                )
            children.append(child)
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdin:
                child.stdin.close()
        for path in logs:
            path.unlink(missing_ok=True)


def _log(folder: Path, job: Job, node: int, local_rank: int) -> Path:
    return folder / f"rank-{node * job.processes + local_rank}.log"


def end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let the other processes of this machine end after the last epoch."""
    deadline = time.monotonic() + _END_SECONDS
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(deadline - time.monotonic(), 0))


def await_processes(
    group: Group, children: Sequence[subprocess.Popen[bytes]], folder: Path
) -> None:
    """Return once the other processes of this machine have started, for rank 0 those of all.

    Raises:
        TrainingError: one of them ended, or did not start in time.
    """
    job, store, deadline = group.job, group.store, time.monotonic() + _JOIN_SECONDS
    first = group.rank + 1
    ranks = range(first, job.world_size if group.rank == 0 else first + len(children))
    while missing := [rank for rank in ranks if not store.check([f"ready/{rank}"])]:
        for rank, child in enumerate(children, start=first):
            if child.poll() is not None:
                log = _log(folder, job, group.node, rank - group.rank).read_text(errors="replace")
                raise TrainingError(
                    ": ".join([_describe(job, rank, child), *log.splitlines()[-1:]])
                )
        for rank in missing:
            if store.check([f"failed/{rank}"]):
                reason = store.get(f"failed/{rank}").decode()
                raise TrainingError(f"rank {rank} of {job.world_size} failed: {reason}")
        if time.monotonic() > deadline:
            raise TrainingError(
                f"rank {missing[0]} of {job.world_size} did not join within "
                f"{_JOIN_SECONDS / 60:.0f} minutes"
            )
        time.sleep(0.1)


def lost_connection(error: Exception) -> bool:
    """Whether the connection to another process failed."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _find_failure(group: Group, children: Sequence[subprocess.Popen[bytes]]) -> str:
    """Which process failed: one that says so, or one that is silent while the others report."""
    job, store, deadline = group.job, group.store, time.monotonic() + _REPORT_SECONDS
    while True:
        silent = []
        for rank in range(1, job.world_size):
            if not store.check([f"failed/{rank}"]):
                silent.append(rank)
            elif reason := store.get(f"failed/{rank}").decode():
                return f"rank {rank} of {job.world_size} failed: {reason}"
        for rank in silent:
            if rank <= len(children) and children[rank - 1].poll() is not None:
                return _describe(job, rank, children[rank - 1])
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if not silent:
        return "the connection between the processes was lost"
    return f"rank {silent[0]} of {job.world_size} ended, or cannot be reached"


def _describe(job: Job, rank: int, child: subprocess.Popen[bytes]) -> str:
    status = child.returncode
    how = f"ended with status {status}"
    if status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    return f"rank {rank} of {job.world_size} {how}"


def connect(job: Job, node: int, local_rank: int) -> Group:
    """Join the training of a job."""
    patience = timedelta(seconds=_JOIN_SECONDS)
    store = TCPStore(job.address, job.port, job.world_size, is_master=False, timeout=patience)
    return Group(job, node, local_rank, store)
