"""Somebody who can write to the database edits, exchanges and puts back rows of keys."""

import secrets
import threading

import pytest
import sqlalchemy as sa
from crypto.keeping import custodian, event
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from compliance.config import Settings
from compliance.crypto import custody, escrow, providers
from compliance.crypto.aead import Place
from compliance.crypto.hierarchy import KEY, require_own, row_mac, wrapped_by
from compliance.crypto.keys import Keyring
from compliance.crypto.providers import hpke
from compliance.errors import (
    ComplianceError,
    ConfigurationError,
    DecryptionFailed,
    InputError,
    IntegrityError,
    KeyDestroyed,
    OperationError,
    StoreError,
)
from compliance.trail.log import Trail

PLACE = Place("default", "people", "salary")


def edit(ring, key_id, **values):
    with ring.store.writing() as connection:
        connection.execute(sa.update(KEY).where(KEY.c.id == key_id).values(values))
    ring.keys.cache.clear()


def again(ring, key_file):
    return Keyring.open(ring.store, key_file)


# -- edited rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "subject"},
        {"name": "people.bonus"},
        {"epoch": 7},
        {"retired": "2026-01-01"},
        {"mac": None},
        {"mac": bytes(32)},
        {"parent": None},
        {"wrapped": bytes(40)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_row_that_was_edited_does_not_unwrap(any_ring, change):
    key = any_ring.column("people", "salary")
    cell = any_ring.seal(key, b"secret", PLACE)
    edit(any_ring, key.id, **change)
    with pytest.raises(ComplianceError):
        any_ring.open_sealed(cell, PLACE)


def test_text_in_the_place_of_a_wrapped_key_is_an_altered_row(ring):
    key = ring.column("people", "salary")
    with ring.store.writing() as connection:
        change = sa.text("UPDATE compliance_key SET wrapped = 'text' WHERE id = :id")
        connection.execute(change, {"id": key.id})
    ring.keys.cache.clear()
    with pytest.raises(DecryptionFailed, match="altered"):
        ring.column("people", "salary")


def test_a_retired_key_does_not_open_again_by_an_edit(ring, monkeypatch):
    monkeypatch.setattr(custody, "_age", lambda _created: 61)
    cell = ring.seal(ring.column("people", "salary"), b"old", PLACE)
    keeper = custodian(ring)
    keeper.rotate("column", "people.salary")
    (key,) = keeper.retire("column", "people.salary")
    edit(ring, key, retired=None)
    with pytest.raises(DecryptionFailed, match="altered"):
        ring.open_sealed(cell, PLACE)


def test_subjects_whose_names_were_exchanged_are_not_destroyed_for_one_another(any_ring):
    one, other = any_ring.subjects("person", [1, 2])
    edit(any_ring, one.id, name="on the way")
    edit(any_ring, other.id, name=one.name)
    edit(any_ring, one.id, name=other.name)
    with pytest.raises(DecryptionFailed, match="altered"):
        custodian(any_ring).destroy_subject("person", 1)
    assert any_ring.keys.row(other.id).wrapped is not None


def test_a_key_is_its_own_parent_for_nobody(ring):
    key = ring.column("people", "salary")
    edit(ring, key.id, parent=key.id)
    with pytest.raises(DecryptionFailed, match="no domain key"):
        ring.column("people", "salary")


def test_whoever_has_the_public_key_cannot_put_a_key_directly_under_the_master(store, tmp_path):
    """HPKE authenticates no sender: only domain keys are ever opened by a master."""
    hpke.generate(tmp_path / "private.pem")
    ring = Keyring(store, providers.open_master(Settings(master=f"hpke:{tmp_path}/private.pem")))
    ring.signer()
    seed = secrets.token_bytes(32)
    values = {
        "tenant": "default", "kind": "signing", "name": "trail", "epoch": 2, "parent": None,
        "created": "2026-01-01T00:00:00+00:00", "sealed": 0,
        "mac": row_mac(seed, "default", "signing", "trail", 2, None),
        **wrapped_by(ring.keys.master, seed, "default"),
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(sa.insert(KEY).values(values))
    ring.keys.cache.clear()
    with pytest.raises(DecryptionFailed, match="no domain key"):
        ring.signer()


# -- masters that lose or change keys -------------------------------------------------------------


class Forgetful:
    """A server that answers with something else than it was given."""

    name = "forgetful"

    def __init__(self, answer):
        self._answer = answer

    def wrap(self, key, context):
        return b"\x00" * 40

    def unwrap(self, wrapped, context, wrapper):
        return self._answer


@pytest.mark.parametrize("answer", [b"", bytes(31), bytes(32), bytes(33)], ids=len)
def test_a_master_that_does_not_give_back_what_it_got_wraps_nothing(ring, key_file, answer):
    cell = ring.seal(ring.column("people", "salary"), b"secret", PLACE)
    with pytest.raises(OperationError, match="nothing was changed"):
        custodian(ring).rewrap(Forgetful(answer))
    assert again(ring, key_file).open_sealed(cell, PLACE) == b"secret"


def test_rotations_of_master_and_domain_at_once_lose_nothing(any_ring, key_file):
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    any_ring.subjects("person", range(50))
    refused = []

    def work(act):
        for _ in range(4):
            try:
                getattr(custodian(again(any_ring, key_file)), act)()
            except ComplianceError as error:  # one wins, the other is told
                refused.append(error)

    threads = [
        threading.Thread(target=work, args=[act]) for act in ("rotate_master", "rotate_domain") * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) < 16  # somebody wins
    assert not [
        error for error in refused if isinstance(error, IntegrityError)
    ]  # told, not damaged
    fresh = again(any_ring, key_file)
    assert fresh.open_sealed(cell, PLACE) == b"secret"
    assert fresh.column("new", "column").id
    custodian(fresh).rotate_domain()
    custodian(fresh).rotate_master()
    assert again(any_ring, key_file).open_sealed(cell, PLACE) == b"secret"


def test_a_master_that_another_process_rotates_between_wrap_and_name_is_noticed(ring, key_file):
    master, other = ring.keys.master, again(ring, key_file).keys.master
    wrap = master.wrap

    def overtaken(key, context):
        other.rotate()
        return wrap(key, context)

    master.wrap = overtaken
    with pytest.raises(ComplianceError):
        custodian(ring).rewrap()
    assert again(ring, key_file).subject("person", 1)


def test_a_master_that_was_destroyed_where_it_is_kept_erases_nobody(ring, monkeypatch):
    """A server gives a key back that waits for its deletion: what is under it is not gone."""
    cell = ring.seal(ring.subject("person", 7), b"secret", PLACE)

    def gone(*_arguments):
        raise KeyDestroyed("the key waits for its deletion")

    with monkeypatch.context() as patch:
        patch.setattr(type(ring.keys.master), "unwrap", gone)
        ring.keys.cache.clear()
        with pytest.raises(StoreError, match="until it is back"):
            ring.open_sealed(cell, PLACE)
    assert ring.open_sealed(cell, PLACE) == b"secret"


# -- destruction that stays ------------------------------------------------------------------------


def test_a_key_put_back_from_a_backup_is_dead_after_both_rotations(ring, key_file):
    key = ring.subject("person", 7)
    cell = ring.seal(key, b"erased", PLACE)
    row = ring.keys.row(key.id)
    keeper = custodian(ring)
    keeper.destroy_subject("person", 7)
    domain = ring.keys.row(row.parent)
    keeper.rotate_domain()
    keeper.rotate_master()
    edit(ring, key.id, wrapped=row.wrapped, destroyed=None, name=row.name)
    edit(ring, domain.id, wrapped=domain.wrapped, destroyed=None)
    with pytest.raises((ConfigurationError, DecryptionFailed, KeyDestroyed)):
        again(ring, key_file).open_sealed(cell, PLACE)


def test_a_key_that_is_read_while_it_is_destroyed_is_not_kept(ring):
    key = ring.subject("person", 7)
    cell = ring.seal(key, b"secret", PLACE)
    with ring.store.writing() as connection:
        ring.destroy_subject(connection, "person", 7)
        assert ring.open_sealed(cell, PLACE) == b"secret"  # not committed yet
    with pytest.raises(KeyDestroyed):
        ring.open_sealed(cell, PLACE)


def test_what_was_destroyed_stays_so_in_the_eyes_of_the_trail(ring):
    """An entry of a restoration that crossed the destruction does not excuse a key put back."""
    key = ring.column("people", "salary")
    row, trail = ring.keys.row(key.id), Trail(ring.store, ring.signer())
    custodian(ring).destroy([key.id])
    trail.append(event("key.restored", facts={"keys": str(key.id)}))
    edit(ring, key.id, wrapped=row.wrapped, destroyed=None)
    (message,) = custody.discrepancies(ring, trail)
    assert f"key {key.id} was destroyed" in message


# -- what stands in the way of a rotation ------------------------------------------------------------


@pytest.mark.parametrize("wrapped", ["zeroblob(40)", "'text'", "7"])
def test_one_altered_row_is_named_and_can_be_destroyed(ring, key_file, wrapped):
    keys = ring.subjects("person", range(5))
    with ring.store.writing() as connection:
        change = sa.text(f"UPDATE compliance_key SET wrapped = {wrapped} WHERE id = :id")
        connection.execute(change, {"id": keys[2].id})
    ring.keys.cache.clear()
    keeper = custodian(ring)
    with pytest.raises(DecryptionFailed, match=f"key {keys[2].id} was altered"):
        keeper.rotate_domain()
    keeper.destroy([keys[2].id])
    keeper.rotate_domain()
    assert again(ring, key_file).subject("person", 4) == keys[4]


def test_recovery_drops_the_childless_domain_key_of_a_rotation_that_was_cut_off(
    ring, key_file, tmp_path, monkeypatch
):
    hpke.generate(tmp_path / "private.pem")
    private = (tmp_path / "private.pem").read_bytes()
    document = escrow.export(ring, hpke.public_of(private))
    keeper = custodian(ring)
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_empty", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keeper.rotate_domain()
    key_file.unlink()
    settings = Settings(master=f"file:{tmp_path / 'new.json'}")
    escrow.recover(ring.store, lambda: providers.create_master(settings), document, private)
    fresh = Keyring.open(ring.store, tmp_path / "new.json")
    assert fresh.column("new", "column")
    assert custodian(fresh).rotate_domain() > 0


def test_the_keys_the_hierarchy_stands_on_are_never_retired(ring, monkeypatch):
    monkeypatch.setattr(custody, "_age", lambda _created: 61)
    ring.signer()
    keeper = custodian(ring)
    keeper.rotate_domain()
    for kind, name in (("domain", "default"), ("signing", "trail"), ("lookup", "subjects")):
        with pytest.raises(InputError, match="kinds"):
            keeper.retire(kind, name)


def test_a_database_of_another_tenant_is_refused_before_a_key_is_made(ring):
    require_own(ring.store, "default")
    with pytest.raises(ConfigurationError, match="database of its own"):
        require_own(ring.store, "acme")


def test_a_row_wrapped_by_hand_under_the_right_parent_lacks_the_mac(ring):
    """The domain key alone makes no row: what a row says is bound to the key in it."""
    key = ring.column("people", "salary")
    material = secrets.token_bytes(32)
    edit(ring, key.id, wrapped=aes_key_wrap_with_padding(ring.keys.domain().material, material))
    with pytest.raises(DecryptionFailed, match="altered"):
        ring.column("people", "salary")
