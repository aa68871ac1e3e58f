"""A user's database is opened without a trace, and constants fit their columns."""

import datetime as dt
import uuid

import pytest
import sqlalchemy as sa

from compliance.errors import InputError
from compliance.rights.connectors import schema


def column(kind, *, unique=False):
    table = sa.Table("t", sa.MetaData(), sa.Column("c", kind, nullable=False, unique=unique))
    return table.c.c


@pytest.mark.parametrize("length", [1, 4, 10, 14, 15, 20, 23, 200, None])
def test_text_constants_are_random_and_fit(length):
    made = {schema.constant(column(sa.String(length))) for _ in range(20)}
    assert all(len(text) <= (length or 23) for text in made)
    assert len(made) > 1
    if length is None or length >= 15:
        assert all(text.startswith("erased-") for text in made)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (sa.Integer(), 0),
        (sa.Numeric(10, 2), 0),
        (sa.Date(), dt.date(1900, 1, 1)),
        (sa.DateTime(), dt.datetime(1900, 1, 1)),  # noqa: DTZ001  as the column has it
        (sa.Boolean(), False),
        (sa.LargeBinary(), b""),
        (sa.JSON(), {}),
    ],
)
def test_other_types_get_a_neutral_value(kind, value):
    assert schema.constant(column(kind)) == value


def test_identities_are_random_and_what_has_no_neutral_value_is_refused():
    assert isinstance(schema.constant(column(sa.Uuid())), uuid.UUID)
    for bad in (column(sa.Enum("a", "b")), column(sa.Integer(), unique=True)):
        with pytest.raises(InputError, match=r"t\.c"):
            schema.constant(bad)


def test_the_journal_mode_of_a_users_file_stays(sqlite_db):
    db = sqlite_db("CREATE TABLE t (a INTEGER)")
    assert db.scalar("PRAGMA journal_mode") == "delete"
    assert db.scalar("PRAGMA foreign_keys") == 1
    assert db.scalar("PRAGMA secure_delete") == 1


def test_odd_types_are_read_as_they_are(sqlite_db):
    db = sqlite_db(
        "CREATE TABLE t (id TEXT PRIMARY KEY, at DATETIME, much DECIMAL(5,2), odd GEOMETRY)",
        "INSERT INTO t VALUES ('x', 'not a date', 'much', x'00')",
    )
    assert db.snapshot()["t"][("x",)]["at"] == "not a date"


def test_chunks_hold_every_key_once():
    keys = [(i,) for i in range(1234)]
    parts = list(schema.chunks(keys))
    assert [key for part in parts for key in part] == keys
    assert max(map(len, parts)) == schema.CHUNK
