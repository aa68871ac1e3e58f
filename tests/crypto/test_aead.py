"""Sealed cells: their layout, their place, and what happens to any that was touched."""

import dataclasses
import json

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import aead
from compliance.crypto.aead import Place
from compliance.errors import DecryptionFailed, InputError

KEY = AESGCM(bytes(range(32)))
PLACE = Place("acme", "people", "salary").encode()
LENGTHS = st.integers(0, 9).map(lambda n: n.to_bytes(4, "big").decode())
PART = st.text(st.characters(exclude_categories=()), max_size=6) | LENGTHS
JOINED = st.lists(PART, max_size=3).map(lambda parts: "".join(parts) + "\0\0\0\1x")
PLACES = st.builds(Place, *[PART | JOINED] * 4, st.none() | PART | JOINED)


def opens(key, cell, place):
    try:
        aead.open_sealed(key, cell, place)
    except DecryptionFailed:
        return False
    return True


def vectors(data, name):
    document = json.loads((data / "crypto/wycheproof" / name).read_text("utf-8"))
    return [(group, case) for group in document["testGroups"] for case in group["tests"]]


# -- the primitives ------------------------------------------------------------------


def test_aes_gcm_agrees_with_wycheproof_at_our_sizes(data):
    seen = set()
    for group, case in vectors(data, "aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        key, nonce, aad = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad"))
        sealed = bytes.fromhex(case["ct"] + case["tag"])
        try:
            good = AESGCM(key).decrypt(nonce, sealed, aad).hex() == case["msg"]
        except InvalidTag:
            good = False
        assert good is (case["result"] == "valid"), case["tcId"]
        seen.add(case["result"])
    assert seen == {"valid", "invalid"}


def test_key_wrapping_agrees_with_wycheproof(data):
    seen = set()
    for _, case in vectors(data, "aes_kwp_test.json"):
        key, wrapped = bytes.fromhex(case["key"]), bytes.fromhex(case["ct"])
        try:
            good = aes_key_unwrap_with_padding(key, wrapped).hex() == case["msg"]
        except InvalidUnwrap:
            good = False
        assert good is (case["result"] == "valid"), case["tcId"]
        seen.add(case["result"])
    assert seen == {"valid", "invalid"}


# -- layout ----------------------------------------------------------------------------


def test_a_cell_has_the_documented_layout():
    cell = aead.seal(KEY, 0x01020304, b"secret", PLACE)
    assert cell[:5] == b"\x01\x01\x02\x03\x04"
    nonce, rest = cell[5:17], cell[17:]
    parts = (b"acme", b"people", b"salary", b"1")
    place = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert KEY.decrypt(nonce, rest, cell[:5] + place) == b"secret"
    assert len(cell) == len(b"secret") + aead.OVERHEAD == 6 + 33


def test_no_two_cells_share_a_nonce():
    assert len({aead.seal(KEY, 1, b"same", PLACE)[5:17] for _ in range(1_000)}) == 1_000


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1), PLACES)
def test_what_was_sealed_opens_in_its_place(plaintext, key_id, place):
    cell = aead.seal(KEY, key_id, plaintext, place.encode())
    assert aead.open_sealed(KEY, cell, place.encode()) == plaintext
    assert aead.key_id_of(cell) == key_id


# -- place -------------------------------------------------------------------------------


@given(PLACES, PLACES)
def test_no_two_places_are_written_alike(one, other):
    assert (one.encode() == other.encode()) is (one == other)


def parsed(data):
    """Return the parts that the bytes of a place hold: that there is one reading is the proof."""
    parts = []
    while data:
        length = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + length].decode("utf-8", "surrogatepass"))
        data = data[4 + length :]
    return parts


@given(PLACES)
def test_a_place_can_be_read_back_so_that_four_parts_are_never_five(place):
    parts = [place.tenant, place.table, place.column, place.version]
    assert parsed(place.encode()) == parts + ([] if place.row is None else [place.row])


@given(PLACES, PART)
def test_a_row_may_be_appended_to_a_place_without_one(place, row):
    whole = dataclasses.replace(place, row=row)
    assert dataclasses.replace(place, row=None).encode() + aead.part(row) == whole.encode()


@pytest.mark.parametrize(
    "place",
    [
        Place("other", "people", "salary"),
        Place("acme", "staff", "salary"),
        Place("acme", "people", "bonus"),
        Place("acme", "people", "salary", version="2"),
        Place("acme", "people", "salary", row="7"),
        Place("acme", "people", "salary", row=""),
        Place("acmepeople", "", "salary"),
    ],
)
def test_a_cell_does_not_open_elsewhere(place):
    assert not opens(KEY, aead.seal(KEY, 1, b"secret", PLACE), place.encode())


# -- sabotage ----------------------------------------------------------------------------


@given(st.binary(max_size=40), st.data())
def test_any_flipped_bit_is_noticed(plaintext, draw):
    cell = bytearray(aead.seal(KEY, 1, plaintext, PLACE))
    bit = draw.draw(st.integers(0, len(cell) * 8 - 1))
    cell[bit // 8] ^= 1 << bit % 8
    assert not opens(KEY, bytes(cell), PLACE)


@given(st.binary(max_size=40), st.data())
def test_a_truncated_or_lengthened_cell_is_noticed(plaintext, draw):
    cell = aead.seal(KEY, 1, plaintext, PLACE)
    assert not opens(KEY, cell[: draw.draw(st.integers(0, len(cell) - 1))], PLACE)
    assert not opens(KEY, cell + draw.draw(st.binary(min_size=1, max_size=9)), PLACE)


def test_another_key_does_not_open_it():
    assert not opens(AESGCM(bytes(32)), aead.seal(KEY, 1, b"secret", PLACE), PLACE)


@pytest.mark.parametrize("cell", [b"", b"\x01", bytes(33), b"\x02" + bytes(40), b"\x01" * 32])
def test_bytes_that_are_no_cell_name_no_key(cell):
    with pytest.raises(DecryptionFailed, match="not a sealed cell"):
        aead.key_id_of(cell)


def test_a_refusal_tells_neither_the_cause_nor_the_bytes():
    cell = aead.seal(KEY, 1, b"secret", PLACE)
    messages = set()
    for key, sealed, place in (
        (AESGCM(bytes(32)), cell, PLACE),
        (KEY, cell, b"elsewhere"),
        (KEY, cell[:-1] + bytes([cell[-1] ^ 1]), PLACE),
    ):
        with pytest.raises(DecryptionFailed) as caught:
            aead.open_sealed(key, sealed, place)
        messages.add(str(caught.value))
        assert caught.value.__cause__ is None
    assert len(messages) == 1


def test_an_id_that_does_not_fit_is_refused():
    for key_id in (-1, 2**32):
        with pytest.raises(InputError, match="key ids"):
            aead.header(key_id)


def test_a_value_beyond_the_cipher_is_refused_before_it_is_touched():
    class Huge(bytes):
        def __len__(self):
            return 2**31

    with pytest.raises(InputError, match="2 GiB"):
        aead.seal(KEY, 1, Huge(), PLACE)
