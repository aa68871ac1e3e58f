"""Messages of any length: the published format, and nothing that was touched opens."""

import io
import os
from pathlib import Path

import pytest
from crypto import c2sp
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import chunked
from compliance.crypto.chunked import CHUNK, FILE, MODEL, PREFIX, TAG, Binding
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed, OperationError, StoreError

PLACE = c2sp.prefixed(b"default", b"file", b"exports", b"1")
BINDING = Binding(FILE, "exports", PLACE)
HEADER = BINDING.header_bytes
SEALED = CHUNK + TAG
LENGTHS = [
    0,
    1,
    15,
    16,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    3 * CHUNK,
    65 * CHUNK,
    64 * CHUNK - 1,
    300_007,
]


@pytest.fixture
def memory():
    return c2sp.Ring()


def seal(ring, data, binding=BINDING):
    target = io.BytesIO()
    done, key_id = chunked.seal(io.BytesIO(data), target, ring, binding)
    assert (done, key_id) == (len(data), ring.named(binding.purpose.kind, binding.name).id)
    return target.getvalue()


def open_(ring, message, binding=BINDING):
    target = io.BytesIO()
    done = chunked.open_sealed(io.BytesIO(message), target, ring, binding)
    assert done == len(target.getvalue())
    return target.getvalue()


