"""Sealed files: whole or not at all, in constant memory, under a key for each label.

A file is a message of C2SP chunked encryption (`compliance.crypto.chunked`), bound to tenant and
label and not to its name: it may be renamed, and under another label it does not open. The label
says what the file is, such as ``exports/2024``. It names the key, and stands in the trail and in
the list of keys for good: it is a plain name, and must name no person.

Neither sealing nor opening wipes what a disk held before: after `seal` of a file onto itself, the
old blocks lie where they were until the file system writes over them, and a journal or an SSD may
keep them longer.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from compliance.crypto import atomic, chunked
from compliance.crypto.aead import Place
from compliance.crypto.chunked import Advance, Binding
from compliance.crypto.keys import Keyring
from compliance.errors import (
    DecryptionFailed,
    InputError,
    IntegrityError,
    KeyDestroyed,
    KeyRetired,
    StoreError,
)

DEFAULT_LABEL = "default"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_AHEAD = 16 * chunked.CHUNK  # what a reader decrypts at a time

Source = str | os.PathLike[str] | IO[bytes] | chunked.Source
Target = str | os.PathLike[str] | IO[bytes] | chunked.Target


def seal(
    source: Source,
    target: Target,
    ring: Keyring,
    *,
    label: str = DEFAULT_LABEL,
    advance: Advance | None = None,
) -> int:
    """Seal a file or stream, and return how many bytes it held.

    Args:
        source: a regular file, or a binary stream that is read to its end.
        target: a file, which appears whole, readable by its owner alone, or not at all, and may
            be the source itself; or a binary stream.
        ring: the keys.
        label: what the file is; it opens under the same label only.
        advance: is told after each piece how many bytes were read.

    Raises:
        InputError: no such source or folder, neither path nor binary stream, a label that is
            none, or, for a file sealed onto itself, one that is sealed already or has other names.
        OperationError: the source cannot be read.
        StoreError: the target cannot be written; it is what it was.
    """
    binding = _binding(ring, label)
    with _reading(source) as file, _writing(target) as output:
        _refuse_two_names(file, target)
        _refuse_twice(file, target, binding)
        return chunked.seal(file, output, ring, binding, advance)[0]


def open_sealed(
    source: Source,
    target: Target,
    ring: Keyring,
    *,
    label: str = DEFAULT_LABEL,
    advance: Advance | None = None,
) -> int:
    """Open a sealed file or stream, and return how many bytes it held.

    A target that is a file appears when all of it is authenticated. A stream is written to as
    chunks are authenticated: until this returns it holds a beginning and no more.

    Args:
        source: a regular file, or a binary stream that is read to its end.
        target: a file, which appears whole, readable by its owner alone, or not at all; or a
            binary stream.
        ring: the keys.
        label: what it was sealed as.
        advance: is told after each piece how many bytes were read.

    Raises:
        DecryptionFailed: another label or tenant, no sealed file, altered, or cut short.
        KeyDestroyed: the key was destroyed on purpose.
        InputError: as in `seal`.
        OperationError: the source cannot be read.
        StoreError: the target cannot be written; it is what it was.
    """
    binding = _binding(ring, label)
    with _named(source), _reading(source) as file, _writing(target) as output:
        return chunked.open_sealed(file, output, ring, binding, advance)


def reader(
    path: str | os.PathLike[str], ring: Keyring, *, label: str = DEFAULT_LABEL
) -> io.BufferedReader:
    """Open a sealed file for reading, anywhere in it, without a plaintext copy on disk.

    The length is authentic from the start: a file that was cut or extended does not open. Each
    chunk is authenticated before its bytes are handed out.

    Args:
        path: a regular file.
        ring: the keys.
        label: what it was sealed as.

    Raises:
        DecryptionFailed: another label or tenant, no sealed file, altered, or cut short; also
            on reading.
        KeyDestroyed: the key was destroyed on purpose.
        InputError: no such file, or a label that is none.
    """
    binding = _binding(ring, label)
    file = regular(Path(path))
    try:
        with _named(path):
            return io.BufferedReader(_Reader(file, ring, binding), _AHEAD)
    except BaseException:
        file.close()
        raise


def require_label(label: str) -> None:
    """Refuse what is no label; the text of the error does not quote it.

    Raises:
        InputError: anything but a plain name of ASCII letters, digits and ``. _ - /``.
    """
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise InputError(
            "a label is a plain name such as exports/2024: 1 to 100 letters (a-z), digits, '.', "
            "'_', '-' and '/', the first a letter or digit; it is recorded for good, so name what "
            "the file is, and nobody"
        )


def _binding(ring: Keyring, label: str) -> Binding:
    require_label(label)
    return Binding(chunked.FILE, label, Place(ring.tenant, "file", label).encode())


@contextlib.contextmanager
def _named(source: Source) -> Iterator[None]:
    """Name the file, where there is one, in the error of what does not open."""
    try:
        yield
    except (DecryptionFailed, KeyDestroyed, KeyRetired) as error:
        if not isinstance(source, (str, os.PathLike)):
            raise
        raise type(error)(f"{source}: {error}") from None


# -- sources and targets -------------------------------------------------------------------


@contextlib.contextmanager
def _reading(source: Any) -> Iterator[Any]:
    """Give a stream to read; one that was handed in stays open."""
    if isinstance(source, (str, os.PathLike)):
        with regular(Path(source)) as file:
            yield file
    else:
        yield _binary(source, "read")


@contextlib.contextmanager
def _writing(target: Any) -> Iterator[Any]:
    """Give a stream to write: of a file that takes its place at the end, or the one handed in."""
    if not isinstance(target, (str, os.PathLike)):
        yield _binary(target, "write")
        return
    path = Path(target)
    _check_target(path)
    try:
        with atomic.replacing(path) as file:
            yield file
    except OSError as error:  # reading and writing have errors of their own by now
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); make room or name another place"
        ) from error


def _binary(stream: Any, what: str) -> Any:
    if isinstance(stream, io.TextIOBase) or not callable(getattr(stream, what, None)):
        raise InputError(f"a {type(stream).__name__} is neither a path nor a binary stream")
    return stream


def regular(path: Path) -> io.FileIO:
    """Open a regular file; a pipe or device is refused before it blocks.

    Raises:
        InputError: it is none, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = io.FileIO(os.open(path, flags))
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a file") from None
    except (OSError, ValueError) as error:  # a value error where the name holds a NUL
        why = getattr(error, "strerror", None) or "no name of a file"
        raise InputError(f"{path}: cannot be read ({why})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: is no regular file; open it yourself and pass the stream")
    return file


