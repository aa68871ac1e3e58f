"""The table of wrapped keys: one key for each name and epoch, under one domain key."""

import os
import threading

import pytest
import sqlalchemy as sa
from crypto.keeping import custodian

from compliance.crypto.aead import Place
from compliance.crypto.hierarchy import KEY, has_keys
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, KeyDestroyed, KeyRetired

PLACE = Place("default", "people", "salary")


def change(ring, key_id, **values):
    with ring.store.writing() as connection:
        connection.execute(sa.update(KEY).where(KEY.c.id == key_id).values(values))


def again(ring, key_file):
    return Keyring.open(ring.store, key_file)


# -- making ------------------------------------------------------------------------------


def test_a_new_store_has_no_keys_and_an_opened_one_has(store, key_file):
    assert not has_keys(store)
    Keyring.open(store, key_file)
    assert has_keys(store)


def test_a_domain_key_names_the_master_that_wraps_it(any_ring):
    row = any_ring.keys.row(any_ring.keys.domain().id)
    assert row.wrapper == any_ring.keys.master.name
    assert row.parent is None


def test_many_subjects_are_made_at_once_and_are_those_made_one_by_one(any_ring, key_file):
    one = any_ring.subject("person", 3)
    many = any_ring.subjects("person", [*range(6), 3, "3"])
    assert many[3] == many[6] == many[7] == one
    assert len({key.id for key in many}) == 6
    assert again(any_ring, key_file).subjects("person", range(6)) == many[:6]
    assert any_ring.subjects("person", []) == []


def test_more_subjects_than_one_query_takes_or_memory_holds(ring, monkeypatch):
    monkeypatch.setattr("compliance.crypto.hierarchy._CHUNK", 7)
    monkeypatch.setattr("compliance.crypto.cache.MOST", 10)
    keys = ring.subjects("person", range(50))
    assert len({key.material for key in keys}) == 50
    assert ring.subjects("person", range(50)) == keys


def test_threads_that_ask_for_the_same_subjects_get_the_same_keys(any_ring):
    found = []
    work = [
        threading.Thread(target=lambda: found.append(any_ring.subjects("person", range(40))))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 4
    assert all(keys == found[0] for keys in found)


# -- epochs ------------------------------------------------------------------------------


def test_a_new_epoch_seals_and_the_old_one_still_opens(any_ring, key_file):
    old = any_ring.seal(any_ring.column("people", "salary"), b"old", PLACE)
    fresh = any_ring.keys.advance("column", "people.salary")
    assert fresh.epoch == 2
    for ring in (any_ring, again(any_ring, key_file)):
        assert ring.column("people", "salary") == fresh
        assert ring.open_sealed(old, PLACE) == b"old"


def test_two_who_follow_the_same_epoch_make_one(ring):
    ring.column("t", "c")
    first = ring.keys.advance("column", "t.c", after=1)
    assert ring.keys.advance("column", "t.c", after=1) == first


def test_a_retired_epoch_opens_nothing_and_one_that_was_taken_back_does(ring, key_file):
    cell = ring.seal(ring.column("people", "salary"), b"old", PLACE)
    ring.keys.advance("column", "people.salary")
    change(ring, cell[4], retired="2026-01-01")
    with pytest.raises(KeyRetired, match="compliance keys restore"):
        again(ring, key_file).open_sealed(cell, PLACE)
    change(ring, cell[4], retired=None)
    assert again(ring, key_file).open_sealed(cell, PLACE) == b"old"


# -- destruction and tampering ------------------------------------------------------------


def test_a_destroyed_name_seals_nothing_until_it_is_rotated(ring):
    with ring.store.writing() as connection:
        assert ring.keys.destroy(connection, KEY.c.kind == "column") == []
    key = ring.column("people", "salary")
    with ring.store.writing() as connection:
        assert ring.keys.destroy(connection, KEY.c.kind == "column") == [key.id]
    with pytest.raises(KeyDestroyed):
        ring.column("people", "salary")
    assert ring.keys.advance("column", "people.salary").epoch == 2


def test_a_destroyed_key_is_out_of_every_ring_of_the_process(ring, key_file):
    other = again(ring, key_file)
    cell = ring.seal(ring.column("people", "salary"), b"secret", PLACE)
    assert other.open_sealed(cell, PLACE) == b"secret"
    with ring.store.writing() as connection:
        ring.keys.destroy(connection, KEY.c.kind == "column")
    with pytest.raises(KeyDestroyed):
        other.open_sealed(cell, PLACE)


def test_a_key_wrapped_by_another_parent_does_not_unwrap(ring, key_file):
    cell = ring.seal(ring.column("people", "salary"), b"secret", PLACE)
    change(ring, cell[4], parent=ring.keys.current("lookup", "subjects").id)
    with pytest.raises(DecryptionFailed):
        again(ring, key_file).open_sealed(cell, PLACE)


def test_a_key_that_moved_to_a_new_domain_between_two_queries_is_read_again(ring, key_file):
    """The row was read before a rotation, its parent after it."""
    key = ring.column("people", "salary")
    other = again(ring, key_file)
    stale = other.keys.row(key.id)
    other.keys.cache.clear()
    custodian(ring).rotate_domain()
    assert other.keys.unwrap(stale) == key


def test_a_forked_child_opens_connections_of_its_own(ring):
    key = ring.column("people", "salary")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        ring.keys.cache.clear()
        os.write(write, ring.column("people", "salary").id.to_bytes(4, "big"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert int.from_bytes(os.read(read, 4), "big") == key.id
