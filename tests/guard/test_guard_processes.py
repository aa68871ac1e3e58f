"""Story 1 across processes: a kill in the body, and two trainings for one budget."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from privately import allow, spent

SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from world import World, ACTIVITY, fit
from privately import private
import pandas as pd

world = World(Path({folder!r}), pd.read_json({frame!r}))
guard = world.guard()
rows = guard.dataset("applicants")(lambda: world.frame)

def killed(run, data):
    print("inside", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def slow(run, data):
    print("inside", flush=True)
    sys.stdin.readline()
    return private(run, data)

guard.training(ACTIVITY)({body})(rows())
print("done", flush=True)
"""


@pytest.fixture
def child(strict, tmp_path):
    """Return a function that starts a process with one training in it."""
    frame = tmp_path / "frame.json"
    strict.frame.to_json(frame, orient="records")
    tests = str(ROOT / "tests")
    processes = []

    def start(body):
        script = SCRIPT.format(tests=tests, folder=str(strict.folder), frame=str(frame), body=body)
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_kill_in_the_body_leaves_intent_opening_and_reservation(strict, child):
    start = strict.size()
    process = child("killed")
    out, err = process.communicate(timeout=120)
    assert (out, process.returncode) == ("inside\n", -signal.SIGKILL), err
    assert strict.events(start) == [
        "dataset.intent", "dataset.outcome", "training.intent", "training.opened", "training.reserved",
    ]  # fmt: skip
    assert spent(strict) == (0, 1)
    assert strict.verified()
    assert strict.models() == []


def test_of_two_processes_with_budget_for_one_exactly_one_trains(strict, child):
    allow(strict, 1.5)
    both = [child("slow"), child("slow")]
    results = [p.communicate("go\n", timeout=120) for p in both]
    codes = sorted(p.returncode for p in both)
    assert codes == [0, 1], results
    [loser] = [err for p, (_, err) in zip(both, results, strict=True) if p.returncode]
    assert "BudgetExhausted" in loser
    assert strict.models() == ["000001"]
    assert sum(spent(strict)) <= 1.5
    assert strict.verified()