def _check_target(path: Path) -> None:
    """Refuse what could not be replaced by a file, before anything is read.

    Raises:
        InputError: a link, folder or device, or in a folder that is not there.
    """
    try:
        there, mode = path.parent.is_dir(), _mode(path)
    except (OSError, ValueError) as error:  # a value error where the name holds a NUL
        raise InputError(f"{path}: cannot be written ({type(error).__name__})") from None
    if not there:
        raise InputError(f"{path.parent}: no such folder; make it first")
    if mode is not None and stat.S_ISLNK(mode):
        raise InputError(f"{path}: is a symbolic link; name the file that it leads to")
    if path.name in {"", ".."} or (mode is not None and not stat.S_ISREG(mode)):
        raise InputError(f"{path}: is no regular file; name one, or pass an open stream")


def _mode(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return path.lstat().st_mode
    return None


def _onto_itself(file: Any, target: Any) -> os.stat_result | None:
    """Return what a file is where source and target are the same one."""
    if not isinstance(file, io.FileIO) or not isinstance(target, (str, os.PathLike)):
        return None
    with contextlib.suppress(FileNotFoundError):
        mine, theirs = os.fstat(file.fileno()), os.lstat(target)
        return mine if os.path.samestat(mine, theirs) else None
    return None


def _refuse_two_names(file: Any, target: Any) -> None:
    """Refuse where sealing would look done and another name kept the plaintext."""
    same = _onto_itself(file, target)
    if same is not None and same.st_nlink > 1:
        raise InputError(
            f"{target}: this file has {same.st_nlink} names, and the others would keep the "
            "plaintext; remove them first, or seal to a file of its own"
        )


def _refuse_twice(file: Any, target: Any, binding: Binding) -> None:
    magic = binding.purpose.magic
    if _onto_itself(file, target) and os.pread(file.fileno(), len(magic), 0) == magic:
        raise InputError(f"{target}: is sealed already; nothing was done")


class _Reader(io.RawIOBase):
    """The plaintext of a sealed file; where a chunk does not open, every reading of it raises."""

    def __init__(self, file: io.FileIO, ring: Keyring, binding: Binding) -> None:
        super().__init__()
        self._file = file
        self._chunks = chunked.Chunks(file.fileno(), ring, binding)
        self._position = 0
        self._number, self._plain = -1, memoryview(bytearray(chunked.CHUNK))

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in the plaintext; beyond the end there is nothing to read."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._chunks.length}
        position = starts.get(whence, -offset - 1) + offset
        if position < 0:
            raise ValueError("no position in the file: before its start, or counted from nowhere")
        self._position = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return how many bytes, none at the end.

        What lies before a chunk that does not open is given; the next call raises.
        """
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._chunks.length - self._position)]
        done = 0
        while done < len(view):
            try:
                piece = self._piece(self._position)[: len(view) - done]
            except IntegrityError:
                if done:
                    break
                raise
            view[done : done + len(piece)] = piece
            done, self._position = done + len(piece), self._position + len(piece)
        return done

    def readall(self) -> bytes:
        """Return everything from here to the end."""
        rest = memoryview(bytearray(max(0, self._chunks.length - self._position)))
        done = 0
        while done < len(rest):
            done += self.readinto(rest[done:])
        return rest.tobytes()

    def _piece(self, position: int) -> memoryview:
        """Return the plaintext from a position to the end of its chunk."""
        number, offset = divmod(position, chunked.CHUNK)
        if number != self._number:
            self._number = -1  # a chunk that fails leaves nothing of another behind
            self._chunks.chunk(number, self._plain)
            self._number = number
        size = min(chunked.CHUNK, self._chunks.length - number * chunked.CHUNK)
        return self._plain[offset:size]

    def close(self) -> None:
        """Close the file, and forget what was decrypted."""
        if not self.closed:
            self._file.close()
            self._plain = memoryview(b"")
        super().close()
