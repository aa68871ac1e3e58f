"""Sealed columns of frames: each cell bound to its place, under a column's or a person's key.

A column's key seals a whole column. With ``subjects`` each row is sealed under the key of the
person it is about instead, so that destroying one key erases that person from the frame and
from every copy of it, while the other rows stay readable.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress, repeat
from operator import add, call
from typing import Any, Literal

from compliance import frames
from compliance.crypto import aead, values
from compliance.crypto.keys import Key, Keyring, identity_text
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed
from compliance.frames import Frame

Subjects = tuple[str, Sequence[object]]
Nulls = Literal["keep", "seal"]
Destroyed = Literal["raise", "null"]
_MISSING = frozenset({"", "None", "nan", "NaN", "sNaN", "<NA>", "NaT"})


def encrypt(
    frame: Frame,
    names: Sequence[str],
    ring: Keyring,
    *,
    table: str,
    rows: Sequence[object] | None = None,
    subjects: Subjects | None = None,
    nulls: Nulls = "keep",
    pad: int | None = None,
    version: str = "1",
) -> Frame:
    """Return the frame with these columns sealed.

    Args:
        frame: the rows.
        names: the columns to seal; see `compliance.crypto.values` for the types.
        ring: the keys; each column has its own.
        table: the table or data set that the cells belong to.
        rows: a key for each row that is bound in, so that cells cannot change rows; where it
            is missing, the cell is bound to its column alone.
        subjects: the kind of data subject and the identifier of each row's: their own keys
            seal the cells, not the column's.
        nulls: ``keep`` leaves missing values missing, where everybody sees them; ``seal``
            seals them too and makes all cells of the column equally long.
        pad: pads each value to a multiple of so many bytes, to hide its length.
        version: of the table's schema, bound in.

    Raises:
        InputError: a type that cannot be sealed, or a row without a subject.
    """
    if nulls not in {"keep", "seal"}:
        raise InputError("nulls is 'keep' or 'seal'")
    parts = _parts(frame, rows)
    owners = None if subjects is None else _owner_keys(frame, ring, subjects)
    for name in names:
        cells = _values(frame, name)
        mask = [nulls == "seal" or cell is not None for cell in cells]
        plain = _encoded(cells, nulls, pad)
        place = aead.Place(ring.tenant, table, name, version).encode()
        bound = None if parts is None else list(compress(parts, mask))
        if owners is None:
            key = _column_key(ring, table, name, len(plain))
            sealed = _seal(key, plain, place, bound)
        else:
            sealed = _seal_each(list(compress(owners, mask)), plain, place, bound)
        frame = _put(frame, name, _spread(sealed, mask))
    return frame


def decrypt(
    frame: Frame,
    names: Sequence[str],
    ring: Keyring,
    *,
    table: str,
    rows: Sequence[object] | None = None,
    subjects: Subjects | None = None,
    destroyed: Destroyed = "raise",
    version: str = "1",
) -> Frame:
    """Return the frame with these columns opened; cells may be bytes or base64 text.

    Args:
        frame: the rows.
        names: the columns to open.
        ring: the keys.
        table: as it was sealed.
        rows: as they were sealed.
        subjects: as they were sealed.
        destroyed: ``null`` gives a missing value for a cell whose key was destroyed.
        version: as it was sealed.

    Raises:
        DecryptionFailed: a cell is no sealed cell of this table, column, row and subject.
        KeyDestroyed: the key was destroyed, and ``destroyed`` is ``raise``.
    """
    return open_columns(
        frame, names, ring, table=table, rows=rows, subjects=subjects, destroyed=destroyed,
        version=version,
    ).frame  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A frame with its columns opened.

    Attributes:
        frame: the rows.
        erased: the positions of rows with a cell whose key was destroyed, in order.
    """

    frame: Frame
    erased: list[int]


def open_columns(
    frame: Frame,
    names: Sequence[str],
    ring: Keyring,
    *,
    table: str,
    rows: Sequence[object] | None = None,
    subjects: Subjects | None = None,
    destroyed: Destroyed = "raise",
    version: str = "1",
) -> Opened:
    """Return the frame as `decrypt` does, with the rows that were erased."""
    if destroyed not in {"raise", "null"}:
        raise InputError("destroyed is 'raise' or 'null'")
    parts = _parts(frame, rows)
    owners = None if subjects is None else _owner_names(frame, ring, subjects)
    erased: set[int] = set()
    for name in names:
        cells = _cells(frame, name)
        mask = [cell is not None for cell in cells]
        heads = [cell[: aead.HEADER] for cell in cells if cell is not None]
        keys = _opening_keys(ring, set(heads), destroyed)
        expected = None if owners is None else list(compress(owners, mask))
        _require_expected(keys, heads, f"{table}.{name}", expected)
        gone = {head for head, key in keys.items() if key is None}
        if gone:
            lost = {i for i, c in enumerate(cells) if c and c[: aead.HEADER] in gone}
            erased |= lost
            mask = [there and i not in lost for i, there in enumerate(mask)]
        place = aead.Place(ring.tenant, table, name, version).encode()
        bound = None if parts is None else list(compress(parts, mask))
        plain = _open(keys, list(compress(cells, mask)), place, bound)
        frame = _put(frame, name, _spread(values.decode_all(plain), mask))
    return Opened(frame, sorted(erased))


