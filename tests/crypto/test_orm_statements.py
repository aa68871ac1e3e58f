"""Cells bound to rows: every way to write them either knows the row or is refused."""

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from compliance.crypto import aead
from compliance.crypto.orm import EncryptedRow, Sealed, bind
from compliance.crypto.orm_statements import _needs_nothing
from compliance.errors import DecryptionFailed, InputError


class Base(DeclarativeBase):
    pass


class Card(Base):
    __tablename__ = "card"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holder: Mapped[int | None]
    number: Mapped[str | None] = mapped_column(EncryptedRow(str))
    limit: Mapped[int | None] = mapped_column(EncryptedRow(int, subject=("holder", "holder")))


class Gold(Card):
    __tablename__ = "gold"
    id: Mapped[int] = mapped_column(sa.ForeignKey("card.id"), primary_key=True)
    colour: Mapped[str | None] = mapped_column(EncryptedRow(str))


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret: Mapped[str | None] = mapped_column(EncryptedRow(str))


class Defaulted(Base):
    __tablename__ = "defaulted"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    secret: Mapped[str] = mapped_column(EncryptedRow(str))


class Hidden(Base):
    __tablename__ = "hidden"
    id: Mapped[str] = mapped_column(sa.String(9), primary_key=True)
    secret: Mapped[str | None] = mapped_column(EncryptedRow(str, nulls="seal", pad=32))


@pytest.fixture
def engine(tmp_path, ring):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'user.db'}")
    bind(Base, ring)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


CARD = Card.__table__
ROWS = [{"id": i, "number": f"n{i}", "holder": i, "limit": i * 10} for i in (1, 2)]


def _numbers(session):
    session.commit()
    found = session.execute(sa.select(Card).order_by(Card.id)).scalars()
    return [(card.number, card.limit) for card in found]


def CARD_ROW(row):  # noqa: N802  the row of CARD, in the order of its columns
    return [row[column.key] for column in CARD.columns]


# -- ways that know the row ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(sa.insert(Card), ROWS),
        lambda s: [s.execute(sa.insert(CARD), row) for row in ROWS],
        lambda s: s.connection().execute(sa.insert(CARD), ROWS),
        lambda s: s.bulk_insert_mappings(Card, ROWS),
        lambda s: s.bulk_save_objects([Card(**row) for row in ROWS]),
        lambda s: s.scalars(sa.insert(Card).returning(Card), ROWS).all(),
        lambda s: s.execute(sqlite.insert(Card).on_conflict_do_nothing(), ROWS),
        lambda s: [s.execute(sa.insert(Card).values(**row)) for row in ROWS],
        lambda s: s.connection().execute(sa.insert(CARD).values(ROWS)),
        lambda s: s.execute(sa.insert(Card).values(ROWS)),
        lambda s: s.connection().execute(
            sa.insert(CARD).values([tuple(CARD_ROW(r)) for r in ROWS])
        ),
        lambda s: s.scalars(sa.insert(Card).values(ROWS).returning(Card)).all(),
        lambda s: s.connection().execute(
            sa.insert(CARD).values(number=sa.bindparam("n"), limit=sa.bindparam("l")),
            [
                {"id": r["id"], "holder": r["holder"], "n": r["number"], "l": r["limit"]}
                for r in ROWS
            ],
        ),
    ],
    ids=[
        "session",
        "single",
        "core",
        "mappings",
        "objects",
        "returning",
        "do nothing",
        "values",
        "core list",
        "session list",
        "core tuples",
        "list returning",
        "named parameters",
    ],
)
def test_inserts_bind_each_row(write, session):
    write(session)
    assert _numbers(session) == [("n1", 10), ("n2", 20)]


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(sa.update(Card), [{"id": 2, "number": "new"}]),
        lambda s: s.bulk_update_mappings(Card, [{"id": 2, "number": "new"}]),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == sa.bindparam("pk")), {"pk": 2, "number": "new"}
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == 2, CARD.c.holder > 0), {"number": "new"}
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == 2, sa.func.abs(CARD.c.holder) == 2), {"number": "new"}
        ),
        lambda s: s.execute(sa.update(Card).where(Card.id == 2).values(number="new")),
        lambda s: s.execute(sa.update(Card).where(Card.id == 2).values({Card.number: "new"})),
        lambda s: s.execute(sa.update(Card).where(Card.id == 2).values({CARD.c.number: "new"})),
        lambda s: s.execute(
            sa.update(Card).where(Card.id == 2).ordered_values((Card.number, "new"))
        ),
        lambda s: s.execute(
            sa.update(Card).where(Card.id == sa.bindparam("pk")).values(number="new"), {"pk": 2},
            execution_options={"synchronize_session": None},
        ),
        lambda s: s.query(Card).filter(Card.id == 2).update({"number": "new"}),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == sa.bindparam("pk")).values(number=sa.bindparam("n")),
            [{"pk": 2, "n": "new"}],
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == 2).values(number="old"), {"number": "new"}
        ),
    ],
    ids=[
        "session", "mappings", "core", "core with more conditions", "core with a function",
        "values", "by attribute", "by column", "ordered", "pinned by parameter", "query",
        "named parameters", "parameter over value",
    ],
)  # fmt: skip
def test_updates_by_primary_key_bind_the_row(write, session):
    session.execute(sa.insert(Card), ROWS)
    write(session)
    assert _numbers(session) == [("n1", 10), ("new", 20)]


