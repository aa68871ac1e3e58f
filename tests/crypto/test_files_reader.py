"""Readers of sealed files: a file like any other, each chunk authenticated before it is seen."""

import csv
import io
import os
import random
import zipfile
from pathlib import Path

import pytest
from crypto import c2sp
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import files
from compliance.crypto.chunked import CHUNK
from compliance.errors import DecryptionFailed

ROWS = b"name,income\njane@example.com,31909\n" * 3000


@pytest.fixture
def sealed(ring, tmp_path):
    path = tmp_path / "rows.sealed"
    files.seal(io.BytesIO(ROWS), path, ring, label="exports")
    return path


def test_a_sealed_file_is_read_line_by_line(ring, sealed):
    with io.TextIOWrapper(files.reader(sealed, ring, label="exports"), "utf-8", newline="") as text:
        rows = list(csv.reader(text))
    assert len(rows) == 6000
    assert rows[-1] == ["jane@example.com", "31909"]


def test_a_sealed_archive_is_read_in_place(ring, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one", ROWS)
        archive.writestr("two", b"2")
    files.seal(tmp_path / "a.zip", tmp_path / "a.zip", ring)
    with files.reader(tmp_path / "a.zip", ring) as file, zipfile.ZipFile(file) as archive:
        assert archive.read("two") == b"2"
        assert archive.read("one") == ROWS


@settings(max_examples=40)
@given(st.data())
def test_a_reader_is_a_file_like_any_other(tmp_path_factory, data):
    """What it says is what a file in memory says, whatever the order of calls."""
    ring, path = c2sp.Ring(), tmp_path_factory.mktemp("reader") / "sealed"
    size = data.draw(st.sampled_from([0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5, 20 * CHUNK]))
    content = random.Random(size).randbytes(size)
    files.seal(io.BytesIO(content), path, ring)
    moves = st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 2 * size + 9)),
        st.tuples(st.just("seek"), st.integers(0, size + 99)),
        st.tuples(st.just("seek"), st.integers(-size, 50), st.just(io.SEEK_END)),
        st.tuples(st.just("tell")),
    )
    plain = io.BytesIO(content)
    with files.reader(path, ring) as file:
        for name, *arguments in data.draw(st.lists(moves, max_size=12)):
            assert getattr(file, name)(*arguments) == getattr(plain, name)(*arguments)


def test_a_reader_says_what_it_is(ring, sealed):
    with files.reader(sealed, ring, label="exports") as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert "jane" not in repr(file)
        for position in ((-1, io.SEEK_SET), (-len(ROWS) - 1, io.SEEK_END), (0, 7)):
            with pytest.raises(ValueError):
                file.raw.seek(*position)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()  # nobody goes around it
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_chunk_that_does_not_open_stops_every_reading_of_it(ring, sealed):
    data = bytearray(sealed.read_bytes())
    data[-CHUNK - 100] ^= 1
    sealed.write_bytes(data)
    with files.reader(sealed, ring, label="exports") as file:
        assert file.read(100) == ROWS[:100]
        for _ in range(3):
            with pytest.raises(DecryptionFailed):
                file.read()
        file.seek(-10, io.SEEK_END)
        assert file.read() == ROWS[-10:]


def test_a_file_that_changes_while_it_is_read_is_refused(ring, sealed):
    with files.reader(sealed, ring, label="exports") as file:
        os.truncate(sealed, 100)
        with pytest.raises(DecryptionFailed):
            file.read()


def test_a_reader_after_a_fork_reads_what_it_should(ring, sealed):
    with files.reader(sealed, ring, label="exports") as file:
        file.read(10)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if file.read() == ROWS[10:] else 1)
        assert file.read() == ROWS[10:]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_file_that_does_not_open_is_closed_again(ring, sealed):
    def refused():
        with pytest.raises(DecryptionFailed):
            files.reader(sealed, ring, label="other")
        return len(list(Path("/proc/self/fd").iterdir()))

    refused()  # the store opens its own connections
    assert refused() == refused()