# -- values and cells ---------------------------------------------------------------------


def _values(frame: Frame, name: str) -> list[Any]:
    """Return a column's values; polars and Arrow would cut nanoseconds off without a word."""
    import narwhals as nw

    dtype = frame.schema.get(name)
    finer = dtype == nw.Time or getattr(dtype, "time_unit", "") == "ns"
    finer = finer and not frame.implementation.is_pandas()
    if finer and (frame[name].drop_nulls().dt.nanosecond() % 1000 != 0).any():
        raise InputError("cannot seal nanoseconds; round the column to microseconds")
    return frames.column(frame, name)


def _encoded(cells: list[Any], nulls: Nulls, pad: int | None) -> list[bytes]:
    plain = values.encode_all([cell for cell in cells if cell is not None])
    if nulls == "seal":
        filled = iter(plain)
        return values.alike([None if c is None else next(filled) for c in cells], pad)
    return plain if pad is None else values.padded(plain, pad)


def _cells(frame: Frame, name: str) -> list[bytes | None]:
    found = frames.column(frame, name)
    if not {bytes, type(None)}.issuperset(map(type, found)):
        found = [None if cell is None else _raw(cell) for cell in found]
    lengths = [len(cell) for cell in found if cell is not None]
    if lengths and min(lengths) < aead.OVERHEAD:
        raise DecryptionFailed(aead.REFUSED)
    return found