def test_instances_that_an_insert_returns_are_open(session):
    (card,) = session.scalars(sa.insert(Card).returning(Card), ROWS[:1])
    assert (card.number, card.limit) == ("n1", 10)


def test_a_default_of_the_client_makes_the_key(session):
    session.add_all([Defaulted(secret="a"), Defaulted(secret="b")])
    session.execute(sa.insert(Defaulted), [{"secret": "c"}])
    session.commit()
    found = session.execute(sa.select(Defaulted)).scalars()
    assert sorted(row.secret for row in found) == ["a", "b", "c"]


def test_defaults_that_need_a_context_are_left_to_the_database():
    assert _needs_nothing(uuid4)
    assert _needs_nothing(lambda: 1)
    assert not _needs_nothing(lambda context: context)


# -- ways that do not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(sa.insert(Counted).values(secret="hidden")),
        lambda s: s.execute(sa.insert(Counted).values([{"secret": "hidden"}])),
        lambda s: s.execute(sa.update(Card).values(number="hidden")),
        lambda s: s.execute(sa.update(Card).where(Card.holder == 1).values(number="hidden")),
        lambda s: s.execute(sa.update(Card).where(Card.id == 1).values(limit=3)),
        lambda s: s.execute(sa.insert(Card).values(id=sa.func.abs(9), number="hidden")),
        lambda s: s.execute(sa.insert(Card).values([{"id": sa.func.abs(9), "number": "hidden"}])),
        lambda s: s.execute(
            sa.insert(Card).values([{"id": 9, "number": sa.bindparam("n")}]), {"n": "hidden"}
        ),
        lambda s: s.connection().execute(sa.update(CARD.alias()).values(number="hidden")),
        lambda s: s.query(Card).update({"number": "hidden"}),
        lambda s: s.connection().execute(sa.update(CARD), {"number": "hidden"}),
        lambda s: s.connection().execute(
            sa.update(CARD).where((CARD.c.id == 1) | (CARD.c.id == 2)), {"number": "hidden"}
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(sa.not_(CARD.c.id == 1)), {"number": "hidden"}
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id >= 1), {"number": "hidden"}
        ),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == CARD.c.holder), {"number": "hidden"}
        ),
        lambda s: s.execute(
            sqlite.insert(CARD).on_conflict_do_update(["id"], set_={"number": "hidden"}), ROWS
        ),
        lambda s: s.execute(sa.update(Card), [{"id": 1, "limit": 5}]),
        lambda s: s.execute(sa.insert(Counted), [{"secret": "hidden"}]),
        lambda s: (s.add(Counted(secret="hidden")), s.flush()),
        lambda s: s.execute(sa.insert(Card), [{"id": "1", "number": "hidden"}]),
        lambda s: s.execute(sa.insert(Card), [{"id": 9, "number": "hidden", "limit": 1}]),
    ],
    ids=[
        "values", "many values", "update values", "by another column", "values without subject",
        "key by expression", "keys by expression", "named in a list", "alias", "query update", "unpinned", "or", "not", "range",
        "column", "upsert", "no subject", "counted", "counted instance", "text for number",
        "insert without subject",
    ],
)  # fmt: skip
def test_writes_that_do_not_show_the_row_are_refused_without_the_value(write, session):
    session.execute(sa.insert(Card), ROWS)
    with pytest.raises(InputError) as caught:
        write(session)
    assert "hidden" not in str(caught.value) + repr(caught.value.__cause__)
    session.rollback()


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(sa.update(Card).where(Card.id == 1).values(id=3)),
        lambda s: s.execute(sa.update(Card).where(Card.id == 1).ordered_values((Card.id, 3))),
        lambda s: s.connection().execute(sa.update(CARD).where(CARD.c.id == 1), {"id": 3}),
        lambda s: s.connection().execute(
            sa.update(CARD).where(CARD.c.id == 1), {"id": 3, "number": "n"}
        ),
        lambda s: s.execute(sa.update(Card).where(Card.id == 1).values(holder=3)),
        lambda s: s.execute(sa.update(Card), [{"id": 1, "holder": 3}]),
    ],
    ids=["key", "ordered", "core key", "not all cells", "subject", "subject by key"],
)
def test_what_cells_are_bound_to_does_not_change_without_them(write, session):
    session.execute(sa.insert(Card), ROWS)
    with pytest.raises(InputError, match="sealed for the former value"):
        write(session)


