"""Unwrapped keys are held briefly, in bounded number, and every ring forgets a destroyed one."""

import os
import pickle

import pytest

from compliance.crypto import cache
from compliance.crypto.cache import Key, KeyCache, bar_everywhere


def key(number, name="t.c", epoch=1):
    return Key(number, bytes([number % 256]) * 32, "column", name, epoch)


@pytest.fixture
def held():
    return KeyCache()


def test_a_key_is_found_by_id_and_the_newest_by_name(held):
    held.put(key(1), current=True)
    held.put(key(2, epoch=2), current=True)
    assert held.get(1).id == 1
    assert held.named("column", "t.c").id == 2
    held.drop(1)
    assert held.get(1) is None
    assert held.named("column", "t.c").id == 2
    held.drop(2)
    assert held.named("column", "t.c") is None


def test_a_key_that_was_only_opened_is_not_the_one_to_seal_under(held):
    held.put(key(1))
    assert held.get(1)
    assert held.named("column", "t.c") is None


def test_a_key_is_forgotten_after_its_time(held, monkeypatch):
    held.put(key(1), current=True)
    now = cache.time.monotonic()
    monkeypatch.setattr(cache.time, "monotonic", lambda: now + cache.SECONDS + 1)
    assert held.get(1) is None
    assert held.named("column", "t.c") is None


def test_the_number_of_keys_in_memory_is_bounded(held, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 100)
    for number in range(1_000):
        held.put(key(number, f"t.{number}"), current=True)
    assert len(held._keys) <= 100
    assert len(held._names) <= 100
    assert held.get(999)


def test_a_key_that_is_being_destroyed_is_held_by_no_ring_until_that_is_over(held, monkeypatch):
    """A reader may fetch it before the commit; it must not outlive the commit in memory."""
    twin = KeyCache()
    for each in (held, twin):
        each.put(key(1), current=True)
    bar_everywhere([1])
    for each in (held, twin):
        each.put(key(1), current=True)
        assert each.get(1) is each.named("column", "t.c") is None
    now = cache.time.monotonic()
    monkeypatch.setattr(cache.time, "monotonic", lambda: now + cache.SECONDS + 1)
    held.put(key(1))
    assert held.get(1)


def test_a_forked_child_reserves_nonces_of_its_own(held):
    held.left[1] = 10
    child = os.fork()
    if not child:
        os._exit(len(held.left))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held.left == {1: 10}


def test_a_key_shows_nothing_and_does_not_travel(held):
    secret = key(7)
    assert repr(secret) == "Key(7)"
    assert secret.material.hex() not in repr(held)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(secret)


def test_the_cipher_is_made_once():
    secret = key(7)
    assert secret.cipher is secret.cipher
    assert secret == key(7)
