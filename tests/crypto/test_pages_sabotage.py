"""Sealed pages that were moved, altered, cut, or crafted to open under two keys."""

import io
import json
from dataclasses import dataclass

import pyarrow as pa
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import pages
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.pagestream import PageWriter
from compliance.errors import ComplianceError, DecryptionFailed, InputError

PLACE = {"table": "people", "column": "email"}
TITLES = {"version": 0, "key_id": 1, "salt": 5, "commitment": 29, "body": 61}


@dataclass
class Ring:
    """Keys as a keyring hands them out: the last one of a name is its current epoch."""

    keys: list
    tenant: str = "acme"

    def column(self, table, column):
        return [key for key in self.keys if key.name == f"{table}.{column}"][-1]

    def by_id(self, key_id):
        found = [key for key in self.keys if key.id == key_id]
        if not found:
            raise DecryptionFailed("the sealed value names a key that is not here")
        return found[0]


def key(number, name="people.email", kind="column"):
    return Key(number, bytes([number]) * 32, kind, name)


OURS = Ring([key(1), key(2, "people.age"), key(3, "staff.email"), key(4, "people.*")])
PAGE = bytes(pages.seal_column(["a@b", "c@d"], OURS, label="May", **PLACE))


def opens(page, ring=OURS, label="May", **place):
    try:
        pages.open_column(page, ring, label=label, **(PLACE | place))
    except DecryptionFailed:
        return False
    return True


# -- place ---------------------------------------------------------------------------------


def test_a_page_opens_in_its_place_alone():
    assert opens(PAGE)
    assert not opens(PAGE, table="staff")
    assert not opens(PAGE, column="age")
    assert not opens(PAGE, label="")
    assert not opens(PAGE, label="June")
    assert not opens(PAGE, ring=Ring(OURS.keys, tenant="other"))


def test_a_page_of_another_tenant_names_no_key_of_ours(store, key_file):
    one, other = (Keyring.open(store, key_file, tenant=name) for name in ("one", "other"))
    page = pages.seal_column(["x"], one, **PLACE)
    pages.seal_column(["x"], other, **PLACE)
    with pytest.raises(DecryptionFailed, match="a key that is not here"):
        pages.open_column(page, other, **PLACE)


def test_places_whose_names_run_together_stay_apart():
    """The keys of table a.b, column c and of table a, column b.c bear one name."""
    ring = Ring([key(1, "a.b.c")])
    page = pages.seal_column([1], ring, table="a.b", column="c")
    assert opens(page, ring, label="", table="a.b", column="c")
    assert not opens(page, ring, label="", table="a", column="b.c")


def test_a_page_of_a_column_called_star_is_no_page_of_whole_rows():
    page = pages.seal_column([1], OURS, table="people", column="*")
    with pytest.raises(DecryptionFailed):
        pages.open_batch(page, OURS, table="people")
    page = pages.seal_batch(pa.table({"*": [1]}), OURS, table="people")
    assert not opens(page, label="", column="*")


@pytest.mark.parametrize("wrong", [key(9, kind="subject"), key(9, "people.age")])
def test_a_key_of_another_purpose_is_refused_before_it_is_used(wrong, monkeypatch):
    ring = Ring([wrong])
    where = pages.context(ring, "people", "email", b"column", b"May")
    page = pages.seal_page(pa.table({"email": ["x"]}), wrong, where)
    monkeypatch.setattr(pages, "_derive", None)  # any use of the key is now a TypeError
    assert not opens(page, ring)


def test_pages_of_an_old_epoch_open_and_an_epoch_is_no_other():
    ring = Ring([key(1), key(7)])
    page = bytes(pages.seal_column(["new"], ring, label="May", **PLACE))
    assert pages.key_id_of(page) == 7
    assert opens(page, ring)
    assert opens(PAGE, ring)
    assert not opens(page[:1] + PAGE[1:5] + page[5:], ring)


# -- altered bytes ---------------------------------------------------------------------------


