"""Files that appear whole or not at all, and leave nothing readable behind when they do not.

Where the file system can (``O_TMPFILE``: ext4, XFS, Btrfs, tmpfs), the new file has no name
until it is complete and on disk: a process that is killed leaves nothing. It then gets its name
by ``linkat``, which makes and never replaces. To take the place of a file that is there it is
linked under a hidden name beside it and renamed; a kill between these two calls leaves the hidden
name, and the next writer of the same target removes it. On other file systems the hidden name
holds the file from the start, so there a kill can leave a part of it, for its owner to read.

Who owns what: whoever made the hidden name holds a lock (``flock``) on its file until the name is
gone; a hidden name whose file can be locked belongs to nobody who lives.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

_MODE = 0o600
SELF = "/proc/self/fd"
_UNNAMED_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[io.FileIO]:
    """Give a file, readable by its owner alone, that becomes ``path`` when the block ends well.

    When this returns the file is on disk under its name, and what had the name before is gone.
    When the block raises, ``path`` is what it was.

    Raises:
        OSError: the folder or the disk does not allow it.
    """
    with _folder(path.parent) as folder:
        part = _Part(folder, hidden_name(path.name))
        with part.file as file:
            try:
                yield file
                os.fsync(file.fileno())
                part.publish(path.name)  # the commit point
            finally:
                part.discard()  # while the lock is held: the name may be another's afterwards
        os.fsync(folder)


def hidden_name(name: str) -> str:
    """Return the hidden name beside a target: of fixed length, so that no target is too long."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".compliance-{digest}.part"


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Hold the folder open: it stays the same one while its path may come to mean another."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Part:
    """A file that is being written, without a name or under a hidden one."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        descriptor = unnamed(folder)
        self._named = descriptor is None
        self.file = io.FileIO(self._under_hidden_name() if descriptor is None else descriptor, "r+")

    def _under_hidden_name(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        while True:
            try:
                descriptor = os.open(self._name, flags, _MODE, dir_fd=self._folder)
            except FileExistsError:
                self._clear()
                continue
            try:
                _lock(descriptor)
            except OSError:
                os.close(descriptor)
                os.unlink(self._name, dir_fd=self._folder)
                raise
            if self._is(descriptor):
                return descriptor
            os.close(descriptor)  # cleared by another before it was locked

    def publish(self, name: str) -> None:
        """Give the file its name, in one step that a reader sees whole or not at all."""
        if not self._named:
            if self._linked(name):
                return
            _lock(self.file.fileno())  # before the hidden name is there to be cleared
            while not self._linked(self._name):
                self._clear()
            self._named = True
        os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._named = False

    def _linked(self, name: str) -> bool:
        """Link the file under a name, if that is free."""
        source = f"{SELF}/{self.file.fileno()}"
        try:
            os.link(source, name, dst_dir_fd=self._folder)  # a descriptor: linkat, which follows
        except FileExistsError:
            return False
        return True

    def _clear(self) -> None:
        """Wait for the process that owns the hidden name, and remove the name if it outlived it."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self._name, flags, dir_fd=self._folder)
        except FileNotFoundError:
            return
        try:
            _lock(descriptor)
            if self._is(descriptor):
                os.unlink(self._name, dir_fd=self._folder)
        finally:
            os.close(descriptor)

    def _is(self, descriptor: int) -> bool:
        """Say whether the hidden name is that of an open file."""
        try:
            named = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))

    def discard(self) -> None:
        """Take the hidden name away where it is still ours."""
        if self._named:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)


def unnamed(folder: int) -> int | None:
    """Return a file without a name; None where the file system knows none."""
    if not hasattr(os, "O_TMPFILE") or not Path(SELF).is_dir():
        return None
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR, _MODE, dir_fd=folder)
    except OSError as error:
        if error.errno not in _UNNAMED_UNKNOWN:
            raise
        return None


def _lock(descriptor: int) -> None:
    """Wait for the lock on an open file; it goes with the last descriptor, also by a kill."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
