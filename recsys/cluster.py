"""Work in chunks: in this process, or on the workers of a Dask cluster with the same results.

Tasks are functions of a chunk and of shared values, such as a model or a log, which each worker
receives once. Dask repeats the tasks of a lost worker, and those that fail with an unexpected
error. Dask is imported when a cluster is used.
"""

from __future__ import annotations

import logging
import signal
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from recsys.config import Runtime, available_threads
from recsys.errors import ConfigError, NetworkError, RecsysError
from recsys.storage import installed_versions

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_TIMEOUT: Final = 60  # seconds to wait for the first worker
_RETRIES: Final = 2  # of a task that fails with an unexpected error, such as one of the file system
_LOOPBACK: Final = "127.0.0.1:0"  # for the metrics of Dask, which it otherwise shows to all
_PACKAGES: Final = ("recsys-pipeline", "numpy", "scipy", "implicit")
"""What the results of a task depend on."""


def require_dask() -> None:
    """Raise a `ConfigError` if Dask is not installed."""
    try:
        import_module("distributed")
    except ImportError as error:
        raise ConfigError("a cluster needs Dask: pip install -e '.[dask]'") from error


def require_shared(folder: Path) -> None:
    """Raise a `ConfigError` if a worker does not see a folder that the client created."""
    if not folder.is_dir():
        raise ConfigError(
            f"a worker of the cluster does not see {folder}: write to storage that all of its "
            "machines share, under the same path"
        )


class Workers:
    """Runs tasks in this process, one after another."""

    def map(self, function: Callable[..., R], items: Iterable[Any], *shared: object) -> Iterator[R]:
        """Yield `function(item, *shared)` for each item, in order.

        On a cluster the function is called in other processes, with as many threads as here. It
        and its arguments are pickled on the way, and it may be called twice for an item. Shared
        objects are sent once, whatever the number of calls: they must not change.

        Raises:
            RecsysError: A call has failed with it.
            ConfigError: A task was lost with several workers.
            NetworkError: The scheduler was lost, or has cancelled the tasks.
        """
        return (function(item, *shared) for item in items)


THIS_PROCESS: Final = Workers()


class DaskWorkers(Workers):
    """Runs tasks on the workers of a Dask cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._shared: dict[int, Future[Any]] = {}

    def map(self, function: Callable[..., R], items: Iterable[Any], *shared: object) -> Iterator[R]:
        """Yield `function(item, *shared)` for each item, in order."""
        arguments = [self._share(value) for value in shared]
        threads, waiting = available_threads(), iter(items)

        def start(n: int) -> list[Future[Any]]:
            submit = self.client.submit
            return [
                submit(_call, function, threads, item, *arguments, pure=False, retries=_RETRIES)
                for item in islice(waiting, n)
            ]

        # More would fill the memory with results that wait for their turn.
        running = deque(start(2 * max(sum(self.client.nthreads().values()), 1)))
        while running:
            result = _result_of(running.popleft())
            running.extend(start(1))
            yield result

    def _share(self, value: object) -> object:
        """A future of a large object; numbers, texts and tuples are sent with each task.

        Its task holds the object, so that Dask can recompute it if all workers that have it are
        lost: what `Client.scatter` sends is lost with them.
        """
        key = id(value)
        if key not in self._shared:
            try:
                weakref.finalize(value, self._shared.pop, key, None)
            except TypeError:  # numbers, texts and tuples cannot be weakly referenced
                return value
            self._shared[key] = self.client.submit(_hold, value, pure=False)
        return self._shared[key]


class _Refused(NamedTuple):
    """An error that would be the same if the task was repeated."""

    error: RecsysError


def _call(function: Callable[..., R], threads: int, item: object, *shared: object) -> R | _Refused:
    """Call a function on a worker."""
    try:
        with Runtime(threads=threads).limit_threads():
            return function(item, *shared)
    except NetworkError:
        raise
    except RecsysError as error:
        return _Refused(error)


def _hold(value: T) -> T:
    return value


def _result_of(future: Future[Any]) -> Any:
    """The result of a task; raises its error."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        result = future.result()
    except KilledWorker as error:
        raise ConfigError(
            f"a task of the cluster was lost with each worker that ran it, the last one "
            f"{error.last_worker.address}, perhaps for lack of memory: see the worker's log, or "
            "start fewer workers on each machine"
        ) from error
    except CancelledError as error:
        reason = getattr(error, "reason", error)  # such as scheduler-connection-lost
        raise NetworkError(
            f"the cluster has cancelled its work ({reason}): if its scheduler ended, start it again"
        ) from error
    if isinstance(result, _Refused):
        raise result.error
    return result


@contextmanager
def open_workers(cluster: Client | str | None) -> Iterator[Workers]:
    """Connect to a cluster, or start one on this machine; in the end, close what was opened.

    Args:
        cluster: A Dask client, the address of a Dask scheduler, such as "tcp://10.0.0.1:8786", or
            a number of processes to start on this machine, such as "4". None: no cluster.

    Raises:
        ConfigError: Dask is not installed, the cluster does not answer or has no workers, or a
            worker has other versions of the packages that results depend on.
    """
    if cluster is None:
        yield THIS_PROCESS
        return
    with connect(cluster) as client:
        yield DaskWorkers(client)


@contextmanager
def connect(cluster: Client | str) -> Iterator[Client]:
    """A client of a cluster that has workers; see `open_workers`."""
    require_dask()
    import dask
    from distributed import Client

    # Dask warns of large arguments, for which it suggests what `DaskWorkers` does.
    quiet = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})
    with quiet, ExitStack() as stack:
        try:
            client = cluster
            if isinstance(client, str):
                address = stack.enter_context(_local(int(client))) if client.isdecimal() else client
                client = stack.enter_context(Client(address, set_as_default=False))
            client.wait_for_workers(1, timeout=_CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:  # also TimeoutError
            raise ConfigError(
                f"no Dask scheduler answers at {cluster!r}, or it has no workers: {error}"
            ) from error
        _require_same_versions(client)
        yield client


def _local(n_workers: int) -> Any:
    """Processes on this machine, one task at a time each, without the logs of Dask.

    They end with this process. Ctrl-C, which a terminal sends to all processes, is left to it.
    """
    import dask
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors of tasks are raised
    environment = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}
    resource_tracker.ensure_running()  # whose start would unblock signals in the thread of Dask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as in what is started
    try:
        with dask.config.set(environment):
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                memory_limit=0,  # with a limit, Dask would write objects to the disk, pickled
                worker_dashboard_address=_LOOPBACK,
                scheduler_kwargs={"dashboard": False, "dashboard_address": _LOOPBACK},
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_same_versions(client: Client) -> None:
    ours = installed_versions(*_PACKAGES)
    try:
        found: dict[str, dict[str, str]] = client.run(installed_versions, *_PACKAGES)
    except ImportError as error:
        raise ConfigError(f"the workers of the cluster lack a package: {error}") from error
    for address, theirs in found.items():
        for name in _PACKAGES:
            if theirs.get(name) != ours.get(name):
                raise ConfigError(
                    f"the worker {address} has {name} {theirs.get(name)}, and this process "
                    f"{ours.get(name)}: install the same version, or results would differ"
                )
