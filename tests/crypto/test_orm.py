"""Encrypted columns in the life of instances, on each database that users run."""

import asyncio
import copy
import pickle
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    composite,
    deferred,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlmodel import Field, Session, SQLModel, select

from compliance.crypto.orm import ERASED, Encrypted, EncryptedRow, bind, row_key
from compliance.errors import DecryptionFailed

SECRET = "DE89370400440532013000"


class World(SQLModel, registry=sa.orm.registry()):
    metadata = sa.MetaData()


class Client(World, table=True):
    id: UUID = Field(default_factory=row_key, primary_key=True)
    name: str
    email: str = Field(sa_type=Encrypted(str))
    iban: str | None = Field(default=None, sa_type=EncryptedRow(str))


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(sa.String(20))
    note: Mapped[str | None] = deferred(mapped_column(EncryptedRow(str)))
    visits: Mapped[list["Visit"]] = relationship(back_populates="person")
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "person"}  # noqa: RUF012  SQLAlchemy's


class Patient(Person):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    blood: Mapped[str] = mapped_column(EncryptedRow(str))
    __mapper_args__ = {"polymorphic_identity": "patient"}  # noqa: RUF012  SQLAlchemy's


class Visit(Base):
    __tablename__ = "visit"
    site: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"))
    finding: Mapped[str | None] = mapped_column(EncryptedRow(str, subject=("person", "person_id")))
    dose: Mapped[float | None] = mapped_column(EncryptedRow(float, subject=("person", "person_id")))
    person: Mapped[Person] = relationship(back_populates="visits")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def user_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'user.db'}"
    return request.getfixturevalue(
        {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
    )


@pytest.fixture
def engine(user_url, ring):
    made = sa.create_engine(user_url)
    for base in (World, Base):
        bind(base, ring)
        base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def here(tmp_path, ring):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'user.db'}")
    for base in (World, Base):
        bind(base, ring)
        base.metadata.create_all(made)
    yield made
    made.dispose()


def _add(engine, *things):
    with Session(engine, expire_on_commit=False) as session:
        session.add_all(things)
        session.commit()
    return things[0]


def _client(**given):
    return Client(**{"name": "A", "email": "a@example.org", "iban": SECRET} | given)


def test_what_is_written_is_read_and_the_database_holds_neither(engine):
    client = _add(engine, _client(), _client(name="B", iban=None))
    with Session(engine) as session:
        found = session.get(Client, client.id)
        assert (found.email, found.iban) == ("a@example.org", SECRET)
        assert session.exec(select(Client.iban).where(Client.iban == None)).all() == [None]  # noqa: E711  SQL's IS NULL
        assert session.exec(select(Client.email).where(Client.name == "A")).all() == [
            "a@example.org"
        ]
        raw = session.execute(sa.text("SELECT email, iban FROM client WHERE name = 'A'")).one()
    assert not any(word in bytes(cell) for cell in raw for word in (b"example", SECRET.encode()))


def test_an_update_seals_for_the_row_and_leaves_the_instance_clean(engine):
    client = _add(engine, _client())
    with Session(engine) as session:
        found = session.get(Client, client.id)
        found.iban, found.email = "new", "b@example.org"
        session.flush()
        assert (found.iban, found in session.dirty) == ("new", False)
        session.commit()
        assert (found.iban, found.email) == ("new", "b@example.org")


def test_cells_exchanged_between_rows_are_refused_and_stay_refused(engine):
    client, other = _client(), _client(name="B", iban="other")
    _add(engine, client, other)
    table = Client.__table__
    with engine.begin() as connection:
        cells = dict(connection.exec_driver_sql("SELECT name, iban FROM client").all())
        for name, cell in (("A", cells["B"]), ("B", cells["A"])):
            raw = sa.text("UPDATE client SET iban = :cell WHERE name = :name")
            connection.execute(raw, {"cell": bytes(cell), "name": name})
    with Session(engine) as session:
        held = []
        sa.event.listen(session, "loaded_as_persistent", lambda _, instance: held.append(instance))
        for _ in range(2):
            with pytest.raises(DecryptionFailed, match=r"client\.iban"):
                _ = session.get(Client, client.id).iban
        assert all("iban" not in vars(instance) for instance in held)
        assert session.execute(sa.select(table.c.email)).scalars().all() == ["a@example.org"] * 2


def test_a_plain_value_from_before_is_refused_with_the_way_out(engine):
    client = _add(engine, _client())
    for column in ("iban", "email"):
        with engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE client SET {column} = :v"), {"v": b"plain"})
        with Session(engine) as session, pytest.raises(DecryptionFailed, match="former type"):
            session.get(Client, client.id)
        pinned = sa.update(Client).where(Client.id == sa.bindparam("pk"))
        with engine.begin() as connection:
            connection.execute(pinned, {"pk": client.id, column: "x"})


def test_text_in_a_binary_column_of_sqlite_is_refused_too(here):
    client = _add(here, _client())
    with here.begin() as connection:
        connection.exec_driver_sql("UPDATE client SET email = 'plain'")
    with Session(here) as session, pytest.raises(DecryptionFailed, match="former type"):
        session.get(Client, client.id)


