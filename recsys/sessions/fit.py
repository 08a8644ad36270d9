"""Fit a session model: from random or pretrained embeddings, or from an earlier model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.arguments import require, require_type, to_array, to_int, to_path
from recsys.callbacks import EpochCallback, no_op
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError
from recsys.sessions.config import SessionConfig
from recsys.sessions.model import SessionModel
from recsys.sessions.network import SessionNetwork
from recsys.sessions.trainer import Trainer, Validate
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.sessions.distributed import Group

_logger = logging.getLogger(__name__)

PER_ITEM = ("item_embeddings.weight", "item_bias")
"""The parameters with one row per item; rows past the last item are padding."""


def fit_session_model(
    interactions: Interactions,
    config: SessionConfig | None = None,
    *,
    item_embeddings: NDArray[np.float32] | None = None,
    start: SessionModel | None = None,
    runtime: Runtime | None = None,
    on_epoch: EpochCallback = no_op,
    validate: Validate | None = None,
    checkpoint: Path | str | None = None,
    embeddings_key: str | None = None,
    notify: Callable[[str], object] = _logger.info,
    loss_threads: int = 1,
) -> SessionModel:
    """Train a recurrent network to predict each interaction from those before it.

    The loss is the cross-entropy with label smoothing at every position of every history. If
    `validate` returns `ndcg_at_10`, the result is the model of the best epoch, else of the last.

    Args:
        interactions: the training data.
        config: architecture and training.
        item_embeddings: initial item embeddings, [n_items, any number of columns]; ignored if
            `config.item_embedding_init` is "random". Without them, the start is random.
        start: a model with the same architecture to continue from, possibly over other items:
            items that it does not know start from their popularity. `item_embeddings` is then
            ignored.
        runtime: device, precision, seed, threads and processes. `on_epoch` and `validate` are
            called in this process only.
        on_epoch: called after each epoch with `train_loss` (nats per prediction),
            `learning_rate`, `interactions_per_second` and the metrics of `validate`.
        validate: called after each epoch with the current model.
        checkpoint: folder for the state of the training, written after each epoch. If it holds a
            checkpoint, training resumes from it: `on_epoch` is called for the epochs done, and
            the result on a CPU is bit-identical to that of an uninterrupted training. A damaged
            checkpoint is renamed to `training.safetensors.damaged`, and training starts again.
        embeddings_key: identifies `item_embeddings` in the checkpoint, by default their SHA-256.
            Their bits depend on the number of threads that computed them. A hash of what they
            were computed from does not.
        notify: called with one line: after which epoch training resumes, or why it does not.
        loss_threads: 1, or 2 to compute the loss over the catalogue in two threads on a CPU, each
            with the threads of torch. The result is the same. With one thread of torch, this is
            faster, and unlike a second thread of torch it is not slow where the cores have other
            work.

    Raises:
        DataError: no user has two interactions, or an item repeats, although the interactions say
            that none does.
        ConfigError: the number of `item_embeddings` is not that of the items; the architecture of
            `start` differs; `patience` is set without `validate`; or the checkpoint belongs to
            another training.
        TrainingError: the training diverges, the file of the checkpoint cannot be read, or one of
            several processes ends.
    """
    _require_inputs(interactions, config, item_embeddings, start, runtime, embeddings_key)
    require(Callable, on_epoch=on_epoch, notify=notify)
    require(Callable | None, validate=validate)
    loss_threads = to_int("loss_threads", loss_threads, high=2)
    interactions = interactions.sequence()
    config = (config or SessionConfig()).resolve(len(interactions))
    runtime = runtime or Runtime()
    if not (interactions.history_lengths > 1).any():
        raise DataError("no user has two interactions: there is no sequence to train on")
    if config.patience and validate is None:
        raise ConfigError(
            f"patience is {config.patience}, but there is no validation: pass validate, or set "
            "patience to None"
        )
    if not interactions.repeats:
        _require_no_repeats(interactions)
    with runtime.limit_threads():
        # Torch initializes modules with its global generator; all of it is replaced below.
        with torch.random.fork_rng(devices=[]):
            network = SessionNetwork(interactions.n_items, config, repeats=interactions.repeats)
        counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
        generator = torch.Generator().manual_seed(runtime.seed)
        network.reset_parameters(generator, torch.from_numpy(counts).float())
        if start is not None:
            warm_start(network, interactions.items, start)
        elif item_embeddings is not None and config.item_embedding_init != "random":
            if len(item_embeddings) != network.n_items:
                raise ConfigError(
                    f"there are {len(item_embeddings)} item embeddings for {network.n_items} "
                    "items: pass the embeddings fitted on the same interactions"
                )
            network.load_item_embeddings(torch.from_numpy(item_embeddings))
        key = embeddings_key or _sha256(item_embeddings)
        identity = _identity(interactions, config, key, start, runtime)
        model = SessionModel(network, interactions.items)
        folder = None if checkpoint is None else to_path(checkpoint, ConfigError)
        with _launched(interactions, config, runtime, folder, notify) as group:
            trainer = Trainer(
                model, interactions, runtime, identity, folder, notify, group, loss_threads
            )
            return trainer.run(on_epoch, validate)


@contextmanager
def _launched(
    interactions: Interactions,
    config: SessionConfig,
    runtime: Runtime,
    checkpoint: Path | None,
    notify: Callable[[str], object],
) -> Iterator[Group | None]:
    """Start the other processes of a training, if the settings ask for some."""
    if runtime.processes == runtime.nodes == 1:
        yield None
        return
    from recsys.sessions.distributed import launch  # imports Fabric, which is slow

    is_resumable = checkpoint is not None
    with launch(interactions, config, runtime, is_resumable=is_resumable, notify=notify) as group:
        yield group


def training_digest(
    interactions: Interactions,
    config: SessionConfig,
    *,
    item_embeddings: NDArray[np.float32] | None = None,
    start: SessionModel | None = None,
    runtime: Runtime | None = None,
    embeddings_key: str | None = None,
) -> str:
    """Hex SHA-256 of the inputs of `fit_session_model` that determine the result.

    Trainings with the same digest can share a checkpoint folder.
    """
    _require_inputs(interactions, config, item_embeddings, start, runtime, embeddings_key)
    require(SessionConfig, config=config)
    interactions = interactions.sequence()
    config = config.resolve(len(interactions))
    key = embeddings_key or _sha256(item_embeddings)
    identity = _identity(interactions, config, key, start, runtime or Runtime())
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _require_inputs(
    interactions: Interactions,
    config: SessionConfig | None,
    item_embeddings: NDArray[np.float32] | None,
    start: SessionModel | None,
    runtime: Runtime | None,
    embeddings_key: str | None,
) -> None:
    require_type(interactions, Interactions, "read_ratings")
    require(SessionConfig | None, config=config)
    require(SessionModel | None, start=start)
    require(Runtime | None, runtime=runtime)
    require(str | None, embeddings_key=embeddings_key)
    require(np.ndarray | None, item_embeddings=item_embeddings)
    if item_embeddings is not None:
        to_array("item_embeddings", item_embeddings, "f", None, None)


def _require_no_repeats(interactions: Interactions) -> None:
    values, counts = np.unique(interactions.pairs(), return_counts=True)
    if len(values) < len(interactions):
        user, item = divmod(int(values[counts > 1][0]), interactions.n_items)
        raise DataError(
            f"user {interactions.users.ids[user]} has more than one interaction with item "
            f"{interactions.items.ids[item]}: read the data with repeats='allow'"
        )


def _identity(
    interactions: Interactions,
    config: SessionConfig,
    embeddings_key: str | None,
    start: SessionModel | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """What must be equal for a training to resume another one's checkpoint."""
    start_digest = None
    if start is not None:
        state = sorted(start.network.state_dict().items())
        parts = [name.encode() + x.cpu().contiguous().numpy().tobytes() for name, x in state]
        start_digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return {
        "start": start_digest,
        "data": interactions.digest,
        "item_embeddings": embeddings_key,
        "precision": runtime.torch_precision(),
        "seed": runtime.seed,
        **config.model_dump(mode="json"),
    }


