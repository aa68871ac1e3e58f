"""Every Wycheproof case of the primitives that this package stands on."""

import hmac
import json

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from compliance.crypto.ff1 import FF1, FIRST_DOMAIN
from compliance.crypto.keys import Key
from compliance.crypto.signing import Signer, Verifier
from compliance.crypto.subkeys import derive
from compliance.errors import InputError, IntegrityError


@pytest.fixture(scope="module")
def cases(data):
    def read(name):
        document = json.loads((data / f"crypto/wycheproof/{name}_test.json").read_text("utf-8"))
        found = [(g, case) for g in document["testGroups"] for case in g["tests"]]
        assert len(found) == document["numberOfTests"]
        return found

    return read


def raw(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def wrong(found, agrees):
    """Return the cases that do not come out as they should; there are some of both outcomes."""
    assert {case["result"] for _, case in found} >= {"valid", "invalid"}
    return [case["tcId"] for g, case in found if agrees(g, case) is not (case["result"] == "valid")]


# -- FF1 -----------------------------------------------------------------------------------


def ff1_agrees(radix, case, digits, expected, least=FIRST_DOMAIN):
    key, tweak = raw(case, "key", "tweak")
    try:
        cipher = FF1(key, radix, least=least)
        done = cipher.encrypt(digits, tweak)
        return done == expected and cipher.decrypt(expected, tweak) == digits
    except InputError:
        return False


@pytest.mark.parametrize(("name", "count"), [("radix10", 3845), ("radix36", 2854)])
def test_ff1_agrees_in_lists_of_numerals(cases, name, count):
    found = cases(f"aes_ff1_{name}")
    assert len(found) == count
    assert wrong(found, lambda g, c: ff1_agrees(g["radix"], c, c["msg"], c["ct"])) == []


def test_ff1_agrees_in_strings(cases):
    def agrees(group, case):
        digits = [group["alphabet"].find(c) for c in case["msg"]]  # -1 for a foreign character
        expected = [group["alphabet"].find(c) for c in case["ct"]]
        return ff1_agrees(group["radix"], case, digits, expected)

    found = cases("aes_ff1_base10")
    assert len(found) == 3845
    assert wrong(found, agrees) == []


@pytest.mark.parametrize("name", ["radix10", "radix36"])
def test_ff1_refuses_by_default_what_revision_1_counts_too_small(cases, name):
    """SP 800-38G of 2016 allows a domain of 100, and so these are valid there."""
    small = [(g, c) for g, c in cases(f"aes_ff1_{name}") if c.get("flags") == ["SmallMessageSize"]]
    assert len(small) >= 6
    for group, case in small:
        assert case["result"] == "valid"
        assert group["radix"] ** len(case["msg"]) < 1_000_000
        assert not ff1_agrees(group["radix"], case, case["msg"], case["ct"], least=1_000_000)


@pytest.mark.parametrize("name", ["radix10", "radix36"])
def test_an_invalid_ff1_case_is_refused_for_what_is_wrong_with_it(cases, name):
    reasons = {
        "InvalidMessageSize": "which can be guessed",
        "InvalidPlaintext": "numerals lie between",
        "InvalidKeySize": "16, 24 or 32 bytes",
    }
    seen = set()
    for group, case in cases(f"aes_ff1_{name}"):
        if case["result"] == "invalid":
            key, tweak = raw(case, "key", "tweak")
            (flag,) = case["flags"]
            with pytest.raises(InputError, match=reasons[flag]):
                FF1(key, group["radix"], least=FIRST_DOMAIN).encrypt(case["msg"], tweak)
            seen.add(flag)
    assert seen == reasons.keys()


# -- AES-SIV ----------------------------------------------------------------------------------


def siv_agrees(key, message, sealed, bound):
    cipher = AESSIV(key)
    try:
        opened = cipher.decrypt(sealed, bound)
    except InvalidTag:
        return False
    return opened == message and cipher.encrypt(message, bound) == sealed


def test_aes_siv_agrees(cases):
    def agrees(_, case):
        key, message, sealed, aad = raw(case, "key", "msg", "ct", "aad")
        return siv_agrees(key, message, sealed, [aad])

    found = cases("aes_siv_cmac")
    assert len(found) == 442
    assert wrong(found, agrees) == []


def test_aes_siv_with_a_nonce_agrees(cases):
    def agrees(_, case):
        key, message, tag, aad, nonce = raw(case, "key", "msg", "tag", "aad", "iv")
        sealed = tag + bytes.fromhex(case["ct"])
        return siv_agrees(key, message, sealed, [aad, nonce])

    found = cases("aead_aes_siv_cmac")
    assert len(found) == 900
    assert wrong(found, agrees) == []


# -- what cells, keys, subkeys, digests and signatures stand on ---------------------------


def test_aes_256_gcm_agrees_both_ways_at_the_sizes_of_a_cell(cases):
    def agrees(_, case):
        key, nonce, message, aad = raw(case, "key", "iv", "msg", "aad")
        sealed = bytes.fromhex(case["ct"] + case["tag"])
        try:
            opened = AESGCM(key).decrypt(nonce, sealed, aad)
        except InvalidTag:
            return False
        return opened == message and AESGCM(key).encrypt(nonce, message, aad) == sealed

    found = [
        (g, c)
        for g, c in cases("aes_gcm")
        if (g["keySize"], g["ivSize"], g["tagSize"]) == (256, 96, 128)
    ]
    assert len(found) > 60
    assert wrong(found, agrees) == []


def test_key_wrapping_agrees_both_ways(cases):
    def agrees(_, case):
        key, message, wrapped = raw(case, "key", "msg", "ct")
        try:
            opened = keywrap.aes_key_unwrap_with_padding(key, wrapped)
        except keywrap.InvalidUnwrap:
            return False
        return opened == message and keywrap.aes_key_wrap_with_padding(key, message) == wrapped

    assert wrong(cases("aes_kwp"), agrees) == []


def test_hmac_sha256_agrees_in_whole_and_cut_short(cases):
    def agrees(group, case):
        key, message, tag = raw(case, "key", "msg", "tag")
        mine = hmac.digest(key, message, "sha256")[: group["tagSize"] // 8]
        return hmac.compare_digest(mine, tag)

    assert wrong(cases("hmac_sha256"), agrees) == []


def test_hkdf_expand_agrees(cases):
    """Extract is HMAC (RFC 5869, section 2.2), so that the vectors of HKDF fit Expand alone."""

    def agrees(_, case):
        secret, salt, info, expected = raw(case, "ikm", "salt", "info", "okm")
        extracted = hmac.digest(salt or bytes(32), secret, "sha256")
        try:
            return HKDFExpand(SHA256(), case["size"], info).derive(extracted) == expected
        except ValueError:
            return False

    assert wrong(cases("hkdf_sha256"), agrees) == []


def test_a_subkey_is_hkdf_expand_as_hmac_writes_it():
    """The first block of RFC 5869, section 2.3, by hand, with our info string."""
    info = b"compliance purpose v1" + b"\0\0\0\x01a" + b"\0\0\0\x02bc"
    material = bytes(range(32))
    expected = hmac.digest(material, info + b"\x01", "sha256")
    assert derive(Key(1, material), "purpose", "a", "bc") == expected


def test_ed25519_verification_agrees(cases):
    def agrees(group, case):
        message, signature = raw(case, "msg", "sig")
        public = bytes.fromhex(group["publicKey"]["pk"])
        try:
            Verifier("tenant", public).verify(signature, message)
        except (IntegrityError, InvalidSignature):
            return False
        return True

    assert wrong(cases("ed25519"), agrees) == []


def test_ed25519_signs_as_the_vectors_do(cases):
    """Wycheproof has no signing keys: RFC 8032, section 7.1, test 2."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert Signer("tenant", seed).sign(b"\x72").hex() == expected
