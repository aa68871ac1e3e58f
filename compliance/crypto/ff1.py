"""FF1: format-preserving encryption of digit strings (NIST SP 800-38G).

A Feistel network of ten rounds over numerals in any radix, whose round function is
AES-CBC-MAC. FF3 and FF3-1 are not here: the second draft of revision 1 (February 2025)
leaves them out after cryptanalysis (Beyne, "Linear Cryptanalysis of FF3-1 and FEA",
CRYPTO 2021).

The round function of many strings of one length is computed in one call to AES: in each
round the blocks before the last are the same for all of them, so that their CBC-MAC is
computed once.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from compliance.errors import InputError

ROUNDS = 10
MIN_RADIX, MAX_RADIX = 2, 2**16
REVISED_DOMAIN, FIRST_DOMAIN = 1_000_000, 100  # revision 1, and the standard of 2016
_BLOCK = 16
_BATCH = 1 << 14  # strings in one call to AES; their blocks fit a processor's cache
_LEAF = 32  # numerals that are converted one by one
_FULL = 2**32  # lengths are written in 4 bytes


class FF1:
    """FF1 under one AES key and radix.

    Deterministic: it leaks equality of strings under the same tweak, and each string's
    length. A small domain can be tabulated by whoever may encrypt, and with many
    known pairs under many tweaks be recovered (Hoang, Tessaro and Trieu, "The Curse of
    Small Domains", CRYPTO 2018), hence the least domain. It does not authenticate: any
    string of digits decrypts to another one.
    """

    def __init__(self, key: bytes, radix: int, *, least: int = REVISED_DOMAIN) -> None:
        """Take an AES key of 16, 24 or 32 bytes.

        Args:
            key: the key.
            radix: how many numerals there are, from 2 to 65,536.
            least: the smallest domain, ``radix ** length``. The default is that of
                revision 1; 100, that of 2016, is for data of others.

        Raises:
            InputError: one of them is out of range.
        """
        if len(key) not in {16, 24, 32}:
            raise InputError("FF1 takes an AES key of 16, 24 or 32 bytes")
        if not MIN_RADIX <= radix <= MAX_RADIX:
            raise InputError(f"a radix lies between {MIN_RADIX} and {MAX_RADIX:,}")
        if not FIRST_DOMAIN <= least <= 2**64:
            raise InputError(f"the least domain lies between {FIRST_DOMAIN} and 2**64")
        self.radix = radix
        self._key = key
        self._least = least

    def __repr__(self) -> str:
        return f"FF1(radix={self.radix})"

    def encrypt(self, digits: Sequence[int], tweak: bytes = b"") -> list[int]:
        """Return as many numerals, encrypted (SP 800-38G, algorithm 7).

        Args:
            digits: numerals from 0 to ``radix - 1``.
            tweak: public context that changes the encryption, at most 2**32 - 1 bytes.

        Raises:
            InputError: too few or too many numerals, one out of range, or the tweak too long.
        """
        return self._one(digits, tweak, forwards=True)

    def decrypt(self, digits: Sequence[int], tweak: bytes = b"") -> list[int]:
        """Return what `encrypt` was given (algorithm 8); the same errors."""
        return self._one(digits, tweak, forwards=False)

    def permute(
        self,
        length: int,
        halves: tuple[list[int], list[int]],
        tweak: bytes = b"",
        *,
        forwards: bool = True,
    ) -> tuple[list[int], list[int]]:
        """Encrypt, or decrypt, many strings of one length, given as the numbers they write.

        Args:
            length: numerals in each string.
            halves: for each string the number of its first ``length // 2`` numerals, and of
                the others; the caller answers for their range.
            tweak: as for `encrypt`, the same for all.
            forwards: encrypt.

        Raises:
            InputError: the length or the tweak is out of range.
        """
        self.check(length)
        if len(tweak) >= _FULL:
            raise InputError("a tweak has less than 2**32 bytes")
        function = _RoundFunction(self._key, self.radix, length, tweak)
        left: list[int] = []
        right: list[int] = []
        for start in range(0, len(halves[0]), _BATCH):
            part = (halves[0][start : start + _BATCH], halves[1][start : start + _BATCH])
            done = _feistel(function, *part, forwards=forwards)
            left += done[0]
            right += done[1]
        return left, right

    def check(self, length: int) -> None:
        """Return when strings of this length may be encrypted.

        Raises:
            InputError: too short for the least domain, or beyond the standard's length.
        """
        if length < 2 or self.radix ** min(length, 64) < self._least:  # noqa: PLR2004  two halves
            raise InputError(
                f"{length} characters of {self.radix} kinds make fewer than {self._least:,} "
                "values, which can be guessed; use a token or a sealed column"
            )
        if length >= _FULL:
            raise InputError("FF1 encrypts less than 2**32 numerals")

    def _one(self, digits: Sequence[int], tweak: bytes, *, forwards: bool) -> list[int]:
        self.check(len(digits))
        if not all(isinstance(d, int) and 0 <= d < self.radix for d in digits):
            raise InputError(f"numerals lie between 0 and {self.radix - 1}")
        half = len(digits) // 2
        halves = ([number(digits[:half], self.radix)], [number(digits[half:], self.radix)])
        left, right = self.permute(len(digits), halves, tweak, forwards=forwards)
        return numerals(left[0], half, self.radix) + numerals(
            right[0], len(digits) - half, self.radix
        )


def _feistel(
    function: _RoundFunction, left: list[int], right: list[int], *, forwards: bool
) -> tuple[list[int], list[int]]:
    """Run the rounds; even rounds give the first, shorter half, odd rounds the second."""
    if forwards:
        for i in range(ROUNDS):
            m = function.sizes[i % 2]
            pairs = zip(left, function.values(i, right), strict=True)
            left, right = right, [(a + y) % m for a, y in pairs]
    else:
        for i in reversed(range(ROUNDS)):
            m = function.sizes[i % 2]
            pairs = zip(right, function.values(i, left), strict=True)
            left, right = [(b - y) % m for b, y in pairs], left
    return left, right


class _RoundFunction:
    """The round function for one length and tweak (steps 3 to 6 of algorithm 7)."""

    def __init__(self, key: bytes, radix: int, length: int, tweak: bytes) -> None:
        half = length // 2
        self.sizes = (radix**half, radix ** (length - half))
        self._width = ((self.sizes[1] - 1).bit_length() + 7) // 8  # b
        self._output = 4 * -(-self._width // 4) + 4  # d
        head = b"\x01\x02\x01" + radix.to_bytes(3, "big") + b"\x0a" + bytes([half % 256])
        head += length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        head += tweak + bytes((-len(tweak) - self._width - 1) % _BLOCK)
        fixed = len(head) // _BLOCK * _BLOCK
        aes = algorithms.AES(key)
        chain = Cipher(aes, modes.CBC(bytes(_BLOCK))).encryptor()
        self._chained = chain.update(head[:fixed])[-_BLOCK:]
        self._rest = head[fixed:]
        # Each block goes through AES alone: the chaining of CBC-MAC is done by hand.
        self._aes = Cipher(aes, modes.ECB()).encryptor()  # noqa: S305  a building block here

    def values(self, i: int, numbers: list[int]) -> list[int]:
        """Return y of round i for the number of each string's other half."""
        if self._width <= 8:  # noqa: PLR2004  a number fits 64 bits, and y fits 96
            return self._narrow(i, numbers)
        return self._wide(i, numbers)

    def _narrow(self, i: int, numbers: list[int]) -> list[int]:
        """Work on 64-bit words, two in each block: the number stands in the second."""
        words = array("Q", bytes(_BLOCK * len(numbers)))
        words[1::2] = array("Q", numbers)
        last = self._rest + bytes([i]) + bytes(self._width)
        blocks = _xor(_big_endian(words).tobytes(), _xor(self._chained, last) * len(numbers))
        found = array("Q")
        found.frombytes(self._aes.update(blocks))
        high = _big_endian(found)[0::2]
        if self._output == 8:  # noqa: PLR2004  y is the first word
            return high.tolist()
        return [h << 32 | w >> 32 for h, w in zip(high, found[1::2], strict=True)]

    def _wide(self, i: int, numbers: list[int]) -> list[int]:
        """Chain the blocks of all strings side by side, then lengthen each result to d bytes."""
        start = self._rest + bytes([i])
        tails = [start + n.to_bytes(self._width, "big") for n in numbers]
        state = self._chained * len(numbers)
        for at in range(0, len(tails[0]), _BLOCK):
            block = b"".join(tail[at : at + _BLOCK] for tail in tails)
            state = self._aes.update(_xor(state, block))
        parts = [state]
        for j in range(1, -(-self._output // _BLOCK)):
            counter = j.to_bytes(_BLOCK, "big") * len(numbers)
            parts.append(self._aes.update(_xor(state, counter)))
        return [
            int.from_bytes(b"".join(p[at : at + _BLOCK] for p in parts)[: self._output], "big")
            for at in range(0, len(state), _BLOCK)
        ]


def _xor(one: bytes, other: bytes) -> bytes:
    both = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


def _big_endian(words: array[int]) -> array[int]:
    """Turn the words between this processor's order of bytes and the standard's, in place."""
    if sys.byteorder == "little":
        words.byteswap()
    return words


def number(digits: Sequence[int], radix: int) -> int:
    """Return the number that numerals write, the most significant first (algorithm 1)."""
    if len(digits) <= _LEAF:
        value = 0
        for digit in digits:
            value = value * radix + digit
        return value
    low = len(digits) // 2
    shift: int = radix**low
    return number(digits[:-low], radix) * shift + number(digits[-low:], radix)


def numerals(value: int, length: int, radix: int) -> list[int]:
    """Return the numerals that write a number, filled up with zeros (algorithm 3)."""
    if length <= _LEAF:
        digits = [0] * length
        for at in range(length - 1, -1, -1):
            value, digits[at] = divmod(value, radix)
        return digits
    low = length // 2
    first, second = divmod(value, radix**low)
    return numerals(first, length - low, radix) + numerals(second, low, radix)
