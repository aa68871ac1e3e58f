"""Databases of the user's: opened without a trace, read as they are, quoted by SQLAlchemy."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import secrets
import uuid
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from compliance import store as stores
from compliance.errors import ConfigurationError, InputError, StoreError
from compliance.rights.plan import Key

CHUNK = 500  # keys in one statement
_LEAST_HEX = 8
_BEYOND_BIGINT = 2**63
_NEUTRAL: tuple[tuple[Any, Any], ...] = (
    (sa.Boolean, False),
    (sa.Integer, 0),
    (sa.Numeric, decimal.Decimal(0)),
    (sa.DateTime, dt.datetime(1900, 1, 1)),  # noqa: DTZ001  stored in whatever zone the column has
    (sa.Date, dt.date(1900, 1, 1)),
    (sa.Time, dt.time(0)),
    (sa.JSON, {}),
    (sa.LargeBinary, b""),
)


def resolve(url: str) -> str:
    """Return the URL that a data map names, from the environment for ``env:NAME``.

    Raises:
        ConfigurationError: the variable is not set.
    """
    if not url.startswith("env:"):
        return url
    name = url.removeprefix("env:")
    found = os.environ.get(name)
    if not found:
        raise ConfigurationError(f"the URL is read from the environment: {name} is not set")
    return found


def open_engine(url: str) -> sa.Engine:
    """Return an engine on a user's database; a missing SQLite file is an error, not a new file.

    Raises:
        ConfigurationError: no database URL.
        StoreError: no such SQLite file.
    """
    url = resolve(url)
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError(
            "a store's url is no database URL, such as sqlite:///f.db"
        ) from error
    if parsed.get_backend_name() != "sqlite":
        return stores.connect(url)
    if not parsed.database or not Path(parsed.database).is_file():
        raise StoreError(f"{stores.describe(parsed)}: no such file")
    engine = sa.create_engine(
        parsed, hide_parameters=True, poolclass=sa.NullPool, connect_args={"timeout": 30}
    )
    sa.event.listen(engine, "connect", _sqlite_connect)
    sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(dbapi: Any, _record: object) -> None:
    """Foreign keys hold, deleted bytes are overwritten; the journal mode stays the user's."""
    dbapi.isolation_level = None
    for pragma in ("foreign_keys=ON", "secure_delete=ON"):
        dbapi.execute(f"PRAGMA {pragma}").close()


def _sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("rights_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Tables:
    """The live tables of a database, by name; ``schema.table`` outside the default schema."""

    def __init__(self, metadata: sa.MetaData) -> None:
        self._tables = dict(metadata.tables)

    @classmethod
    def reflect(cls, connection: sa.Connection, mentioned: Collection[str] = ()) -> Tables:
        """Read the default schema, and the schemas of tables named ``schema.table``."""
        metadata = sa.MetaData()
        if connection.dialect.name == "sqlite":
            sa.event.listen(metadata, "column_reflect", _as_stored)
        with warnings.catch_warnings():  # types and indexes SQLAlchemy does not know are no concern
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            metadata.reflect(connection)
            known = set(metadata.tables)
            schemas = {
                name.partition(".")[0] for name in mentioned if name not in known and "." in name
            }
            for schema in schemas & set(sa.inspect(connection).get_schema_names()):
                metadata.reflect(connection, schema=schema)
        return cls(metadata)

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._tables))

    def __getitem__(self, name: str) -> sa.Table:
        if name not in self._tables:
            raise InputError(
                f"the data map names the table {name!r}, which the store does not have"
            )
        return self._tables[name]

    def key(self, name: str) -> tuple[str, ...]:
        """Return the columns of the primary key, or of a unique constraint without NULLs."""
        table = self[name]
        candidates = [list(table.primary_key.columns)]
        candidates += [
            list(c.columns) for c in _unique(table) if not any(x.nullable for x in c.columns)
        ]
        return next((tuple(c.name for c in columns) for columns in candidates if columns), ())


def _as_stored(_inspector: object, _table: object, column: Any) -> None:
    """SQLite gives back what was stored, of any type; the declared one serves for constants."""
    column["info"] = {"declared": column["type"]}
    column["type"] = sa.types.NullType()


def _unique(table: sa.Table) -> list[sa.UniqueConstraint]:
    found = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    return sorted(found, key=lambda c: [x.name for x in c.columns])


