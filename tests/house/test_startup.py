"""Starting is cheap: what is heavy loads when it is needed. benchmarks/startup.py has the times."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

HEAVY = {
    "alembic", "casbin", "fairlearn", "narwhals", "numpy", "opacus", "pandas", "polars",
    "presidio_analyzer", "pyarrow", "pydantic", "pyspark", "scipy", "sklearn", "spacy",
    "sqlalchemy", "sqlmodel", "tenseal", "torch",
}  # fmt: skip
REPORT = "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
HELP = """
import sys
from compliance.cli import main
sys.argv = ["compliance", "--help"]
try:
    main()
except SystemExit as stop:
    assert stop.code in {None, 0}, stop.code
"""


def _loaded(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running some code."""
    command = [sys.executable, "-W", "error", "-c", code + REPORT]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("code", ["import compliance", HELP], ids=["import", "help"])
def test_starting_loads_nothing_heavy(code):
    assert _loaded(code) & HEAVY == set()


def test_a_heavy_module_would_be_seen():
    assert "numpy" in _loaded("import numpy")
