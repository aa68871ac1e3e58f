"""Encrypted column types in Core: what they bind, what they refuse, what they show."""

import datetime as dt
import pickle
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlmodel import Field, SQLModel

from compliance.crypto import aead
from compliance.crypto.keys import Keyring
from compliance.crypto.orm import ERASED, Encrypted, EncryptedRow, bind
from compliance.errors import ConfigurationError, DecryptionFailed, InputError

VALUES = {
    "str": "Łódź",
    "bytes": b"\x00\xff",
    "int": -(2**70),
    "float": -0.0,
    "bool": True,
    "Decimal": Decimal("1.10"),
    "date": dt.date(2026, 1, 31),
    "datetime": dt.datetime(2026, 1, 31, 1, 2, 3, 4, tzinfo=dt.UTC),
    "time": dt.time(1, 2, 3),
    "UUID": UUID(int=7),
}


@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'user.db'}")
    yield made
    made.dispose()


def _table(metadata, name="t", kind=None, **options):
    column = sa.Column("secret", kind or Encrypted(str), **options)
    return sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), column)


@pytest.fixture
def table(engine, ring):
    metadata = sa.MetaData()
    made = _table(metadata)
    bind(metadata, ring)
    metadata.create_all(engine)
    return made


def _insert(engine, table, *secrets):
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"secret": secret} for secret in secrets])


def _read(engine, statement):
    with engine.connect() as connection:
        return connection.execute(statement).scalars().all()


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("pad", [None, 32], ids=["as it is", "padded"])
def test_every_type_comes_back_as_it_was(name, pad, engine, ring):
    metadata = sa.MetaData()
    table = _table(metadata, kind=Encrypted(name, pad=pad))
    bind(metadata, ring)
    metadata.create_all(engine)
    _insert(engine, table, VALUES[name], None)
    found, missing = _read(engine, sa.select(table.c.secret).order_by(table.c.id))
    assert (repr(found), missing) == (repr(VALUES[name]), None)
    assert table.c.secret.type.python_type is type(VALUES[name])


@given(st.text(), st.integers(1, 100))
def test_padded_cells_have_the_length_of_a_multiple(value, pad):
    kind = Encrypted(str, pad=pad)
    assert len(kind._plain(value)) % pad == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [(str, 1), (int, True), (dt.date, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), (str, ERASED)],
    ids=["number for text", "bool for number", "datetime for date", "erased"],
)
def test_another_type_is_refused_without_its_value(kind, value, engine, ring):
    metadata = sa.MetaData()
    table = _table(metadata, kind=Encrypted(kind))
    bind(metadata, ring)
    with pytest.raises(InputError, match=r"t\.secret"), engine.connect() as connection:
        connection.execute(sa.insert(table), {"secret": value})


def test_a_cell_of_another_declared_type_is_refused(engine, table, ring):
    _insert(engine, table, "text")
    other = sa.MetaData()
    bind(other, ring)
    with pytest.raises(DecryptionFailed, match="declared as int"):
        _read(engine, sa.select(_table(other, kind=Encrypted(int)).c.secret))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Encrypted(list),
        lambda: Encrypted("complex"),
        lambda: Encrypted(str, nulls="hide"),
        lambda: Encrypted(str, nulls="seal"),
        lambda: Encrypted(str, pad=0),
        lambda: Encrypted(str, 64),
        lambda: sa.Column("x", Encrypted(str), unique=True),
        lambda: sa.Column("x", Encrypted(str), index=True),
        lambda: sa.Column("x", Encrypted(str), primary_key=True),
    ],
    ids=["list", "complex", "nulls", "bare nulls", "pad", "unnamed", "unique", "index", "key"],
)
def test_what_cannot_work_is_refused_when_it_is_declared(make):
    with pytest.raises(InputError):
        make()


# -- the column is known, or nothing happens ------------------------------------------------


def test_without_keys_the_error_names_the_call(engine):
    table = _table(sa.MetaData())
    table.create(engine)
    with pytest.raises(ConfigurationError, match=r"bind\(SQLModel\.metadata"):
        _insert(engine, table, "x")


@pytest.mark.parametrize(
    "expression",
    [
        lambda: sa.literal("x", Encrypted(str)),
        lambda: sa.bindparam("p", "x", Encrypted(str)),
        lambda: sa.type_coerce(sa.literal(b"x"), Encrypted(str)),
    ],
    ids=["literal", "bindparam", "coerced"],
)
def test_a_type_without_a_column_is_refused(expression, engine):
    with pytest.raises(ConfigurationError, match="no table's column"), engine.connect() as link:
        link.execute(sa.select(expression())).all()


