"""The master key in a file: rotation that survives a kill, and a lock that no dead process holds."""

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from compliance.crypto import master
from compliance.crypto.providers.local import LocalFile, locked
from compliance.errors import ConfigurationError, DecryptionFailed, StoreError

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
PASSPHRASE = "correct horse"
DOMAIN = b"d" * 32


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys" / "master.json"
    master.create(path)
    return path


@pytest.fixture
def key(path):
    return LocalFile(path)


# -- names -------------------------------------------------------------------------------


def test_the_name_is_a_fingerprint_that_a_copy_shares(path, key, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    assert key.name == LocalFile(copy).name == f"file:{master.fingerprint(master.load(path))}"
    assert len(key.name) == len("file:3f9a01c2")


def test_what_the_first_version_wrapped_still_opens(path, key):
    wrapped = aes_key_wrap_with_padding(master.load(path), DOMAIN)
    assert key.unwrap(wrapped, CONTEXT, None) == DOMAIN
    assert key.unwrap(wrapped, CONTEXT, key.name) == DOMAIN


def test_another_file_under_the_right_name_is_refused(path, key):
    stranger = aes_key_wrap_with_padding(b"s" * 32, DOMAIN)
    with pytest.raises(DecryptionFailed, match="restore the right file"):
        key.unwrap(stranger, CONTEXT, None)


# -- rotation ----------------------------------------------------------------------------


def test_a_rotation_wraps_under_a_fresh_key_and_still_opens_the_rest(path, key):
    old, before = key.name, key.wrap(DOMAIN, CONTEXT)
    key.rotate()
    assert key.name != old
    assert key.kept == (old, key.name)
    after = key.wrap(DOMAIN, CONTEXT)
    for held in (key, LocalFile(path)):
        assert held.unwrap(before, CONTEXT, old) == DOMAIN
        assert held.unwrap(after, CONTEXT, held.name) == DOMAIN
        assert held.unwrap(before, CONTEXT, None) == DOMAIN  # rows that name no master: the oldest


def test_a_key_is_picked_by_its_name_and_never_tried(key):
    old, before = key.name, key.wrap(DOMAIN, CONTEXT)
    key.rotate()
    with pytest.raises(DecryptionFailed):
        key.unwrap(before, CONTEXT, key.name)
    with pytest.raises(DecryptionFailed):
        key.unwrap(key.wrap(DOMAIN, CONTEXT), CONTEXT, old)


def test_what_is_forgotten_is_gone_from_the_file_and_asked_for_by_name(path, key):
    old, before, secret = key.name, key.wrap(DOMAIN, CONTEXT), master.load(path)
    key.rotate()
    key.forget_earlier()
    assert key.kept == (key.name,)
    assert master._encode(secret) not in path.read_text("utf-8")
    for wrapper in (old, None):  # the current key is not tried on a row that names no master
        with pytest.raises(ConfigurationError, match=old):
            key.unwrap(before, CONTEXT, wrapper)
    assert key.unwrap(key.wrap(DOMAIN, CONTEXT), CONTEXT, key.name) == DOMAIN


def test_a_key_that_a_row_still_names_is_not_forgotten(key):
    names = [key.name]
    for _ in range(3):
        key.rotate()
        names.append(key.name)
    key.forget_earlier(needed=[names[2], "file:00000000"])
    assert key.kept == (names[2], names[3])


def test_the_key_of_rows_that_name_no_master_stays_while_they_do(key):
    old, before = key.name, key.wrap(DOMAIN, CONTEXT)
    key.rotate()
    key.rotate()
    key.forget_earlier(needed=[None])
    assert key.kept == (old, key.name)
    assert key.unwrap(before, CONTEXT, None) == DOMAIN


def test_to_forget_where_nothing_is_earlier_writes_nothing(path, key):
    before = path.stat()
    key.forget_earlier()
    assert path.stat().st_ino == before.st_ino


def test_many_rotations_keep_every_key_in_its_order(key):
    rows = []
    for _ in range(5):
        rows.append((key.name, key.wrap(DOMAIN, CONTEXT)))
        key.rotate()
    assert key.kept == (*(name for name, _ in rows), key.name)
    assert [key.unwrap(wrapped, CONTEXT, name) for name, wrapped in rows] == [DOMAIN] * 5
    assert key.unwrap(rows[0][1], CONTEXT, None) == DOMAIN


def test_a_rotated_file_is_as_private_as_before_and_alone(path, key):
    before = os.umask(0)
    try:
        key.rotate()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert names == {"master.json": 0o600, ".master.json.lock": 0o600}


def test_a_link_to_the_file_stays_a_link(path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    LocalFile(link).rotate()
    assert link.is_symlink()
    assert LocalFile(link).kept == LocalFile(path).kept
    assert len(LocalFile(path).kept) == 2


def test_a_rotation_reaches_a_process_that_holds_the_file_open(path, key):
    other = LocalFile(path)
    key.rotate()
    wrapped = key.wrap(DOMAIN, CONTEXT)
    assert other.unwrap(wrapped, CONTEXT, key.name) == DOMAIN
    key.forget_earlier()
    assert other.name == key.name  # else it would wrap under a key that is gone


def test_a_file_that_is_removed_closes_every_process(path, key):
    wrapped = key.wrap(DOMAIN, CONTEXT)
    path.unlink()
    with pytest.raises(ConfigurationError, match="restore the file"):
        key.unwrap(wrapped, CONTEXT, None)


# -- passphrase --------------------------------------------------------------------------


def test_a_passphrase_protects_all_keys_and_what_the_file_says_of_them(tmp_path):
    path = tmp_path / "master.json"
    secret = master.create(path, PASSPHRASE)
    key = LocalFile(path, lambda: PASSPHRASE)
    key.rotate()
    text = path.read_text("utf-8")
    assert master._encode(secret) not in text
    assert LocalFile(path, lambda: PASSPHRASE).kept == key.kept
    with pytest.raises(DecryptionFailed):
        LocalFile(path, lambda: "wrong")
    for name, value in {"first": "00000000", "ids": ["00000000"], "note": 1}.items():
        path.write_text(json.dumps(json.loads(text) | {name: value}), "utf-8")
        with pytest.raises(DecryptionFailed):
            LocalFile(path, lambda: PASSPHRASE)


def test_a_passphrase_that_is_set_does_not_protect_a_file_that_has_none(path):
    key = LocalFile(path, lambda: PASSPHRASE)
    key.rotate()
    assert len(LocalFile(path).kept) == 2


# -- two processes, and dead ones ----------------------------------------------------------


def test_of_two_that_rotate_at_once_one_wins_and_the_other_is_told(path, key):
    other = LocalFile(path)
    key.rotate()
    for change in (other.rotate, other.forget_earlier):
        with pytest.raises(StoreError, match="another process changed it"):
            change()
    assert len(key.kept) == 2
    LocalFile(path).rotate()


def test_a_rotation_under_way_is_not_waited_for(path, key):
    with locked(path.with_name(".master.json.lock")):
        started = time.monotonic()
        with pytest.raises(StoreError, match="another process is changing the master key"):
            key.rotate()
        assert time.monotonic() - started < 1
    key.rotate()


def test_many_processes_that_rotate_at_once_leave_one_rotation(path):
    script = (
        "import sys; from pathlib import Path\n"
        "from compliance.crypto.providers.local import LocalFile\n"
        "from compliance.errors import StoreError\n"
        "key = LocalFile(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "try: key.rotate(); print('won')\n"
        "except StoreError: print('lost')\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", script, str(path)]
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    said = sorted(process.communicate("go\n")[0] for process in processes)
    assert said == ["lost\n"] * 3 + ["won\n"]
    assert len(LocalFile(path).kept) == 2


def test_a_lock_of_a_killed_process_blocks_nobody(path, key):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from compliance.crypto.providers.local import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"
    )
    lock = path.with_name(".master.json.lock")
    command = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError):
            key.rotate()
        process.send_signal(signal.SIGKILL)
    key.rotate()
    assert len(key.kept) == 2


