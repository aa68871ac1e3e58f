"""Blind indices: keyed hashes by which sealed values are found without opening them.

What a blind index leaks to whoever sees the column: which rows hold equal values, and how
often each value occurs. With a table of frequencies that is often enough to name common
values (Naveed, Kamara and Wright, "Inference Attacks on Property-Preserving Encrypted
Databases", CCS 2015): index what is spread widely, such as addresses and account numbers,
not sex or a diagnosis. Without the key a guess cannot be tested.

Fewer bits make different values share an index on purpose. In a column of ``n`` distinct
values, an index of ``b`` bits finds about ``n / 2**b`` strangers beside what was asked for:
the rows found must be opened and compared, and an onlooker learns less.
"""

from __future__ import annotations

import contextlib
import hmac
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from compliance import frames
from compliance.crypto.arguments import require_names
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.subkeys import derive, joined, live_keys
from compliance.errors import InputError
from compliance.frames import Frame

MIN_BITS, MAX_BITS = 8, 256
_PUNCTUATION = frozenset("./()+'")
_SPACING = frozenset({"Zs", "Pd", "Cf"})  # spaces, dashes, invisible marks


def index(
    value: object,
    ring: Keyring,
    *,
    table: str,
    column: str,
    space: str | None = None,
    normal: str = "casefold",
    bits: int = 128,
) -> bytes:
    """Return the blind index of a value under the current key of its column.

    HMAC-SHA-256 (FIPS 198-1) over the normaliser's name and the normalised value, cut to
    its first bits: a shorter index is the beginning of a longer one. Leaks equality and
    frequency; not the value's length.

    Args:
        value: text or a whole number; 7, 7.0 and "7" are one value.
        ring: the keys.
        table: equal values in two tables have different indices,
        column: and so have those in two columns,
        space: unless both name one space, which then stands in the place of table and column.
        normal: one of `NORMALS`; two of them never give the same index.
        bits: from 8 to 256; the last byte is filled up with zero bits.

    Raises:
        InputError: an empty name, no such normaliser, a value that it refuses, or bits out of
            range.
    """
    how = _Index(table, column, space, normal, bits)
    return how.compute(how.subkey(ring.named("index", how.name)), value)


def lookup(
    value: object,
    ring: Keyring,
    *,
    table: str,
    column: str,
    space: str | None = None,
    normal: str = "casefold",
    bits: int = 128,
) -> list[bytes]:
    """Return the indices of a value under every live epoch of the key, the newest first.

    For ``WHERE email_index IN (...)`` while a key is being rotated: rows that were indexed
    under the old epoch are found until they are indexed again or that epoch is retired: index
    again first. Arguments, errors and what it leaks are those of `index`; a query shows the
    database what is looked for.
    """
    how = _Index(table, column, space, normal, bits)
    return [how.compute(how.subkey(key), value) for key in live_keys(ring, "index", how.name)]


def index_column(
    frame: Frame,
    name: str,
    ring: Keyring,
    *,
    table: str,
    space: str | None = None,
    normal: str = "casefold",
    bits: int = 128,
    into: str | None = None,
) -> Frame:
    """Return the frame with the blind indices of a column in another; missing stays missing.

    Each distinct value is hashed once. Leaks equality, frequency and which rows are empty.

    Args:
        frame: the rows.
        name: the column of plain values.
        ring: the keys.
        table: the table or data set of the column.
        space: as for `index`.
        normal: one of `NORMALS`.
        bits: from 8 to 256.
        into: the column to write, by default ``{name}_index``.

    Raises:
        InputError: as for `index`; the whole column is refused, and nothing is returned.
    """
    how = _Index(table, name, space, normal, bits)
    values = frames.column(frame, name)
    _check_types(values)
    subkey = how.subkey(ring.named("index", how.name))
    found = {v: how.compute(subkey, v) for v in dict.fromkeys(values) if v is not None}
    return frames.with_column(frame, into or f"{name}_index", [found.get(v) for v in values])