def test_a_value_that_a_statement_sets_shows_on_instances_of_the_session(session):
    session.execute(sa.insert(Card), ROWS)
    card = session.get(Card, 1)
    session.execute(sa.update(Card).where(Card.id == 1).values(number="new"))
    assert card.number == "new"
    assert not session.dirty
    session.execute(sa.update(Card).where(Card.id == 1).values(number=None))
    assert card.number is None
    assert _numbers(session) == [(None, 10), ("n2", 20)]


def test_statements_with_values_stay_cached_and_seal_each_value(session):
    session.execute(sa.insert(Card), ROWS)
    for i, value in ((1, "a"), (2, "b"), (1, "c")):
        session.execute(sa.update(Card).where(Card.id == i).values(number=value))
    assert _numbers(session) == [("c", 10), ("b", 20)]


def test_an_inherited_class_is_written_table_by_table(session):
    rows = [{"id": 7, "number": "n", "holder": 7, "limit": 1, "colour": "red"}]
    session.execute(sa.insert(Gold), rows)
    session.execute(sa.update(Gold), [{"id": 7, "number": "m", "colour": "blue"}])
    session.commit()
    gold = session.get(Gold, 7)
    assert (gold.number, gold.limit, gold.colour) == ("m", 1, "blue")


def test_a_null_that_is_to_be_sealed_is_sealed_in_a_statement_too(session):
    session.execute(sa.insert(Hidden).values(id="a"))
    session.execute(sa.insert(Hidden).values([{"id": "b", "secret": None}]))
    session.execute(sa.insert(Hidden).values(id="c", secret="x"))
    held = session.get(Hidden, "c")
    session.execute(sa.update(Hidden).where(Hidden.id == "c").values(secret=None))
    session.execute(sa.update(Hidden), [{"id": "c", "secret": None}])
    assert held.secret is None
    lengths = session.execute(sa.text("SELECT length(secret) FROM hidden")).scalars().all()
    assert lengths == [aead.OVERHEAD + 32] * 3


def test_a_new_key_with_all_its_cells_is_written(session):
    session.execute(sa.insert(Card), ROWS)
    values = {"id": 3, "number": "moved", "limit": 30, "holder": 1}
    session.connection().execute(sa.update(CARD).where(CARD.c.id == 1), values)
    assert _numbers(session) == [("n2", 20), ("moved", 30)]


