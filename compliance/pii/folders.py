"""Which files of a folder a scan reads, and how many it passes over and why."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from compliance.findings import Scalar
from compliance.frames import SUFFIXES

_REASONS = ("hidden", "symlinks", "unsupported", "folders_unread")


def walk(folder: Path) -> tuple[list[Path], dict[str, Scalar]]:
    """Return the readable kinds of files under a folder, sorted, and counts of the rest.

    Symbolic links are never followed, so that a loop ends and nothing outside is read.
    """
    found: list[Path] = []
    counts: Counter[str] = Counter()
    errors: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=errors.append):
        reasons = {name: _reason(Path(root, name)) for name in folders}
        folders[:] = [name for name, reason in reasons.items() if not reason]
        reasons = {name: r for name, r in reasons.items() if r}
        reasons |= {name: _reason(Path(root, name)) or _unsupported(name) for name in files}
        found += [Path(root, name) for name, reason in reasons.items() if not reason]
        counts.update(filter(None, reasons.values()))
    counts["folders_unread"] = len(errors)
    return sorted(found), {reason: counts[reason] for reason in _REASONS}


def _reason(path: Path) -> str:
    """Return why an entry is passed over; "" where it is not."""
    if path.is_symlink():
        return "symlinks"
    return "hidden" if path.name.startswith(".") else ""


def _unsupported(name: str) -> str:
    return "" if Path(name).suffix.lower() in SUFFIXES else "unsupported"