def at_random(ring, message, tmp_path, binding=BINDING):
    """Open by random access, the last chunk first."""
    path = tmp_path / "message"
    path.write_bytes(message)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        chunks = chunked.Chunks(descriptor, ring, binding)
        plain, found = memoryview(bytearray(CHUNK)), []
        for number in range(chunks.length // CHUNK, -1, -1):
            found.insert(0, plain[: chunks.chunk(number, plain)].tobytes())
        return b"".join(found)
    finally:
        os.close(descriptor)


# -- the published format ------------------------------------------------------------------


def _by_the_page(ring):
    """Return input key and context, derived by hand."""
    key = ring.named("file", "exports")
    header = b"compliance file 1\n" + key.id.to_bytes(4, "big")
    return c2sp.expand(key.material, b"compliance file key v1", 32), header, header + PLACE


@pytest.mark.parametrize("length", LENGTHS)
def test_another_implementation_opens_what_we_sealed(memory, length):
    data = os.urandom(length)
    key, header, context = _by_the_page(memory)
    message = seal(memory, data)
    assert message.startswith(header)
    assert len(message) == HEADER + PREFIX + length + (length // CHUNK + 1) * TAG
    assert c2sp.decrypt(key, context, message[HEADER:]) == data


@pytest.mark.parametrize("length", LENGTHS)
def test_we_open_what_another_implementation_sealed(memory, length, tmp_path):
    data = os.urandom(length)
    key, header, context = _by_the_page(memory)
    message = header + c2sp.encrypt(key, context, data)
    assert open_(memory, message) == at_random(memory, message, tmp_path) == data


def test_no_two_messages_share_a_salt_or_a_key(memory):
    messages = [seal(memory, bytes(64)) for _ in range(200)]
    for part in (slice(HEADER, HEADER + 24), slice(HEADER + 24, HEADER + PREFIX), slice(-80, None)):
        assert len({message[part] for message in messages}) == len(messages)


# -- what was touched does not open ----------------------------------------------------------


def refused(ring, message, tmp_path, binding=BINDING):
    """Hold both ways of opening to the same refusal."""
    for way in (open_, lambda *a: at_random(*a[:2], tmp_path, *a[2:])):
        with pytest.raises(DecryptionFailed):
            way(ring, message, binding)


@pytest.fixture
def three(memory):
    """Return a message of three full chunks and a short one, by parts."""
    message = seal(memory, os.urandom(3 * CHUNK + 100))
    start = HEADER + PREFIX
    chunks = [message[start + i * SEALED : start + (i + 1) * SEALED] for i in range(4)]
    return message[:start], chunks


def _cuts():
    starts = [HEADER + PREFIX + i * SEALED for i in range(4)]
    around = {start + d for start in starts for d in (-17, -16, -1, 0, 1, 15, 16, 17)}
    return sorted(around | {0, 1, HEADER - 1, HEADER, HEADER + 24, starts[3] + 115})


@pytest.mark.parametrize("cut", _cuts())
def test_a_message_cut_short_anywhere_is_refused(memory, three, tmp_path, cut):
    prefix, chunks = three
    refused(memory, (prefix + b"".join(chunks))[:cut], tmp_path)


@pytest.mark.parametrize("more", [1, 15, 16, 17, SEALED - 116, SEALED - 115, SEALED, 2 * SEALED])
def test_an_extended_message_is_refused(memory, three, tmp_path, more):
    prefix, chunks = three
    message = prefix + b"".join(chunks)
    for tail in (bytes(more), (message * 2)[-more:], chunks[0] * (more // SEALED + 1)):
        refused(memory, message + tail[:more], tmp_path)


@pytest.mark.parametrize(
    "order",
    [(1, 0, 2, 3), (0, 2, 1, 3), (0, 0, 1, 2, 3), (0, 1, 3), (0, 1, 2), (3,), (0, 1, 2, 3, 3), ()],
    ids=str,
)
def test_chunks_moved_repeated_or_left_out_are_refused(memory, three, tmp_path, order):
    prefix, chunks = three
    refused(memory, prefix + b"".join(chunks[i] for i in order), tmp_path)


@pytest.mark.parametrize("number", range(4))
def test_a_chunk_of_another_message_is_refused(memory, three, tmp_path, number):
    prefix, chunks = three
    other = seal(memory, os.urandom(3 * CHUNK + 100))
    start = HEADER + PREFIX + number * SEALED
    chunks[number] = other[start : start + SEALED]
    refused(memory, prefix + b"".join(chunks), tmp_path)


def test_the_start_of_another_message_is_refused(memory, three, tmp_path):
    other = seal(memory, os.urandom(3 * CHUNK + 100))
    for cut in (HEADER + 24, HEADER + PREFIX, HEADER + PREFIX + SEALED):
        refused(memory, other[:cut] + (three[0] + b"".join(three[1]))[cut:], tmp_path)


@settings(max_examples=150)
@given(st.data())
def test_one_flipped_bit_anywhere_is_refused(tmp_path_factory, data):
    ring, length = c2sp.Ring(), data.draw(st.sampled_from([0, 5, CHUNK, 2 * CHUNK + 9]))
    message = bytearray(seal(ring, bytes(length)))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= 1 << data.draw(st.integers(0, 7))
    refused(ring, bytes(message), tmp_path_factory.mktemp("flipped"))


@pytest.mark.parametrize(
    "data", [b"", b"a,b\n1,2\n", bytes(100_000), b"compliance file 2\n" + bytes(200)]
)
def test_what_is_no_message_is_refused_as_such(memory, tmp_path, data):
    memory.named("file", "exports")
    refused(memory, data, tmp_path)
    with pytest.raises(DecryptionFailed, match="not a sealed file, or of a later version"):
        open_(memory, data)


# -- keys and places -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "binding",
    [
        Binding(FILE, "exports", c2sp.prefixed(b"other", b"file", b"exports", b"1")),
        Binding(FILE, "exports", c2sp.prefixed(b"default", b"file", b"", b"exports1")),
        Binding(FILE, "imports", PLACE),
        Binding(MODEL, "exports", PLACE),
    ],
    ids=["tenant", "parts", "key", "purpose"],
)
def test_another_binding_is_refused(memory, tmp_path, binding):
    memory.named(binding.purpose.kind, binding.name)
    refused(memory, seal(memory, b"rows"), tmp_path, binding)


@pytest.mark.parametrize(
    ("kind", "name"), [("file", "imports"), ("model", "exports"), ("column", "exports")]
)
def test_a_forged_key_id_is_refused_before_anything_is_decrypted(
    memory, tmp_path, kind, name, monkeypatch
):
    message = bytearray(seal(memory, b"rows"))
    message[HEADER - 4 : HEADER] = memory.named(kind, name).id.to_bytes(4, "big")
    monkeypatch.setattr(Binding, "input_key", lambda *_: pytest.fail("a key was derived"))
    refused(memory, bytes(message), tmp_path)


@pytest.mark.parametrize("forged", [0, 99, 2**31, 2**32 - 1])
def test_an_unknown_key_id_is_refused(ring, tmp_path, forged):
    message = bytearray(seal(ring, b"rows"))
    message[HEADER - 4 : HEADER] = forged.to_bytes(4, "big")
    refused(ring, bytes(message), tmp_path)


def test_a_message_of_an_old_epoch_opens_and_does_not_pass_for_the_new_one(memory, tmp_path):
    old = seal(memory, b"rows")
    new = memory.add("file", "exports")
    assert open_(memory, old) == at_random(memory, old, tmp_path) == b"rows"
    assert seal(memory, b"rows")[HEADER - 4 : HEADER] == new.id.to_bytes(4, "big")
    refused(memory, old[: HEADER - 4] + new.id.to_bytes(4, "big") + old[HEADER:], tmp_path)


def test_a_key_that_is_destroyed_while_a_message_is_open_is_gone_for_it(
    memory, tmp_path, monkeypatch
):
    path = tmp_path / "message"
    path.write_bytes(seal(memory, bytes(3 * CHUNK)))
    with path.open("rb") as file:
        chunks = chunked.Chunks(file.fileno(), memory, BINDING)

        def destroyed(_key_id):
            raise KeyDestroyed("key 1 was destroyed")

        monkeypatch.setattr(memory, "by_id", destroyed)
        with pytest.raises(KeyDestroyed):
            chunks.chunk(1, memoryview(bytearray(CHUNK)))


def test_an_error_names_no_key_and_no_plaintext(memory):
    message = seal(memory, b"jane@example.com")
    with pytest.raises(DecryptionFailed) as caught:
        open_(memory, message[:-1])
    material = memory.named("file", "exports").material
    assert caught.value.__cause__ is None
    for secret in ("jane", material.hex(), repr(material)):
        assert secret not in str(caught.value) + repr(BINDING)


# -- streams ---------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A raw stream that gives, and takes, a few bytes at a time."""

    def __init__(self, data=b"", step=7):
        self.data, self.step, self.taken = memoryview(data), step, bytearray()

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(self.step, len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count

    def writable(self):
        return True

    def write(self, data):
        self.taken += data[: self.step]
        return min(self.step, len(data))


class ReadOnly:
    """A stream with the least that a source can have."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size):
        return self._file.read(min(size, 1000))


@given(st.binary(max_size=3 * 2_000), st.integers(1, 5_000))
def test_a_raw_stream_that_takes_a_part_gets_all_of_it(data, step):
    ring, middle, end = c2sp.Ring(), Trickle(step=step), Trickle(step=step)
    chunked.seal(Trickle(data, step), middle, ring, BINDING)
    chunked.open_sealed(Trickle(bytes(middle.taken), step), end, ring, BINDING)
    assert bytes(end.taken) == data == open_(ring, bytes(middle.taken))


def test_a_stream_that_can_only_be_read_is_enough(memory):
    target, data = io.BytesIO(), os.urandom(50_000)
    chunked.seal(ReadOnly(data), target, memory, BINDING)
    assert open_(memory, target.getvalue()) == data


class Failing(io.RawIOBase):
    """A stream whose device is broken, or that has nothing yet."""

    def __init__(self, error):
        self.error = error

    def readinto(self, _buffer):
        if self.error is not None:
            raise self.error

    def write(self, _data):
        return self.readinto(None)


@pytest.mark.parametrize("way", [chunked.seal, chunked.open_sealed])
def test_a_source_that_fails_or_does_not_block_is_told(memory, way):
    with pytest.raises(OperationError, match="source cannot be read"):
        way(Failing(OSError(5, "Input/output error")), io.BytesIO(), memory, BINDING)
    with pytest.raises(InputError, match="pass a stream that blocks"):
        way(Failing(None), io.BytesIO(), memory, BINDING)


def test_a_target_that_fails_or_does_not_block_is_told(memory):
    with (
        pytest.raises(StoreError, match="No space left on device"),
        Path("/dev/full").open("wb", 0) as full,
    ):
        chunked.seal(io.BytesIO(b"rows"), full, memory, BINDING)
    with pytest.raises(InputError, match="pass a stream that blocks"):
        chunked.seal(io.BytesIO(b"rows"), Failing(None), memory, BINDING)


def test_progress_is_told_in_bytes_of_the_source(memory):
    said, data = [], bytes(200 * CHUNK)
    target = io.BytesIO()
    chunked.seal(io.BytesIO(data), target, memory, BINDING, said.append)
    assert said == sorted(said)
    assert said[-1] == len(data)
    assert len(said) > 2
    said.clear()
    chunked.open_sealed(io.BytesIO(target.getvalue()), io.BytesIO(), memory, BINDING, said.append)
    assert said[-1] == len(target.getvalue()) - HEADER - PREFIX
