"""Sealed files: bound to tenant and label, streamed in constant memory, read anywhere."""

import hashlib
import io
import os
import random
import resource
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from crypto import c2sp
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import atomic, files
from compliance.crypto.chunked import CHUNK
from compliance.crypto.keys import Keyring
from compliance.errors import (
    DecryptionFailed,
    InputError,
    KeyDestroyed,
    OperationError,
    StoreError,
)

ROWS = b"name,income\njane@example.com,31909\n" * 3000


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(ROWS)
    return path


@pytest.fixture
def sealed(ring, source, tmp_path):
    path = tmp_path / "rows.sealed"
    assert files.seal(source, path, ring, label="exports") == len(ROWS)
    return path


def left(folder):
    return {path.name for path in folder.iterdir() if path.name not in {"keys", "home"}} - {
        "keys.db",
        "keys.db-shm",
        "keys.db-wal",
    }


# -- there and back ----------------------------------------------------------------------------


def test_a_file_opens_in_another_process_to_what_it_was(ring, sealed, tmp_path, key_file):
    target = tmp_path / "opened.csv"
    other = Keyring.open(ring.store, key_file)
    assert files.open_sealed(str(sealed), str(target), other, label="exports") == len(ROWS)
    assert target.read_bytes() == ROWS
    assert b"jane" not in sealed.read_bytes()
    assert [stat.S_IMODE(p.stat().st_mode) for p in (sealed, target)] == [0o600, 0o600]


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 3 * CHUNK))
def test_what_was_sealed_is_what_opens(head, more):
    ring, data = c2sp.Ring(), head + bytes(more)
    sealed, target = io.BytesIO(), io.BytesIO()
    assert files.seal(io.BytesIO(data), sealed, ring) == len(data)
    assert files.open_sealed(io.BytesIO(sealed.getvalue()), target, ring) == len(data)
    assert target.getvalue() == data


def test_a_stream_that_was_handed_in_stays_open(ring, sealed):
    with sealed.open("rb") as file:
        target = io.BytesIO()
        files.open_sealed(file, target, ring, label="exports")
        assert not file.closed
        assert target.getvalue() == ROWS


def test_a_renamed_file_opens(ring, sealed):
    moved = sealed.rename(sealed.with_name("other"))
    assert files.reader(moved, ring, label="exports").read() == ROWS


# -- labels, tenants, keys -----------------------------------------------------------------------


@pytest.mark.parametrize("label", ["default", "Exports", "exports.", "export", "exports/2024"])
def test_another_label_does_not_open(ring, sealed, tmp_path, label):
    files.seal(io.BytesIO(b"x"), io.BytesIO(), ring, label=label)  # its key is there
    target = tmp_path / "opened"
    for way in (
        lambda: files.open_sealed(sealed, target, ring, label=label),
        lambda: files.reader(sealed, ring, label=label),
    ):
        with pytest.raises(DecryptionFailed, match="wrong key, label or place"):
            way()
    assert not target.exists()


def test_no_label_is_the_label_default(ring, source, tmp_path):
    files.seal(source, tmp_path / "a", ring)
    assert files.reader(tmp_path / "a", ring, label="default").read() == ROWS


