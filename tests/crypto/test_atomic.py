"""A file appears whole or not at all, and a process that is killed leaves nothing to read."""

import contextlib
import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from compliance.crypto import atomic
from compliance.crypto.atomic import hidden_name, replacing

OLD, NEW = b"old " * 1000, b"new " * 100_000


@pytest.fixture(params=["unnamed", "hidden"])
def kind(request, monkeypatch):
    """Write as on file systems with files without a name, and as on those without."""
    if request.param == "hidden":
        monkeypatch.setattr(atomic, "unnamed", lambda _folder: None)
    return request.param


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "target"


@pytest.fixture(autouse=True)
def _folder(target):
    target.parent.mkdir()


def write(path, data=NEW):
    with replacing(path) as file:
        file.write(data)


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def forked(body):
    """Run a function in a fork that ends without pytest's own end; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    finally:
        os._exit(code)


def ended(pid):
    """Return what ended a child: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- whole or not at all ----------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "replaced"])
def test_a_file_appears_when_it_is_complete(kind, target, before):
    if before:
        target.write_bytes(before)
        target.chmod(0o644)
    with replacing(target) as file:
        file.write(NEW[:1000])
        assert (target.read_bytes() if target.exists() else None) == before
        file.write(NEW[1000:])
    assert target.read_bytes() == NEW
    assert names(target) == ["target"]


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "replaced"])
def test_only_its_owner_may_read_it(kind, target, before):
    if before:
        target.write_bytes(before)
        target.chmod(0o666)
    with replacing(target) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_while_it_is_written_it_has_no_name(target):
    with replacing(target) as file:
        file.write(NEW)
        assert names(target) == []


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "replaced"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_body_that_raises_leaves_what_was(kind, target, before, error):
    if before:
        target.write_bytes(before)

    def interrupted():
        with replacing(target) as file:
            file.write(NEW)
            raise error

    with pytest.raises(error):
        interrupted()
    assert (target.read_bytes() if target.exists() else None) == before
    assert names(target) == (["target"] if before else [])


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_what_was(kind, target, call, monkeypatch):
    target.write_bytes(OLD)

    def fail(*_args, **_options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write(target)
    assert target.read_bytes() == OLD
    assert names(target) == ["target"]


def test_no_descriptor_is_left_open(kind, target):
    write(target)
    before = descriptors()
    for _ in range(5):
        write(target)
        with contextlib.suppress(ValueError), replacing(target):
            raise ValueError
    assert descriptors() == before


@pytest.mark.parametrize("name", ["x" * 255, "\N{SNOWMAN}" * 85, "-", "a\nb", os.fsdecode(b"\xff")])
def test_any_name_that_a_folder_takes_will_do(kind, target, name):
    odd = target.with_name(name)
    for data in (OLD, NEW):
        write(odd, data)
        assert odd.read_bytes() == data
    assert names(target) == [name]


def test_a_folder_that_moves_meanwhile_keeps_its_file(kind, target, tmp_path):
    with replacing(target) as file:
        file.write(NEW)
        target.parent.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "target").read_bytes() == NEW


# -- killed -------------------------------------------------------------------------------------


def _written_until_killed(target):
    while True:
        write(target, OLD)
        write(target)


