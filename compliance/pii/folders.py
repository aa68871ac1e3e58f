"""Which files of a folder a scan reads, and how many it passes over and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compliance._parquet import Encryption, encryption
from compliance.errors import InputError
from compliance.frames import SUFFIXES

_REASONS = ("hidden", "symlinks", "unsupported")


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under a folder.

    Attributes:
        files: those of a kind that can be read, and encrypted Parquet of any name, sorted.
        closed: folders that could not be listed.
        left_out: how many entries were passed over, by reason.
    """

    files: tuple[Path, ...]
    closed: tuple[Path, ...]
    left_out: Mapping[str, int]


def walk(folder: Path) -> Found:
    """List a folder and those below it.

    Symbolic links are never followed, so that a loop ends and nothing outside is read.
    """
    files: list[Path] = []
    errors: list[OSError] = []
    counts: Counter[str] = Counter()
    for root, folders, names in os.walk(folder, onerror=errors.append):
        reasons = {name: _reason(Path(root, name)) for name in folders}
        folders[:] = [name for name, reason in reasons.items() if not reason]
        reasons = {name: reason for name, reason in reasons.items() if reason}
        reasons |= {n: _reason(Path(root, n)) or _unsupported(Path(root, n)) for n in names}
        files += [Path(root, name) for name, reason in reasons.items() if not reason]
        counts.update(filter(None, reasons.values()))
    closed = tuple(Path(error.filename) for error in errors)
    return Found(tuple(sorted(files)), closed, {reason: counts[reason] for reason in _REASONS})


def _reason(path: Path) -> str:
    """Return why an entry is passed over; "" where it is not."""
    if path.is_symlink():
        return "symlinks"
    return "hidden" if path.name.startswith(".") else ""


def _unsupported(path: Path) -> str:
    known = path.suffix.lower() in SUFFIXES or is_encrypted(path)
    return "" if known else "unsupported"


def is_encrypted(path: Path) -> bool:
    """Say whether a file is encrypted Parquet, by its footer and not by its suffix."""
    try:
        return path.is_file() and encryption(path) is not Encryption.PLAIN
    except (InputError, OSError):
        return False
