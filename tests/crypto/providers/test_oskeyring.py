"""The master key in the operating system's keyring: which keyrings will do, and what may go wrong."""

import json
import shutil
import subprocess
import sys

import keyring
import pytest
from keyring.backends import chainer, fail, null
from keyring.errors import KeyringLocked

from compliance.crypto import providers
from compliance.errors import ConfigurationError, StoreError

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
DOMAIN = b"d" * 32


@pytest.fixture
def settings(at):
    return at("keyring:main")


@pytest.fixture
def key(settings, desktop):
    return providers.create_master(settings)


def test_the_entry_belongs_to_one_tenant_and_holds_the_document(key, desktop, at):
    (user,) = desktop.entries
    assert user == ("compliance-toolkit", "bank/main")
    assert json.loads(desktop.entries[user])["version"] == 2
    assert key.name == f"keyring:main/{json.loads(desktop.entries[user])['ids'][0]}"
    assert not providers.has_master(at("keyring:main", tenant="shop"))
    assert not providers.has_master(at("keyring:other"))


def test_rotation_and_forgetting_reach_the_entry(key, settings):
    old, before = key.name, key.wrap(DOMAIN, CONTEXT)
    key.rotate()
    other = providers.open_master(settings)
    assert other.kept == key.kept == (old, key.name)
    assert other.unwrap(before, CONTEXT, old) == DOMAIN
    key.forget_earlier()
    with pytest.raises(ConfigurationError, match=old):
        other.unwrap(before, CONTEXT, old)


def test_of_two_that_rotate_one_is_told(key, settings):
    other = providers.open_master(settings)
    key.rotate()
    with pytest.raises(StoreError, match="another process changed it"):
        other.rotate()


def test_a_passphrase_protects_the_entry_too(settings, desktop):
    made = providers.create_master(settings, "correct horse")
    with pytest.raises(ConfigurationError, match="COMPLIANCE_PASSPHRASE"):
        providers.open_master(settings)
    assert providers.open_master(settings, passphrase="correct horse").name == made.name


def test_an_entry_that_is_not_there_says_what_to_do(settings, desktop):
    with pytest.raises(ConfigurationError, match="compliance keys init"):
        providers.open_master(settings)


@pytest.mark.parametrize("text", ["", "{", "no key", "\udc80", '{"version": 1}'])
def test_an_entry_that_is_no_master_key_is_refused(settings, desktop, text):
    desktop.entries["compliance-toolkit", "bank/main"] = text
    with pytest.raises(ConfigurationError, match="keyring entry 'main': not a master key"):
        providers.open_master(settings)


def test_a_keyring_that_cuts_what_it_keeps_is_caught_at_once(settings, desktop):
    desktop.cut = 100
    with pytest.raises(StoreError, match="did not keep the key whole"):
        providers.create_master(settings)


def test_a_locked_keyring_is_a_clear_error_without_what_the_backend_said(key, desktop):
    wrapped = key.wrap(DOMAIN, CONTEXT)
    desktop.error = KeyringLocked("a word that nobody may see")
    with pytest.raises(StoreError, match=r"KeyringLocked.*unlock it") as caught:
        key.unwrap(wrapped, CONTEXT, "keyring:main/0")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# -- keyrings that will not do ---------------------------------------------------------------


def _of(module, name="Keyring"):
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    "backend",
    [
        fail.Keyring(),
        null.Keyring(),
        _of("keyrings.alt.file", "PlaintextKeyring"),
        _of("keyrings.alt.file", "EncryptedKeyring"),
        _of("somebody.else", "PlainTextKeyring"),
    ],
    ids=["fail", "null", "alt", "alt-encrypted", "plaintext"],
)
def test_a_keyring_that_keeps_nothing_or_plain_text_is_refused(
    settings, desktop, monkeypatch, backend
):
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    for use in (providers.open_master, providers.create_master, providers.has_master):
        with pytest.raises(ConfigurationError, match="keeps no secrets safely"):
            use(settings)


def test_of_a_chain_the_first_safe_keyring_is_used(settings, desktop, monkeypatch):
    plain = _of("keyrings.alt.file", "PlaintextKeyring")
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [plain, desktop])
    monkeypatch.setattr(keyring, "get_keyring", chainer.ChainerBackend)
    providers.create_master(settings)
    assert list(desktop.entries) == [("compliance-toolkit", "bank/main")]
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [plain])
    with pytest.raises(ConfigurationError, match="keeps no secrets safely"):
        providers.open_master(settings)


# -- a real one ------------------------------------------------------------------------------

_REAL = """
from pathlib import Path
from compliance.config import Settings
from compliance.crypto import providers
settings = Settings(root=Path("."), home=Path("home"), master="keyring:main", tenant="bank")
key = providers.create_master(settings)
old, wrapped = key.name, key.wrap(b"d" * 32, {})
key.rotate()
again = providers.open_master(settings)
assert again.kept == (old, key.name)
assert again.unwrap(wrapped, {}, old) == b"d" * 32
print(again._entry._backend.__module__)
"""


@pytest.mark.may_skip
def test_a_real_secret_service_keeps_and_rotates_the_key(tmp_path):
    needed = ("dbus-run-session", "gnome-keyring-daemon")
    if not all(map(shutil.which, needed)):
        pytest.skip(f"missing: {' and '.join(needed)}")
    inside = (
        "printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1\n"
        'exec "$0" -c "$1"'
    )
    command = ["dbus-run-session", "--", "sh", "-c", inside, sys.executable, _REAL]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "keyring.backends.SecretService"
