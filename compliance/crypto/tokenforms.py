"""What tokens look like: random text, or digits in the form of the value."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from compliance.errors import InputError

_BYTES = 16  # of randomness in a token: 128 bits
_FIGURES, _SEPARATORS, _FEWEST = "0123456789", " -./()+:", 6


def _random(value: Any) -> str:
    del value
    return f"tok_{secrets.token_urlsafe(_BYTES)}"


def _digits(value: Any) -> str:
    """Return the text with each digit drawn afresh, and never the text itself."""
    known = isinstance(value, str) and set(value) <= {*_FIGURES, *_SEPARATORS}
    if not known or sum(c in _FIGURES for c in value) < _FEWEST:
        raise InputError("a token of digits stands for text of six digits or more and separators")
    token = str(value)
    while hmac.compare_digest(token, value):
        token = "".join(secrets.choice(_FIGURES) if c in _FIGURES else c for c in value)
    return token


def possible(tokens: Iterable[Any]) -> list[str]:
    """Return what may be tokens; a database need not understand the rest."""
    return [t for t in tokens if isinstance(t, str) and t.isascii() and t.isprintable()]


FORMS: dict[str, Callable[[Any], str]] = {"random": _random, "digits": _digits}
