"""Many sealed cells at once: Arrow lays them out and takes them apart, the cipher does the rest.

A column's cells lie one after the other in one buffer. Cutting and joining them there costs a
tenth of what Python's own slices and additions cost, and only a block of them at a time is held
as Python's objects, so that little beside AES-GCM itself is left to pay for. The layout is that
of `compliance.crypto.aead`; arrays are ``large_binary``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, islice, repeat
from operator import call
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag

from compliance.crypto import aead
from compliance.errors import DecryptionFailed, InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from compliance.crypto.cache import Key

_NONCE = 12
_BODY = aead.HEADER + _NONCE  # where the ciphertext begins
_END = 2**31 + aead.OVERHEAD  # beyond every cell: the cipher's limit for one message
_SMALL = 2**31 - 1  # bytes that offsets of 32 bits reach
_BLOCK = 1024  # cells that are Python objects at a time: they stay in the processor's cache
_TEXT = b"s"  # the letter of text in compliance.crypto.values

Plain = Any  # encoded values, none of them missing: a list or an array
# Encrypts or decrypts one cell: nonce, message and associated data in, the result out.
Cipher = Callable[[bytes, bytes, bytes], bytes]


# -- sealing and opening ------------------------------------------------------------------


def seal(key: Key, plain: Plain, place: bytes, parts: pa.Array | None) -> pa.Array:
    """Return the sealed cells of one key, as `seal_all` does.

    Args:
        key: may seal so many.
        plain: the encoded values.
        place: encoded.
        parts: what each row adds to the place, where it does.
    """
    head = aead.header(key.id)
    return seal_all(key.cipher.encrypt, head, plain, associated(head, place, parts))


def seal_each(
    keys: dict[str, Key], people: list[str], plain: Plain, place: bytes, parts: pa.Array | None
) -> pa.Array:
    """Return cells, each under the key of the person it is about; see `seal`."""
    named = {name: aead.header(key.id) for name, key in keys.items()}
    ciphers = {name: key.cipher.encrypt for name, key in keys.items()}
    heads = binary(list(map(named.__getitem__, people)))
    each = list(map(ciphers.__getitem__, people))
    return seal_all(each, heads, plain, associated(heads, place, parts))


def open_each(
    keys: dict[bytes, Key | None],
    heads: pa.Array,
    cells: pa.Array,
    place: bytes,
    parts: pa.Array | None,
) -> pa.Array:
    """Return the plaintexts of cells, each under the key that its header names; see `open_all`."""
    ciphers = {head: key.cipher.decrypt for head, key in keys.items() if key is not None}
    if len(ciphers) == 1:
        ((head, decrypt),) = ciphers.items()
        return open_all(decrypt, cells, associated(head, place, parts))
    each = list(map(ciphers.__getitem__, heads.to_pylist()))
    return open_all(each, cells, associated(heads, place, parts))


def seal_all(
    encrypt: Cipher | Sequence[Cipher],
    headers: bytes | pa.Array,
    plaintexts: Plain,
    bound: Iterable[bytes],
) -> pa.Array:
    """Return sealed cells, each under a fresh random nonce.

    The nonces come from one read of the operating system's generator, which has no state in
    this process: two processes after a fork, or a machine restored from a snapshot of its
    disk, do not repeat them.

    Args:
        encrypt: of the key of all, or one for each cell.
        headers: by `aead.header`, of all or one for each cell.
        plaintexts: the values, none of them missing.
        bound: for each cell its associated data, by `associated`; may be endless.

    Raises:
        InputError: a value of more than 2 GiB.
    """
    nonces = _random(len(plaintexts))
    plain = plaintexts if isinstance(plaintexts, list) else _items(plaintexts)
    try:
        sealed = _gathered(_mapped(encrypt)(_items(nonces), plain, bound))
    except OverflowError:
        raise InputError("one sealed value holds less than 2 GiB") from None
    return _joined(headers, nonces, sealed)


def open_all(
    decrypt: Cipher | Sequence[Cipher], cells: pa.Array, bound: Iterable[bytes]
) -> pa.Array:
    """Return the plaintexts of cells, none of them missing; see `seal_all`.

    Raises:
        DecryptionFailed: any of them was sealed by another key or elsewhere, or was altered.
    """
    nonces = _items(_cut(cells, aead.HEADER, _BODY))
    bodies = _items(_cut(cells, _BODY))
    try:
        return _gathered(_mapped(decrypt)(nonces, bodies, bound))
    except InvalidTag:
        raise DecryptionFailed(aead.REFUSED) from None


def _mapped(cipher: Cipher | Sequence[Cipher]) -> Callable[..., Iterable[bytes]]:
    return partial(map, cipher) if callable(cipher) else partial(map, call, cipher)


def headers_of(cells: pa.Array) -> pa.Array:
    """Return the header of each cell.

    Raises:
        DecryptionFailed: one is too short for a sealed cell.
    """
    import pyarrow.compute as pc

    if len(cells) and pc.min(pc.binary_length(cells)).as_py() < aead.OVERHEAD:
        raise DecryptionFailed(aead.REFUSED)
    return _cut(cells, 0, aead.HEADER)


# -- places -------------------------------------------------------------------------------


def row_parts(keys: Sequence[object], mask: Sequence[bool] | None = None) -> pa.Array:
    """Return what rows add to a place: of each key its length (4 bytes) and UTF-8.

    Args:
        keys: of the rows, all text or all int; lone surrogates pass.
        mask: which rows have a key, the others add nothing; None where all have.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = _utf8(keys)
    lengths = pc.binary_length(texts).dictionary_encode()
    prefixes = binary([n.to_bytes(4, "big") for n in lengths.dictionary.to_pylist()])
    parts = _joined(prefixes.take(lengths.indices), texts)
    return parts if mask is None else pc.if_else(pa.array(mask), parts, pa.scalar(b"", parts.type))


