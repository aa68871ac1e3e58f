"""SQL compares no sealed values: what is asked of it says so instead of finding nothing."""

import operator

import pytest
import sqlalchemy as sa

from compliance.crypto.orm import Encrypted, EncryptedRow, bind
from compliance.errors import InputError


def _table(metadata, kind):
    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("secret", kind)
    return sa.Table("t", metadata, *columns)


@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'user.db'}")
    yield made
    made.dispose()


@pytest.fixture
def table(engine, ring):
    metadata = sa.MetaData()
    made = _table(metadata, Encrypted(str))
    bind(metadata, ring)
    metadata.create_all(engine)
    return made


def _ids(engine, statement):
    with engine.connect() as connection:
        return connection.execute(statement).scalars().all()


@pytest.mark.parametrize(
    "expression",
    {
        "eq": lambda c: c == "x",
        "ne": lambda c: c != "x",
        "swapped": lambda c: "x" == c,  # noqa: SIM300  the other way round
        "lt": lambda c: c < "x",
        "in": lambda c: c.in_(["x"]),
        "like": lambda c: c.like("x%"),
        "between": lambda c: c.between("a", "b"),
        "plus": lambda c: c + "x",
        "radd": lambda c: "x" + c,
        "desc": lambda c: c.desc(),
        "distinct": lambda c: c.distinct(),
        "distinct from": lambda c: c.is_distinct_from("x"),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("kind", [Encrypted(str), EncryptedRow(str)], ids=["column", "row"])
def test_operators_point_to_the_blind_index(expression, kind):
    column = _table(sa.MetaData(), kind).c.secret
    with pytest.raises(InputError, match="blind index"):
        expression[1](column)


@pytest.mark.parametrize("compare", [operator.eq, operator.ne], ids=["eq", "ne"])
def test_two_columns_are_told_apart_but_not_compared_in_sql(compare, engine, table):
    column, twin = table.c.secret, table.alias().c.secret
    assert column in [table.c.id, column]
    assert twin not in [table.c.id, column]
    condition = compare(column, twin)
    with pytest.raises(InputError, match="blind index"):
        _ids(engine, sa.select(table.c.id).where(sa.and_(condition, table.c.id > 0)))


def test_null_may_be_asked_for(engine, table):
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"secret": "x"}, {"secret": None}])
    column = table.c.secret
    for condition in (column == None, column.is_(None), column.is_(sa.null())):  # noqa: E711  SQL's IS NULL
        assert _ids(engine, sa.select(table.c.id).where(condition)) == [2]
    assert _ids(engine, sa.select(table.c.id).where(column.is_not(None))) == [1]
