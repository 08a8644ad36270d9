"""Training speed in interactions per second: `sessions.py speed`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from recbole_process import RECBOLE_SIZES, started

from recsys.config import Runtime
from recsys.data import Interactions
from recsys.sessions import SessionConfig, SessionNetwork
from recsys.sessions.batches import (
    Chunks,
    chunk_sequences,
    cut_batches,
    pad,
    training_batches,
)
from recsys.sessions.loss import NextItemLoss

Loop = Callable[[int], list[float]]
"""Runs some training steps; returns the interactions per second of each."""


def compare(
    log: Interactions, config: SessionConfig, rounds: int, steps: int, recbole: Path | None
) -> None:
    """Print the speed of each loop. They alternate, so that the load of the machine affects all."""
    config = config.resolve(len(log))
    with ExitStack() as children:
        loops: dict[str, Loop] = {
            "naive, float32": naive_loop(log, config),
            f"ours, {Runtime().torch_precision()}": own_loop(log, config),
        }
        if recbole:
            for name, sizes in RECBOLE_SIZES.items():
                loops[name] = children.enter_context(started(recbole, log, sizes)).steps
        for loop in loops.values():
            loop(2)  # warm up
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(rounds):
            for name, loop in loops.items():
                rates[name] += loop(steps)
    own = np.median(list(rates.values())[1])
    print(f"{'loop':<30} {'median items/s':>17} {'lowest':>8} {'highest':>8} {'speedup':>9}")
    for name, found in rates.items():
        median = np.median(found)
        print(
            f"{name:<30} {median:>17,.0f} {min(found):>8,.0f} {max(found):>8,.0f} "
            f"{own / median:>8.2f}×",
            flush=True,
        )


def naive_loop(log: Interactions, config: SessionConfig) -> Loop:
    """The usual loop: chunks in random order, all logits at once, torch's cross-entropy."""
    network = new_network(log, config)
    rng = np.random.default_rng(0)
    cuts = chunk_sequences(log, config.train_chunk_length, rng)
    order = rng.permutation(len(cuts))
    size = batch_size(log, config)

    def backward(index: int) -> int:
        chosen = order.take(range(index * size, (index + 1) * size), mode="wrap")
        return naive_gradient(network, log, cuts[chosen])

    return training_loop(backward, network)


def naive_gradient(network: SessionNetwork, log: Interactions, chunks: Chunks) -> int:
    """Compute the gradient of some chunks; returns the number of predictions."""
    items = torch.from_numpy(pad([log.item_index[i:j] for _, i, j in chunks], log.n_items))
    inputs = items[:, :-1]
    logits = network.logits(network(inputs, network.draw_masks(*inputs.shape)))
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), items[:, 1:].flatten(), ignore_index=log.n_items
    )
    loss.backward()
    return int((items[:, 1:] != log.n_items).sum())


def own_loop(log: Interactions, config: SessionConfig) -> Loop:
    """Batches by length, bf16 if the CPU supports it, the loss in chunks."""
    network = new_network(log, config)
    next_item_loss = NextItemLoss(network, config)
    bf16 = Runtime().torch_precision() == "bf16-mixed"
    rng = np.random.default_rng(0)
    batches = training_batches(log, config.train_chunk_length, config.batch_size, rng)

    item_index = torch.from_numpy(log.item_index)

    def backward(index: int) -> int:
        (batch,) = cut_batches(item_index, [batches[index % len(batches)]], log.n_items)
        items, context, n_targets = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            draws = next_item_loss.draw(items, n_targets)
            loss = next_item_loss(items, context, n_targets, draws)
        loss.backward()
        return n_targets

    return training_loop(backward, network)


def batch_size(log: Interactions, config: SessionConfig) -> int:
    """Number of chunks in a full batch of the library."""
    rng = np.random.default_rng(0)
    batches = training_batches(log, config.train_chunk_length, config.batch_size, rng)
    return max(map(len, batches))


def new_network(log: Interactions, config: SessionConfig) -> SessionNetwork:
    network = SessionNetwork(log.n_items, config)
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(log.n_items))
    return network.train()


def training_loop(backward: Callable[[int], int], network: SessionNetwork) -> Loop:
    """Training steps, given a function that computes the gradient of the n-th batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    done = 0

    def run_steps(steps: int) -> list[float]:
        nonlocal done
        rates = []
        for _ in range(steps):
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            n_targets = backward(done)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rates.append(n_targets / (time.perf_counter() - started))
            done += 1
        return rates

    return run_steps