@dataclass(frozen=True, slots=True)
class _Index:
    """Everything that two indices must agree in to be compared."""

    table: str
    column: str
    space: str | None
    normal: str
    bits: int

    def __post_init__(self) -> None:
        require_names(table=self.table, column=self.column)
        if self.space is not None:
            require_names(space=self.space)
        if self.normal not in NORMALS:
            raise InputError(f"no normaliser {self.normal!r}; there are: {', '.join(NORMALS)}")
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise InputError(f"a blind index has {MIN_BITS} to {MAX_BITS} bits; choose among these")

    @property
    def name(self) -> str:
        """Return the key's name; that a table may be called like a space does no harm."""
        return f"{self.table}.{self.column}" if self.space is None else f"space:{self.space}"

    def subkey(self, key: Key) -> bytes:
        if self.space is None:
            return derive(key, "blind index", "column", self.table, self.column)
        return derive(key, "blind index", "space", self.space)

    def compute(self, subkey: bytes, value: object) -> bytes:
        text = NORMALS[self.normal](_text(value))
        digest = hmac.digest(subkey, joined(self.normal, text), "sha256")
        whole, rest = divmod(self.bits, 8)
        last = bytes([digest[whole] & 0xFF00 >> rest & 0xFF]) if rest else b""
        return digest[:whole] + last


# -- normalisers -------------------------------------------------------------------


def _exact(text: str) -> str:
    return text


def _folded(text: str) -> str:
    """Compatibility caseless form (Unicode 3.13, D146), composed; white space made single."""
    if text.isascii():
        return " ".join(text.lower().split())
    for _ in range(2):  # folding may undo a normal form
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
    return " ".join(text.split())


def _email(text: str) -> str:
    """Fold both parts: RFC 5321 lets a local part's case matter, and no provider does."""
    local, at, domain = _folded(text).rpartition("@")
    if not at or not local or not domain or " " in domain:
        raise InputError("a value is no e-mail address; correct it, or index with 'casefold'")
    return f"{local}@{domain.rstrip('.')}"


def _digits(text: str) -> str:
    """Keep decimal digits of any script; a letter is refused, since leaving it out would lie."""
    if text.isascii() and text.isdecimal():
        return text
    kept = [c for c in unicodedata.normalize("NFKC", text) if not _is_spacing(c)]
    if not all(c.isdecimal() for c in kept):
        raise InputError("a value holds more than digits and separators; index it with 'code'")
    return "".join(str(unicodedata.decimal(c)) for c in kept)


def _code(text: str) -> str:
    """Keep letters and digits, folded: IBAN, number plates, passports."""
    for _ in range(2):  # without what stood between, two characters may compose
        text = "".join(c for c in _folded(text) if not _is_spacing(c))
    return text


def _is_spacing(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character) in _SPACING


NORMALS: dict[str, Callable[[str], str]] = {
    "exact": _exact,
    "casefold": _folded,
    "email": _email,
    "digits": _digits,
    "code": _code,
}


def _text(value: Any) -> str:
    """Return a value's text; databases and data frames mix 7, 7.0 and "7"."""
    if isinstance(value, str):
        return value
    _check_types([value])
    # Neither NaN and infinity nor more than the 4,300 digits of str() become text.
    with contextlib.suppress(ValueError, OverflowError):
        if value is not None and int(value) == value:
            return str(int(value))
    raise InputError("a blind index is made of text or a whole number; turn the value into text")


def _check_types(values: Sequence[object]) -> None:
    """Refuse by type before equal values are put together: True equals 1."""
    for kind in set(map(type, values)) - {type(None)}:
        if issubclass(kind, bool) or not issubclass(kind, (str, Real, Decimal)):
            raise InputError(
                f"a blind index is not made of {kind.__name__}; turn the values into text"
            )
