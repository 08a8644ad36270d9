"""Old runs and what hangs on them: found, listed, removed for good.

A run goes with all that was run within it, the models that came out of it, and their versions.
Whatever has an alias stays (the champion, the challenger, what a person has named), and with it
the whole of the run that it came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Run as Recorded
from mlflow.entities import ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.tracking.paging import every
from recsys.tracking.store import PROCESS_TAG


@dataclass(frozen=True)
class Tree:
    """A run and all that was run within it."""

    root: Recorded
    members: tuple[Recorded, ...]
    model_ids: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    """Name and version of the registered models that came out of it."""

    @property
    def run_ids(self) -> set[str]:
        """The ids of all its runs."""
        return {run.info.run_id for run in self.members}

    @property
    def ended(self) -> datetime | None:
        """When the last of it ended; None while something is running."""
        ends = [run.info.end_time for run in self.members]
        return None if None in ends else datetime.fromtimestamp(max(ends) / 1000, UTC)


@dataclass
class Survey:
    """What is there: what may go, and what stays."""

    old: list[Tree] = field(default_factory=list)
    kept: list[Tree] = field(default_factory=list)

    @property
    def kept_facts(self) -> set[str]:
        """Every value of every parameter of the runs that stay: what they name is needed."""
        return {
            value
            for tree in self.kept
            for run in tree.members
            for value in run.data.params.values()
        }


def survey(client: MlflowClient, before: datetime, newest: int) -> Survey:
    """Find what may go: the runs that this library recorded and that ended before a moment.

    Args:
        client: of the store.
        before: what ended later stays.
        newest: how many of each experiment's runs stay, however old.
    """
    needed = named_runs(client)
    found = Survey()
    by_experiment: dict[str, list[Tree]] = defaultdict(list)
    for tree in _trees(client):
        by_experiment[tree.root.info.experiment_id].append(tree)
    for trees in by_experiment.values():
        trees.sort(key=lambda tree: tree.root.info.start_time, reverse=True)
        in_use = [tree for tree in trees if tree.root.info.lifecycle_stage == "active"]
        latest = {tree.root.info.run_id for tree in in_use[:newest]}
        for tree in trees:
            stays = (
                tree.root.info.run_id in latest
                or bool(tree.run_ids & needed)
                or tree.ended is None
                or tree.ended >= before
                or PROCESS_TAG not in tree.root.data.tags
            )
            (found.kept if stays else found.old).append(tree)
    found.old = [_with_models(client, tree) for tree in found.old]
    return found


def named_runs(client: MlflowClient) -> set[str]:
    """The runs that the versions with an alias came from."""
    models = every(client.search_registered_models)
    return {
        str(client.get_model_version(model.name, str(version)).run_id)
        for model in models
        for version in set(model.aliases.values())
    }


def _trees(client: MlflowClient) -> Iterator[Tree]:
    """Every run of every experiment, with those within it."""
    experiments = [one.experiment_id for one in every(client.search_experiments)]
    search = partial(client.search_runs, experiments, run_view_type=ViewType.ALL)
    runs = {run.info.run_id: run for run in every(search)}
    members: dict[str, list[Recorded]] = defaultdict(list)
    for run_id, run in runs.items():
        at = run_id
        # One whose parent is gone stands for itself.
        while (parent := runs[at].data.tags.get(MLFLOW_PARENT_RUN_ID)) in runs:
            at = parent
        members[at].append(run)
    return (Tree(runs[root], tuple(within)) for root, within in members.items())


def _with_models(client: MlflowClient, tree: Tree) -> Tree:
    experiment = [tree.root.info.experiment_id]
    models = every(partial(client.search_logged_models, experiment))
    versions = (
        (one.name, str(one.version))
        for run_id in tree.run_ids
        for one in every(partial(client.search_model_versions, f"run_id = '{run_id}'"))
    )
    ours = (model.model_id for model in models if model.source_run_id in tree.run_ids)
    return Tree(tree.root, tree.members, tuple(ours), tuple(versions))


def in_order(trees: Sequence[Tree]) -> list[Tree]:
    """Longest ended first."""
    return sorted(trees, key=lambda tree: tree.root.info.start_time)