def _raw(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DecryptionFailed(aead.REFUSED) from None


def _put(frame: Frame, name: str, items: list[Any]) -> Frame:
    """Return the frame with the column replaced; the libraries' own errors would quote a cell."""
    try:
        try:
            return frames.with_column(frame, name, items)
        except OverflowError:
            return _put_unsigned(frame, name, items)
    except Exception:  # noqa: BLE001  each library has errors of its own
        raise InputError(
            f"column {name!r} holds what a column of this library cannot, such as values of "
            "several types or lone surrogates; open it in pandas"
        ) from None


def _put_unsigned(frame: Frame, name: str, items: list[Any]) -> Frame:
    """Left to itself Arrow takes whole numbers for signed ones, and overflows."""
    import narwhals as nw
    import pyarrow as pa

    column = pa.chunked_array([pa.array(items, pa.uint64())])
    return frame.with_columns(nw.from_native(column, series_only=True).alias(name))


def _spread(items: list[Any], mask: list[bool]) -> list[Any]:
    """Return the items at the places where the mask is true, and None at the others."""
    if len(items) == len(mask):
        return items
    filled = iter(items)
    return [next(filled) if there else None for there in mask]


# -- places -------------------------------------------------------------------------------


def _parts(frame: Frame, rows: Sequence[object] | None) -> list[bytes] | None:
    """Return what each row adds to a place: nothing where its key is missing."""
    if rows is None:
        return None
    _one_each(frame, rows, "row keys")
    parts = aead.encode_parts(_identities(rows))
    return [b"" if row is None else part for row, part in zip(rows, parts, strict=True)]


def _one_each(frame: Frame, items: Sequence[object], what: str) -> None:
    if len(items) != len(frame):
        raise InputError(f"{len(items)} {what} for {len(frame)} rows")


def _identities(identifiers: Sequence[object]) -> list[str]:
    """Return `identity_text` of each, in bulk for the types that identifiers mostly have."""
    kinds = set(map(type, identifiers))
    if kinds == {int}:
        return list(map(str, identifiers))
    if kinds == {str}:
        return list(map(str.strip, identifiers))  # type: ignore[arg-type]  # all are text
    return list(map(identity_text, identifiers))


# -- keys ---------------------------------------------------------------------------------


def _people(frame: Frame, identifiers: Sequence[object]) -> list[str]:
    _one_each(frame, identifiers, "subjects")
    texts = _identities(identifiers)
    suspects = (i for i, text in enumerate(texts) if text in _MISSING)
    missing = sum(not texts[i] or not isinstance(identifiers[i], str) for i in suspects)
    if missing:
        raise InputError(
            f"{missing} rows name no subject, so nobody's key can seal them; drop them or give "
            "each an identifier"
        )
    return texts


def _owner_keys(frame: Frame, ring: Keyring, subjects: Subjects) -> list[Key]:
    """Return the key of each row's subject; one that has none yet gets it here."""
    kind, identifiers = subjects
    texts = _people(frame, identifiers)
    unique = list(dict.fromkeys(texts))
    keys = dict(zip(unique, ring.subjects(kind, unique), strict=True))
    return [keys[text] for text in texts]


def _owner_names(frame: Frame, ring: Keyring, subjects: Subjects) -> list[str]:
    """Return the name that the key of each row's subject has, without making any key."""
    kind, identifiers = subjects
    texts = _people(frame, identifiers)
    unique = list(dict.fromkeys(texts))
    names = dict(zip(unique, ring.references(kind, list(unique)), strict=True))
    return [names[text] for text in texts]


def _column_key(ring: Keyring, table: str, name: str, count: int) -> Key:
    key = ring.column(table, name)
    return ring.reserve(key, count) if count else key


def _opening_keys(
    ring: Keyring, heads: Iterable[bytes], destroyed: Destroyed
) -> dict[bytes, Key | None]:
    """Return the key that each header names; None for one that was destroyed."""
    ids = {head: int.from_bytes(head[1:], "big") for head in heads}
    if any(head[0] != aead.VERSION for head in ids):
        raise DecryptionFailed(aead.REFUSED)
    try:
        keys = ring.by_ids(ids.values())
    except DecryptionFailed:
        raise DecryptionFailed(aead.REFUSED) from None
    for key_id in (key_id for key_id, key in keys.items() if key is None):
        if destroyed == "raise":
            raise KeyDestroyed(f"key {key_id} was destroyed; open with destroyed='null'")
    return {head: keys[key_id] for head, key_id in ids.items()}


def _require_expected(
    keys: dict[bytes, Key | None], heads: list[bytes], column: str, owners: list[str] | None
) -> None:
    """Before anything is decrypted, each key must be the column's, or the row's own subject's.

    AES-GCM does not commit to its key; that no other key is ever tried is what binds it.
    """
    kind = "column" if owners is None else "subject"
    names = {head: key.name for head, key in keys.items() if key is not None}
    good = all(key is None or key.kind == kind for key in keys.values())
    if owners is None:
        good = good and set(names.values()) <= {column}
    else:
        pairs = zip(heads, owners, strict=True)
        good = good and all(names.get(head, owner) == owner for head, owner in pairs)
    if not good:
        raise DecryptionFailed(aead.REFUSED)


# -- ciphers ------------------------------------------------------------------------------


def _seal(key: Key, plain: list[bytes], place: bytes, parts: list[bytes] | None) -> list[bytes]:
    head = aead.header(key.id)
    bound = _bound(head + place, parts)
    return aead.seal_all(partial(map, key.cipher.encrypt), repeat(head), plain, bound)


def _seal_each(
    keys: list[Key], plain: list[bytes], place: bytes, parts: list[bytes] | None
) -> list[bytes]:
    distinct = {key.id: key for key in keys}
    made = {n: (aead.header(n), key.cipher.encrypt) for n, key in distinct.items()}
    heads, ciphers = [made[key.id][0] for key in keys], [made[key.id][1] for key in keys]
    return aead.seal_all(partial(map, call, ciphers), heads, plain, _each(heads, place, parts))


def _open(
    keys: dict[bytes, Key | None], cells: list[Any], place: bytes, parts: list[bytes] | None
) -> list[bytes]:
    ciphers = {head: key.cipher.decrypt for head, key in keys.items() if key is not None}
    if len(ciphers) == 1:
        ((head, decrypt),) = ciphers.items()
        return aead.open_all(partial(map, decrypt), cells, _bound(head + place, parts))
    heads = [cell[: aead.HEADER] for cell in cells]
    each = partial(map, call, [ciphers[head] for head in heads])
    return aead.open_all(each, cells, _each(heads, place, parts))


def _bound(start: bytes, parts: list[bytes] | None) -> Iterable[bytes]:
    """Return the associated data of cells under one key: the row, where known, comes last."""
    return repeat(start) if parts is None else map(start.__add__, parts)


def _each(heads: list[bytes], place: bytes, parts: list[bytes] | None) -> Iterable[bytes]:
    """Return the associated data of cells under keys of their own."""
    places = repeat(place) if parts is None else map(place.__add__, parts)
    return map(add, heads, places)