def is_unique(column: sa.Column[Any]) -> bool:
    """Return whether two rows may not hold the same value here."""
    table = column.table
    assert isinstance(table, sa.Table)  # noqa: S101  reflected columns belong to tables
    groups = [set(c.columns) for c in _unique(table)]
    groups += [set(i.columns) for i in table.indexes if i.unique]
    groups.append(set(table.primary_key.columns))
    return any(column in group for group in groups)


def declared(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """Return the declared type of a column."""
    kind: sa.types.TypeEngine[Any] = column.info.get("declared", column.type)
    return kind


def holds_text(column: sa.Column[Any]) -> bool:
    """Return whether a column may hold text: also JSON, arrays and types nobody declared."""
    kind = declared(column)
    text = (sa.String, sa.JSON, sa.ARRAY, sa.types.NullType, sa.types.UserDefinedType)
    return isinstance(kind, text) or type(kind).__name__ in {
        "CITEXT",
        "HSTORE",
        "TSVECTOR",
        "DOMAIN",
    }


def is_binary(column: sa.Column[Any]) -> bool:
    """Return whether a column holds bytes, which nobody reads."""
    return isinstance(declared(column), sa.LargeBinary | sa.BINARY | sa.VARBINARY)


def constant(column: sa.Column[Any]) -> Any:
    """Return what stands in a personal column that may not be NULL: random, and never a hash.

    Raises:
        InputError: a type for which no value is neutral.
    """
    kind = declared(column)
    if isinstance(kind, sa.Enum):
        raise InputError(f"{column.table}.{column.name}: an enumeration has no neutral value")
    if isinstance(kind, sa.String | sa.types.NullType):
        return _random_text(getattr(kind, "length", None))
    if isinstance(kind, sa.Uuid):
        return uuid.uuid4() if kind.as_uuid else str(uuid.uuid4())
    for base, value in _NEUTRAL:
        if isinstance(kind, base) and not is_unique(column):
            return _bindable(column, value)
    raise InputError(f"{column.table}.{column.name}: no neutral value is known for {kind!r}")


def _random_text(length: int | None) -> str:
    text = f"erased-{secrets.token_hex(8)}"
    if length is None or length >= len(text):
        return text
    return (
        text[:length]
        if length >= len("erased-") + _LEAST_HEX
        else secrets.token_hex(length)[:length]
    )


def _bindable(column: sa.Column[Any], value: Any) -> Any:
    """On SQLite no type converts for us: dates and decimals are stored as text and numbers."""
    if "declared" not in column.info:
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat(*([" "] if isinstance(value, dt.datetime) else []))
    return {decimal.Decimal: 0, dict: "{}"}.get(type(value), value)


def condition(
    table: sa.Table, columns: Sequence[str], values: Sequence[Key]
) -> sa.ColumnElement[bool]:
    """Return ``(a, b) IN (...)``: the values travel as parameters."""
    if len(columns) == 1:
        return table.c[columns[0]].in_([value[0] for value in values])
    return sa.tuple_(*(table.c[c] for c in columns)).in_(values)


def template(table: sa.Table, columns: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition on one key, for showing."""
    return sa.and_(*(table.c[c] == sa.bindparam(f"key_{i}") for i, c in enumerate(columns)))


def chunks(values: Collection[Key]) -> Iterator[list[Key]]:
    """Yield lists of at most `CHUNK` keys."""
    ordered = list(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def fitting(column: sa.Column[Any], value: object) -> object | None:
    """Return an identifier as its column's type, or None where it cannot be one.

    MariaDB would compare a text column with the number 0 and find every row.
    """
    kind = declared(column)
    try:
        if isinstance(kind, sa.Integer):
            number = int(str(value))
            return number if abs(number) < _BEYOND_BIGINT else None
        if isinstance(kind, sa.Numeric):
            return (
                decimal.Decimal(str(value)) if "declared" not in column.info else float(str(value))
            )
        if isinstance(kind, sa.Uuid):
            return uuid.UUID(str(value)) if kind.as_uuid else str(uuid.UUID(str(value)))
    except (ValueError, decimal.InvalidOperation):
        return None
    return str(value)


def matching(column: sa.Column[Any], value: Any) -> Any:
    """Return a link's value as the other end's type: 7 and "7" link where schemas are loose."""
    kind = declared(column)
    if isinstance(kind, sa.String) and not isinstance(value, str):
        return str(value)
    if isinstance(kind, sa.Integer | sa.Numeric | sa.Uuid) and isinstance(value, str):
        return fitting(column, value)
    return value
