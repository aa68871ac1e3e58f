"""No SQL expression becomes the value of an encrypted column, however it is dressed."""

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, synonym

from compliance.crypto.orm import Encrypted, EncryptedRow, bind
from compliance.errors import InputError


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str | None] = mapped_column(sa.String(99))
    mail: Mapped[str | None] = mapped_column("email", Encrypted(str))
    iban: Mapped[str | None] = mapped_column(EncryptedRow(str, subject=("customer", "id")))
    account = synonym("iban")

    @hybrid_property
    def contact(self):
        return self.mail

    @contact.inplace.update_expression
    @classmethod
    def _contact(cls, value):
        return [(cls.mail, value)]


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str | None] = mapped_column(sa.String(99))
    cell: Mapped[bytes | None] = mapped_column(sa.LargeBinary)


T, O = Customer.__table__, Other.__table__  # noqa: E741  of two tables
PINNED = sa.update(Customer).where(Customer.id == 1)
CORE = sa.update(T).where(T.c.id == 1)
JOINED = CORE.where(T.c.id == O.c.id)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def user_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'user.db'}"
    server = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
    return request.getfixturevalue(server)


@pytest.fixture
def engine(user_url, ring):
    made = sa.create_engine(user_url)
    bind(Base, ring)
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all([Customer(id=i, note="n", mail=f"m{i}", iban=f"i{i}") for i in (1, 2)])
        session.add(Other(id=1, note="o", cell=b"c"))
        session.commit()
    yield made
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


def _contents(session):
    session.rollback()
    found = session.execute(sa.select(Customer).order_by(Customer.id)).scalars()
    return [(c.id, c.mail, c.iban) for c in found]


