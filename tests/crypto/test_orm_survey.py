"""One row that does not open spoils no table: it is found, and cleared."""

import pytest
import sqlalchemy as sa
from epochs import mark
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, mapped_column

from compliance.crypto import orm_survey
from compliance.crypto.hierarchy import row_mac
from compliance.crypto.orm import Encrypted, EncryptedRow, Unreadable, bind, unreadable
from compliance.errors import DecryptionFailed, InputError, KeyRetired


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str | None] = mapped_column(sa.String(9))
    email: Mapped[str | None] = mapped_column(Encrypted(str))
    iban: Mapped[str | None] = mapped_column(EncryptedRow(str, subject=("member", "id")))
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "m"}  # noqa: RUF012  SQLAlchemy's


class Chair(Member):
    __tablename__ = "chair"
    id: Mapped[int] = mapped_column(sa.ForeignKey("member.id"), primary_key=True)
    oath: Mapped[str | None] = mapped_column(EncryptedRow(str))
    __mapper_args__ = {"polymorphic_identity": "c"}  # noqa: RUF012  SQLAlchemy's


class Seat(Base):
    __tablename__ = "seat"
    row: Mapped[str] = mapped_column(sa.String(9), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str | None] = mapped_column(EncryptedRow(str, nulls="seal", pad=16))


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request, tmp_path, ring):
    url = f"sqlite:///{tmp_path / 'user.db'}"
    if request.param != "sqlite":
        server = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
        url = request.getfixturevalue(server)
    made = sa.create_engine(url)
    bind(Base, ring)
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all([Member(id=i, email=f"e{i}", iban=f"i{i}") for i in (1, 2, 3)])
        session.add_all([Chair(id=9, iban="i9", oath="o")])
        session.add_all([Seat(row="a", number=i, note=f"s{i}") for i in (1, 2)])
        session.commit()
    yield made
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


def _break(session, table, column, where, value=b"broken"):
    change = sa.text(f"UPDATE {table} SET {column} = :value WHERE {where}")
    session.execute(change, {"value": value})
    session.commit()


def test_a_table_that_opens_has_no_such_rows(session, ring):
    with ring.store.writing() as connection:
        ring.destroy_subject(connection, "member", 2)
    assert unreadable(session, Member) == unreadable(session, Chair) == []
    assert unreadable(session.connection(), Seat.__table__) == []


def test_the_error_says_how_to_find_the_row_and_names_no_key(session):
    _break(session, "member", "iban", "id = 2")
    with pytest.raises(DecryptionFailed, match=r"member\.iban.*unreadable\(session, Member\)"):
        session.execute(sa.select(Member)).scalars().all()
    session.rollback()
    _break(session, "member", "email", "id = 3")
    with pytest.raises(DecryptionFailed, match=r"member\.email.*unreadable\(session, member\)"):
        session.execute(sa.select(Member.email)).all()
    session.rollback()
    expected = [Unreadable("member", "iban", 2), Unreadable("member", "email", 3)]
    assert sorted(unreadable(session, Member), key=lambda u: u.key) == expected


def test_a_cell_of_another_row_and_a_bare_null_are_found(session):
    other = "(SELECT iban FROM (SELECT * FROM member) AS m WHERE id = 1)"
    session.execute(sa.text(f"UPDATE member SET iban = {other} WHERE id = 3"))
    _break(session, "seat", "note", "number = 2", None)
    assert unreadable(session, Member) == [("member", "iban", 3)]
    assert unreadable(session, Seat) == [("seat", "note", ("a", 2))]


def test_every_table_of_an_inherited_class_is_read(session):
    _break(session, "chair", "oath", "id = 9")
    _break(session, "member", "iban", "id = 9")
    assert set(unreadable(session, Chair)) == {("chair", "oath", 9), ("member", "iban", 9)}


def test_such_a_row_is_cleared_written_or_deleted(session):
    _break(session, "member", "iban", "id < 4")
    for found in unreadable(session, Member):
        mine = Member.id == found.key
        change = {
            1: sa.update(Member).where(mine).values(iban=None),
            2: sa.update(Member).where(mine).values(iban="new"),
            3: sa.delete(Member).where(mine),
        }[found.key]
        session.execute(change)
    session.commit()
    members = session.execute(sa.select(Member).order_by(Member.id)).scalars()
    assert [(m.id, m.iban) for m in members] == [(1, None), (2, "new"), (9, "i9")]


def test_such_a_row_is_mended_on_an_instance_that_loads_without_it(session):
    _break(session, "member", "iban", "id = 2")
    query = sa.select(Member).options(load_only(Member.id)).where(Member.id == 2)
    member = session.execute(query).scalar_one()
    member.iban = "again"
    session.commit()
    assert session.get(Member, 2).iban == "again"


def test_a_long_table_is_read_in_parts(session, monkeypatch):
    monkeypatch.setattr(orm_survey, "BATCH", 2)
    rows = [{"id": i, "iban": f"i{i}", "kind": "m"} for i in range(20, 30)]
    session.execute(sa.insert(Member), rows)
    _break(session, "member", "iban", "id >= 25")
    assert {found.key for found in unreadable(session, Member)} == set(range(25, 30))


@pytest.mark.parametrize("foreign", ["text", 7, 1.5, b""], ids=repr)
def test_what_sqlite_holds_in_a_column_of_bytes_is_found_whatever_it_is(foreign, tmp_path, ring):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'odd.db'}")
    bind(Base, ring)
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add(Member(id=1, email="e", iban="i"))
        session.commit()
        for column in ("email", "iban"):
            _break(session, "member", column, "id = 1", foreign)
        assert len(unreadable(session, Member)) == 2
    made.dispose()


@pytest.mark.parametrize("wrong", [Plain, Plain.__table__, None, int], ids=str)
def test_a_table_without_encrypted_columns_is_refused(wrong, tmp_path):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    with Session(made) as session, pytest.raises(InputError, match="encrypted"):
        unreadable(session, wrong)
    made.dispose()


def test_cells_that_can_be_taken_back_are_not_listed_to_be_cleared(session, ring):
    """A retired epoch is restored by a command; a cleared cell is gone."""
    key = ring.column("member", "email")
    ring.keys.advance("column", "member.email")
    about = (ring.tenant, "column", "member.email", 1, "2026-01-01")
    mark(ring, key.id, retired="2026-01-01", mac=row_mac(key.material, *about))
    with pytest.raises(KeyRetired, match="keys restore"):
        unreadable(session, Member)