def test_a_cell_for_one_column_is_not_taken_by_another(session):
    kind = CARD.c.number.type
    cell = kind.seal("hidden", "1")
    with pytest.raises(InputError, match="another column"):
        session.connection().execute(sa.insert(Counted.__table__), {"id": 1, "secret": cell})


# -- what is selected alone ---------------------------------------------------------------------------


def test_a_cell_selected_alone_opens_with_its_row_only(session):
    session.execute(sa.insert(Card), ROWS)
    key, cell = session.execute(sa.select(Card.id, Card.number).order_by(Card.id)).first()
    assert isinstance(cell, Sealed)
    assert repr(cell) == "<sealed card.number>"
    assert cell.open(key) == "n1"
    with pytest.raises(DecryptionFailed, match=r"card\.number"):
        cell.open(2)


def test_a_cell_of_a_subject_opens_for_that_subject_only(session):
    session.execute(sa.insert(Card), ROWS)
    cell = session.execute(sa.select(Card.limit).where(Card.id == 1)).scalar_one()
    assert cell.open(1) == cell.open(1, subject=1) == 10
    with pytest.raises(DecryptionFailed, match="person"):
        cell.open(1, subject=2)


@pytest.mark.parametrize("other", ["row", "column", "table", "tenant", "version", "no row"])
def test_a_cell_from_anywhere_else_is_refused(other, session, ring):
    session.execute(sa.insert(Card), ROWS)
    session.commit()
    here = {"tenant": ring.tenant, "table": "card", "column": "number", "version": "1", "row": "1"}
    there = {"no row": {"row": None}}.get(other, {other: "2"})
    cell = ring.seal(ring.column("card", "number"), b"sx", aead.Place(**here | there))
    session.execute(sa.text("UPDATE card SET number = :cell WHERE id = 1"), {"cell": cell})
    session.commit()
    with pytest.raises(DecryptionFailed, match=r"card\.number"):
        session.get(Card, 1)


# -- NULL ---------------------------------------------------------------------------------------------


def test_a_sealed_null_looks_like_a_value_and_a_bare_one_is_refused(session):
    session.add_all([Hidden(id="a", secret=None), Hidden(id="b", secret="short")])
    session.flush()
    session.execute(sa.insert(Hidden), [{"id": "c"}])
    session.commit()
    lengths = session.execute(sa.text("SELECT DISTINCT length(secret) FROM hidden")).scalars().all()
    assert lengths == [aead.OVERHEAD + 32]
    found = session.execute(sa.select(Hidden).order_by(Hidden.id)).scalars()
    assert [row.secret for row in found] == [None, "short", None]
    session.execute(sa.text("UPDATE hidden SET secret = NULL WHERE id = 'b'"))
    session.commit()
    with pytest.raises(DecryptionFailed, match="NULL"):
        session.get(Hidden, "b")


def test_a_null_that_the_user_set_survives_a_refresh_of_something_else(session):
    session.add(Hidden(id="a", secret="x"))
    session.commit()
    row = session.get(Hidden, "a")
    row.secret = None
    session.refresh(row, ["id"])
    assert row.secret is None


def test_an_outer_join_without_a_partner_gives_none(session):
    session.execute(sa.insert(Card), ROWS)
    join = sa.select(Card, Hidden).outerjoin(Hidden, sa.cast(Card.id, sa.String) == Hidden.id)
    assert [hidden for _, hidden in session.execute(join)] == [None, None]


@given(st.text(max_size=9).filter(str.strip), st.text())
def test_a_cell_opens_in_its_own_row(row, value):
    from compliance.crypto.orm_cells import row_text

    kind = CARD.c.number.type
    cell = kind.seal(value, row_text((row,)))
    assert kind.unseal(cell.raw, row_text((row,))) == value
    with pytest.raises(DecryptionFailed):
        kind.unseal(cell.raw, row_text((row + "x",)))
