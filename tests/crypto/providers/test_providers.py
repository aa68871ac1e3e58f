"""What every provider of the master key promises, and how one is picked."""

import copy
import os
import pickle
import secrets
import sys
import traceback
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from compliance.crypto import providers
from compliance.errors import (
    ComplianceError,
    ConfigurationError,
    DecryptionFailed,
    InputError,
    MissingExtra,
)

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
GCP_KEY = "projects/bank/locations/europe/keyRings/ring/cryptoKeys/domain"
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PASSPHRASE = "correct horse battery"
SERVERS = {"vault": "vault:transit/domain", "aws": f"aws-kms:{ARN}", "gcp": f"gcp-kms:{GCP_KEY}"}
PAIRS = {
    "hpke-p256": [lambda: ec.generate_private_key(ec.SECP256R1())],
    "hpke-mlkem768": [mlkem.MLKEM768PrivateKey.generate],
    "hpke-hybrid": [mlkem.MLKEM768PrivateKey.generate, x25519.X25519PrivateKey.generate],
}
LOCAL = ["file", "file-passphrase", "keyring"]
ALL = [*LOCAL, "hpke", *PAIRS, *SERVERS]


def _pem(path, makers):
    parts = [m().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for m in makers]
    path.write_bytes(b"".join(parts))
    path.chmod(0o600)


class Case:
    """A provider under test: how to open it, and the fake behind it if there is one."""

    def __init__(self, kind, settings, server=None):
        self.kind, self.settings, self.server = kind, settings, server
        self.passphrase = PASSPHRASE if kind == "file-passphrase" else None
        self.binds = kind not in LOCAL  # AES-KWP takes no context

    def open(self):
        return providers.open_master(self.settings, passphrase=self.passphrase)

    def make(self):
        return providers.create_master(self.settings, self.passphrase)


@pytest.fixture(params=ALL)
def case(request, at, tmp_path):
    kind = request.param
    if kind in SERVERS:
        return Case(kind, at(SERVERS[kind]), request.getfixturevalue(kind))
    if kind == "keyring":
        request.getfixturevalue("desktop")
        return Case(kind, at("keyring:main"))
    if kind in PAIRS:
        _pem(tmp_path / "pair.pem", PAIRS[kind])
    return Case(kind, at("hpke:pair.pem" if kind.startswith("hpke") else "file"))


@pytest.fixture
def key(case):
    return case.make()


# -- wrapping ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 100])
def test_what_is_wrapped_unwraps_in_another_process_too(case, key, size):
    secret = secrets.token_bytes(size)
    wrapped = key.wrap(secret, CONTEXT)
    assert secret not in wrapped
    again = case.open()
    assert again.name == key.name
    assert again.unwrap(wrapped, dict(reversed(CONTEXT.items())), key.name) == secret


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "shop", "purpose": "compliance domain key"},
        {"tenant": "bank", "purpose": "another"},
        {"tenant": "bank"},
        {},
        CONTEXT | {"more": "x"},
    ],
    ids=["tenant", "purpose", "less", "none", "more"],
)
def test_another_context_is_refused(case, key, other):
    if not case.binds:
        assert key.unwrap(key.wrap(b"k" * 32, CONTEXT), other, key.name) == b"k" * 32
        return
    wrapped = key.wrap(b"k" * 32, CONTEXT)
    with pytest.raises(DecryptionFailed):
        key.unwrap(wrapped, other, key.name)