@given(st.sampled_from(list(TITLES.values())), st.data())
def test_any_flipped_bit_is_noticed(start, draw):
    end = min([at for at in TITLES.values() if at > start], default=len(PAGE))
    bit = draw.draw(st.integers(start * 8, end * 8 - 1))
    page = bytearray(PAGE)
    page[bit // 8] ^= 1 << bit % 8
    assert not opens(bytes(page))


def test_every_bit_of_the_header_counts():
    for bit in range(61 * 8):
        page = bytearray(PAGE)
        page[bit // 8] ^= 1 << bit % 8
        assert not opens(page), bit


def test_a_page_that_was_cut_anywhere_is_refused():
    assert not any(opens(PAGE[:length]) for length in range(len(PAGE)))


@given(st.binary(min_size=1, max_size=20))
def test_a_page_with_more_bytes_is_refused(more):
    assert not opens(PAGE + more)
    assert not opens(more + PAGE)


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_another_version_is_no_page(version):
    with pytest.raises(DecryptionFailed, match="not a sealed page"):
        pages.open_column(bytes([version]) + PAGE[1:], OURS, **PLACE)


@pytest.mark.parametrize("page", [None, "text", 7, memoryview(b"ab" * 99)[::2]])
def test_what_is_no_bytes_is_the_callers_mistake(page):
    with pytest.raises(InputError, match="a page is bytes"):
        pages.open_column(page, OURS, **PLACE)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, pa.py_buffer])
def test_a_page_may_lie_in_any_memory(kind):
    assert opens(kind(PAGE))


def test_a_refusal_tells_neither_the_cause_nor_the_bytes():
    flipped = PAGE[:-1] + bytes([PAGE[-1] ^ 1])
    messages = set()
    for page, label in ((PAGE, "June"), (flipped, "May"), (PAGE[:70] + PAGE[80:], "May")):
        with pytest.raises(DecryptionFailed) as caught:
            pages.open_column(page, OURS, label=label, **PLACE)
        messages.add(str(caught.value))
        assert caught.value.__cause__ is None
    assert len(messages) == 1


# -- key commitment --------------------------------------------------------------------------


def product(x, y):
    """Multiply in GF(2^128) as GHASH does (NIST SP 800-38D, algorithm 1)."""
    z = 0
    for bit in range(127, -1, -1):
        z ^= y if x >> bit & 1 else 0
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def power(x, exponent):
    result = 1 << 127
    for _ in range(exponent.bit_length()):
        result = product(result, x) if exponent & 1 else result
        x, exponent = product(x, x), exponent >> 1
    return result


def block(secret, data):
    encryptor = Cipher(algorithms.AES256(secret), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(data), "big")


def collide(one, other, aad):
    """Return a body and tag that open under two keys with their nonces (Grubbs et al., 2017).

    The tag is linear in each block of ciphertext, so one free block makes two tags equal.
    """
    padded = aad + bytes(-len(aad) % 16)
    known = [padded[i : i + 16] for i in range(0, len(padded), 16)]
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * 16).to_bytes(8, "big")
    tags, factors = [], []
    for secret, nonce in (one, other):
        h, tag = block(secret, bytes(16)), 0
        for piece in [*known, bytes(16), lengths]:
            tag = product(tag ^ int.from_bytes(piece, "big"), h)
        tags.append(tag ^ block(secret, nonce + b"\0\0\0\1"))
        factors.append(product(h, h))
    inverse = power(factors[0] ^ factors[1], 2**128 - 2)
    free = product(tags[0] ^ tags[1], inverse)
    return free.to_bytes(16, "big"), (tags[0] ^ product(free, factors[0])).to_bytes(16, "big")


def test_a_page_crafted_to_open_under_two_keys_opens_under_one(monkeypatch):
    """Both keys have one id, as they might in two stores that belong to one attacker."""
    one, other = Key(1, b"1" * 32, "column", "t.c"), Key(1, b"2" * 32, "column", "t.c")
    where, salt = b"anywhere", bytes(24)
    mine, theirs = (pages._derive(each, salt, where) for each in (one, other))
    header = b"\x02\0\0\0\1" + salt + mine[2]
    body, tag = collide(mine[:2], theirs[:2], header + where)
    for subkey, nonce, _ in (mine, theirs):  # AES-GCM itself accepts it twice
        assert len(AESGCM(subkey).decrypt(nonce, body + tag, header + where)) == 16
    with pytest.raises(DecryptionFailed, match="authentic but holds no Arrow"):
        pages.open_page(header + body + tag, one, where)
    with pytest.raises(DecryptionFailed, match="does not open"):
        pages.open_page(header + body + tag, other, where)
    monkeypatch.setattr(pages.hmac, "compare_digest", lambda *_: True)
    with pytest.raises(DecryptionFailed, match="authentic but holds no Arrow"):
        pages.open_page(header + body + tag, other, where)


