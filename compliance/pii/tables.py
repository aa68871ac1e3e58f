"""Reading other people's databases: every table and view, a bounded number of rows, no writes.

The server is told to refuse writes where it can be (PostgreSQL, MySQL, MariaDB,
SQLite); elsewhere only SELECT statements are sent. No password and no cell ever
stands in an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance.errors import InputError, MissingExtra, OperationError

if TYPE_CHECKING:
    import sqlalchemy as sa

_DRIVERS = {"psycopg": "postgres", "pymysql": "mysql", "duckdb_engine": "duckdb"}
_OURS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_CONNECT_TIMEOUT = 10  # seconds


@dataclass(frozen=True, slots=True)
class Rows:
    """The first rows of a table, by column.

    Attributes:
        columns: values by column name; all of one length.
        order: how the rows were chosen, in words.
    """

    columns: dict[str, list[Any]]
    count: int
    order: str


class Database:
    """A connection that only reads; leave its context to close it."""

    def __init__(self, connection: sa.Connection, source: str) -> None:
        import sqlalchemy as sa

        self.source = source
        self._connection = connection
        self._inspector = sa.inspect(connection)

    def __repr__(self) -> str:
        return f"Database({self.source!r})"

    @property
    def schemas_left_out(self) -> int:
        """Return how many schemas there are besides the default one and the system's own."""
        system = {"information_schema", "mysql", "performance_schema", "sys", "pg_catalog", "temp"}
        names = {s for s in self._inspector.get_schema_names() if not s.startswith("pg_")}
        return len(names - system - {self._inspector.default_schema_name})

    def names(self) -> list[str]:
        """Return the tables and views of the default schema, sorted."""
        found = set(self._inspector.get_table_names()) | set(self._inspector.get_view_names())
        if self._connection.dialect.name == "postgresql":
            found |= set(self._inspector.get_materialized_view_names())
        return sorted(found)

    def read(self, name: str, limit: int) -> Rows:
        """Return the first rows of a table or view.

        Raises:
            OperationError: it cannot be read; the connection can still be used.
        """
        import sqlalchemy as sa

        try:
            columns, key = self._describe(name)
            query: Any = sa.select(*map(sa.column, columns))
            query = query.select_from(sa.table(name)).order_by(*map(sa.column, key)).limit(limit)
            rows = self._connection.execute(query).all()
        except (sa.exc.SQLAlchemyError, ValueError) as error:
            self._connection.rollback()
            what = type(getattr(error, "orig", None) or error).__name__
            raise OperationError(f"{self.source}: {name} cannot be read ({what})") from None
        values = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
        order = "first rows by primary key" if key else "first rows in the server's order"
        return Rows(dict(zip(columns, values, strict=True)), len(rows), order)

    def _describe(self, name: str) -> tuple[list[str], list[str]]:
        """Return the columns and the primary key; types stay the driver's own."""
        import sqlalchemy as sa

        with warnings.catch_warnings():
            # A type SQLAlchemy does not know is none of our business: cells are read untyped.
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            columns = [column["name"] for column in self._inspector.get_columns(name)]
            key = self._inspector.get_pk_constraint(name)["constrained_columns"]
        if not columns:
            raise ValueError("no columns")
        return columns, list(key)


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    """Connect for reading only.

    Raises:
        InputError: not a database URL, an unknown dialect, or no such SQLite file.
        MissingExtra: the driver is not installed.
        OperationError: no server answers, or it refuses.
    """
    import sqlalchemy as sa

    parsed = _parse(url)
    source = parsed.set(query={}).render_as_string(hide_password=True)
    engine = _engine(parsed, source)
    try:
        with _connect(engine, source) as connection:
            _refuse_writes(connection)
            yield Database(connection, source)
    except sa.exc.DBAPIError as error:
        what = type(error.orig or error).__name__
        hint = "check that the server runs, and the URL, user and rights"
        raise OperationError(f"{source}: cannot be read ({what}); {hint}") from None
    finally:
        engine.dispose()


def _parse(url: str) -> sa.URL:
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError("not a database URL, such as sqlite:///file.db") from None
    parsed = parsed.set(drivername=_OURS.get(parsed.drivername, parsed.drivername))
    if parsed.get_backend_name() == "sqlite":
        _require_file(parsed)
    return parsed


def _require_file(url: sa.URL) -> None:
    """SQLite would make the file that is not there."""
    name = url.database
    in_memory = not name or name == ":memory:" or name.startswith("file:")
    if not in_memory and not Path(str(name)).is_file():
        raise InputError(f"{name}: no such SQLite file")


def _engine(url: sa.URL, source: str) -> sa.Engine:
    import sqlalchemy as sa

    server = url.get_backend_name() in {"postgresql", "mysql", "mariadb"}
    options = {"connect_timeout": _CONNECT_TIMEOUT} if server else {}
    try:
        return sa.create_engine(
            url, hide_parameters=True, poolclass=sa.NullPool, connect_args=options
        )
    except sa.exc.NoSuchModuleError:
        name = url.drivername
        raise InputError(f"{source}: SQLAlchemy has no dialect {name!r} installed") from None
    except ImportError as error:
        driver = (error.name or "").partition(".")[0]
        if driver in _DRIVERS:
            raise MissingExtra(_DRIVERS[driver], driver) from None
        raise InputError(f"{source}: install the database driver {driver!r}") from None


def _connect(engine: sa.Engine, source: str) -> sa.Connection:
    """Connect; drivers take a URL's options as keywords, and raise for one that they lack."""
    try:
        return engine.connect()
    except TypeError:
        raise InputError(f"{source}: its driver does not know an option of the URL") from None


def _refuse_writes(connection: sa.Connection) -> None:
    """Have the server refuse writes on this connection, where it knows how."""
    backend = connection.dialect.name
    if backend == "postgresql":
        connection.execution_options(postgresql_readonly=True)
    elif backend in {"mysql", "mariadb"}:
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.commit()  # the next transaction is the first that is read-only
    elif backend == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
        dbapi: Any = connection.connection.dbapi_connection
        dbapi.text_factory = lambda raw: raw.decode("utf-8", "replace")