def test_one_type_object_in_two_columns_binds_each(engine, ring):
    shared, metadata = Encrypted(str), sa.MetaData()
    one, two = (_table(metadata, name, shared) for name in ("one", "two"))
    bind(metadata, ring)
    metadata.create_all(engine)
    for table in (one, two):
        _insert(engine, table, str(table.name))
    assert [_read(engine, sa.select(t.c.secret)) for t in (one, two)] == [["one"], ["two"]]
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE two SET secret = (SELECT secret FROM one)")
    with pytest.raises(DecryptionFailed, match=r"two\.secret"):
        _read(engine, sa.select(two.c.secret))


def test_mixins_abstract_bases_and_annotations_bind_each_table():
    class Base(DeclarativeBase):
        type_annotation_map = {bytes: Encrypted(bytes)}  # noqa: RUF012  SQLAlchemy's

    class Mixin:
        mixed: Mapped[str] = mapped_column(Encrypted(str))

    class Abstract(Mixin, Base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)
        noted: Mapped[bytes]

    tables = [
        type(name, (Abstract,), {"__tablename__": name, "__module__": __name__}).__table__
        for name in ("first", "second")
    ]
    titles = [[c.type.title for c in t.c if isinstance(c.type, Encrypted)] for t in tables]
    assert [sorted(t) for t in titles] == [
        ["first.mixed", "first.noted"],
        ["second.mixed", "second.noted"],
    ]


def test_sqlmodel_bases_bind_each_table():
    class Root(SQLModel, registry=registry()):
        metadata = sa.MetaData()

    class Shape(Root):
        id: int | None = Field(default=None, primary_key=True)
        email: str = Field(sa_type=Encrypted(str))

    tables = [
        type(Shape)(name, (Shape,), {"__module__": __name__}, table=True).__table__
        for name in ("Left", "Right")
    ]
    assert [t.c.email.type.title for t in tables] == ["left.email", "right.email"]


def test_a_copied_table_has_its_own_keys_and_schema(engine, table, ring):
    other = sa.MetaData()
    copied = table.to_metadata(other, schema="s", name=sa.sql.quoted_name("T", quote=True))
    assert copied.c.secret.type.title == "s.T.secret"
    assert table.c.secret.type.title == "t.secret"
    with pytest.raises(ConfigurationError, match="no keys"):
        copied.c.secret.type.where()
    bind(other, ring)
    assert copied.c.secret.type.where()[1:] == ("s.T", "secret")
    assert [type(part) for part in copied.c.secret.type.where()[1:]] == [str, str]


@pytest.mark.parametrize(
    "statement",
    [
        lambda t: sa.select(t.alias().c.secret),
        lambda t: sa.select(sa.select(t).subquery().c.secret),
        lambda t: sa.select(sa.select(t).cte().c.secret.label("other")),
        lambda t: sa.union_all(sa.select(t.c.secret), sa.select(t.c.secret).where(sa.false())),
        lambda t: sa.text("SELECT secret FROM t").columns(t.c.secret),
    ],
    ids=["alias", "subquery", "cte", "union", "text"],
)
def test_wherever_the_column_is_selected_it_opens(statement, engine, table):
    _insert(engine, table, "x")
    assert _read(engine, statement(table)) == ["x"]


def test_a_union_with_another_column_is_refused(engine, table, ring):
    other = _table(table.metadata, "other")
    other.create(engine)
    _insert(engine, other, "y")
    with pytest.raises(DecryptionFailed):
        _read(engine, sa.union_all(sa.select(table.c.secret), sa.select(other.c.secret)))


# -- statements are cached, and never confused ------------------------------------------------


def test_equal_types_of_two_tenants_never_share_a_cached_statement(engine, store, key_file):
    rings = [Keyring.open(store, key_file, tenant=name) for name in ("a", "b")]
    worlds = [sa.MetaData(), sa.MetaData()]
    tables = [_table(metadata) for metadata in worlds]
    for metadata, ring in zip(worlds, rings, strict=True):
        bind(metadata, ring)
    worlds[0].create_all(engine)
    for _ in range(2):
        for table, ring in zip(tables, rings, strict=True):
            _insert(engine, table, ring.tenant)
    raw = _read(engine, sa.text("SELECT secret FROM t ORDER BY id"))
    for cell, ring in zip(raw, rings * 2, strict=True):
        place = aead.Place(ring.tenant, "t", "secret")
        assert ring.open_sealed(cell, place).endswith(ring.tenant.encode())
    statement = [
        sa.select(sa.type_coerce(sa.literal_column("secret"), t.c.secret.type)).where(
            sa.text("id = :id").bindparams(id=i)
        ).select_from(sa.text("t"))
        for i, t in ((1, tables[0]), (2, tables[1]))
    ]  # fmt: skip
    assert [_read(engine, s) for s in statement] == [["a"], ["b"]]