def test_another_tenants_file_does_not_open(ring, sealed, tmp_path, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    files.seal(io.BytesIO(b"x"), io.BytesIO(), other, label="exports")
    with pytest.raises(DecryptionFailed):
        files.open_sealed(sealed, tmp_path / "opened", other, label="exports")


@pytest.mark.parametrize(
    "label",
    [
        "", "a\nb", "exports\n", "\x00", "\ud800", "x" * 101, b"exports", None, 7, "exports 2024",
        "Ada Lovelace ada@example.org", "Zo\u00eb", "/exports", ".exports", "-o",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_label_is_refused(ring, source, tmp_path, label):
    for way in (files.seal, files.open_sealed):
        with pytest.raises(InputError, match="a label is"):
            way(source, tmp_path / "target", ring, label=label)
    assert left(tmp_path) == {"rows.csv"}


def test_a_file_of_a_destroyed_key_is_gone(ring, sealed, tmp_path, monkeypatch):
    def destroyed(key_id):
        raise KeyDestroyed(f"key {key_id} was destroyed")

    with files.reader(sealed, ring, label="exports") as rows:
        monkeypatch.setattr(ring, "by_id", destroyed)
        with pytest.raises(KeyDestroyed):
            rows.read()
    with pytest.raises(KeyDestroyed):
        files.open_sealed(sealed, tmp_path / "opened", ring, label="exports")
    assert left(tmp_path) == {"rows.csv", "rows.sealed"}


# -- altered files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 20, 30, 60, 5_000, 40_000, -1])
@pytest.mark.parametrize("before", [None, b"before"], ids=["new", "replaced"])
def test_an_altered_file_leaves_no_plaintext(ring, sealed, tmp_path, place, before):
    data = bytearray(sealed.read_bytes())
    data[place] ^= 1
    sealed.write_bytes(data)
    target = tmp_path / "opened"
    if before:
        target.write_bytes(before)
    with pytest.raises(DecryptionFailed):
        files.open_sealed(sealed, target, ring, label="exports")
    assert (target.read_bytes() if target.exists() else None) == before
    assert left(tmp_path) - {"opened"} == {"rows.csv", "rows.sealed"}


@pytest.mark.parametrize("cut", [1, 16, 100, CHUNK, CHUNK + 16, 3 * CHUNK])
def test_a_file_cut_short_is_refused_before_a_byte_is_read(ring, sealed, cut):
    os.truncate(sealed, sealed.stat().st_size - cut)
    with pytest.raises(DecryptionFailed):
        files.reader(sealed, ring, label="exports")
    target = io.BytesIO()
    with pytest.raises(DecryptionFailed):
        files.open_sealed(io.BytesIO(sealed.read_bytes()), target, ring, label="exports")
    assert ROWS.startswith(target.getvalue())  # authentic, and no more than a beginning


# -- onto itself --------------------------------------------------------------------------------------


def test_a_file_is_sealed_and_opened_onto_itself(ring, source):
    inode = source.stat().st_ino
    files.seal(source, source, ring)
    assert source.stat().st_ino != inode
    assert b"jane" not in source.read_bytes()
    files.open_sealed(source, source, ring)
    assert source.read_bytes() == ROWS


def test_a_file_with_another_name_is_not_sealed_onto_itself(ring, source, tmp_path):
    os.link(source, tmp_path / "twin")
    for target in (source, tmp_path / "twin"):
        with pytest.raises(InputError, match="has 2 names"):
            files.seal(source, target, ring)
    assert source.read_bytes() == (tmp_path / "twin").read_bytes() == ROWS


def test_a_sealed_file_is_not_sealed_onto_itself_again(ring, source):
    files.seal(source, source, ring)
    once = source.read_bytes()
    with pytest.raises(InputError, match="sealed already"):
        files.seal(source, source, ring)
    assert source.read_bytes() == once


# -- odd sources and targets ----------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path, source):
    """Return one of each that is no file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pipe", "no regular file; open it yourself"), ("folder", "is a folder"),
        ("missing", "No such file"), ("dangling", "No such file"), ("loop", "symbolic links"),
        ("rows.csv/below", "Not a directory"), ("/dev/null", "no regular file"),
        ("x" * 300, "too long"), ("nul\0", "no name of a file"),
    ],
    ids=lambda v: v[:12].strip("\0"),
)  # fmt: skip
def test_what_is_no_source_is_told_and_not_waited_for(ring, odd, name, why):
    before = left(odd)
    for way in (files.seal, files.open_sealed):
        with pytest.raises(InputError, match=why):
            way(odd / name, odd / "target", ring)
    with pytest.raises(InputError, match=why):
        files.reader(odd / name, ring)
    assert left(odd) == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pipe", "no regular file"), ("folder", "no regular file"), ("link", "symbolic link"),
        ("dangling", "symbolic link"), ("loop", "symbolic link"), ("/dev/null", "no regular file"),
        ("missing/target", "no such folder"), ("rows.csv/target", "no such folder"),
        (".", "no regular file"), ("..", "no regular file"), ("nul\0", "cannot be written"),
    ],
    ids=lambda v: v[:12].strip("\0"),
)  # fmt: skip
def test_what_is_no_target_is_told_before_anything_is_read(ring, odd, source, name, why):
    before = left(odd)
    for way in (files.seal, files.open_sealed):
        with pytest.raises(InputError, match=why):
            way(source, odd / name, ring)
    assert left(odd) == before
    assert source.read_bytes() == ROWS


def test_a_link_to_a_source_is_followed(ring, odd):
    files.seal(odd / "link", odd / "target", ring)
    assert files.reader(odd / "target", ring).read() == ROWS


@pytest.mark.parametrize("stream", [io.StringIO("rows"), b"rows", 7, None, object()])
def test_what_is_no_stream_is_refused(ring, source, tmp_path, stream):
    for way in (files.seal, files.open_sealed):
        with pytest.raises(InputError, match="neither a path nor a binary stream"):
            way(stream, io.BytesIO(), ring)
        with pytest.raises(InputError, match="neither a path nor a binary stream"):
            way(source, stream, ring)


def test_an_unreadable_source_and_an_unwritable_folder_are_told(
    ring, source, tmp_path, monkeypatch
):
    real = os.open

    def denied(path, *args, **options):
        if Path(path).name in {"rows.csv", "locked"}:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match=r"rows\.csv: cannot be read \(Permission denied\)"):
        files.seal(source, tmp_path / "target", ring)
    (tmp_path / "locked").mkdir()
    with pytest.raises(StoreError, match=r"cannot be written \(Permission denied\)"):
        files.seal(io.BytesIO(ROWS), tmp_path / "locked" / "target", ring)


def test_a_source_that_breaks_off_leaves_nothing(ring, tmp_path):
    class Broken(io.BytesIO):
        def readinto(self, view):
            if self.tell() >= 2 * CHUNK:
                raise OSError(5, "Input/output error")
            return super().readinto(view[:CHUNK])

    with pytest.raises(OperationError, match="source cannot be read"):
        files.seal(Broken(bytes(9 * CHUNK)), tmp_path / "target", ring)
    assert left(tmp_path) == set()


# -- killed, full, huge -----------------------------------------------------------------------------------


def test_a_kill_while_it_opens_leaves_nothing_readable(tmp_path):
    """The target is absent or whole, and in the folder lies nothing else."""
    ring, chance = c2sp.Ring(), random.Random(4711)
    folder = tmp_path / "out"
    folder.mkdir()
    files.seal(io.BytesIO(ROWS * 40), tmp_path / "sealed", ring)
    outcomes = set()
    for number in range(40):
        target = folder / str(number)
        pid = os.fork()
        if pid == 0:
            files.open_sealed(tmp_path / "sealed", target, ring)
            os._exit(0)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        outcomes.add(target.exists())
        assert not target.exists() or target.read_bytes() == ROWS * 40
    assert {path.name for path in folder.iterdir()} <= set(map(str, range(40)))
    assert False in outcomes


@pytest.mark.parametrize("kind", ["unnamed", "hidden"])
def test_a_disk_that_takes_no_more_is_told_and_leaves_the_source(
    source, tmp_path, kind, monkeypatch
):
    ring = c2sp.Ring()
    if kind == "hidden":
        monkeypatch.setattr(atomic, "unnamed", lambda _folder: None)
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            files.seal(source, source, ring)
        except StoreError as error:
            os._exit(17 if "make room" in str(error) else 18)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17
    assert source.read_bytes() == ROWS
    assert left(tmp_path) == {"rows.csv"}


class Counting(io.RawIOBase):
    """Counts and digests what is written."""

    def __init__(self):
        self.count, self.digest = 0, hashlib.sha256()

    def write(self, data):
        self.digest.update(data)
        self.count += len(data)
        return len(data)


def _through_a_pipe(source, ring, target):
    """Seal in a thread and open here, with no more than a pipe between them."""
    receive, send = os.pipe()

    def seal():
        with os.fdopen(send, "wb", 0) as pipe:
            files.seal(source, pipe, ring)

    thread = threading.Thread(target=seal)
    thread.start()
    with os.fdopen(receive, "rb", 0) as pipe:
        files.open_sealed(pipe, target, ring)
    thread.join()


def test_a_gibibyte_passes_through_32_mebibytes(tmp_path):
    """Both ways at once, in a process that gets no more memory than that."""
    size, path, ring = 2**30, tmp_path / "sparse", c2sp.Ring()
    path.touch()
    os.truncate(path, size)
    _through_a_pipe(io.BytesIO(b"warm"), ring, Counting())
    pid = os.fork()
    if pid == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 2**20,) * 2)
        target, code = Counting(), 1
        try:
            _through_a_pipe(path, ring, target)
            code = 0 if target.count == size else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
