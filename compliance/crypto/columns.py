"""Sealed columns of frames: each cell bound to its place, under a column's or a person's key.

A column's key seals a whole column. With ``subjects`` each row is sealed under the key of the
person it is about instead, so that destroying one key erases that person from the frame and
from every copy of it, while the other rows stay readable.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal

from compliance import frames
from compliance.crypto import aead, cells, values
from compliance.crypto.arguments import require_list, require_names
from compliance.crypto.keys import (
    Key,
    Keyring,
    identity_text,
    require_identifiers,
    row_identity,
)
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed
from compliance.frames import Frame

if TYPE_CHECKING:
    import pyarrow as pa

Subjects = tuple[str, Sequence[object]]
Nulls = Literal["keep", "seal"]
Destroyed = Literal["raise", "null"]
Mask = list[bool] | None  # which rows hold a cell; None where all do


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
        frame: the rows, as any library's frame or wrapped (`compliance.frames.wrap`); what
            comes back is the same.
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
    given, frame = frame, _checked(frame, names, table)
    native = frame is not given
    parts = _parts(frame, rows)
    people = [] if subjects is None else _people(frame, subjects[1])
    own = None if subjects is None else _owner_keys(ring, subjects[0], people)
    for name in names:
        plain, mask = _plain(frame, name, nulls, pad)
        place = aead.Place(ring.tenant, table, name, version).encode()
        bound = _kept_parts(parts, mask)
        if own is None:
            sealed = cells.seal(_column_key(ring, table, name, len(plain)), plain, place, bound)
        else:
            sealed = cells.seal_each(own, _kept(people, mask), plain, place, bound)
        frame = _put(frame, name, cells.spread(sealed, mask))
    return frames.native(frame) if native else frame


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
    given, frame = frame, _checked(frame, names, table)
    native = frame is not given
    parts = _parts(frame, rows)
    people = [] if subjects is None else _people(frame, subjects[1])
    owners = None if subjects is None else _owner_names(ring, subjects[0], people)
    erased: set[int] = set()
    for name in names:
        found, mask = _cells(frame, name)
        heads = cells.headers_of(found)
        keys = _opening_keys(ring, heads.unique().to_pylist(), destroyed)
        expected = None if owners is None else _kept(owners, mask)
        _require_expected(keys, heads, f"{table}.{name}", expected)
        if None in keys.values():
            found, heads, mask, lost = _without_lost(keys, found, heads, mask)
            erased.update(lost)
        place = aead.Place(ring.tenant, table, name, version).encode()
        plain = cells.open_each(keys, heads, found, place, _kept_parts(parts, mask))
        frame = _put_values(frame, name, plain, mask)
    return Opened(frames.native(frame) if native else frame, sorted(erased))


def _without_lost(
    keys: dict[bytes, Key | None], found: pa.Array, heads: pa.Array, mask: Mask
) -> tuple[pa.Array, pa.Array, Mask, list[int]]:
    """Return cells, headers and mask without cells whose key was destroyed, and their rows."""
    import pyarrow as pa

    stay = [keys[head] is not None for head in heads.to_pylist()]
    left = [there is True for there in _spread(stay, mask)]
    lost = [row for row, there in enumerate(_spread(stay, mask)) if there is False]
    return found.filter(pa.array(stay)), heads.filter(pa.array(stay)), left, lost


# -- values and cells ---------------------------------------------------------------------


def _plain(frame: Frame, name: str, nulls: Nulls, pad: int | None) -> tuple[cells.Plain, Mask]:
    """Return what is to be sealed, and in which rows."""
    texts = frames.strings(frame, name, text=True)
    if texts is not None:
        texts = cells.encode_text(cells.flat(texts))
        if nulls == "keep" and pad is None:
            return cells.present(texts)
    data = _encoded(frame, name) if texts is None else texts.to_pylist()
    if nulls == "seal":
        return values.alike(data, pad), None
    mask = _present(data)
    plain = _kept(data, mask)
    return (plain if pad is None else values.padded(plain, pad)), mask


def _encoded(frame: Frame, name: str) -> list[Any]:
    """Return the encoded values of a column, and None for missing ones."""
    found = _values(frame, name)
    mask = _present(found)
    return _spread(values.encode_all(_kept(found, mask)), mask)


def _values(frame: Frame, name: str) -> list[Any]:
    """Return a column's values; polars and Arrow would cut nanoseconds off without a word."""
    import narwhals as nw

    dtype = frame.schema.get(name)
    finer = dtype == nw.Time or getattr(dtype, "time_unit", "") == "ns"
    finer = finer and not frame.implementation.is_pandas()
    if finer and (frame[name].drop_nulls().dt.nanosecond() % 1000 != 0).any():
        raise InputError("cannot seal nanoseconds; round the column to microseconds")
    return frames.column(frame, name)


