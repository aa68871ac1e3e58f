"""What callers hand in: names that name something, and lists that are no single text."""

from __future__ import annotations

from typing import Any

from compliance.errors import InputError

_SINGLE = (str, bytes, bytearray, memoryview)


def require_names(**names: Any) -> None:
    """Refuse a name that is empty or no text: keys and places are told apart by names alone.

    Raises:
        InputError: the first such argument, by what it is called.
    """
    for argument, name in names.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"{argument} is a name: give text that is not empty")


def require_list(**lists: Any) -> None:
    """Refuse one text in the place of many: Python would take it letter by letter.

    Raises:
        InputError: the first such argument, by what it is called.
    """
    for argument, values in lists.items():
        if isinstance(values, _SINGLE):
            raise InputError(f"{argument} is one {type(values).__name__}: give a list, as in [...]")
