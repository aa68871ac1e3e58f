"""Cells of a whole column: each is what one cell sealed alone would be, and no nonce comes twice."""

import subprocess
import sys
import tempfile
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import aead, cells, values
from compliance.crypto.aead import Place
from compliance.crypto.cache import Key
from compliance.errors import DecryptionFailed, InputError

KEY = Key(7, bytes(range(32)), "column", "people.salary")
OTHER = Key(2**32 - 1, bytes(32), "column", "people.salary")
PLACE = Place("acme", "people", "salary").encode()
TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
BLOCKS = [0, 1, cells._BLOCK - 1, cells._BLOCK, 2 * cells._BLOCK + 1]


def column(count):
    return [bytes([i % 251]) * (i % 70) for i in range(count)]


def opened(array, parts=None):
    heads = cells.headers_of(array)
    keys = {aead.header(key.id): key for key in (KEY, OTHER)}
    found = {head: keys[head] for head in heads.unique().to_pylist()}
    return cells.open_each(found, heads, array, PLACE, parts).to_pylist()


@pytest.mark.parametrize("count", BLOCKS)
@pytest.mark.parametrize("held", [list, cells.binary], ids=["list", "array"])
def test_each_of_many_cells_is_sealed_as_one_is(count, held):
    plain, rows = column(count), [str(i) for i in range(count)]
    sealed = cells.seal(KEY, held(plain), PLACE, cells.row_parts(rows))
    places = [PLACE + aead.part(row) for row in rows]
    pairs = zip(sealed.to_pylist(), places, strict=True)
    assert [aead.open_sealed(KEY.cipher, cell, place) for cell, place in pairs] == plain
    assert opened(sealed, cells.row_parts(rows)) == plain


@pytest.mark.parametrize("count", BLOCKS)
def test_cells_that_were_sealed_one_by_one_open_together(count):
    plain = column(count)
    one_by_one = [aead.seal(KEY.cipher, KEY.id, item, PLACE) for item in plain]
    assert opened(cells.binary(one_by_one)) == plain


def test_cells_of_several_keys_open_each_under_its_own():
    people = ["ana", "bo"] * cells._BLOCK
    plain = column(len(people))
    sealed = cells.seal_each({"ana": KEY, "bo": OTHER}, people, plain, PLACE, None)
    assert {aead.key_id_of(cell) for cell in sealed[::2].to_pylist()} == {KEY.id}
    assert {aead.key_id_of(cell) for cell in sealed[1::2].to_pylist()} == {OTHER.id}
    assert opened(sealed) == plain


@pytest.mark.parametrize("where", [0, cells._BLOCK - 1, cells._BLOCK, 2 * cells._BLOCK])
def test_one_altered_cell_among_many_refuses_all(where):
    sealed = cells.seal(KEY, column(2 * cells._BLOCK + 1), PLACE, None).to_pylist()
    sealed[where] = sealed[where][:-1] + bytes([sealed[where][-1] ^ 1])
    with pytest.raises(DecryptionFailed, match="does not open") as caught:
        opened(cells.binary(sealed))
    assert caught.value.__cause__ is None


def test_cells_do_not_open_in_each_others_rows():
    rows = cells.row_parts(["1", "2"])
    sealed = cells.seal(KEY, [b"a", b"b"], PLACE, rows)
    for wrong in (cells.row_parts(["2", "1"]), cells.row_parts(["12", ""]), None):
        with pytest.raises(DecryptionFailed):
            opened(sealed, wrong)


@pytest.mark.parametrize("length", [0, 1, 5, 17, aead.OVERHEAD - 1])
def test_a_cell_too_short_to_be_one_is_refused_before_it_is_cut(length):
    sealed = cells.seal(KEY, [b"a"], PLACE, None).to_pylist()
    with pytest.raises(DecryptionFailed, match="does not open"):
        cells.headers_of(cells.binary([*sealed, sealed[0][:length]]))


