"""What stands for a value on its way: sealed cells, what was erased, and the keys of rows."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import sqlalchemy as sa

from compliance.crypto.keys import row_identity
from compliance.errors import DecryptionFailed, InputError

PUBLIC = "compliance.crypto.orm"  # where users, reprs, pickles and migrations find our names
_ROW_KEYS = (str, int, uuid.UUID, bytes, dt.date)


def row_key() -> uuid.UUID:
    """Return a new UUIDv7 (RFC 9562, 5.7): made by the client, so it is known before the INSERT.

    It shows when the row was made, to the millisecond.
    """
    stamp = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    high, low = noise >> 68, noise & (1 << 62) - 1
    return uuid.UUID(int=stamp << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def row_text(parts: Sequence[object]) -> str:
    """Return the text that binds a row: the key's own, or for a composite one a JSON array.

    Raises:
        InputError: a part that a database may not give back exactly as it took it.
    """
    for part in parts:
        if isinstance(part, (bool, dt.datetime)) or not isinstance(part, _ROW_KEYS):
            raise InputError(
                f"a {type(part).__name__} cannot be (part of) a row key that cells are bound to; "
                "use UUID, whole numbers, text, bytes or dates"
            )
    texts = [row_identity(part) for part in parts]
    return texts[0] if len(texts) == 1 else json.dumps(texts)


class Erased:
    """The type of `ERASED`, what a cell opens to whose key was destroyed: falsy, and alone.

    Attributes of instances are None instead; see `erased`.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<erased>"

    def __reduce__(self) -> str:
        return "ERASED"


ERASED = Erased()


class Home:
    """The column that a type is attached to; its identity keeps compiled statements apart."""

    __slots__ = ("column", "places")

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column
        self.places: dict[str, bytes] = {}  # by tenant: associated data, encoded once


class Cell:
    """A cell sealed for one column: the parameter that takes a plaintext's place."""

    __slots__ = ("home", "raw")

    def __init__(self, home: Home | None, raw: bytes | None) -> None:
        self.home = home
        self.raw = raw

    def __repr__(self) -> str:
        return "<sealed>"


class Opener(Protocol):
    """The type of a column, as far as a cell of it needs one."""

    @property
    def title(self) -> str: ...  # noqa: D102  the name for messages

    def unseal(self, raw: object, row: str | None, subject: object) -> Any: ...  # noqa: D102  the value


class Sealed:
    """A cell of an `EncryptedRow` column that was selected alone, without its row."""

    __slots__ = ("_raw", "_type")

    def __init__(self, kind: Opener, raw: object) -> None:
        self._type = kind
        self._raw = raw

    def __repr__(self) -> str:
        return f"<sealed {self._type.title}>"

    def __reduce__(self) -> NoReturn:
        raise InputError("a sealed cell is not pickled; open it, or select the whole entity")

    def open(self, row: object, subject: object = None) -> Any:
        """Return the value, or `ERASED` where its key was destroyed.

        Args:
            row: the primary key of the cell's row; a tuple where it is composite.
            subject: the data subject's identifier; checked where it is given.

        Raises:
            DecryptionFailed: it belongs to another row or column, or was altered.
        """
        parts = row if isinstance(row, tuple) else (row,)
        return self.open_row(row_text(parts), subject)

    def open_row(self, row: str, subject: object) -> Any:
        """Return the value as `open` does, for a row as its `row_text`."""
        return self._type.unseal(self._raw, row, subject)


def with_way_out(error: DecryptionFailed, entity: str) -> DecryptionFailed:
    """Return an error that says how to find its row, and not which: a key may be personal."""
    found = f"compliance.crypto.orm.unreadable(session, {entity}) finds such rows"
    return DecryptionFailed(f"{error}. {found}")


for _public in (row_key, Erased, Sealed):
    _public.__module__ = PUBLIC
