"""Unwrapped keys in memory: few, for a short time, and gone from every ring when destroyed."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECONDS = 60.0  # how long another process may still use a key after it was destroyed
MOST = 100_000  # keys held at once; about 100 MB where each of them has sealed something
_EVERY: weakref.WeakSet[KeyCache] = weakref.WeakSet()


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An unwrapped key; its repr shows the id alone.

    Attributes:
        id: what stands in a sealed value.
        material: 32 bytes.
        kind: what it is for: ``column``, ``subject``, ``model`` and kin.
        name: what it seals: ``table.column``, a model, a keyed hash of a subject.
        epoch: one more with each rotation.
    """

    id: int
    material: bytes
    kind: str = ""
    name: str = ""
    epoch: int = 1
    _cipher: list[AESGCM] = field(default_factory=list, init=False, compare=False)

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __reduce__(self) -> str:
        raise TypeError("a key does not leave the process; open the keyring where it is needed")

    @property
    def cipher(self) -> AESGCM:
        """Return AES-256-GCM under the material, made on first use."""
        if not self._cipher:
            self._cipher.append(AESGCM(self.material))
        return self._cipher[0]


class KeyCache:
    """The unwrapped keys of one ring, each for `SECONDS` after it was read from the store."""

    def __init__(self) -> None:
        self.left: dict[int, int] = {}  # random nonces that this process has reserved, by key id
        self._keys: dict[int, tuple[float, Key]] = {}
        self._names: dict[tuple[str, str], int] = {}
        self._barred: dict[int, float] = {}
        _EVERY.add(self)

    def __repr__(self) -> str:
        return f"<cache of {len(self._keys)} keys>"

    def get(self, key_id: int) -> Key | None:
        """Return a key that was read less than `SECONDS` ago."""
        expires, key = self._keys.get(key_id, (0.0, None))
        return key if expires > time.monotonic() else None

    def named(self, kind: str, name: str) -> Key | None:
        """Return the current key of a name, if it was read less than `SECONDS` ago."""
        key_id = self._names.get((kind, name))
        return None if key_id is None else self.get(key_id)

    def put(self, key: Key, *, current: bool = False) -> None:
        """Hold a key; ``current`` where new values are sealed under it."""
        if self._barred.get(key.id, 0.0) > time.monotonic():
            return
        if len(self._keys) >= MOST:
            self._drop_oldest()
        self._keys.pop(key.id, None)  # so that it stands last
        self._keys[key.id] = (time.monotonic() + SECONDS, key)
        if current:
            self._names[key.kind, key.name] = key.id

    def _drop_oldest(self) -> None:
        """Make room for a tenth: a dictionary keeps the order in which keys came."""
        for key_id in list(self._keys)[: MOST // 10]:
            self.drop(key_id)

    def drop(self, key_id: int) -> None:
        """Forget one key."""
        _, key = self._keys.pop(key_id, (0.0, None))
        self.left.pop(key_id, None)
        if key is not None and self._names.get((key.kind, key.name)) == key_id:
            del self._names[key.kind, key.name]

    def bar(self, key_id: int) -> None:
        """Forget a key, and hold it no more for `SECONDS`: each use reads the store."""
        self.drop(key_id)
        now = time.monotonic()
        self._barred = {i: end for i, end in self._barred.items() if end > now}
        self._barred[key_id] = now + SECONDS

    def clear(self) -> None:
        """Forget every key."""
        self._keys.clear()
        self._names.clear()
        self.left.clear()


def bar_everywhere(key_ids: Iterable[int]) -> None:
    """Have every ring of this process forget keys that a transaction is about to destroy.

    Until it commits a reader may still fetch one; held, it would outlive the commit. Rings of
    other stores read a key of that number once more, which does no harm.
    """
    wanted = list(key_ids)
    for cache in list(_EVERY):
        for key_id in wanted:
            cache.bar(key_id)


def _after_fork() -> None:
    """The parent goes on with the nonces it reserved; the child reserves its own."""
    for cache in list(_EVERY):
        cache.left.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
