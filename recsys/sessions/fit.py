"""Train the session model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.callbacks import EpochCallback, no_op
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError
from recsys.sessions.config import SessionConfig
from recsys.sessions.network import SessionNetwork
from recsys.sessions.session_model import SessionModel
from recsys.sessions.training import Training, Validate
from recsys.sessions.warm_start import parameters_digest, start_from


def fit_session_model(
    interactions: Interactions,
    config: SessionConfig | None = None,
    *,
    item_embeddings: NDArray[np.float32] | None = None,
    start: SessionModel | None = None,
    runtime: Runtime | None = None,
    on_epoch: EpochCallback = no_op,
    validate: Validate | None = None,
    checkpoint: Path | None = None,
) -> SessionModel:
    """Train a recurrent network to predict each watch from those before it.

    The loss is the cross-entropy over the whole catalogue, at every position of every history,
    with smoothed labels. Where `validate` gives `ndcg_at_10`, the model of the best epoch is
    kept, else that of the last.

    Args:
        interactions: the watches to learn from.
        config: sizes, dropout and training.
        item_embeddings: where the item vectors start, [n_items, any number of columns], unless
            `config.item_embedding_init` is "random". Without them, vectors start at random.
        start: a model of the same build to go on from, whose items may be others: what it has
            learned is kept, items that it does not know start by their popularity alone. Then
            `item_embeddings` are not looked at.
        runtime: device, precision, seed and threads.
        on_epoch: called after each epoch with `train_loss` (nats per watch),
            `learning_rate`, `interactions_per_second` and what `validate` gave.
        validate: called after each epoch with the model as it then is.
        checkpoint: a folder for the state of the training, written after each epoch. If it
            holds one, the training goes on from there, and `on_epoch` first hears again of the
            epochs behind it; the outcome is, on a CPU, the same to the last bit.

    Raises:
        DataError: no user has two watches, or an item comes again in spite of `exclude_seen`.
        ConfigError: `item_embeddings` are not one per item; `start` is built otherwise; `patience`
            without validation; or the checkpoint is of another training.
        TrainingError: the loss is no longer a number, or the checkpoint cannot be read.
    """
    config = (config or SessionConfig()).resolve(len(interactions))
    runtime = runtime or Runtime()
    if not (interactions.history_lengths > 1).any():
        raise DataError("no user has two watches: there is no sequence to learn from")
    if config.patience and validate is None:
        raise ConfigError(
            f"patience is {config.patience}, but there is no validation to be patient with: "
            "pass validate, or set patience to None"
        )
    if config.exclude_seen:
        _require_no_repeats(interactions)
    # Dropout draws from torch's global generators: seed them here, and put them back after.
    forked = _cuda_index(runtime.torch_device())
    with runtime.limit_threads(), torch.random.fork_rng(devices=forked):
        torch.manual_seed(runtime.seed)
        network = _new_network(interactions, config, item_embeddings, start, runtime.seed)
        training = Training(
            SessionModel(network, interactions.items),
            interactions,
            runtime,
            identity=_identity(interactions, config, item_embeddings, start, runtime),
            checkpoint=checkpoint,
        )
        return training.run(on_epoch, validate)


def training_digest(
    interactions: Interactions,
    config: SessionConfig,
    *,
    item_embeddings: NDArray[np.float32] | None = None,
    start: SessionModel | None = None,
    runtime: Runtime | None = None,
) -> str:
    """Hex SHA-256 of all that `fit_session_model` learns from and is told.

    Two trainings of the same digest may share a checkpoint; the name of its folder, for example.
    """
    config = config.resolve(len(interactions))
    identity = _identity(interactions, config, item_embeddings, start, runtime or Runtime())
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _require_no_repeats(interactions: Interactions) -> None:
    keys = interactions.user_index.astype(np.int64) * interactions.n_items + interactions.item_index
    values, counts = np.unique(keys, return_counts=True)
    if len(values) < len(keys):
        user, item = divmod(int(values[counts > 1][0]), interactions.n_items)
        raise DataError(
            f"user {interactions.users.ids[user]} has watched item {interactions.items.ids[item]} "
            "more than once: set exclude_seen to False"
        )


def _new_network(
    interactions: Interactions,
    config: SessionConfig,
    item_embeddings: NDArray[np.float32] | None,
    start: SessionModel | None,
    seed: int,
) -> SessionNetwork:
    network = SessionNetwork(interactions.n_items, config)
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    network.initialise(torch.Generator().manual_seed(seed), torch.from_numpy(counts).float())
    if start is not None:
        start_from(network, interactions.items, start)
    elif item_embeddings is not None and config.item_embedding_init != "random":
        if len(item_embeddings) != interactions.n_items:
            raise ConfigError(
                f"there are {len(item_embeddings)} item embeddings for {interactions.n_items} "
                "items: pass the embeddings fitted on the same interactions"
            )
        network.load_item_embeddings(torch.from_numpy(item_embeddings))
    return network


def _identity(
    interactions: Interactions,
    config: SessionConfig,
    item_embeddings: NDArray[np.float32] | None,
    start: SessionModel | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """What must be equal for one training to be taken up by another."""
    vectors = None if item_embeddings is None else np.ascontiguousarray(item_embeddings)
    return {
        "start": None if start is None else parameters_digest(start),
        "data": interactions.digest,
        "item_embeddings": None if vectors is None else hashlib.sha256(vectors.data).hexdigest(),
        "precision": runtime.torch_precision(),
        "seed": runtime.seed,
        **config.model_dump(mode="json"),
    }


def _cuda_index(device: torch.device) -> list[Any]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
