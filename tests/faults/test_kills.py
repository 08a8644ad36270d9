"""A killed run damages nothing in use, and the next one completes with the same result."""

import os
import random
import shutil
import signal
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

pytestmark = pytest.mark.chaos

STAGES = {
    "counting": ("flows.tasks.stages", "save_interactions", 1),
    "embedding": ("recsys.embeddings", "save_embeddings", 1),
    "training": ("recsys.sessions.trainer", "save_checkpoint", 2),
    "evaluating": ("flows.tasks.stages", "evaluate_subsets", 1),
    "saving": ("recsys.tracking", "log_bundle", 1),
    "registering": ("recsys.tracking", "register", 1),
    "promoting": ("recsys.tracking", "promote", 1),
    "promoted": ("flows.tasks.registry", "create_markdown", 1),
}
"""Functions at whose call, by its number, a run is killed. Baselines are evaluated during the
training; the other functions are called in this order."""


N_KILLS = 100
SECONDS = 600
"""For the kills at random instants: as many as there is time for."""


class Disturbed:
    """A project with a champion, and what an undisturbed run makes of it."""

    def __init__(self, project):
        self.project = project
        self.before, self.expected, self.seconds = {}, {}, {}
        for command in ("train", "refresh"):
            self.before[command] = project.folder.with_name(command)
            shutil.copytree(project.folder, self.before[command])
            started = time.monotonic()
            assert project.run(command) == 0, project.log()
            self.seconds[command] = time.monotonic() - started
            self.expected[command] = project.state()

    def reset(self, command):
        """Make the folder what it was before a command."""
        shutil.rmtree(self.project.folder)
        shutil.copytree(self.before[command], self.project.folder)

    def run_for(self, command, seconds):
        """Run for some time, then kill the process and its children."""
        process = self.project.start(command)
        process.join(seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()

    def check_killed(self, command):
        """All registered bundles are whole, and the champion, the old or the new one, answers."""
        state = self.project.state()
        if command == "refresh" or state["champion"] is not None:
            assert state["answer"] in [self.expected[c]["answer"] for c in ("train", command)]

    def complete(self, command):
        """The result is that of an undisturbed run, and nothing is left of the killed one."""
        assert self.project.run(command) == 0, self.project.log()
        state, expected = self.project.state(), self.expected[command]
        assert latest(state) == latest(expected)
        assert state["answer"] == expected["answer"]
        assert state["running"] == 0
        assert state["litter"] == []


def latest(state):
    """The files of the latest version, by their SHA-256."""
    return state["files"][max(state["files"], key=int)]


@pytest.fixture(scope="module")
def disturbed(new_project):
    """As many projects as runs at a time."""
    projects = [new_project() for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(Disturbed, projects))


def test_undisturbed_runs_promote(disturbed):
    """Otherwise the tests below would not cover a promotion."""
    expected = disturbed[0].expected
    assert [expected[command]["champion"] for command in ("train", "refresh")] == [1, 2]


@pytest.mark.parametrize("command", ["refresh", "train"])
def test_a_run_killed_at_each_stage_in_turn_is_completed(disturbed, command):
    one = disturbed[0]
    one.reset(command)
    for call in STAGES.values():
        assert one.project.run(command, call) == -signal.SIGKILL, one.project.log()
        one.check_killed(command)
    one.complete(command)


def test_a_training_resumes_under_another_number_of_threads(disturbed):
    one = disturbed[0]
    one.reset("train")
    one.project.run("train", STAGES["training"])  # before its second checkpoint
    one.project.run("train", STAGES["saving"], ["--runtime.threads", "4"])
    assert "Training resumes after epoch 1 of 2." in one.project.log()


def test_a_run_killed_at_any_instant_is_completed(disturbed, record_property):
    """The first run is killed after a random time; the next one is not."""
    seeds, survived = deque(range(N_KILLS)), []
    deadline = time.monotonic() + SECONDS

    def check(one):
        while seeds and time.monotonic() < deadline:
            rng = random.Random(seeds.popleft())
            command = rng.choice(["train", "refresh", "refresh"])
            one.reset(command)
            one.run_for(command, rng.uniform(0, one.seconds[command]))
            one.check_killed(command)
            one.complete(command)
            survived.append(command)

    with ThreadPoolExecutor(len(disturbed)) as pool:
        list(pool.map(check, disturbed))
    record_property("kills survived", len(survived))
    assert survived