def _sha256(array: NDArray[np.float32] | None) -> str | None:
    return None if array is None else hashlib.sha256(array.tobytes()).hexdigest()


@torch.no_grad()
def warm_start(network: SessionNetwork, items: Vocabulary, earlier: SessionModel) -> None:
    """Copy the parameters of an earlier model into an initialized network over `items`.

    Items are matched by id. A new item has a zero embedding and the bias of its popularity.

    Raises:
        ConfigError: the architectures differ, or no item is in both.
    """
    index = torch.from_numpy(earlier.items.indices(items.ids)).long()
    known = index >= 0
    if not known.any():
        raise ConfigError(
            "the model to start from is of another catalogue: it knows none of the "
            f"{items}, but {earlier.items}; train from the start"
        )
    own, learned = network.state_dict(), earlier.network.state_dict()
    differing = sorted({name for name, _ in _shapes(own) ^ _shapes(learned)})
    if differing:
        raise ConfigError(
            f"the model to start from has another architecture: {', '.join(differing[:3])} "
            "differ; set the same cell, sizes, layers and attention, or train from the start"
        )
    for name, target in own.items():
        source = learned[name].to(target.device)
        if name in PER_ITEM:
            target[: len(items)][known] = source[index[known]]
        elif name != "log_popularity":
            target.copy_(source)
    network.item_embeddings.weight[: len(items)][~known] = 0.0


def _shapes(state: dict[str, Tensor]) -> set[tuple[str, torch.Size]]:
    """The names and shapes of all parameters, without the number of items."""
    sized = (*PER_ITEM, "log_popularity")
    return {(name, x.shape[1:] if name in sized else x.shape) for name, x in state.items()}
