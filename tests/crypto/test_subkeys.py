"""Subkeys: one purpose each; and the epochs that may still be used."""

import pytest
from epochs import mark, rotate
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import subkeys
from compliance.crypto.keys import Key, Keyring
from compliance.errors import KeyDestroyed

KEY = Key(1, bytes(range(32)))
PARTS = st.lists(st.text(st.characters(), max_size=4), max_size=4)


@given(PARTS, PARTS)
def test_no_two_lists_of_parts_are_written_alike(one, other):
    assert (subkeys.joined(*one) == subkeys.joined(*other)) is (one == other)


@pytest.mark.parametrize(
    "other",
    [
        subkeys.derive(KEY, "index", "t", "c"),
        subkeys.derive(KEY, "join", "t", "d"),
        subkeys.derive(KEY, "join", "tc", ""),
        subkeys.derive(KEY, "join", "t", "c", ""),
        subkeys.derive(Key(1, bytes(32)), "join", "t", "c"),
    ],
    ids=["purpose", "part", "boundary", "number", "key"],
)
def test_another_purpose_part_or_key_gives_another_subkey(other):
    assert subkeys.derive(KEY, "join", "t", "c") != other


def test_a_subkey_has_the_length_asked_for_and_is_not_its_key():
    long = subkeys.derive(KEY, "join", length=64)
    assert len(long) == 64
    assert long[:32] != KEY.material
    assert len({long[:32], long[32:]}) == 2


def test_the_live_epochs_come_newest_first_and_the_first_is_made(any_ring):
    (first,) = subkeys.live_keys(any_ring, "index", "t.c")
    assert first == any_ring.named("index", "t.c")
    second = rotate(any_ring, "index", "t.c")
    assert [key.id for key in subkeys.live_keys(any_ring, "index", "t.c")] == [second, first.id]
    with any_ring.store.writing() as connection:
        inside = subkeys.live_ids(any_ring, "index", "t.c", connection)
    assert inside == [second, first.id]


@pytest.mark.parametrize("state", ["destroyed", "retired"])
def test_an_epoch_that_is_destroyed_or_retired_is_not_live(ring, state):
    (first,) = subkeys.live_keys(ring, "index", "t.c")
    second = rotate(ring, "index", "t.c")
    mark(ring, first.id, **{state: "2026-01-01"})
    assert subkeys.live_ids(ring, "index", "t.c") == [second]


def test_the_epochs_of_others_are_not_mine(ring, key_file):
    ring.named("index", "t.c")
    for stranger, kind in (
        (Keyring.open(ring.store, key_file, tenant="b"), "index"),
        (ring, "join"),
    ):
        with pytest.raises(KeyDestroyed):
            subkeys.live_ids(stranger, kind, "t.c")


def test_where_every_epoch_is_gone_a_ring_that_still_holds_one_gives_none(ring, key_file):
    (first,) = subkeys.live_keys(ring, "index", "t.c")
    mark(Keyring.open(ring.store, key_file), first.id, destroyed="2026-01-01", wrapped=None)
    assert ring.named("index", "t.c") == first  # from its cache
    with pytest.raises(KeyDestroyed, match="every index key"):
        subkeys.live_keys(ring, "index", "t.c")