# -- what an authentic page claims -------------------------------------------------------------


def sealed(stream):
    """Seal a stream of bytes as it is, as somebody with the key could."""
    ours = OURS.column("people", "email")
    where = pages.context(OURS, "people", "email", b"column", b"May")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_serialised", lambda rows: [rows])
        return bytes(pages.seal_page(stream, ours, where))


def stream_of(array):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("email", array.type)])) as writer:
        writer.write_batch(pa.record_batch([array], names=["email"]))
    return sink.getvalue().to_pybytes()


def text(offsets, data):
    packed = b"".join(at.to_bytes(4, "little", signed=True) for at in offsets)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(packed), pa.py_buffer(data))


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"not arrow",
        stream_of(pa.array(["a"]))[:-60],
        stream_of(text([0, 2**31 - 1, 3], b"abc")),
        stream_of(text([0, 3, 1], b"abc")),
        stream_of(text([0, 1], b"\xff")),
        stream_of(pa.array([1] * 3)).replace(b"\x18" + bytes(7), b"\xff" * 6 + b"\x0f\0"),
        stream_of(pa.array([1] * 5)).replace(b"\5" + bytes(7), bytes(4) + b"\1" + bytes(3)),
    ],
    ids=["empty", "other", "cut", "offset", "backwards", "utf8", "buffer-size", "row-count"],
)
def test_sizes_that_lie_are_refused_also_when_they_are_authentic(stream):
    with pytest.raises(DecryptionFailed, match="holds no Arrow data"):
        pages.open_column(sealed(stream), OURS, label="May", **PLACE)


def test_what_is_authentic_and_true_opens():
    assert opens(sealed(stream_of(pa.array(["a"]))))


# -- the primitive -----------------------------------------------------------------------------


def test_the_cipher_in_steps_agrees_with_wycheproof(data, monkeypatch):
    monkeypatch.setattr(pages, "_STEP", 5)
    document = json.loads((data / "crypto/wycheproof/aes_gcm_test.json").read_text("utf-8"))
    seen = set()
    for group in document["testGroups"]:
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        for case in group["tests"]:
            names = ("key", "iv", "aad", "ct", "tag")
            secret, nonce, aad, ct, tag = (bytes.fromhex(case[name]) for name in names)
            cipher = Cipher(algorithms.AES256(secret), modes.GCM(nonce)).decryptor()
            cipher.authenticate_additional_data(aad)
            output = bytearray(len(ct))
            pages._run(cipher, [ct[:3], ct[3:]], memoryview(output))
            try:
                cipher.finalize_with_tag(tag)
                good = output.hex() == case["msg"]
            except InvalidTag:
                good = False
            assert good is (case["result"] == "valid"), case["tcId"]
            seen.add(case["result"])
    assert seen == {"valid", "invalid"}


def test_no_error_of_a_page_is_anything_but_ours():
    for page in (b"", b"\x02", b"\x02" * 77, PAGE[::-1], bytes(200)):
        with pytest.raises(ComplianceError):
            pages.open_column(page, OURS, **PLACE)


def test_a_target_that_takes_nothing_is_told_and_loses_nothing_silently(ring):
    """A raw stream that does not block answers None where it is full."""

    class Full(io.RawIOBase):
        def writable(self):
            return True

        def write(self, _data):
            return None

    table = pa.table({"x": ["a"]})
    with (
        pytest.raises(InputError, match="blocks"),
        PageWriter(Full(), ring, table="t", schema=table.schema) as writer,
    ):
        writer.write(table)
