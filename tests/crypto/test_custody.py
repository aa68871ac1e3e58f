"""Custody: every act is in the trail, touches no data, and survives being killed."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from crypto.keeping import custodian, told

from compliance.crypto import cache, custody
from compliance.crypto.aead import Place
from compliance.crypto.hierarchy import KEY
from compliance.crypto.keys import Keyring
from compliance.errors import (
    ConfigurationError,
    DecryptionFailed,
    InputError,
    KeyDestroyed,
    KeyRetired,
    OperationError,
)

PLACE = Place("default", "people", "salary")

ROTATE = """
import sys
from pathlib import Path
from compliance.crypto import custody
from compliance.crypto.keys import Keyring
from compliance.store import Store
sys.path.insert(0, sys.argv[3])
from crypto.keeping import custodian
custody.BATCH = 10
keeper = custodian(Keyring.open(Store.open(sys.argv[1]), Path(sys.argv[2])))
def say(done, total, what):
    print(done, flush=True)
    sys.stdin.readline()
keeper.rotate_domain(say)
print("end", flush=True)
"""


def again(ring, key_file):
    return Keyring.open(ring.store, key_file)


def rows(ring, kind):
    with ring.store.reading() as connection:
        return connection.execute(sa.select(KEY).where(KEY.c.kind == kind).order_by(KEY.c.id)).all()


@pytest.fixture
def later(monkeypatch):
    """Let the caches of every other process have run out."""
    monkeypatch.setattr(custody, "_age", lambda _created: cache.SECONDS + 1)


# -- the master -------------------------------------------------------------------------------


def test_a_new_master_rewraps_the_domain_key_alone(any_ring, key_file):
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    before, old_file = rows(any_ring, "column"), key_file.read_bytes()
    domain, name = rows(any_ring, "domain")[0].wrapped, any_ring.keys.master.name
    assert custodian(any_ring).rotate_master() == 1
    assert rows(any_ring, "column") == before
    assert rows(any_ring, "domain")[0].wrapped != domain
    assert again(any_ring, key_file).open_sealed(cell, PLACE) == b"secret"
    assert any_ring.open_sealed(cell, PLACE) == b"secret"
    ((what, facts),) = told(any_ring)
    assert what == "key.master-rotated"
    assert facts == {"keys": 1, "master": any_ring.keys.master.name}
    assert any_ring.keys.master.name != name
    key_file.write_bytes(old_file)
    with pytest.raises((ConfigurationError, DecryptionFailed)):
        again(any_ring, key_file)


@pytest.mark.parametrize("step", ["rotate", "_rewrap", "forget_earlier"])
def test_a_rotation_of_the_master_that_was_cut_off_loses_nothing(ring, key_file, monkeypatch, step):
    cell = ring.seal(ring.column("people", "salary"), b"secret", PLACE)
    keeper = custodian(ring)
    owner = keeper if step == "_rewrap" else ring.keys.master
    with monkeypatch.context() as patch:
        real = getattr(owner, step)

        def cut_off(*arguments, **options):
            if step != "_rewrap":
                real(*arguments, **options)
            raise KeyboardInterrupt

        patch.setattr(owner, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            keeper.rotate_master()
    fresh = again(ring, key_file)
    assert fresh.open_sealed(cell, PLACE) == b"secret"
    custodian(fresh).rotate_master()
    assert again(ring, key_file).open_sealed(cell, PLACE) == b"secret"


def test_a_master_that_another_tenant_needs_is_kept(ring, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    cell = other.seal(other.column("t", "c"), b"theirs", Place("other", "t", "c"))
    custodian(ring).rotate_master()
    theirs = Keyring.open(ring.store, key_file, tenant="other")
    assert theirs.open_sealed(cell, Place("other", "t", "c")) == b"theirs"


# -- the domain key ----------------------------------------------------------------------------


def test_a_new_domain_key_takes_over_every_key_and_the_old_one_is_destroyed(any_ring, key_file):
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    keys = any_ring.subjects("person", range(25))
    seen = []
    moved = custodian(any_ring).rotate_domain(lambda *step: seen.append(step))
    fresh = again(any_ring, key_file)
    assert fresh.open_sealed(cell, PLACE) == b"secret"
    assert fresh.subjects("person", range(25)) == keys
    old, new = rows(any_ring, "domain")
    assert old.wrapped is None
    assert {row.parent for row in rows(any_ring, "subject")} == {new.id}
    assert moved == 25 + 3  # a column, lookup and signing
    assert seen[-1][:2] == (28, 28)
    assert told(any_ring)[-1] == ("key.rotated", {"kind": "domain", "key": new.id, "epoch": 2})


def test_a_rotation_killed_at_any_batch_goes_on_where_it_stood(ring, key_file, sqlite_url):
    keys = ring.subjects("person", range(35))
    here = str(Path(__file__).parent.parent)
    for batches in (1, 2):
        command = [sys.executable, "-c", ROTATE, sqlite_url, str(key_file), here]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(batches):
            assert child.stdout.readline().strip().isdigit()
            child.stdin.write("\n")
            child.stdin.flush()
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
        assert again(ring, key_file).subjects("person", range(35)) == keys
    fresh = again(ring, key_file)
    custodian(fresh).rotate_domain()
    assert again(ring, key_file).subjects("person", range(35)) == keys
    assert [row.wrapped is None for row in rows(ring, "domain")] == [True, False]


def test_a_key_made_while_the_domain_key_changes_hangs_on_the_new_one(any_ring, key_file):
    any_ring.subjects("person", range(5))
    other = again(any_ring, key_file)
    made = []
    custodian(any_ring).rotate_domain(
        lambda *_: made.append(other.subject("person", len(made) + 100))
    )
    fresh = again(any_ring, key_file)
    assert fresh.subject("person", 100) == made[0]
    assert len({row.parent for row in rows(any_ring, "subject")}) == 1


def test_a_destroyed_key_does_not_come_back_through_a_rotation(any_ring, key_file):
    any_ring.subjects("person", range(5))
    keeper = custodian(any_ring)
    (gone,) = keeper.destroy_subject("person", 3).keys
    keeper.rotate_domain()
    assert any_ring.keys.row(gone).wrapped is None


# -- named keys --------------------------------------------------------------------------------


def test_a_rotated_column_seals_anew_and_the_retired_epoch_is_refused(any_ring, key_file, later):
    keeper = custodian(any_ring)
    old = any_ring.seal(any_ring.column("people", "salary"), b"old", PLACE)
    key = keeper.rotate("column", "people.salary")
    assert any_ring.column("people", "salary") == key
    assert any_ring.open_sealed(old, PLACE) == b"old"
    (retired,) = keeper.retire("column", "people.salary")
    for ring in (any_ring, again(any_ring, key_file)):
        with pytest.raises(KeyRetired):
            ring.open_sealed(old, PLACE)
    keeper.restore(retired)
    assert any_ring.open_sealed(old, PLACE) == b"old"
    assert [what for what, _facts in told(any_ring)] == [
        "key.rotated",
        "key.retired",
        "key.restored",
    ]
    assert keeper.retire("column", "people.salary") == [retired]
    assert keeper.retire("column", "people.salary") == []


def test_an_epoch_is_not_retired_while_another_process_may_seal_under_it(ring):
    ring.column("people", "salary")
    keeper = custodian(ring)
    keeper.rotate("column", "people.salary")
    with pytest.raises(OperationError, match="s old"):
        keeper.retire("column", "people.salary")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("column", "no.such"), ("domain", "default"), ("signing", "trail"), ("x", "y")],
)
def test_what_cannot_be_rotated_is_named(ring, kind, name):
    with pytest.raises(InputError, match=r"kinds|keys list"):
        custodian(ring).rotate(kind, name)


def test_what_is_not_retired_is_not_taken_back(ring):
    key = ring.column("people", "salary")
    for key_id in (key.id, 999):
        with pytest.raises(InputError, match="not retired"):
            custodian(ring).restore(key_id)


def test_an_exhausted_key_makes_room_for_its_next_epoch(any_ring, key_file):
    key = any_ring.column("people", "salary")
    assert any_ring.reserve(key, 10) == key
    assert any_ring.reserve(key, 2**32 - 2**17) == key
    following = any_ring.reserve(key, 2**17)
    assert (following.name, following.epoch) == (key.name, 2)
    assert any_ring.reserve(key, 2**20) == any_ring.column("people", "salary") == following
    sealed = {info.id: info.sealed for info in again(any_ring, key_file).listing()}
    assert 2**32 - 2**18 < sealed[key.id] <= 2**32


def test_more_than_one_key_may_seal_is_an_error_and_no_endless_search(ring):
    with pytest.raises(InputError, match="one key"):
        ring.reserve(ring.column("people", "salary"), 2**32 + 1)


# -- destruction -----------------------------------------------------------------------------


def test_destruction_is_logged_and_says_when_it_holds_everywhere(any_ring, key_file):
    cell = any_ring.seal(any_ring.subject("person", 7), b"secret", PLACE)
    other = again(any_ring, key_file)
    other.open_sealed(cell, PLACE)
    before = dt.datetime.now(dt.UTC)
    gone = custodian(any_ring).destroy_subject("person", 7)
    wait = (gone.effective - before).total_seconds()
    assert cache.SECONDS <= wait < cache.SECONDS + 5
    for ring in (any_ring, other):
        with pytest.raises(KeyDestroyed):
            ring.open_sealed(cell, PLACE)
    assert told(any_ring) == [("key.subject-destroyed", {"keys": str(gone.keys[0])})]


def test_keys_are_destroyed_by_id_all_or_none(ring):
    keeper = custodian(ring)
    one, two = ring.column("t", "a"), ring.column("t", "b")
    with pytest.raises(InputError, match="no live key 999"):
        keeper.destroy([one.id, 999])
    assert ring.column("t", "a") == one
    assert keeper.destroy([one.id, two.id]).keys == (one.id, two.id)
    with pytest.raises(InputError, match="no live key"):
        keeper.destroy([one.id])


def test_what_the_hierarchy_stands_on_is_not_destroyed(ring):
    ring.signer()
    for kind in ("domain", "lookup", "signing"):
        with pytest.raises(InputError, match="kinds"):
            custodian(ring).destroy([rows(ring, kind)[0].id])


def test_one_person_among_many_is_erased_and_nobody_else(ring, key_file):
    cells = [ring.seal(key, b"x", PLACE) for key in ring.subjects("person", range(200))]
    custodian(ring).destroy_subject("person", 77)
    fresh = again(ring, key_file)
    for number, cell in enumerate(cells):
        if number == 77:
            with pytest.raises(KeyDestroyed):
                fresh.open_sealed(cell, PLACE)
        else:
            assert fresh.open_sealed(cell, PLACE) == b"x"


def test_when_the_trail_cannot_be_written_nothing_is_destroyed(ring, monkeypatch):
    key = ring.column("t", "a")
    keeper = custodian(ring)
    monkeypatch.setattr(keeper._trail, "append_in", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        keeper.destroy([key.id])
    assert ring.keys.row(key.id).wrapped is not None
