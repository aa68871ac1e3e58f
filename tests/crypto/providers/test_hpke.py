"""HPKE recipients: only the right private key, the right purpose and whole bytes open."""

import hashlib
import hmac
import stat

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import hpke as rfc9180
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.providers import hpke
from compliance.crypto.providers.hpke import HpkeRecipient, open_with, public_of, seal_to
from compliance.errors import ConfigurationError, DecryptionFailed, InputError

PASSPHRASE = "correct horse"
CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
KINDS = {
    "x25519": [x25519.X25519PrivateKey.generate],
    "p256": [lambda: ec.generate_private_key(ec.SECP256R1())],
    "mlkem768": [mlkem.MLKEM768PrivateKey.generate],
    "hybrid": [mlkem.MLKEM768PrivateKey.generate, x25519.X25519PrivateKey.generate],
}


def pem(makers, passphrase=None):
    seal = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return b"".join(m().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, seal) for m in makers)


@pytest.fixture(params=KINDS)
def private(request):
    return pem(KINDS[request.param])


X25519 = pem(KINDS["x25519"])


# -- sealing -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 32, 100_000])
def test_the_owner_of_the_private_key_opens(private, size):
    assert (
        open_with(private, seal_to(public_of(private), b"x" * size, b"info"), b"info")
        == b"x" * size
    )


def test_sealing_twice_gives_different_bytes(private):
    public = public_of(private)
    assert seal_to(public, b"x", b"") != seal_to(public, b"x", b"")


@given(
    data=st.binary(max_size=200),
    info=st.binary(max_size=200),
    at=st.integers(0),
    bit=st.integers(0, 7),
)
def test_no_changed_bit_goes_unseen(data, info, at, bit):
    sealed = bytearray(seal_to(public_of(X25519), data, info))
    assert open_with(X25519, bytes(sealed), info) == data
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(DecryptionFailed):
        open_with(X25519, bytes(sealed), info)


@given(info=st.binary(max_size=100), other=st.binary(max_size=100))
def test_other_info_does_not_open(info, other):
    sealed = seal_to(public_of(X25519), b"data", info)
    if info == other:
        assert open_with(X25519, sealed, other) == b"data"
        return
    with pytest.raises(DecryptionFailed):
        open_with(X25519, sealed, other)


def test_another_recipient_of_any_kind_does_not_open(private):
    sealed = seal_to(public_of(private), b"data", b"")
    for makers in KINDS.values():
        with pytest.raises(DecryptionFailed):
            open_with(pem(makers), sealed, b"")


@pytest.mark.parametrize("length", [0, 1, 6, 7, 8, 38, 39, 54])
def test_cut_bytes_do_not_open(private, length):
    sealed = seal_to(public_of(private), b"", b"")
    with pytest.raises(DecryptionFailed):
        open_with(private, sealed[:length], b"")


def test_the_header_is_the_suite_of_rfc_9180_and_the_rest_its_output():
    sealed = seal_to(public_of(X25519), b"data", b"info")
    assert sealed[:7].hex() == "01" + "0020" + "0001" + "0002"
    assert len(sealed) == 7 + 32 + 4 + 16
    suite = rfc9180.Suite(rfc9180.KEM.X25519, rfc9180.KDF.HKDF_SHA256, rfc9180.AEAD.AES_256_GCM)
    key = load_pem_private_key(X25519, None)
    assert suite.decrypt(sealed[7:], key, b"info") == b"data"
    ours = sealed[:7] + suite.encrypt(b"theirs", key.public_key(), b"info")
    assert open_with(X25519, ours, b"info") == b"theirs"


def _open_by_the_rfc(private, enc, ciphertext, info, aad, aead, size):
    """Return the plaintext, after the text of RFC 9180 (sections 4 and 5.1), X25519 and SHA-256."""

    def extract(suite, salt, label, value):
        return hmac.digest(salt, b"HPKE-v1" + suite + label + value, "sha256")

    def expand(suite, key, label, value, length):
        text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + value
        return HKDFExpand(hashes.SHA256(), length, text).derive(key)

    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\x01" + aead
    shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
    both = enc + private.public_key().public_bytes_raw()
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", both, 32)
    context = (
        b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    )
    secret = extract(suite, secret, b"secret", b"")
    cipher = AESGCM(expand(suite, secret, b"key", context, size))
    return cipher.decrypt(expand(suite, secret, b"base_nonce", context, 12), ciphertext, aad)


def test_the_reading_of_the_rfc_is_right_by_its_own_vector():
    """RFC 9180, appendix A.1.1, sequence number 0."""
    scalar = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"
    enc = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    sealed = (
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    key = x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(scalar))
    parts = bytes.fromhex(enc), bytes.fromhex(sealed), b"Ode on a Grecian Urn", b"Count-0"
    assert _open_by_the_rfc(key, *parts, b"\0\x01", 16) == b"Beauty is truth, truth beauty"


