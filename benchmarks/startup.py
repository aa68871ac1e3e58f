"""Start-up over a bare interpreter: medians of five, and their ratios to ``python -c pass``.

The design allows 0.3 s for ``import compliance`` and 0.4 s for ``compliance --help``, each over
the bare interpreter.
"""

import statistics
import subprocess
import sys
import time

RUNS = 5
BARE = "python -c pass"
COMMANDS = {
    BARE: ["-c", "pass"],
    "import compliance": ["-c", "import compliance"],
    "compliance --help": ["-c", "from compliance.cli import main; main(['--help'])"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall-clock seconds of one run in a fresh interpreter."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def medians() -> dict[str, float]:
    """Return the median of each command, after one run that fills the file cache."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):
        for name, arguments in COMMANDS.items():
            elapsed = seconds(arguments)
            if run:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print one line for each command."""
    found = medians()
    bare = found[BARE]
    print(f"{'command':<20} {'median':>9} {'over bare':>10} {'ratio':>7}")
    for name, value in found.items():
        print(f"{name:<20} {value:>7.3f} s {value - bare:>8.3f} s {value / bare:>6.1f}x")


if __name__ == "__main__":
    main()
