"""One key destroyed, one person gone: from tables, frames, archives, tokens, trail and backups."""

import shutil
import sqlite3
import uuid

import pytest
import sqlalchemy as sa
from crypto.keeping import custodian
from sqlmodel import Field, Session, SQLModel, select

from compliance import frames
from compliance.config import Settings
from compliance.crypto import columns, pages, parquet, providers
from compliance.crypto.custody import discrepancies
from compliance.crypto.keys import Keyring
from compliance.crypto.orm import EncryptedRow, bind, row_key
from compliance.crypto.tokens import Vault
from compliance.errors import ConfigurationError, KeyDestroyed
from compliance.store import Store, connect
from compliance.trail.log import Trail

METADATA = sa.MetaData()
ADA, BOB = "ada@example.org", "bob@example.org"
SECRETS = {ADA: "diary of ada", BOB: "diary of bob"}


class Writer(SQLModel, table=True):
    """A table whose diaries lie under their writers' own keys."""

    metadata = METADATA
    id: uuid.UUID = Field(default_factory=row_key, primary_key=True)
    email: str
    diary: str = Field(sa_type=EncryptedRow(str, subject=("person", "email")))


@pytest.fixture
def shop(tmp_path, ring):
    bind(METADATA, ring)
    engine = connect(f"sqlite:///{tmp_path / 'shop.db'}")
    METADATA.create_all(engine)
    with Session(engine) as session:
        session.add_all(Writer(email=who, diary=text) for who, text in SECRETS.items())
        session.commit()
    yield engine
    engine.dispose()
    METADATA.info.clear()


def diaries(engine):
    with Session(engine) as session:
        return {w.email: w.diary for w in session.exec(select(Writer))}


def sealed_frame(ring):
    import pyarrow as pa

    table = pa.table({"who": list(SECRETS), "diary": list(SECRETS.values())})
    people = ("person", list(SECRETS))
    return columns.encrypt(frames.wrap(table), ["diary"], ring, table="w", subjects=people)


def opened(frame, ring):
    """Return the diaries that still open, in order; None for one that is erased."""
    people = ("person", frames.column(frame, "who"))
    clear = columns.decrypt(frame, ["diary"], ring, table="w", subjects=people, destroyed="null")
    return frames.column(clear, "diary")


def copy_of(database, folder):
    """Return a copy of a database file as a backup takes one."""
    folder.mkdir()
    target = folder / database.name
    with sqlite3.connect(database) as source, sqlite3.connect(target) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    return target


def test_a_person_is_gone_from_every_copy_and_the_others_stay(ring, shop, tmp_path):
    frame = sealed_frame(ring)
    page = pages.seal_batch(frames.native(frame), ring, table="archive")
    parquet.write(frames.native(frame), tmp_path / "archive.parquet", ring, table="archive")
    vault = Vault(ring, "support", subject="person")
    tokens = vault.tokenise(list(SECRETS.values()), subjects=list(SECRETS))
    pseudonym = ring.pseudonym("person", ADA)
    backup = copy_of(tmp_path / "shop.db", tmp_path / "backup")

    custodian(ring).destroy_subject("person", ADA)

    assert diaries(shop) == {ADA: None, BOB: SECRETS[BOB]}
    old = connect(f"sqlite:///{backup}")
    assert diaries(old) == {ADA: None, BOB: SECRETS[BOB]}
    old.dispose()
    assert opened(frame, ring) == [None, SECRETS[BOB]]
    archived = frames.wrap(pages.open_batch(page, ring, table="archive"))
    assert opened(archived, ring) == [None, SECRETS[BOB]]
    filed = frames.wrap(parquet.read(tmp_path / "archive.parquet", ring, table="archive"))
    assert opened(filed, ring) == [None, SECRETS[BOB]]
    assert vault.detokenise(tokens, forgotten="null") == [None, SECRETS[BOB]]
    assert ring.pseudonym("person", ADA) != pseudonym


def test_nothing_on_disk_says_what_was_said(ring, shop, tmp_path):
    parquet.write(frames.native(sealed_frame(ring)), tmp_path / "a.parquet", ring, table="archive")
    Vault(ring, "support", subject="person").tokenise(
        list(SECRETS.values()), subjects=list(SECRETS)
    )
    custodian(ring).destroy_subject("person", ADA)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        data = path.read_bytes()
        assert not [text for text in SECRETS.values() if text.encode() in data], path


def test_a_backup_of_the_keys_is_of_no_use_once_the_master_was_rotated(ring, key_file, tmp_path):
    """The backup holds the destroyed key, wrapped: only the master of its day unwraps it."""
    frame = sealed_frame(ring)
    backup = copy_of(tmp_path / "keys.db", tmp_path / "backup")
    custodian(ring).destroy_subject("person", ADA)
    before = Store.open(f"sqlite:///{backup}")
    assert opened(frame, Keyring.open(before, key_file)) == list(SECRETS.values())

    custodian(ring).rotate_master()

    with pytest.raises(ConfigurationError, match="was wrapped by"):
        Keyring.open(before, key_file)
    before.close()
    assert opened(frame, Keyring.open(ring.store, key_file)) == [None, SECRETS[BOB]]


def test_the_wrapped_key_that_is_put_back_from_a_backup_is_noticed(ring, tmp_path):
    """Whoever can write to the database and kept a backup can undo a destruction, not unseen."""
    ring.subject("person", ADA)
    backup = copy_of(tmp_path / "keys.db", tmp_path / "backup")
    trail = Trail(ring.store, ring.signer())
    (gone,) = custodian(ring).destroy_subject("person", ADA).keys
    assert list(discrepancies(ring, trail)) == []
    with sqlite3.connect(backup) as old:
        ((wrapped,),) = old.execute("SELECT wrapped FROM compliance_key WHERE id = ?", [gone])
    old.close()
    with ring.store.writing() as connection:
        change = sa.text("UPDATE compliance_key SET wrapped = :w, destroyed = NULL WHERE id = :id")
        connection.execute(change, {"w": wrapped, "id": gone})
    (message,) = discrepancies(ring, trail)
    assert f"key {gone} was destroyed" in message


def test_a_master_made_anew_does_not_open_the_old_hierarchy(ring, tmp_path):
    shutil.rmtree(tmp_path / "keys")
    providers.create_master(Settings(master=f"file:{tmp_path / 'other.json'}"))
    with pytest.raises(ConfigurationError, match="was wrapped by"):
        Keyring.open(ring.store, tmp_path / "other.json")


def test_a_subject_that_was_destroyed_and_comes_back_is_somebody_new(ring):
    frame = sealed_frame(ring)
    custodian(ring).destroy_subject("person", ADA)
    ring.subject("person", ADA)
    assert opened(frame, ring) == [None, SECRETS[BOB]]
    with pytest.raises(KeyDestroyed):
        columns.decrypt(frame, ["diary"], ring, table="w", subjects=("person", list(SECRETS)))
