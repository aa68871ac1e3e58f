"""The key hierarchy: one key per name and tenant, wrapped, found by id, destroyed for good."""

import contextlib
import pickle
import sqlite3
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from compliance.crypto import cache, keys, master
from compliance.crypto.aead import Place, seal
from compliance.crypto.keys import Keyring, identity_text
from compliance.errors import (
    ConfigurationError,
    DecryptionFailed,
    InputError,
    KeyDestroyed,
    StoreError,
)
from compliance.store import Store

PLACE = Place("default", "people", "salary")

OPEN = """
import sys
from pathlib import Path
from compliance.crypto.keys import Keyring
from compliance.store import Store
sys.stdin.readline()
ring = Keyring.open(Store.open(sys.argv[1]), Path(sys.argv[2]))
print(ring.reference("person", 7), ring.pseudonym("person", 7), ring.column("t", "c").id)
"""


def again(ring, key_file, **options):
    """Return a ring that knows nothing but what is stored, as another process would."""
    return Keyring.open(ring.store, key_file, **options)


def query(ring, statement, **values):
    with ring.store.writing() as connection:
        result = connection.execute(sa.text(statement), values)
        return result.all() if result.returns_rows else result.rowcount


def destroy(ring, identifier):
    with ring.store.writing() as connection:
        return len(ring.destroy_subject(connection, "person", identifier))


# -- the hierarchy ---------------------------------------------------------------------


def test_a_key_is_made_once_and_found_again(any_ring, key_file):
    other = again(any_ring, key_file)
    for get in (
        lambda ring: ring.column("people", "salary"),
        lambda ring: ring.model("scoring"),
        lambda ring: ring.subject("person", 7),
    ):
        assert get(any_ring) == get(other)
    assert any_ring.signer().public_key == other.signer().public_key


def test_each_name_has_a_key_of_its_own(ring):
    made = [
        ring.column("people", "salary"),
        ring.column("people", "bonus"),
        ring.column("staff", "salary"),
        ring.model("people.salary"),
        ring.subject("person", "people.salary"),
    ]
    assert len({key.material for key in made}) == len({key.id for key in made}) == 5


def test_the_database_holds_no_key_unwrapped(ring):
    ring.column("people", "salary")
    ring.signer()
    rows = query(ring, "SELECT kind, parent, wrapped FROM compliance_key")
    unwrapped = [key.material for _, key in ring.keys.cache._keys.values()]
    assert {row.parent is None for row in rows if row.kind == "domain"} == {True}
    assert {row.parent is None for row in rows if row.kind != "domain"} == {False}
    for row in rows:
        assert len(row.wrapped) == 40
        assert all(material not in bytes(row.wrapped) for material in unwrapped)


def test_tenants_of_one_database_share_no_key_and_no_name(ring, key_file):
    other = again(ring, key_file, tenant="other")
    assert ring.reference("person", 7) != other.reference("person", 7)
    assert ring.pseudonym("person", 7) != other.pseudonym("person", 7)
    assert ring.column("t", "c") != other.column("t", "c")
    assert ring.signer().public_key != other.signer().public_key
    assert {info.name for info in other.listing()}.isdisjoint({"default"})
    assert destroy(other, 7) == 1
    assert ring.pseudonym("person", 7) == again(ring, key_file).pseudonym("person", 7)


def test_a_tenant_cannot_open_what_another_sealed(ring, key_file):
    cell = ring.seal(ring.column("people", "salary"), b"secret", PLACE)
    with pytest.raises(DecryptionFailed):
        again(ring, key_file, tenant="other").open_sealed(cell, PLACE)


# -- opening a store --------------------------------------------------------------------------