@pytest.mark.parametrize("step", ["write", "os.fsync", "os.replace", "after"])
def test_a_rotation_that_is_killed_leaves_the_old_file_or_the_new_one(path, key, step):
    wrapped, name = key.wrap(DOMAIN, CONTEXT), key.name
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from compliance.crypto import master\n"
        "from compliance.crypto.providers.local import LocalFile\n"
        "die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "key = LocalFile(Path(sys.argv[1])); step = sys.argv[2]\n"
        "if step == 'write': master._write = die\n"
        "if step == 'os.fsync': os.fsync = die\n"
        "if step == 'os.replace': Path.replace = die\n"
        "if step == 'after': master._sync = die\n"
        "key.rotate()\n"
    )
    command = [sys.executable, "-c", script, str(path), step]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    found = LocalFile(path)
    assert len(found.kept) == (2 if step == "after" else 1)
    assert found.unwrap(wrapped, CONTEXT, name) == DOMAIN
    found.rotate()  # and what the dead process left is cleared away
    left = {entry.name for entry in path.parent.iterdir()}
    assert left == {"master.json", ".master.json.lock"}


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(path, key, monkeypatch):
    before = path.read_bytes()

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            key.rotate()
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} == {"master.json", ".master.json.lock"}
    key.rotate()


def test_a_lock_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), locked(tmp_path / "file" / "lock"):
        pytest.fail("locked")


def test_a_lock_is_free_again_after_an_error(tmp_path):
    def fails():
        with locked(tmp_path / "lock"):
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    with (tmp_path / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