SAFE = [(1, "m1", "i1"), (2, "m2", "i2")]
EXPRESSIONS = {
    "column": lambda c: T.c.note,
    "attribute": lambda c: Customer.note,
    "another encrypted column": lambda c: T.c.iban if c == "email" else T.c.email,
    "another table's column": lambda c: O.c.cell,
    "function": lambda c: sa.func.upper(T.c[c]),
    "concatenation": lambda c: T.c.note + "x",
    "case": lambda c: sa.case((T.c.id == 1, T.c[c]), else_=sa.null()),
    "scalar select": lambda c: sa.select(O.c.cell).where(O.c.id == 1).scalar_subquery(),
    "own other row": lambda c: sa.select(T.alias().c[c]).limit(1).scalar_subquery(),
    "text": lambda c: sa.text("note"),
    "literal column": lambda c: sa.literal_column("note"),
    "literal": lambda c: sa.literal("x"),
    "literal bytes": lambda c: sa.literal(b"x"),
    "typed parameter": lambda c: sa.bindparam("x", "y"),
    "cast": lambda c: sa.cast(T.c[c], sa.LargeBinary),
    "coerced": lambda c: sa.type_coerce("x", sa.LargeBinary),
    "coerced to the type": lambda c: sa.type_coerce(T.c.note, T.c[c].type),
    "grouping": lambda c: sa.func.coalesce(T.c[c], T.c.note).self_group(),
    "default": lambda c: sa.text("DEFAULT"),
}
MAPPED = {"email": "mail", "iban": "iban"}
CARRIERS = {
    "session": lambda s, c, v: s.execute(PINNED.values({T.c[c]: v})),
    "core": lambda s, c, v: s.connection().execute(CORE.values({c: v})),
    "ordered": lambda s, c, v: s.connection().execute(CORE.ordered_values((T.c[c], v))),
    "joined": lambda s, c, v: s.connection().execute(JOINED.values({c: v})),
    "insert": lambda s, c, v: s.connection().execute(sa.insert(T).values({"id": 9, c: v})),
    "inline": lambda s, c, v: s.connection().execute(sa.insert(T).inline().values({"id": 9, c: v})),
    "list": lambda s, c, v: s.execute(sa.insert(Customer).values([{"id": 9, T.c[c]: v}])),
    "executemany": lambda s, c, v: s.connection().execute(sa.insert(T).values({c: v}), [{"id": 9}]),
    "bulk": lambda s, c, v: s.execute(sa.insert(Customer).values({T.c[c]: v}), [{"id": 9}]),
    "many": lambda s, c, v: s.connection().execute(
        sa.update(T).where(T.c.id == sa.bindparam("pk")).values({c: v}), [{"pk": 1}, {"pk": 2}]
    ),
    "alias": lambda s, c, v: s.connection().execute(sa.update(T.alias()).values({c: v})),
    "lambda": lambda s, c, v: s.connection().execute(
        sa.lambda_stmt(lambda: CORE.values({c: v}), track_bound_values=False, enable_tracking=False)
    ),
    "parameter": lambda s, c, v: s.connection().execute(sa.insert(T), [{"id": 9, c: v}]),
    "bulk update": lambda s, c, v: s.execute(sa.update(Customer), [{"id": 1, MAPPED[c]: v}]),
    "mappings": lambda s, c, v: s.bulk_insert_mappings(Customer, [{"id": 9, MAPPED[c]: v}]),
    "instance": lambda s, c, v: (
        setattr(s.get(Customer, 1), MAPPED[c], v), s.flush(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("column", ["email", "iban"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_is_refused_in_every_statement(column, name, tmp_path, ring):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'all.db'}")
    bind(Base, ring)
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all([Customer(id=i, note="n", mail=f"m{i}", iban=f"i{i}") for i in (1, 2)])
        session.commit()
        for carrier, write in CARRIERS.items():
            with pytest.raises(InputError, match=r"encrypted|holds str|bound to its row|alias"):
                pytest.fail(f"{carrier}: {write(session, column, EXPRESSIONS[name](column))}")
            session.rollback()
            assert _contents(session) == SAFE, carrier
    made.dispose()


STATEMENTS = {
    "by name": lambda: PINNED.values(iban=Customer.note),
    "by attribute": lambda: PINNED.values({Customer.mail: Customer.note}),
    "by synonym": lambda: PINNED.values(account=Customer.note),
    "by hybrid": lambda: PINNED.values({Customer.contact: Customer.note}),
    "another table's key": lambda: CORE.values({sa.table("x", sa.column("iban")).c.iban: T.c.note}),
    "from select": lambda: sa.insert(T).from_select(
        ["id", "iban"], sa.select(O.c.id + 9, O.c.cell)
    ),
    "from itself": lambda: sa.insert(Customer).from_select(
        ["id", T.c.email], sa.select(Customer.id + 9, Customer.mail)
    ),
    "from union": lambda: sa.insert(T).from_select(
        ["id", "iban"], sa.select(O.c.id + 8, O.c.cell).union(sa.select(O.c.id + 9, O.c.cell))
    ),
    "returning": lambda: PINNED.values(iban=Customer.note).returning(Customer.id),
    "from statement": lambda: sa.select(Customer).from_statement(
        PINNED.values(iban=Customer.note).returning(Customer)
    ),
    "inserted from statement": lambda: sa.select(Customer).from_statement(
        sa.insert(Customer).values(id=9, mail=sa.literal("x")).returning(Customer)
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_that_copy_in_sql_change_nothing(name, session):
    with pytest.raises(InputError, match="has no keys"):
        session.execute(STATEMENTS[name]())
    assert _contents(session) == SAFE


def test_a_query_that_updates_by_an_expression_is_refused(session):
    with pytest.raises(InputError, match=r"customer\.iban"):
        session.query(Customer).filter(Customer.id == 1).update({"iban": Customer.note})
    assert _contents(session) == SAFE


@pytest.mark.parametrize(
    "hidden",
    [
        lambda: sa.insert(T).from_select(["id", "iban"], sa.select(O.c.id + 9, O.c.cell)),
        lambda: sa.update(T).values(email=T.c.iban),
        lambda: sa.update(T).values(id=T.c.id + 9),
        lambda: sa.update(T).where(T.c.id == 1).values(iban="x"),
    ],
    ids=["insert", "update", "key", "value"],
)
def test_a_write_in_a_cte_is_looked_at_too(hidden, postgres_url, ring):
    made = sa.create_engine(postgres_url)
    bind(Base, ring)
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all([Customer(id=i, note="n", mail=f"m{i}", iban=f"i{i}") for i in (1, 2)])
        session.commit()
        for statement in (
            sa.select(sa.literal(1)).add_cte(hidden().cte("w")),
            sa.select(hidden().returning(T.c.note).cte("w").c.note),
            sa.insert(O).values(id=7).add_cte(hidden().returning(T.c.id).cte("w")),
        ):
            for _ in range(2):
                with pytest.raises(InputError, match="customer"):
                    session.execute(statement)
                assert _contents(session) == SAFE
    made.dispose()


def test_another_tables_statement_does_not_write_here(mariadb_url, ring):
    made = sa.create_engine(mariadb_url)
    bind(Base, ring)
    Base.metadata.create_all(made)
    both = sa.update(O).where(O.c.id == T.c.id)
    with made.begin() as connection:
        connection.execute(sa.insert(O), [{"id": 1, "note": "o"}])
        connection.execute(sa.insert(T), [{"id": 1, "iban": "i", "email": "m"}])
        for column in ("iban", "email"):
            with pytest.raises(InputError, match="SQL expression"):
                connection.execute(both.values({O.c.note: "p", T.c[column]: O.c.note}))
    with Session(made) as session:
        assert _contents(session) == [(1, "m", "i")]
    made.dispose()


# -- upserts ---------------------------------------------------------------------------------------


def _upsert(session, sets):
    """Return an upsert of a row that exists, whose SET a function makes of the incoming row."""
    name = session.get_bind().dialect.name
    values = {"id": 1, "note": "new", "email": "up"}
    if name in {"mysql", "mariadb"}:
        statement = mysql.insert(T).values(values)
        return statement.on_duplicate_key_update(sets(statement.inserted))
    insert = {"sqlite": sqlite, "postgresql": postgresql}[name].insert(T).values(values)
    return insert.on_conflict_do_update(index_elements=["id"], set_=sets(insert.excluded))


@pytest.mark.parametrize(
    "sets",
    [
        lambda new: {"iban": new.iban},
        lambda new: {"iban": new.note},
        lambda new: {"iban": "x"},
        lambda new: {"id": 3},
        lambda new: {"email": new.note},
        lambda new: {"email": new.iban},
        lambda new: {"email": T.c.note},
        lambda new: {"email": sa.func.coalesce(new.email, T.c.email)},
        lambda new: {"email": sa.literal("x")},
    ],
    ids=["cell", "note", "value", "key", "column", "other cell", "own", "function", "literal"],
)
def test_an_upsert_sets_no_cell_of_another_row_and_no_expression(sets, session):
    with pytest.raises(InputError, match="customer"):
        session.execute(_upsert(session, sets))
    assert _contents(session) == SAFE


@pytest.mark.parametrize(
    ("sets", "mail"),
    [
        (lambda new: {"email": new.email}, "up"),
        (lambda new: {"email": "x"}, "x"),
        (lambda new: {"note": new.note}, "m1"),
        (lambda new: {"email": sa.null()}, None),
    ],
    ids=["incoming cell", "value", "another column", "null"],
)
def test_an_upsert_of_what_is_bound_to_no_row_is_written(sets, mail, session):
    session.execute(_upsert(session, sets))
    session.commit()
    assert _contents(session) == [(1, mail, "i1"), SAFE[1]]


# -- what is no expression -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"iban": T.c.iban, "note": "x"},
        {"iban": Customer.iban, "mail": Customer.mail},
        {"note": Customer.note + "x"},
        {"id": Customer.id},
    ],
    ids=["column", "attributes", "another column", "key"],
)
def test_a_column_that_is_set_to_itself_stays(values, session):
    session.execute(PINNED.values(values), execution_options={"synchronize_session": False})
    session.commit()
    assert _contents(session) == SAFE


@pytest.mark.parametrize(
    "statement",
    [
        lambda: sa.update(T).values(iban=sa.null(), email=None),
        lambda: sa.update(Customer).values(iban=None, mail=sa.null()),
    ],
    ids=["core", "session"],
)
def test_null_is_written_to_any_row(statement, session):
    session.execute(statement(), execution_options={"synchronize_session": False})
    session.commit()
    assert _contents(session) == [(1, None, None), (2, None, None)]


def test_an_insert_from_a_select_may_leave_null(session):
    chosen = sa.select(T.c.id + 2, T.c.note, sa.null())
    session.execute(sa.insert(T).from_select(["id", "note", "iban"], chosen))
    session.execute(sa.insert(T).from_select(["id", "note"], sa.select(T.c.id + 4, T.c.note)))
    session.commit()
    assert [row[2] for row in _contents(session)] == ["i1", "i2"] + [None] * 6


@pytest.mark.parametrize("kind", [Encrypted, EncryptedRow], ids=["column", "row"])
@pytest.mark.parametrize(
    "option",
    [{"default": sa.text("'x'")}, {"onupdate": sa.func.now()}, {"server_default": "x"}],
    ids=["default", "onupdate", "server"],
)
def test_a_default_that_the_database_makes_is_refused(kind, option, tmp_path, ring):
    metadata = sa.MetaData()
    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", kind(str), **option)
    table = sa.Table("t", metadata, *columns)
    bind(metadata, ring)
    made = sa.create_engine(f"sqlite:///{tmp_path / 'default.db'}")
    metadata.create_all(made)
    with made.connect() as connection, pytest.raises(InputError, match="default"):
        connection.execute(sa.insert(table), [{"id": 1}])
    made.dispose()


def test_where_a_null_is_sealed_sql_leaves_none_bare(tmp_path, ring):
    metadata = sa.MetaData()
    kind = EncryptedRow(str, nulls="seal", pad=32)
    table = sa.Table(
        "t", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", kind)
    )
    bind(metadata, ring)
    made = sa.create_engine(f"sqlite:///{tmp_path / 'null.db'}")
    metadata.create_all(made)
    for statement in (
        sa.update(table).where(table.c.id == 1).values(x=sa.null()),
        sa.insert(table).from_select(["id"], sa.select(O.c.id)),
        sa.insert(table).from_select(["id", "x"], sa.select(O.c.id, sa.null())),
    ):
        with made.connect() as connection, pytest.raises(InputError, match="encrypted"):
            connection.execute(statement)
    made.dispose()