def _utf8(keys: Sequence[object]) -> pa.Array:
    import pyarrow as pa

    try:
        return flat(pa.array(keys).cast(pa.large_string()))
    except (OverflowError, UnicodeEncodeError):
        return binary([str(key).encode("utf-8", "surrogatepass") for key in keys])


def associated(
    headers: bytes | pa.Array, place: bytes, parts: pa.Array | None = None
) -> Iterable[bytes]:
    """Return the associated data of cells: header, place and, where known, the row."""
    if isinstance(headers, bytes) and parts is None:
        return repeat(headers + place)
    pieces = [headers, place] if parts is None else [headers, place, parts]
    return _items(_joined(*pieces))


# -- arrays -------------------------------------------------------------------------------


def binary(items: Sequence[bytes | None]) -> pa.Array:
    """Return bytes as an array."""
    import pyarrow as pa

    return pa.array(items, pa.large_binary())


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return text or bytes of any of Arrow's layouts as one array of bytes."""
    import pyarrow as pa

    array = array.cast(pa.large_binary())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def compact(array: pa.Array) -> pa.Array:
    """Return the array with offsets of 32 bits, which most programs expect, where they suffice."""
    import pyarrow as pa

    small = pa.string() if pa.types.is_large_string(array.type) else pa.binary()
    return array.cast(small) if array.nbytes < _SMALL else array


def present(array: pa.Array) -> tuple[pa.Array, list[bool] | None]:
    """Return the items that are not missing, and where they are; see `spread`."""
    if not array.null_count:
        return array, None
    return array.drop_null(), array.is_valid().to_pylist()


def spread(array: pa.Array, mask: Sequence[bool] | None) -> pa.Array:
    """Return the items at the places where the mask is true, and missing ones at the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if mask is None:
        return array
    return pc.replace_with_mask(pa.nulls(len(mask), array.type), pa.array(mask), array)


def encode_text(texts: pa.Array) -> pa.Array:
    """Return the encoded values of UTF-8 texts, as `values.encode_all` does; missing ones stay."""
    return _joined(_TEXT, texts)


def decode_text(array: pa.Array) -> pa.Array | None:
    """Return encoded values as an array of text; None where they are not all Unicode text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.all(pc.starts_with(array, _TEXT)).as_py():
        return None
    try:
        return _cut(array, len(_TEXT)).cast(pa.large_string())
    except pa.ArrowInvalid:  # a lone surrogate
        return None


def _joined(*pieces: bytes | pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_binary()
    items = [pa.scalar(p, kind) if isinstance(p, bytes) else p for p in pieces]
    return pc.binary_join_element_wise(*items, pa.scalar(b"", kind))


def _items(array: pa.Array) -> Iterable[bytes]:
    """Return the items one after the other, made in blocks."""
    starts = range(0, len(array), _BLOCK)
    return chain.from_iterable(array.slice(start, _BLOCK).to_pylist() for start in starts)


def _gathered(items: Iterable[bytes]) -> pa.Array:
    """Return the items as one array, taken in blocks; the contrary of `_items`."""
    import pyarrow as pa

    rest = iter(items)
    blocks = map(binary, iter(lambda: list(islice(rest, _BLOCK)), []))
    return pa.chunked_array(blocks, pa.large_binary()).combine_chunks()


def _random(count: int) -> pa.Array:
    """Return random nonces."""
    import pyarrow as pa

    fresh = pa.py_buffer(os.urandom(_NONCE * count))
    return flat(pa.Array.from_buffers(pa.binary(_NONCE), count, [None, fresh]))


def _cut(array: pa.Array, start: int, stop: int = _END) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_slice(array, start, stop)
