"""A column's new epoch reaches every cell, while the table is in use and whatever happens."""

import datetime as dt
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from crypto.keeping import custodian
from epochs import mark
from sqlmodel import Field, Session, SQLModel, select

from compliance.crypto import aead, reencryption
from compliance.crypto.orm import Encrypted, EncryptedRow, bind, row_key
from compliance.errors import ConfigurationError, InputError, KeyDestroyed, KeyRetired
from compliance.store import connect

METADATA = sa.MetaData()


class Patient(SQLModel, table=True):
    """A table with every way of sealing."""

    metadata = METADATA
    id: uuid.UUID = Field(default_factory=row_key, primary_key=True)
    name: str = Field(sa_type=Encrypted(str, pad=16))
    iban: str | None = Field(default=None, sa_type=EncryptedRow(str))
    diary: str | None = Field(default=None, sa_type=EncryptedRow(str, subject=("patient", "id")))


class Visit(SQLModel, table=True):
    """A table whose rows have a key of three parts."""

    metadata = METADATA
    ward: str = Field(primary_key=True)
    day: dt.date = Field(primary_key=True, sa_type=sa.Date)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    note: str = Field(sa_type=EncryptedRow(str))


JOB = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from crypto.test_reencryption import Patient, METADATA, bind, connect, reencryption
from compliance.crypto.keys import Keyring
from compliance.store import Store
bind(METADATA, Keyring.open(Store.open(sys.argv[1]), Path(sys.argv[2])))
reencryption.BATCH = 5
def say(done, total, what):
    print(done, flush=True)
    sys.stdin.readline()
reencryption.reencrypt(connect(sys.argv[4]), Patient.__table__, progress=say)
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(url, ring):
    bind(METADATA, ring)
    made = connect(url)
    METADATA.create_all(made)
    yield made
    made.dispose()
    METADATA.info.clear()


def fill(engine, count=12):
    with Session(engine) as session:
        for i in range(count):
            session.add(Patient(name=f"n{i}", iban=f"i{i}" if i else None, diary=f"d{i}"))
            session.add(Visit(ward="a", day=dt.date(2026, 1, 1 + i % 3), number=i, note=f"v{i}"))
        session.commit()


def contents(engine):
    with Session(engine) as session:
        patients = session.exec(select(Patient).order_by(Patient.id)).all()
        visits = session.exec(select(Visit).order_by(Visit.ward, Visit.day, Visit.number)).all()
        return [(p.id, p.name, p.iban, p.diary) for p in patients], [v.note for v in visits]


def key_ids(engine, table, column):
    query = sa.select(sa.column(column, sa.LargeBinary)).select_from(sa.table(table))
    with engine.connect() as connection:
        return {aead.key_id_of(bytes(c)) for c in connection.execute(query).scalars() if c}


def rotate(ring, *names):
    keeper = custodian(ring)
    return [keeper.rotate("column", name).id for name in names]


def test_every_cell_moves_to_the_new_epoch_and_says_what_it_said(engine, ring, monkeypatch):
    monkeypatch.setattr(reencryption, "BATCH", 5)
    fill(engine)
    before = contents(engine)
    diaries = key_ids(engine, "patient", "diary")
    name, iban, note = rotate(ring, "patient.name", "patient.iban", "visit.note")
    seen = []
    done = reencryption.reencrypt(engine, Patient.__table__, progress=lambda *s: seen.append(s[:2]))
    assert (done.cells, done.left) == ({"name": 12, "iban": 11}, {"name": 0, "iban": 0})
    assert seen[-1] == (11, 11)
    assert reencryption.reencrypt(engine, Visit.__table__).cells == {"note": 12}
    assert key_ids(engine, "patient", "name") == {name}
    assert key_ids(engine, "patient", "iban") == {iban}
    assert key_ids(engine, "visit", "note") == {note}
    assert key_ids(engine, "patient", "diary") == diaries
    assert contents(engine) == before
    again = reencryption.reencrypt(engine, Patient.__table__)
    assert again.cells == {"name": 0, "iban": 0}


def test_a_cell_of_the_old_epoch_that_is_put_back_is_refused_once_retired(
    engine, ring, monkeypatch
):
    monkeypatch.setattr("compliance.crypto.custody._age", lambda _created: 61)
    fill(engine, 1)
    old = sa.select(sa.column("name", sa.LargeBinary)).select_from(sa.table("patient"))
    with engine.connect() as connection:
        replayed = connection.execute(old).scalar_one()
    rotate(ring, "patient.name")
    reencryption.reencrypt(engine, Patient.__table__)
    custodian(ring).retire("column", "patient.name")
    with engine.begin() as connection:
        shadow = sa.table("patient", sa.column("name", sa.LargeBinary))
        connection.execute(sa.update(shadow).values(name=replayed))
    with pytest.raises(KeyRetired):
        contents(engine)


