"""FF1: the standard's own samples, every radix and length, and a permutation in each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import ff1
from compliance.crypto.ff1 import FF1
from compliance.errors import InputError

KEY = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# NIST, "FF1samples" (Examples with Intermediate Values, SP 800-38G): bits of the key, radix,
# tweak, plaintext, ciphertext.
SAMPLES = [
    (128, 10, "", "0123456789", "2433477484"),
    (128, 10, "39383736353433323130", "0123456789", "6124200773"),
    (128, 36, "3737373770717273373737", "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
    (192, 10, "", "0123456789", "2830668132"),
    (192, 10, "39383736353433323130", "0123456789", "2496655549"),
    (192, 36, "3737373770717273373737", "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"),
    (256, 10, "", "0123456789", "6657667009"),
    (256, 10, "39383736353433323130", "0123456789", "1001623463"),
    (256, 36, "3737373770717273373737", "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=[f"sample {n}" for n in range(1, 10)])
def test_the_samples_of_nist_come_out(sample):
    bits, radix, tweak, plain, expected = sample
    cipher = FF1(KEY[: bits // 8], radix)
    numerals = [DIGITS.index(c) for c in plain]
    done = cipher.encrypt(numerals, bytes.fromhex(tweak))
    assert "".join(DIGITS[d] for d in done) == expected
    assert cipher.decrypt(done, bytes.fromhex(tweak)) == numerals


def by_the_book(key, radix, digits, tweak):
    """Algorithm 7 step by step, one string at a time, with none of the module's shortcuts."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def aes(block):
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)

    def prf(data):
        y = bytes(16)
        for at in range(0, len(data), 16):
            y = aes(bytes(a ^ b for a, b in zip(y, data[at : at + 16], strict=True)))
        return y

    n, t = len(digits), len(tweak)
    u = n // 2
    v = n - u
    left, right = list(digits[:u]), list(digits[u:])
    b = -(-((radix**v - 1).bit_length()) // 8)
    d = 4 * -(-b // 4) + 4
    p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256])
    p += n.to_bytes(4, "big") + t.to_bytes(4, "big")
    for i in range(10):
        num = 0
        for digit in right:
            num = num * radix + digit
        q = tweak + bytes((-t - b - 1) % 16) + bytes([i]) + num.to_bytes(b, "big")
        r = prf(p + q)
        s, j = r, 1
        while len(s) < d:
            s += aes(bytes(x ^ y for x, y in zip(r, j.to_bytes(16, "big"), strict=True)))
            j += 1
        m = u if i % 2 == 0 else v
        c = int.from_bytes(s[:d], "big")
        for place, digit in enumerate(reversed(left)):
            c += digit * radix**place
        c %= radix**m
        left, right = right, [c // radix**k % radix for k in reversed(range(m))]
    return left + right


STRINGS = st.sampled_from([2, 3, 10, 16, 26, 36, 62, 255, 256, 257, 1000, 65535, 65536]).flatmap(
    lambda radix: st.tuples(
        st.just(radix),
        st.lists(st.integers(0, radix - 1), min_size=2, max_size=90).filter(
            lambda digits: radix ** len(digits) >= 1_000_000
        ),
    )
)


@settings(max_examples=200)
@given(STRINGS, st.binary(max_size=40), st.sampled_from([16, 24, 32]))
def test_it_does_what_the_algorithm_says_in_every_radix(string, tweak, size):
    radix, digits = string
    done = FF1(KEY[:size], radix).encrypt(digits, tweak)
    assert done == by_the_book(KEY[:size], radix, digits, tweak)
    assert FF1(KEY[:size], radix).decrypt(done, tweak) == digits


@given(st.integers(2, 65536), st.data())
def test_what_was_encrypted_decrypts(radix, draw):
    digits = draw.draw(st.lists(st.integers(0, radix - 1), min_size=20, max_size=40))
    cipher = FF1(KEY, radix)
    assert cipher.decrypt(cipher.encrypt(digits, b"t"), b"t") == digits


@pytest.mark.parametrize(
    ("radix", "length"), [(2, 20), (2, 21), (10, 16), (10, 19), (10, 39), (36, 4), (65536, 3)]
)
def test_many_at_once_are_what_each_is_alone(radix, length, monkeypatch):
    monkeypatch.setattr(ff1, "_BATCH", 7)  # so that twenty fill several batches
    cipher = FF1(KEY, radix)
    strings = [[(i * j + i) % radix for j in range(length)] for i in range(20)]
    half = length // 2
    halves = (
        [ff1.number(s[:half], radix) for s in strings],
        [ff1.number(s[half:], radix) for s in strings],
    )
    done = cipher.permute(length, halves, b"tweak")
    joined = [
        ff1.numerals(a, half, radix) + ff1.numerals(b, length - half, radix)
        for a, b in zip(*done, strict=True)
    ]
    assert joined == [cipher.encrypt(s, b"tweak") for s in strings]
    assert cipher.permute(length, done, b"tweak", forwards=False) == halves
    assert cipher.permute(length, ([], [])) == ([], [])


def test_it_permutes_its_whole_domain():
    """A domain of 100 under the rule of 2016: no two strings share a ciphertext."""
    cipher = FF1(KEY, 10, least=100)
    halves = ([n // 10 for n in range(100)], [n % 10 for n in range(100)])
    assert len(set(zip(*cipher.permute(2, halves, b""), strict=True))) == 100


def test_another_key_tweak_or_length_gives_another_string():
    base = FF1(KEY, 10).encrypt([0] * 30)
    others = [
        FF1(KEY[::-1], 10).encrypt([0] * 30),
        FF1(KEY[:16], 10).encrypt([0] * 30),
        FF1(KEY, 10).encrypt([0] * 30, b"\0"),
        FF1(KEY, 10).encrypt([0] * 31)[:30],
    ]
    assert base not in others


def test_strings_of_any_length_are_taken():
    digits = [n * n % 10 for n in range(20_001)]  # halves beyond what int(text) converts
    cipher = FF1(KEY, 10)
    done = cipher.encrypt(digits)
    assert len(done) == len(digits)
    assert done != digits
    assert cipher.decrypt(done) == digits


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33, 64])
def test_a_key_that_aes_does_not_take_is_refused(size):
    with pytest.raises(InputError, match="16, 24 or 32"):
        FF1(bytes(size), 10)


@pytest.mark.parametrize("radix", [-1, 0, 1, 65537])
def test_a_radix_out_of_range_is_refused(radix):
    with pytest.raises(InputError, match="radix"):
        FF1(KEY, radix)


@pytest.mark.parametrize("least", [0, 99, 2**65])
def test_the_least_domain_cannot_be_made_less_than_the_standard_ever_allowed(least):
    with pytest.raises(InputError, match="least domain"):
        FF1(KEY, 10, least=least)


@pytest.mark.parametrize(
    ("radix", "length"), [(10, 0), (10, 1), (10, 5), (2, 19), (36, 3), (1000, 1), (65536, 1)]
)
def test_a_domain_that_can_be_guessed_is_refused(radix, length):
    cipher = FF1(KEY, radix)
    for operation in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(InputError, match="can be guessed"):
            operation([0] * length)
    with pytest.raises(InputError, match="can be guessed"):
        cipher.permute(length, ([0], [0]))


@pytest.mark.parametrize(("radix", "length"), [(10, 6), (2, 20), (36, 4), (1000, 2), (65536, 2)])
def test_the_smallest_domain_allowed_is_encrypted(radix, length):
    cipher = FF1(KEY, radix)
    assert cipher.decrypt(cipher.encrypt([1] * length)) == [1] * length


@pytest.mark.parametrize("bad", [-1, 10, 0.0, "1", None])
def test_a_numeral_out_of_range_is_refused_and_not_quoted(bad):
    for operation in (FF1(KEY, 10).encrypt, FF1(KEY, 10).decrypt):
        with pytest.raises(InputError, match="numerals lie between 0 and 9"):
            operation([7] * 8 + [bad])


def test_lengths_beyond_four_bytes_are_refused_before_they_are_touched():
    class Long(bytes):
        def __len__(self):
            return 2**32

    with pytest.raises(InputError, match=r"2\*\*32 numerals"):
        FF1(KEY, 10).encrypt(Long())
    with pytest.raises(InputError, match=r"tweak has less than 2\*\*32"):
        FF1(KEY, 10).encrypt([0] * 8, Long())


def test_a_repr_shows_no_key():
    assert repr(FF1(KEY, 10)) == "FF1(radix=10)"


@given(st.integers(2, 70_000), st.integers(0, 200), st.data())
def test_numerals_write_a_number_and_read_it_back(radix, length, draw):
    value = draw.draw(st.integers(0, radix**length - 1))
    digits = ff1.numerals(value, length, radix)
    assert len(digits) == length
    assert all(0 <= d < radix for d in digits)
    assert ff1.number(digits, radix) == value
