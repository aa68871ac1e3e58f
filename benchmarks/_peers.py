"""What benchmarks share: CPU time, and peers, each in a virtual environment of its own.

A peer that our lock does not hold is installed only on demand (``--peers``, or
``COMPLIANCE_BENCHMARK_PEERS=1``), into a cache folder; without it nothing reaches the
network, and a benchmark prints which peers it left out.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import venv as stdlib_venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SWITCH = "COMPLIANCE_BENCHMARK_PEERS"


@dataclass(frozen=True)
class Timing:
    """CPU seconds of one process over several runs: the best and the median."""

    best: float
    median: float


def measure(function: Callable[[], object], repeats: int = 5) -> Timing:
    """Return the CPU time of a call, after one run that warms caches and imports."""
    function()
    runs = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        runs.append(time.process_time() - start)
    return Timing(min(runs), statistics.median(runs))


class LeftOutError(Exception):
    """A peer could not be measured; the text says why."""


def wanted() -> bool:
    """Say whether peers may be installed from the network."""
    return "--peers" in sys.argv[1:] or os.environ.get(SWITCH) == "1"


def venv(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of a virtual environment that holds pinned requirements.

    It is made on first use and kept in the cache folder (``XDG_CACHE_HOME``).

    Raises:
        LeftOutError: it is not there and peers are not wanted, or pip could not install them.
    """
    folder = _folder(name, requirements)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "complete").exists():
        return python
    if not wanted():
        raise LeftOutError(
            f"not installed; --peers or {SWITCH}=1 installs {', '.join(requirements)}"
        )
    stdlib_venv.create(folder, with_pip=True, clear=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *requirements], check=False, capture_output=True, text=True, env=_bare()
    )
    if done.returncode:
        raise LeftOutError(f"pip could not install it: {done.stderr.strip().splitlines()[-1:]}")
    (folder / "complete").touch()  # last, so that an installation cut off is made again
    return python


def run(python: Path | str, script: str, *arguments: str) -> dict[str, float]:
    """Run a script (source text) in an interpreter; return the JSON object that it prints.

    The script may ``from _peers import measure``.

    Raises:
        LeftOutError: the script failed.
    """
    command = [str(python), "-c", script, *arguments]
    here = _bare() | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=here)
    if done.returncode:
        raise LeftOutError(f"its script failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _folder(name: str, requirements: Sequence[str]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256("\n".join([version, *requirements]).encode()).hexdigest()[:12]
    return cache / "compliance-benchmarks" / f"{name}-{digest}"


def _bare() -> dict[str, str]:
    """Return the environment without what would let our own packages in."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
