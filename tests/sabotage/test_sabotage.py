"""Tests with teeth: break each promise of the design on purpose, and a named test must turn red.

Each sabotage is a small edit of a copy of the package. The named test runs against the copy
in a process of its own; it passes on the real package in the ordinary run of the suite.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sabotage.sabotages import SABOTAGES

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: f"{s.promise}-{s.name}")
def test_a_broken_promise_turns_its_test_red(sabotage, tmp_path):
    copy = tmp_path / "compliance"
    shutil.copytree(ROOT / "compliance", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("policies", "audits"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    apply(sabotage, copy)
    result = run(sabotage.test, tmp_path)
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr[-2000:]
    assert "1 failed" in result.stdout or "failed," in result.stdout, result.stdout[-3000:]
    assert str(copy) in result.stdout, "the test ran against the real package"


def apply(sabotage, copy):
    path = copy / sabotage.file
    text = path.read_text("utf-8")
    assert text.count(sabotage.old) == 1, (
        f"{sabotage.file} holds the text {text.count(sabotage.old)} times"
    )
    path.write_text(text.replace(sabotage.old, sabotage.new), "utf-8")
    compile(path.read_text("utf-8"), str(path), "exec")


def run(test, tmp_path):
    """Run a test against the copy, from the copy's folder: children of the test find it too."""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    options = {
        "env": environment,
        "cwd": tmp_path,
        "capture_output": True,
        "text": True,
        "timeout": 240,
    }
    show = "import compliance; print(compliance.__file__)"
    where = subprocess.run([sys.executable, "-P", "-c", show], check=True, **options)
    quiet = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    settings = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))
    command = [sys.executable, "-P", "-m", "pytest", *settings, *quiet, str(ROOT / test)]
    result = subprocess.run(command, check=False, **options)
    result.stdout += where.stdout
    return result


def test_every_promise_is_sabotaged():
    assert {s.promise for s in SABOTAGES} == set(range(1, 10))