def test_composite_keys_subjects_and_inheritance(engine):
    patient = Patient(id=1, note="n", blood="AB", kind="patient")
    _add(engine, patient, Visit(site="x", number=1, person=patient, finding="f", dose=1.5))
    with Session(engine) as session:
        one = (
            session.execute(sa.select(Person).options(joinedload(Person.visits)))
            .unique()
            .scalar_one()
        )
        assert (one.blood, one.note, one.visits[0].finding, one.visits[0].dose) == (
            "AB",
            "n",
            "f",
            1.5,
        )
        other = aliased(Visit)
        rows = session.execute(
            sa.select(other).options(selectinload(other.person)).join(other.person)
        ).scalars()
        assert [row.finding for row in rows] == ["f"]


def test_a_changed_primary_key_seals_the_cells_anew(engine):
    _add(engine, Person(id=1, kind="person", note="n"))
    with Session(engine) as session:
        person = session.get(Person, 1)
        person.id = 2
        session.commit()
    with Session(engine) as session:
        assert session.get(Person, 2).note == "n"


def test_a_deferred_cell_opens_while_a_change_of_the_key_waits(here):
    _add(here, Person(id=1, kind="person", note="n"))
    with Session(here) as session, session.no_autoflush:
        person = session.get(Person, 1)
        person.id = 2
        assert person.note == "n"


def test_erasing_a_person_leaves_the_others_readable(engine, ring):
    people = [Person(id=i, kind="person") for i in (1, 2)]
    visits = [
        Visit(site="s", number=i, person=people[i - 1], finding=f"f{i}", dose=float(i))
        for i in (1, 2)
    ]
    _add(engine, *people, *visits)
    with ring.store.writing() as connection:
        assert len(ring.destroy_subject(connection, "person", 1)) == 1
    with Session(engine) as session:
        found = {v.number: v.finding for v in session.execute(sa.select(Visit)).scalars()}
        assert found == {1: None, 2: "f2"}
        cells = session.execute(sa.select(Visit.site, Visit.number, Visit.finding)).all()
        assert {c.finding.open((c.site, c.number)) for c in cells} == {ERASED, "f2"}


def test_a_new_subject_takes_its_cells_along(engine, ring):
    people = [Person(id=i, kind="person") for i in (1, 2)]
    _add(engine, *people, Visit(site="s", number=1, person_id=1, finding="f", dose=2.0))
    with Session(engine) as session:
        visit = session.get(Visit, ("s", 1))
        visit.person_id = 2
        session.commit()
    with ring.store.writing() as connection:
        ring.destroy_subject(connection, "person", 1)
    with Session(engine) as session:
        assert session.get(Visit, ("s", 1)).finding == "f"


def test_erased_is_falsy_alone_and_survives_copies_and_pickles():
    assert not ERASED
    assert repr(ERASED) == "<erased>"
    assert pickle.loads(pickle.dumps(ERASED)) is copy.deepcopy(ERASED) is ERASED


@pytest.mark.parametrize("expire", [True, False], ids=["expire", "keep"])
def test_attributes_are_plain_through_the_life_of_an_instance(engine, expire):
    client = _client()
    with Session(engine, expire_on_commit=expire) as session:
        session.add(client)
        session.flush()
        assert vars(client)["iban"] == SECRET
        with session.begin_nested() as point:
            client.iban = "inner"
            session.flush()
            point.rollback()
        assert client.iban == SECRET
        session.commit()
        session.refresh(client)
        assert (vars(client)["iban"], session.dirty) == (SECRET, sa.util.IdentitySet())
        session.expire(client, ["iban"])
        assert client.iban == SECRET
        again = session.exec(select(Client).execution_options(populate_existing=True)).one()
        assert again.iban == SECRET
        twin = pickle.loads(pickle.dumps(client))
    assert twin.iban == SECRET
    twin.iban = "merged"
    with Session(engine) as session:
        assert session.merge(twin).iban == "merged"
        session.commit()
        assert session.get(Client, client.id).iban == "merged"


def test_a_failed_flush_leaves_the_plaintext_on_the_instance(here):
    first, second = _client(), _client()
    second.id = first.id
    _add(here, first)
    with Session(here) as session:
        session.add(second)
        with pytest.raises(sa.exc.IntegrityError) as caught:
            session.flush()
        session.rollback()
        assert (second.iban, second.email) == (SECRET, "a@example.org")
    assert SECRET not in str(caught.value)
    assert "example.org" not in str(caught.value)


def test_an_asynchronous_session_reads_what_it_wrote(postgres_url, ring):
    async def live():
        engine = create_async_engine(postgres_url)
        async with engine.begin() as connection:
            await connection.run_sync(World.metadata.create_all)
        async with AsyncSession(engine) as session:
            client = _client()
            session.add(client)
            await session.commit()
            await session.refresh(client)
            found = (await session.execute(sa.select(Client))).scalars().all()
        await engine.dispose()
        return [c.iban for c in found]

    bind(World, ring)
    assert asyncio.run(live()) == [SECRET]


def test_a_composite_attribute_is_made_of_values(tmp_path, ring):
    class Own(DeclarativeBase):
        pass

    class Pair(Own):
        __tablename__ = "pair"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        a: Mapped[str] = mapped_column(EncryptedRow(str))
        b: Mapped[str] = mapped_column(EncryptedRow(str))
        both: Mapped[tuple] = composite(lambda a, b: (a, b), "a", "b")

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'pair.db'}")
    bind(Own, ring)
    Own.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Pair(id=1, a="x", b="y"))
        session.commit()
        assert session.execute(sa.select(Pair)).scalar_one().both == ("x", "y")
    engine.dispose()