def test_a_value_beyond_the_cipher_is_refused():
    def too_long(*_):
        raise OverflowError

    with pytest.raises(InputError, match="2 GiB"):
        cells.seal_all(too_long, b"head.", [b""], repeat(b""))


# -- nonces ------------------------------------------------------------------------------


def test_a_million_cells_share_no_nonce():
    sealed = cells.seal(KEY, [b""] * 10**6, PLACE, None).to_pylist()
    assert len({cell[5:17] for cell in sealed}) == len(sealed) == 10**6


def test_two_processes_after_a_fork_share_no_nonce():
    """Each reads the operating system's generator; a counter or a seeded one would repeat."""
    script = (
        "import os, sys\n"
        "from compliance.crypto import cells\n"
        "from compliance.crypto.cache import Key\n"
        "key = Key(1, bytes(32), 'column', 'x.y')\n"
        "seal = lambda: cells.seal(key, [b''] * 50_000, b'', None).to_pylist()\n"
        "seal()\n"
        "child = os.fork()\n"
        "cells = seal()\n"
        "path = sys.argv[1] + ('/child' if child == 0 else '/parent')\n"
        "open(path, 'wb').write(b''.join(cell[5:17] for cell in cells))\n"
        "if child: sys.exit(os.waitpid(child, 0)[1])\n"
        "os._exit(0)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", script, folder], check=True)
        data = b"".join((Path(folder) / name).read_bytes() for name in ("child", "parent"))
    assert len(data) == 12 * 100_000
    assert len({data[i : i + 12] for i in range(0, len(data), 12)}) == 100_000


# -- places and text ---------------------------------------------------------------------


@given(st.lists(TEXT | st.just("x" * 300), max_size=8))
def test_the_parts_of_rows_are_those_of_places(rows):
    assert cells.row_parts(rows).to_pylist() == [aead.part(row) for row in rows]


@given(st.lists(st.integers(-(2**70), 2**70) | st.sampled_from([2**63, -(2**63)]), max_size=8))
def test_whole_numbers_are_rows_as_their_text_is(rows):
    assert cells.row_parts(rows).to_pylist() == [aead.part(str(row)) for row in rows]


def test_a_row_without_a_key_adds_nothing():
    parts = cells.row_parts(["a", "None", ""], [True, False, True])
    assert parts.to_pylist() == [aead.part("a"), b"", aead.part("")]


@given(st.lists(st.none() | st.text(max_size=6), max_size=8))
def test_text_is_encoded_as_values_are(texts):
    encoded = cells.encode_text(cells.flat(pa.array(texts, pa.string())))
    assert encoded.to_pylist() == [None if text is None else values.encode(text) for text in texts]


@given(st.lists(TEXT | st.integers() | st.none(), min_size=1, max_size=8))
def test_text_is_decoded_in_bulk_only_where_an_array_can_hold_all_of_it(items):
    data = [b"n" if item is None else values.encode(item) for item in items]
    found = cells.decode_text(cells.binary(data))
    plain = all(isinstance(i, str) and i == i.encode(errors="ignore").decode() for i in items)
    assert (None if found is None else found.to_pylist()) == (items if plain else None)


@given(st.lists(st.none() | st.binary(max_size=4), max_size=8))
def test_what_is_present_is_spread_where_it_was(items):
    array, mask = cells.present(cells.binary(items))
    assert array.null_count == 0
    assert cells.spread(array, mask).to_pylist() == items


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary(1)], ids=str
)
def test_every_layout_of_arrow_becomes_one_array(kind):
    chunks = pa.chunked_array([pa.array(["a"], pa.string()), pa.array(["b"])])
    array = cells.flat(chunks.cast(pa.binary()).cast(kind))
    assert (array.type, array.to_pylist()) == (pa.large_binary(), [b"a", b"b"])


def test_offsets_are_narrowed_where_they_suffice():
    assert cells.compact(cells.binary([b"a"])).type == pa.binary()
    assert cells.compact(pa.array(["a"], pa.large_string())).type == pa.string()