def test_what_we_seal_opens_by_the_text_of_the_rfc():
    sealed = seal_to(public_of(X25519), b"data", b"info")
    key = load_pem_private_key(X25519, None)
    assert _open_by_the_rfc(key, sealed[7:39], sealed[39:], b"info", b"", b"\0\x02", 32) == b"data"


def test_half_of_a_hybrid_does_not_open_what_the_whole_does():
    both = pem(KINDS["hybrid"])
    sealed = seal_to(public_of(both), b"data", b"")
    second = both[both.rindex(b"-----BEGIN ") :]
    for half in (both[: -len(second)], second):
        with pytest.raises(DecryptionFailed):
            open_with(half, sealed, b"")


# -- keys that will not do -----------------------------------------------------------------


def _public(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"no key",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----",
        _public(ed25519.Ed25519PrivateKey.generate()),
        _public(ec.generate_private_key(ec.SECP384R1())),
        _public(x25519.X25519PrivateKey.generate()) * 2,
        _public(x25519.X25519PrivateKey.generate()) * 3,
        X25519,
    ],
    ids=["empty", "text", "junk", "cut", "signing", "p384", "two", "three", "private"],
)
def test_what_is_no_recipient_is_refused(public):
    with pytest.raises(InputError):
        seal_to(public, b"data", b"")


@pytest.mark.parametrize("given", [b"", b"no key", _public(x25519.X25519PrivateKey.generate())])
def test_what_is_no_private_key_is_refused(given):
    with pytest.raises(InputError):
        open_with(given, b"\x01", b"")


def test_a_passphrase_is_needed_right_and_asked_for_only_where_there_is_one():
    private = pem(KINDS["x25519"], PASSPHRASE)
    sealed = seal_to(public_of(private, PASSPHRASE), b"data", b"")
    assert open_with(private, sealed, b"", PASSPHRASE) == b"data"
    assert open_with(private, sealed, b"", lambda: PASSPHRASE) == b"data"
    with pytest.raises(ConfigurationError, match="COMPLIANCE_PASSPHRASE"):
        open_with(private, sealed, b"")
    with pytest.raises(DecryptionFailed, match="passphrase") as caught:
        open_with(private, sealed, b"", "wrong horse")
    assert "horse" not in str(caught.value)
    plain = seal_to(public_of(X25519), b"data", b"")
    assert open_with(X25519, plain, b"", lambda: pytest.fail("asked")) == b"data"


# -- the provider ------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    hpke.generate(tmp_path / "keys" / "pair.pem")
    return tmp_path / "keys" / "pair.pem"


def test_a_generated_key_is_private_and_is_never_replaced(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="already"):
        hpke.generate(path)
    assert path.read_bytes() == before


def test_a_generated_key_lies_under_the_passphrase(tmp_path):
    hpke.generate(tmp_path / "pair.pem", PASSPHRASE)
    assert b"ENCRYPTED" in (tmp_path / "pair.pem").read_bytes()
    key = HpkeRecipient(tmp_path / "pair.pem", lambda: PASSPHRASE)
    assert key.unwrap(key.wrap(b"k" * 32, CONTEXT), CONTEXT, key.name) == b"k" * 32
    with pytest.raises(ConfigurationError, match="passphrase"):
        HpkeRecipient(tmp_path / "pair.pem")


def test_the_name_is_the_hash_of_the_public_key(path):
    key = load_pem_private_key(path.read_bytes(), None).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert HpkeRecipient(path).name == f"hpke:{hashlib.sha256(der).hexdigest()[:16]}"


def test_the_public_key_alone_wraps_and_does_not_unwrap(path, tmp_path):
    (tmp_path / "public.pem").write_bytes(public_of(path.read_bytes()))
    writer, owner = HpkeRecipient(tmp_path / "public.pem"), HpkeRecipient(path)
    assert writer.name == owner.name
    wrapped = writer.wrap(b"k" * 32, CONTEXT)
    assert owner.unwrap(wrapped, CONTEXT, writer.name) == b"k" * 32
    with pytest.raises(ConfigurationError, match="file of the private key"):
        writer.unwrap(wrapped, CONTEXT, writer.name)


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o601])
def test_a_private_key_that_others_may_touch_is_refused(path, bits):
    path.chmod(bits)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        HpkeRecipient(path)


def test_a_file_of_both_keys_must_be_private_too(path):
    path.write_bytes(path.read_bytes() + public_of(path.read_bytes()))
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="files of their own"):
        HpkeRecipient(path)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="compliance keys init"):
        HpkeRecipient(tmp_path / "none.pem")
