"""Format-preserving encryption of columns: a card number stays a card number, by FF1.

For old systems that accept nothing but the format. Elsewhere a sealed cell hides more.
What it leaks: the format, which is length and separators; and within one column which rows
are equal, and so how often each value occurs. It does not authenticate: whoever writes the
column may put any value of the format in, and it decrypts to something. A check digit,
such as a card's, is encrypted like the others and is not valid afterwards.

A ciphertext of the value's own format has no room for a key id, and under another key it
decrypts to other characters of the format, without an error. The caller stores
``current(...)`` beside the data, and hands it back as ``key_id``. Once the key has had a
second epoch, nothing is decrypted without it. To rotate means to encrypt the whole column
again at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compliance import frames
from compliance.crypto.arguments import require_names
from compliance.crypto.ff1 import FF1, MAX_RADIX, MIN_RADIX, number, numerals
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.subkeys import derive, joined
from compliance.errors import DecryptionFailed, InputError
from compliance.frames import Frame

_PYTHON_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PYTHON_LENGTH = 4_000  # characters that int() converts; its own limit is 4,300


@dataclass(frozen=True, slots=True)
class Format:
    """The characters that are encrypted, and those that stay where they are.

    Attributes:
        alphabet: each character once; its place is its value.
        separators: characters that stay; one in the alphabet too is encrypted.
    """

    alphabet: str
    separators: str = " -./()+:"

    def __post_init__(self) -> None:
        size = len(self.alphabet)
        if len(set(self.alphabet)) != size or not MIN_RADIX <= size <= MAX_RADIX:
            raise InputError("an alphabet has 2 to 65,536 characters, each of them once")

    @property
    def radix(self) -> int:
        """Return how many characters there are."""
        return len(self.alphabet)


DIGITS = Format("0123456789")
ALPHANUMERIC = Format(_PYTHON_DIGITS)


def current(ring: Keyring, *, table: str, column: str) -> int:
    """Return the id of the key that `encrypt` uses now; store it with the column.

    Raises:
        InputError: an empty name.
    """
    require_names(table=table, column=column)
    return ring.named("format", f"{table}.{column}").id


def encrypt(
    value: str,
    ring: Keyring,
    *,
    table: str,
    column: str,
    form: Format = DIGITS,
    key_id: int | None = None,
) -> str:
    """Return a text of the same format, encrypted by FF1 (NIST SP 800-38G).

    Tenant, table and column are the tweak: equal values in two columns differ. Leaks
    equality within the column, length and separators.

    Args:
        value: text; its characters of the alphabet are encrypted, separators stay.
        ring: the keys.
        table: the table or data set.
        column: the column.
        form: alphabet and separators; the same for decryption.
        key_id: an older key than the current one, by its id.

    Raises:
        InputError: an empty name, no text, a character outside the format, or fewer than
            10^6 values of this length, which could be guessed. No key is made then.
        DecryptionFailed: the key id is not one of this column's keys.
        KeyDestroyed: the key was destroyed.
    """
    return _run([value], _Place(ring, table, column, key_id), form, forwards=True)[0]


def decrypt(
    value: str,
    ring: Keyring,
    *,
    table: str,
    column: str,
    form: Format = DIGITS,
    key_id: int | None = None,
) -> str:
    """Return what was encrypted; under another key or place, some other text of the format.

    Arguments and errors are those of `encrypt`, and these.

    Raises:
        InputError: no key id, and the column's key has had more than one epoch: nothing in
            the text says which one encrypted it.
        DecryptionFailed: no key id, and nothing was ever encrypted for this column.
    """
    return _run([value], _Place(ring, table, column, key_id), form, forwards=False)[0]


def encrypt_column(
    frame: Frame,
    name: str,
    ring: Keyring,
    *,
    table: str,
    form: Format = DIGITS,
    key_id: int | None = None,
) -> Frame:
    """Return the frame with a column encrypted in place; missing stays missing.

    Each distinct value is encrypted once, all of one length together. Arguments, errors and
    what it leaks are those of `encrypt`; one value that is refused refuses the column.
    """
    return _column(frame, name, _Place(ring, table, name, key_id), form, forwards=True)


def decrypt_column(
    frame: Frame,
    name: str,
    ring: Keyring,
    *,
    table: str,
    form: Format = DIGITS,
    key_id: int | None = None,
) -> Frame:
    """Return the frame with a column decrypted in place; missing stays missing.

    Arguments and errors are those of `decrypt`.
    """
    return _column(frame, name, _Place(ring, table, name, key_id), form, forwards=False)


@dataclass(frozen=True, slots=True, repr=False)
class _Place:
    """The column, and the key that was named for it; made for one call, never kept."""

    ring: Keyring
    table: str
    column: str
    key_id: int | None

    def __post_init__(self) -> None:
        require_names(table=self.table, column=self.column)

    @property
    def tweak(self) -> bytes:
        return b"compliance format v1" + joined(self.ring.tenant, self.table, self.column)

    def subkey(self, *, forwards: bool) -> bytes:
        key = self._key(f"{self.table}.{self.column}", forwards=forwards)
        return derive(key, "format FF1", self.ring.tenant, self.table, self.column)

    def _key(self, name: str, *, forwards: bool) -> Key:
        if self.key_id is None:
            if not forwards:
                _require_one_epoch(self.ring, name)
            return self.ring.named("format", name)
        key = self.ring.by_id(self.key_id)
        if (key.kind, key.name) != ("format", name):
            raise DecryptionFailed(
                "the key id is not of this column; store `current` with the column"
            )
        return key


def _require_one_epoch(ring: Keyring, name: str) -> None:
    """Refuse to guess: past every cache, since another process may have rotated just now.

    Epochs that are retired or destroyed count: an old copy is still under one of them.
    """
    with ring.store.reading() as connection:
        epochs = len(connection.execute(ring.keys.rows("format", name).limit(2)).all())
    if epochs > 1:
        raise InputError(
            "this column's key was rotated, and FF1 would decrypt to other characters under the "
            "wrong epoch; say key_id=..., the id that `fpe.current` gave when it was encrypted"
        )
    if not epochs:
        raise DecryptionFailed(
            "nothing was encrypted for this table and column; name those that it was encrypted for"
        )


def _column(frame: Frame, name: str, place: _Place, form: Format, *, forwards: bool) -> Frame:
    values = frames.column(frame, name)
    distinct = [v for v in dict.fromkeys(values) if v is not None]
    found = dict(zip(distinct, _run(distinct, place, form, forwards=forwards), strict=True))
    return frames.with_column(frame, name, [found.get(v) for v in values])


def _run(values: Sequence[str], place: _Place, form: Format, *, forwards: bool) -> list[str]:
    """Encrypt or decrypt texts, all of one length in one call; refuse before a key is made."""
    cores = _cores(values, form)
    groups = _by_length(cores)
    _check(groups, form)
    if not groups:
        return []
    cipher = FF1(place.subkey(forwards=forwards), form.radix)
    found: dict[str, str] = {}
    for length, group in groups.items():
        done = _permuted(cipher, length, group, place.tweak, form, forwards=forwards)
        found.update(zip(group, done, strict=True))
    return [_dressed(v, found[core], form) for v, core in zip(values, cores, strict=True)]


def _check(lengths: Iterable[int], form: Format) -> None:
    """Refuse lengths that the format has too few values of, which no key has a part in."""
    cipher = FF1(bytes(32), form.radix)
    for length in lengths:
        cipher.check(length)


def _cores(values: Sequence[str], form: Format) -> Sequence[str]:
    """Return the values without their separators."""
    if not all(issubclass(kind, str) for kind in set(map(type, values))):
        raise InputError("format-preserving encryption takes text; turn the column into text")
    text = "".join(values)
    separators = [c for c in form.separators if c not in form.alphabet and c in text]
    if separators:
        table = str.maketrans("", "", "".join(separators))
        values = [value.translate(table) for value in values]
        text = text.translate(table)
    if not _within(text, form.alphabet):
        raise InputError(
            "a value holds a character that is neither in the alphabet nor a separator; "
            "clean the column, or name another Format"
        )
    return values


def _within(text: str, alphabet: str) -> bool:
    if text.isascii() and alphabet.isascii():
        return not text.encode().translate(None, alphabet.encode())
    return set(text) <= set(alphabet)


def _by_length(cores: Sequence[str]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = {}
    for core in dict.fromkeys(cores):
        groups.setdefault(len(core), []).append(core)
    return groups


def _permuted(
    cipher: FF1, length: int, cores: Sequence[str], tweak: bytes, form: Format, *, forwards: bool
) -> list[str]:
    size = form.radix ** (length - length // 2)
    whole = _numbers(cores, form)
    halves = [n // size for n in whole], [n % size for n in whole]
    left, right = cipher.permute(length, halves, tweak, forwards=forwards)
    return _texts([a * size + b for a, b in zip(left, right, strict=True)], length, form)


def _numbers(texts: Sequence[str], form: Format) -> list[int]:
    radix = form.radix
    if radix > len(_PYTHON_DIGITS) or len(texts[0]) > _PYTHON_LENGTH:
        values = {character: value for value, character in enumerate(form.alphabet)}
        return [number([values[c] for c in text], radix) for text in texts]
    if _PYTHON_DIGITS.startswith(form.alphabet):
        return [int(text, radix) for text in texts]
    table = str.maketrans(form.alphabet, _PYTHON_DIGITS[:radix])
    return [int(text.translate(table), radix) for text in texts]


def _texts(numbers: Sequence[int], length: int, form: Format) -> list[str]:
    if form.alphabet == DIGITS.alphabet and length <= _PYTHON_LENGTH:
        return [f"{n:0{length}d}" for n in numbers]
    symbols = form.alphabet
    return ["".join([symbols[d] for d in numerals(n, length, form.radix)]) for n in numbers]


def _dressed(value: str, core: str, form: Format) -> str:
    """Return the encrypted characters, with the value's separators in their places."""
    if len(value) == len(core):
        return core
    rest = iter(core)
    return "".join(next(rest) if c in form.alphabet else c for c in value)
