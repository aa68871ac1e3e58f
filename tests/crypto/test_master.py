"""The master key file: private, whole or absent, and clear about what is wrong with it."""

import json
import os
import stat
import subprocess
import sys

import pytest

from compliance.crypto import master
from compliance.errors import ConfigurationError, DecryptionFailed, StoreError

PASSPHRASE = "correct horse"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "master.json"


def rewrite(path, **changes):
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(document | changes), "utf-8")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# -- creation --------------------------------------------------------------------------


def test_a_key_is_256_random_bits_that_read_back(path, tmp_path):
    key = master.create(path)
    assert (len(key), master.load(path)) == (32, key)
    assert master.create(tmp_path / "other.json") != key


def test_only_the_owner_may_look_whatever_the_umask(path):
    before = os.umask(0)
    try:
        master.create(path)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_nothing_else_is_left_in_the_folder(path):
    master.create(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_is_there_is_never_replaced(path):
    key = master.create(path)
    with pytest.raises(ConfigurationError, match="already"):
        master.create(path)
    assert master.load(path) == key
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        master.create(tmp_path / "file" / "master.json")


def test_of_many_processes_that_create_at_once_one_wins(path):
    script = (
        "import sys; from pathlib import Path; from compliance.crypto import master\n"
        "from compliance.errors import ConfigurationError\n"
        "sys.stdin.readline()\n"
        "try: print(master.create(Path(sys.argv[1])).hex())\n"
        "except ConfigurationError: print('second')\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    said = sorted(process.communicate("go\n")[0].strip() for process in processes)
    assert said.count("second") == 3
    assert said[0] == master.load(path).hex()


# -- passphrase -----------------------------------------------------------------------------


def test_the_right_passphrase_opens_and_the_file_does_not_hold_the_key(path):
    key = master.create(path, PASSPHRASE)
    assert master.load(path, lambda: PASSPHRASE) == key
    document = json.loads(path.read_text("utf-8"))
    assert document["protection"] == "scrypt"
    assert (document["kdf"]["n"], document["kdf"]["r"], document["kdf"]["p"]) == (2**17, 8, 1)
    assert master._encode(key) not in path.read_text("utf-8")


def test_a_wrong_or_missing_passphrase_does_not_open_and_is_not_repeated(path):
    master.create(path, PASSPHRASE)
    with pytest.raises(DecryptionFailed) as caught:
        master.load(path, lambda: "wrong horse")
    assert "wrong horse" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="COMPLIANCE_PASSPHRASE"):
        master.load(path)


def test_a_passphrase_is_not_asked_for_where_none_is_needed(path):
    master.create(path)
    assert len(master.load(path, lambda: pytest.fail("asked"))) == 32


# -- several keys, one document -------------------------------------------------------------------


def _masters(count):
    keys = tuple(bytes([number]) * 32 for number in range(count))
    return master.Masters(keys, master.fingerprint(keys[0]))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["open", "protected"])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_document_gives_back_its_keys_in_their_order(count, passphrase):
    masters = _masters(count)
    text = master.encode(masters, passphrase)
    assert master.decode(text, "here", lambda: PASSPHRASE) == masters
    assert master.protected(text) == bool(passphrase)
    assert (master._encode(masters.current) in text.decode()) == (count == 1 and not passphrase)
    assert master._encode(masters.current) not in repr(masters)


def test_keys_are_found_by_fingerprint_and_the_last_one_wraps():
    masters = _masters(3)
    assert [masters.find(name) for name in masters.fingerprints] == list(masters.keys)
    assert masters.find("00000000") is None
    assert masters.current == masters.keys[-1]


def test_a_fingerprint_never_changes():
    """It stands in the database beside every domain key."""
    assert master.fingerprint(bytes(range(32))) == "d0fd98b6"


def test_a_fresh_key_takes_no_fingerprint_that_is_taken(monkeypatch):
    offered = iter([b"a" * 32, b"b" * 32])
    monkeypatch.setattr(master.secrets, "token_bytes", lambda _size: next(offered))
    assert master.fresh((master.fingerprint(b"a" * 32),)) == b"b" * 32


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": []},
        {"first": None},
        {"ids": []},
        {"ids": ["00000000"]},
        {"ids": "7d3f"},
        {"key": ""},
        {"key": "AAAA"},
    ],
    ids=str,
)
def test_a_document_of_several_keys_with_a_wrong_part_is_refused(change):
    document = json.loads(master.encode(_masters(2))) | change
    with pytest.raises(ConfigurationError, match="here: not a master key file"):
        master.decode(json.dumps(document).encode(), "here")


@pytest.mark.parametrize("change", [{"first": "00000000"}, {"ids": []}, {"more": 1}], ids=str)
def test_what_a_protected_document_says_is_bound_to_its_keys(change):
    document = json.loads(master.encode(_masters(2), PASSPHRASE)) | change
    with pytest.raises(DecryptionFailed):
        master.decode(json.dumps(document).encode(), "here", lambda: PASSPHRASE)


def test_a_replaced_file_is_whole_private_and_alone(path):
    master.create(path)
    path.with_name(f".{path.name}.new").write_text("left by a process that was killed")
    text = master.encode(_masters(2))
    master.replace(path, text)
    assert (path.read_bytes(), mode(path), list(path.parent.iterdir())) == (text, 0o600, [path])
    assert master.load(path) == _masters(2).current


# -- what may be wrong with a file ---------------------------------------------------------------


def test_a_missing_file_says_what_to_do(path):
    with pytest.raises(ConfigurationError, match="compliance keys init"):
        master.load(path)


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o660, 0o620, 0o601])
def test_a_file_that_others_may_touch_is_refused(path, bits):
    master.create(path)
    path.chmod(bits)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        master.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "7",
        '"key"',
        "[" * 100_000,
        '{"version": 1}',
        "\x00",
        '{"key": 1}',
    ],
)
def test_a_malformed_file_is_refused(path, text):
    master.create(path)
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match="not a master key file"):
        master.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"protection": "rot13"},
        {"key": "!!"},
        {"key": "AAAA"},
        {"key": None},
        {"protection": "scrypt"},
        {"protection": "scrypt", "kdf": {"salt": "AAAA", "n": 3, "r": 8, "p": 1}},
        {"protection": "scrypt", "kdf": {"salt": "AAAA", "n": 2**30, "r": 8, "p": 1}},
        {"protection": "scrypt", "kdf": {"salt": "AAAA", "n": 2**17, "r": 2**20, "p": 1}},
        {"protection": "scrypt", "kdf": {"salt": "AAAA", "n": 2**17, "r": 8, "p": 2**20}},
    ],
)
def test_a_file_with_a_wrong_part_is_refused(path, change):
    master.create(path)
    rewrite(path, **change)
    with pytest.raises(ConfigurationError, match="not a master key file"):
        master.load(path, lambda: PASSPHRASE)


def test_bytes_that_are_no_text_are_refused(path):
    master.create(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not a master key file"):
        master.load(path)


def test_a_folder_in_its_place_is_a_clear_error(path):
    path.mkdir(parents=True, mode=0o700)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        master.load(path)