def test_a_kill_at_any_moment_leaves_old_or_new(kind, target):
    chance = random.Random(4711)
    write(target, OLD)
    for _ in range(60):
        pid = forked(lambda: _written_until_killed(target))
        time.sleep(chance.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL
        assert target.read_bytes() in {OLD, NEW}
        assert set(names(target)) <= {"target", hidden_name("target")}
    write(target)
    assert names(target) == ["target"]


def test_a_kill_before_the_end_leaves_nothing_at_all(target):
    def killed():
        with replacing(target) as file:
            file.write(NEW)
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(forked(killed)) == -signal.SIGKILL
    assert names(target) == []


def _killed_at_the_rename(target, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        assert ended(forked(lambda: write(target))) == -signal.SIGKILL


def test_the_next_writer_removes_what_a_kill_at_the_rename_left(kind, target, monkeypatch):
    write(target, OLD)
    _killed_at_the_rename(target, monkeypatch)
    left = target.with_name(hidden_name("target"))
    assert target.read_bytes() == OLD
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    write(target, NEW)
    assert target.read_bytes() == NEW
    assert names(target) == ["target"]


def test_what_another_target_left_is_none_of_ours(kind, target, monkeypatch):
    for path in (target, target.with_name("other")):
        write(path, OLD)
    _killed_at_the_rename(target, monkeypatch)
    write(target.with_name("other"))
    assert names(target) == sorted(["target", "other", hidden_name("target")])


@pytest.mark.parametrize("plant", ["link", "folder"])
def test_a_hidden_name_that_somebody_planted_is_not_followed(kind, target, plant, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    write(target, OLD)
    left = target.with_name(hidden_name("target"))
    left.symlink_to(victim) if plant == "link" else left.mkdir()
    with pytest.raises(OSError, match=r"symbolic links|Is a directory"):
        write(target)
    assert target.read_bytes() == victim.read_bytes() == OLD


# -- at once --------------------------------------------------------------------------------------


def test_two_processes_on_one_target_leave_one_whole_result(kind, target):
    write(target, OLD)
    texts = [bytes([letter]) * 200_000 for letter in b"ab"]

    def repeat(text):
        for _ in range(50):
            write(target, text)
            assert target.exists()

    pids = [forked(lambda text=text: repeat(text)) for text in texts]
    seen = {target.read_bytes() for _ in range(300)}
    assert [ended(pid) for pid in pids] == [0, 0]
    assert seen <= {OLD, *texts}
    assert target.read_bytes() in texts
    assert names(target) == ["target"]


def test_a_writer_waits_for_the_one_that_holds_the_hidden_name(target, monkeypatch):
    monkeypatch.setattr(atomic, "unnamed", lambda _folder: None)
    ready, go = multiprocessing.Pipe()

    def slow():
        with replacing(target) as file:
            go.send(1)
            time.sleep(0.3)
            file.write(OLD)

    pid = forked(slow)
    ready.recv()
    start = time.monotonic()
    write(target, NEW)
    assert time.monotonic() - start > 0.2
    assert (ended(pid), target.read_bytes(), names(target)) == (0, NEW, ["target"])


# -- where it cannot be --------------------------------------------------------------------------


def test_a_file_system_without_unnamed_files_gets_a_hidden_name(target, monkeypatch):
    real = os.open

    def refuse(path, flags, *args, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with replacing(target) as file:
        file.write(NEW)
        assert names(target) == [hidden_name("target")]
    assert target.read_bytes() == NEW


def test_without_proc_there_is_a_hidden_name(target, monkeypatch):
    monkeypatch.setattr(atomic, "SELF", "/nonexistent/fd")
    with replacing(target) as file:
        file.write(NEW)
        assert names(target) == [hidden_name("target")]
    assert names(target) == ["target"]


def test_a_folder_that_is_gone_is_an_error(kind, tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "gone" / "target"):
        pytest.fail("nothing can be written there")


def test_a_limit_on_the_size_of_files_leaves_what_was(kind, target):
    target.write_bytes(OLD)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with replacing(target) as file:
                for _ in range(100):
                    assert file.write(NEW[:8192]) == 8192
        except (OSError, AssertionError):
            os._exit(17)

    assert ended(forked(limited)) == 17
    assert target.read_bytes() == OLD
    assert names(target) == ["target"]


FULL = """
import errno, os, pathlib, sys
from compliance.crypto.atomic import replacing
target = pathlib.Path(sys.argv[1]) / "target"
target.write_bytes(b"old")
try:
    with replacing(target) as file:
        while True:
            file.write(bytes(65536))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert target.read_bytes() == b"old"
assert os.listdir(target.parent) == ["target"], os.listdir(target.parent)
free = os.statvfs(target.parent)
assert free.f_bfree > 200, "the blocks of the file are not given back"
print("clean")
"""


@pytest.mark.may_skip
def test_a_full_disk_leaves_what_was(tmp_path):
    """A file system of 1 MiB of its own, in a namespace of its own."""
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, for a file system of its own")
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert (done.stdout, done.stderr) == ("clean\n", "")