def test_a_write_meanwhile_wins(engine, ring, monkeypatch):
    fill(engine, 3)
    rotate(ring, "patient.name")
    reseal = reencryption._Job._reseal

    def overtaken(job, rows):
        with Session(engine) as session:
            session.exec(select(Patient).where(Patient.iban.is_(None))).one().name = "newer"
            session.commit()
        return reseal(job, rows)

    monkeypatch.setattr(reencryption._Job, "_reseal", overtaken)
    done = reencryption.reencrypt(engine, Patient.__table__)
    assert (done.cells["name"], done.left["name"]) == (2, 1)
    assert {row[1] for row in contents(engine)[0]} == {"newer", "n1", "n2"}


def test_what_does_not_open_is_left_as_it_is_and_counted(engine, ring):
    fill(engine, 3)
    shadow = sa.table("patient", sa.column("name", sa.LargeBinary))
    with engine.begin() as connection:
        cells = [bytes(c) for c in connection.execute(sa.select(shadow.c.name)).scalars()]
        broken = cells[0][:-1] + bytes([cells[0][-1] ^ 1])
        connection.execute(sa.update(shadow).where(shadow.c.name == cells[0]).values(name=broken))
    rotate(ring, "patient.name")
    done = reencryption.reencrypt(engine, Patient.__table__)
    assert (done.cells["name"], done.left["name"]) == (2, 1)


@pytest.mark.parametrize("foreign", ["text", "", 7, 1.5, b"", b"raw"], ids=repr)
def test_what_is_no_cell_in_sqlite_is_left_and_counted(foreign, tmp_path, ring):
    bind(METADATA, ring)
    engine = connect(f"sqlite:///{tmp_path / 'shop.db'}")
    METADATA.create_all(engine)
    fill(engine, 3)
    change = "UPDATE patient SET {0} = ? WHERE rowid = (SELECT max(rowid) FROM patient)"
    with engine.begin() as connection:
        for column in ("name", "iban"):
            connection.exec_driver_sql(change.format(column), (foreign,))
    rotate(ring, "patient.name", "patient.iban")
    done = reencryption.reencrypt(engine, Patient.__table__)
    assert (done.cells, done.left) == ({"name": 2, "iban": 1}, {"name": 1, "iban": 1})
    with engine.connect() as connection:
        held = connection.exec_driver_sql("SELECT name FROM patient ORDER BY rowid DESC").scalar()
    assert held == foreign
    engine.dispose()
    METADATA.info.clear()


@pytest.mark.slow
def test_a_job_killed_between_batches_goes_on(tmp_path, ring, sqlite_url, key_file):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    bind(METADATA, ring)
    engine = connect(url)
    METADATA.create_all(engine)
    fill(engine, 20)
    before = contents(engine)
    (name, _) = rotate(ring, "patient.name", "patient.iban")
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", JOB, sqlite_url, str(key_file), tests, url]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        assert child.stdout.readline().strip().isdigit()
        child.stdin.write("\n")
        child.stdin.flush()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert len(key_ids(engine, "patient", "name")) == 2
    assert contents(engine) == before
    left = reencryption.reencrypt(engine, Patient.__table__).cells["name"]
    assert 0 < left < 20
    assert key_ids(engine, "patient", "name") == {name}
    assert contents(engine) == before
    engine.dispose()
    METADATA.info.clear()


def test_a_table_without_such_columns_or_keys_is_refused(ring):
    metadata = sa.MetaData()
    plain = sa.Table("plain", metadata, sa.Column("id", sa.Integer, primary_key=True))
    headless = sa.Table("headless", metadata, sa.Column("x", Encrypted(str)))
    unbound = sa.Table(
        "unbound",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", Encrypted(str)),
    )
    engine = connect("sqlite://")
    for table in (plain, headless):
        with pytest.raises(InputError, match="primary key"):
            reencryption.reencrypt(engine, table)
    with pytest.raises(ConfigurationError, match="bind"):
        reencryption.reencrypt(engine, unbound)
    bind(metadata, ring)
    mark(ring, ring.column("unbound", "x").id, destroyed="2026-01-01", wrapped=None)
    with pytest.raises(KeyDestroyed):
        reencryption.reencrypt(engine, unbound)