@pytest.mark.parametrize(
    "alter",
    [
        lambda w: w[:-1],
        lambda w: w[: len(w) // 2],
        lambda w: w + b"\0",
        lambda w: b"",
        lambda w: b"\xff" * len(w),
        lambda w: bytes([w[0] ^ 1]) + w[1:],
        lambda w: w[: len(w) // 2] + bytes([w[len(w) // 2] ^ 1]) + w[len(w) // 2 + 1 :],
        lambda w: w[:-4] + bytes([w[-4] ^ 1]) + w[-3:],
    ],
    ids=["cut", "half", "longer", "empty", "ones", "first", "middle", "end"],
)
def test_altered_bytes_are_refused(key, alter):
    wrapped = key.wrap(b"k" * 32, CONTEXT)
    with pytest.raises(DecryptionFailed):
        key.unwrap(alter(wrapped), CONTEXT, key.name)


@pytest.mark.parametrize(
    "wrapper",
    ["file:00000000", "keyring:main/00000000", "hpke:00", "vault:https://x/transit/domain",
     "aws-kms:other", f"gcp-kms:{GCP_KEY}2", "", "x" * 10_000],
    ids=["file", "keyring", "hpke", "vault", "aws", "gcp", "empty", "long"],
)  # fmt: skip
def test_what_another_master_wrapped_is_not_tried(case, key, wrapper):
    wrapped = key.wrap(b"k" * 32, CONTEXT)
    asked = len(case.server.requests) if case.server else 0
    with pytest.raises(ConfigurationError) as caught:
        key.unwrap(wrapped, CONTEXT, wrapper)
    assert key.name in str(caught.value)
    assert wrapper[:300] in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert asked == (len(case.server.requests) if case.server else 0)


def test_a_row_of_the_first_version_opens_with_the_file_alone(case, key):
    wrapped = key.wrap(b"k" * 32, CONTEXT)
    if case.kind.startswith("file"):
        assert key.unwrap(wrapped, CONTEXT, None) == b"k" * 32
        return
    with pytest.raises(ConfigurationError, match="master key file of the first version"):
        key.unwrap(wrapped, CONTEXT, None)


# -- secrets, processes --------------------------------------------------------------------


def test_nothing_secret_is_shown(case, key):
    secret = secrets.token_bytes(32)
    wrapped = key.wrap(secret, CONTEXT)
    with pytest.raises(ComplianceError) as caught:
        key.unwrap(b"\x01" + wrapped, CONTEXT, key.name)
    text = "".join(traceback.format_exception(caught.value)) + repr(key) + key.name
    for hidden in ("hvs.", "an-aws-secret", PASSPHRASE, secret.hex(), repr(secret)[2:-1]):
        assert hidden not in text
    if case.server:
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_name_is_public_and_says_which_master(case, key):
    assert key.name.startswith(case.settings.master.partition(":")[0] + ":")
    assert key.name in repr(key)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_master_is_not_carried_to_another_process(key, take):
    with pytest.raises(InputError, match="open it in each of them"):
        take(key)


def test_a_master_works_on_both_sides_of_a_fork(key):
    wrapped = key.wrap(b"k" * 32, CONTEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the fakes run in threads
        child = os.fork()
    if child == 0:
        right = False
        try:
            right = key.unwrap(wrapped, CONTEXT, key.name) == b"k" * 32
        finally:
            os._exit(0 if right else 1)
    assert key.unwrap(wrapped, CONTEXT, key.name) == b"k" * 32
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- opening and making --------------------------------------------------------------------


def test_opening_contacts_no_server(case):
    case.make()
    asked = len(case.server.requests) if case.server else 0
    case.open()
    assert asked == (len(case.server.requests) if case.server else 0)


def test_there_is_a_master_once_it_is_made(case):
    given = case.server is not None or case.kind in PAIRS  # made by somebody else
    assert providers.has_master(case.settings) == given
    case.make()
    assert providers.has_master(case.settings)


def test_a_master_that_is_there_is_never_replaced(case, key):
    if case.kind in LOCAL:
        with pytest.raises(ConfigurationError, match="already"):
            case.make()
    else:
        assert case.make().name == key.name
    assert case.open().name == key.name


@pytest.mark.parametrize(
    ("master", "module", "extra"),
    [
        ("keyring:main", "keyring", "keyring"),
        (SERVERS["vault"], "hvac", "vault"),
        (SERVERS["aws"], "boto3", "aws"),
        (SERVERS["gcp"], "google.cloud", "gcp"),
        (SERVERS["gcp"], "google_crc32c", "gcp"),
    ],
    ids=["keyring", "vault", "aws", "gcp", "crc"],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, at, vault, master, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"compliance-toolkit\[{extra}\]"):
        providers.open_master(at(master))


@pytest.mark.parametrize(
    ("master", "match"),
    [
        ("fil", "unknown master key provider 'fil'; did you mean 'file'"),
        ("aws-km:x", "did you mean 'aws-kms'"),
        ("xyzzy:x", "known: file, keyring, hpke, vault, aws-kms, gcp-kms"),
        ("", "known: file"),
        ("file:", "lacks what follows file:"),
        ("vault", "lacks what follows vault:"),
        ("keyring:", "lacks what follows keyring:"),
        ("vault:domain", "vault:MOUNT/KEYNAME"),
        ("vault:transit/../sys", "vault:MOUNT/KEYNAME"),
        ("gcp-kms:domain", "gcp-kms:projects/PROJECT"),
    ],
)
def test_a_wrong_setting_says_what_is_right(at, vault, master, match):
    for use in (providers.open_master, providers.create_master):
        with pytest.raises(ConfigurationError, match=match):
            use(at(master))


def test_a_path_is_relative_to_the_settings_file(at, tmp_path):
    assert providers.master_path(at("file")) == tmp_path / ".compliance/keys/master.json"
    assert providers.master_path(at("file:keys/a.json")) == tmp_path / "keys/a.json"
    assert providers.master_path(at("hpke:/etc/pair.pem")).as_posix() == "/etc/pair.pem"
    assert providers.master_path(at("vault:transit/domain")) is None
    providers.create_master(at("file:keys/a.json"))
    assert (tmp_path / "keys/a.json").stat().st_mode & 0o777 == 0o600


def test_the_passphrase_comes_from_the_environment(at, monkeypatch):
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", PASSPHRASE)
    name = providers.create_master(at("file")).name
    assert providers.open_master(at("file")).name == name
    monkeypatch.delenv("COMPLIANCE_PASSPHRASE")
    with pytest.raises(ConfigurationError, match="COMPLIANCE_PASSPHRASE"):
        providers.open_master(at("file"))