def test_processes_that_open_a_new_store_at_once_end_with_one_hierarchy(url, key_file):
    command = [sys.executable, "-c", OPEN, url, str(key_file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(said) == 1

    store = Store.open(url)
    infos = Keyring.open(store, key_file).listing()
    kinds = sorted(info.kind for info in infos)
    assert kinds == ["column", "domain", "lookup", "subject"]
    store.close()


def test_a_database_with_keys_and_no_key_file_gets_no_new_one(any_ring, key_file):
    key_file.unlink()
    with pytest.raises(ConfigurationError, match="restore it"):
        again(any_ring, key_file)
    assert not key_file.exists()


def test_another_master_key_is_refused(ring, tmp_path):
    master.create(tmp_path / "other.json")
    with pytest.raises(ConfigurationError, match="wrapped by"):
        again(ring, tmp_path / "other.json")


def test_a_passphrase_from_the_environment_protects_and_opens(store, key_file, monkeypatch):
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", "correct horse")
    reference = Keyring.open(store, key_file).reference("person", 7)
    assert "scrypt" in key_file.read_text("utf-8")
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", "wrong horse")
    with pytest.raises(DecryptionFailed):
        Keyring.open(store, key_file)
    opened = Keyring.open(store, key_file, passphrase="correct horse")
    assert opened.reference("person", 7) == reference


# -- sealing ------------------------------------------------------------------------------------


def test_a_sealed_value_opens_in_another_process_by_the_id_it_carries(any_ring, key_file):
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    assert again(any_ring, key_file).open_sealed(cell, PLACE) == b"secret"


@pytest.mark.parametrize("key_id", [0, 999, 2**31, 2**32 - 1])
def test_an_unknown_key_id_is_refused(any_ring, key_id):
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    wrong = cell[:1] + key_id.to_bytes(4, "big") + cell[5:]
    with pytest.raises(DecryptionFailed):
        any_ring.open_sealed(wrong, PLACE)


def test_no_other_key_is_tried(ring):
    """The bytes are those of one key and the id that of another: nothing looks for the right one."""
    one, other = ring.column("people", "salary"), ring.column("people", "bonus")
    cell = ring.seal(one, b"secret", PLACE)
    with pytest.raises(DecryptionFailed):
        ring.open_sealed(cell[:1] + other.id.to_bytes(4, "big") + cell[5:], PLACE)


def test_keys_that_seal_nothing_open_nothing(ring, key_file):
    ring.signer()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    other = again(ring, key_file)
    for info in ring.listing():
        if info.kind in {"domain", "lookup", "signing"}:
            material = ring.keys.cache.get(info.id).material
            cell = seal(AESGCM(material), info.id, b"x", PLACE.encode())
            other.keys.cache.clear()
            with pytest.raises(DecryptionFailed, match="not here"):
                other.open_sealed(cell, PLACE)


def test_a_key_whose_parent_is_gone_is_a_clear_error(ring, key_file):
    cell = ring.seal(ring.column("t", "c"), b"x", PLACE)
    other = again(ring, key_file)
    query(ring, "DELETE FROM compliance_key WHERE kind = 'domain'")
    other.keys.cache.clear()
    with pytest.raises(DecryptionFailed, match="no domain key"):
        other.open_sealed(cell, PLACE)


def test_a_wrapped_key_that_was_altered_does_not_unwrap(ring, key_file):
    cell = ring.seal(ring.column("t", "c"), b"x", PLACE)
    query(ring, "UPDATE compliance_key SET wrapped = zeroblob(40) WHERE kind = 'column'")
    with pytest.raises(DecryptionFailed):
        again(ring, key_file).open_sealed(cell, PLACE)


# -- subjects -------------------------------------------------------------------------------------


def test_a_reference_is_keyed_and_tells_kinds_of_subjects_apart(ring):
    one = ring.reference("person", 7)
    assert len(one) == 64
    assert (
        one == ring.references("person", ["7", 7.0])[0] == ring.references("person", ["7", 7.0])[1]
    )
    assert len({one, ring.reference("customer", 7), ring.reference("person", 8)}) == 3
    assert ring.reference("ab", "c") != ring.reference("a", "bc")


def test_a_subject_key_is_named_by_the_reference_and_not_by_the_identifier(ring):
    ring.subject("person", "jane@example.com")
    assert all("jane" not in info.name for info in ring.listing())


@pytest.mark.parametrize(
    "same",
    [
        [7, 7.0, "7", " 7 ", Decimal("7.00"), np.int64(7), np.float32(7), Fraction(14, 2)],
        [10**22, 1e22, Decimal("1E+22"), str(10**22)],
        [2**63 - 1, str(2**63 - 1)],
    ],
)
def test_one_person_is_one_text_however_a_database_types_the_key(same):
    assert len({identity_text(value) for value in same}) == 1


def test_different_people_are_different_texts():
    uuid = UUID(int=7)
    values = [
        7,
        7.5,
        True,
        "seven",
        float("nan"),
        float("inf"),
        Decimal("Infinity"),
        uuid,
        "\ud800",
    ]
    assert len({identity_text(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    "nobody", [None, "", "  ", float("nan"), Decimal("NaN"), Decimal("-NaN")], ids=repr
)
def test_nobodys_identifier_has_no_key(ring, nobody):
    for ask in (ring.subject, lambda kind, who: ring.subjects(kind, [1, who])):
        with pytest.raises(InputError, match="name no subject"):
            ask("person", nobody)
    assert ring.subject("person", "nan").id  # a person may be called so


def test_a_whole_number_of_any_size_is_an_identifier():
    assert identity_text(10**400) == str(10**400)


@pytest.mark.parametrize("count", [-1, -(10**9)])
def test_less_than_no_nonces_cannot_be_reserved(ring, count):
    with pytest.raises(InputError, match="one key seals"):
        ring.reserve(ring.column("t", "c"), count)


def test_a_ring_does_not_pickle_and_says_what_to_do(ring):
    with pytest.raises(TypeError, match="open the guard in each"):
        pickle.dumps(ring)


def test_an_identifier_of_any_characters_has_a_reference(ring):
    assert len(ring.reference("person", "\ud800\x00🂡")) == 64


# -- destruction -------------------------------------------------------------------------------------


def test_a_destroyed_subject_cannot_be_opened_or_recognised(any_ring, key_file):
    place = Place("default", "people", "notes", row="7")
    cell = any_ring.seal(any_ring.subject("person", 7), b"secret", place)
    reference, pseudonym = any_ring.reference("person", 7), any_ring.pseudonym("person", 7)
    assert destroy(any_ring, 7) == 1
    assert reference not in {info.name for info in any_ring.listing()}
    for ring in (any_ring, again(any_ring, key_file)):
        with pytest.raises(KeyDestroyed):
            ring.open_sealed(cell, place)
        assert ring.pseudonym("person", 7) != pseudonym
    assert destroy(any_ring, 8) == 0


def test_a_destruction_that_is_rolled_back_destroys_nothing(any_ring):
    pseudonym = any_ring.pseudonym("person", 7)
    with contextlib.suppress(ZeroDivisionError), any_ring.store.writing() as connection:
        any_ring.destroy_subject(connection, "person", 7)
        raise ZeroDivisionError
    assert any_ring.pseudonym("person", 7) == pseudonym


def test_another_process_forgets_within_the_cache_time(ring, key_file, monkeypatch):
    other = again(ring, key_file)
    place = Place("default", "people", "notes")
    cell = ring.seal(ring.subject("person", 7), b"secret", place)
    assert other.open_sealed(cell, place) == b"secret"
    destroy(ring, 7)
    now = cache.time.monotonic()
    monkeypatch.setattr(cache.time, "monotonic", lambda: now + keys.CACHE_SECONDS + 1)
    with pytest.raises(KeyDestroyed):
        other.open_sealed(cell, place)


def scan(path):
    """Return every byte on disk of a SQLite database, its write-ahead log included."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def test_no_file_of_the_database_keeps_the_wrapped_key(ring, tmp_path):
    for identifier in range(50):
        ring.pseudonym("person", identifier)
    reference = ring.reference("person", 7)
    where = "SELECT wrapped FROM compliance_key WHERE name = :name"
    ((wrapped,),) = query(ring, where, name=reference)
    ((neighbour,),) = query(ring, where, name=ring.reference("person", 8))
    assert wrapped in scan(tmp_path / "keys.db")
    destroy(ring, 7)
    assert wrapped not in scan(tmp_path / "keys.db")
    assert reference.encode() not in scan(tmp_path / "keys.db")
    assert neighbour in scan(tmp_path / "keys.db")


def test_a_reader_that_keeps_old_pages_alive_is_not_passed_over(tmp_path, key_file):
    store = Store.open(f"sqlite:///{tmp_path / 'keys.db'}?timeout=0.1")
    ring = Keyring.open(store, key_file)
    ring.pseudonym("person", 7)
    reader = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM compliance_key").fetchone()
    with pytest.raises(StoreError, match="write-ahead"):
        destroy(ring, 7)
    reader.close()
    store.close()


# -- nothing is shown ----------------------------------------------------------------------------------


def test_no_repr_or_listing_shows_key_material(ring):
    key = ring.subject("person", 7)
    signer = ring.signer()
    shown = " ".join(map(repr, (ring, key, signer, ring.listing())))
    for _, secret in ring.keys.cache._keys.values():
        assert secret.material.hex() not in shown
        assert repr(secret.material) not in shown