def _cells(frame: Frame, name: str) -> tuple[pa.Array, Mask]:
    """Return the cells of a column, and in which rows they are."""
    array = frames.strings(frame, name, text=False)
    if array is None:
        found = frames.column(frame, name)
        if not {bytes, type(None)}.issuperset(map(type, found)):
            found = [None if cell is None else _raw(cell) for cell in found]
        array = cells.binary(found)
    return cells.present(cells.flat(array))


def _raw(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DecryptionFailed(aead.REFUSED) from None


def _put(frame: Frame, name: str, array: pa.Array) -> Frame:
    return frames.with_array(frame, name, cells.compact(array))


def _put_values(frame: Frame, name: str, plain: pa.Array, mask: Mask) -> Frame:
    """Return the frame with opened values; the libraries' own errors would quote one."""
    texts = cells.decode_text(plain) if len(plain) else None
    if texts is not None:
        return _put(frame, name, cells.spread(texts, mask))
    items = _spread(values.decode_all(plain.to_pylist()), mask)
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
    import pyarrow as pa

    return frames.with_array(frame, name, pa.array(items, pa.uint64()))


def _present(items: Sequence[Any]) -> Mask:
    """Return which items are not None; some types cannot be compared with it, but all have one."""
    missing = type(None) in set(map(type, items))
    return [item is not None for item in items] if missing else None


def _kept(items: list[Any], mask: Mask) -> list[Any]:
    return items if mask is None else list(compress(items, mask))


def _spread(items: list[Any], mask: Mask) -> list[Any]:
    """Return the items at the places where the mask is true, and None at the others."""
    if mask is None:
        return items
    filled = iter(items)
    return [next(filled) if there else None for there in mask]


# -- places -------------------------------------------------------------------------------


def _parts(frame: Frame, rows: Sequence[object] | None) -> pa.Array | None:
    """Return what each row adds to a place: nothing where its key is missing."""
    if rows is None:
        return None
    _one_each(frame, rows, "row keys")
    whole = set(map(type, rows)) == {int}  # Arrow writes these as `identity_text` does
    return cells.row_parts(rows if whole else _identities(rows, row_identity), _present(rows))


def _kept_parts(parts: pa.Array | None, mask: Mask) -> pa.Array | None:
    import pyarrow as pa

    return parts if parts is None or mask is None else parts.filter(pa.array(mask))


def _one_each(frame: Frame, items: Sequence[object], what: str) -> None:
    if len(items) != len(frame):
        raise InputError(f"{len(items)} {what} for {len(frame)} rows")


def _identities(identifiers: Sequence[object], one: Callable[[object], str]) -> list[str]:
    """Return the text of each, in bulk for whole numbers."""
    if set(map(type, identifiers)) == {int}:
        return list(map(str, identifiers))
    return list(map(one, identifiers))


def _checked(frame: Any, names: Sequence[str], table: str) -> Frame:
    require_list(names=names)
    require_names(table=table)
    return frames.wrap(frame)


# -- keys ---------------------------------------------------------------------------------


def _people(frame: Frame, identifiers: Sequence[object]) -> list[str]:
    """Return the text of each row's subject."""
    _one_each(frame, identifiers, "subjects")
    require_identifiers(identifiers)
    return _identities(identifiers, identity_text)


def _owner_keys(ring: Keyring, kind: str, people: list[str]) -> dict[str, Key]:
    """Return the key of each subject; one that has none yet gets it here."""
    unique = list(dict.fromkeys(people))
    return dict(zip(unique, ring.subjects(kind, unique), strict=True))


def _owner_names(ring: Keyring, kind: str, people: list[str]) -> list[str]:
    """Return the name that the key of each row's subject has, without making any key."""
    unique = list(dict.fromkeys(people))
    names = dict(zip(unique, ring.references(kind, list(unique)), strict=True))
    return list(map(names.__getitem__, people))


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
    keys: dict[bytes, Key | None], heads: pa.Array, column: str, owners: list[str] | None
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
        good = good and list(map(names.get, heads.to_pylist(), owners)) == owners
    if not good:
        raise DecryptionFailed(aead.REFUSED)