def test_statements_are_cached_and_the_keys_asked_each_time(engine, table, ring):
    asked = []
    bind(table.metadata, lambda: asked.append(1) or ring)
    for number in range(3):
        _insert(engine, table, str(number))
    keys = [table.c.secret.type._static_cache_key for _ in range(2)]
    assert keys[0] == keys[1]
    assert hash(keys[0]) == hash(keys[1])
    assert len(asked) == 3


# -- errors, reprs, keys ------------------------------------------------------------------------


def test_a_value_is_never_rendered_into_sql(engine, table):
    statement = sa.insert(table).values(secret="hidden")
    text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    assert "hidden" not in text
    with pytest.raises(sa.exc.OperationalError), engine.connect() as connection:
        connection.exec_driver_sql(text)


def test_an_error_while_binding_is_ours_and_shows_no_parameter(engine):
    table = _table(sa.MetaData())
    statement = sa.insert(table).values(secret=sa.bindparam("given"))
    with pytest.raises(ConfigurationError) as caught, engine.connect() as connection:
        connection.execute(statement, {"given": "hidden"})
    assert "hidden" not in str(caught.value) + repr(caught.value.__cause__)


def test_an_error_of_another_column_shows_no_plaintext(engine, table):
    late = sa.Table(
        "late", table.metadata, sa.Column("at", sa.DateTime), sa.Column("s", Encrypted(str))
    )
    late.create(engine)
    with pytest.raises(sa.exc.StatementError) as caught, engine.connect() as connection:
        connection.execute(sa.insert(late), {"at": "no time", "s": "hidden"})
    assert "hidden" not in str(caught.value)
    assert "<sealed>" in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        Encrypted("str"),
        Encrypted(Decimal, pad=16, nulls="seal", version="2"),
        EncryptedRow("int", subject=("person", "id")),
    ],
    ids=["plain", "options", "subject"],
)
def test_a_repr_makes_the_type_again(kind):
    again = eval(repr(kind))
    assert (type(again), repr(again)) == (type(kind), repr(kind))
    assert type(kind).__module__ == "compliance.crypto.orm"


def test_a_table_is_pickled_without_its_keys(table):
    again = pickle.loads(pickle.dumps(table))
    assert again.c.secret.type.title == "t.secret"
    with pytest.raises(ConfigurationError, match="no keys"):
        again.c.secret.type.where()


def test_a_cell_under_a_key_of_another_kind_is_refused_before_it_is_opened(engine, table, ring):
    place = aead.Place(ring.tenant, "t", "secret")
    cells = [
        ring.seal(key, b"sx", place)
        for key in (ring.named("file", "t.secret"), ring.subject("a", 1), ring.column("t", "other"))
    ]
    for cell in cells:
        with engine.begin() as connection:
            connection.execute(sa.delete(table))
            connection.execute(sa.text("INSERT INTO t (secret) VALUES (:c)"), {"c": cell})
        with pytest.raises(DecryptionFailed, match="another column or person"):
            _read(engine, sa.select(table.c.secret))


@given(st.binary(max_size=32) | st.text() | st.integers())
def test_what_is_no_cell_is_refused(raw):
    with pytest.raises(DecryptionFailed, match="not sealed"):
        Encrypted(str)._bytes(raw)


def test_every_flipped_bit_of_a_cell_is_refused(engine, table):
    _insert(engine, table, "value")
    (cell,) = _read(engine, sa.text("SELECT secret FROM t"))
    for bit in range(len(cell) * 8):
        changed = bytearray(cell)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionFailed):
            table.c.secret.type.unseal(bytes(changed))
    for length in range(len(cell)):
        with pytest.raises(DecryptionFailed):
            table.c.secret.type.unseal(cell[:length])
    with pytest.raises(DecryptionFailed):
        table.c.secret.type.unseal(cell + b"\0")
