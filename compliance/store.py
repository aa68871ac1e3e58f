"""The SQLModel engine: our own registry and MetaData, two kinds of transaction, no surprises.

A user's SQLModel tables and ours never mix: ours derive from `Table`, carry the
prefix ``compliance_`` and live in a MetaData of their own. SQLite runs with a
write-ahead log and ``synchronous=FULL``, so that what was acknowledged survives a
power cut; PostgreSQL does by default.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import Session, SQLModel

from compliance.errors import ComplianceError, ConfigurationError, MissingExtra, StoreError

PREFIX = "compliance_"
_SCRUB = "compliance_scrub"
VERSION_TABLE = "compliance_alembic_version"
_DRIVERS = {"psycopg": "postgres", "pymysql": "mysql"}
_FIRST_OPENING = 5.0  # seconds for another process to finish its own
_LOCK = 0x636F6D70  # "comp": the advisory lock that serialises migrations on PostgreSQL


class Table(SQLModel, registry=registry()):
    """Base of every table of ours."""

    metadata: ClassVar[sa.MetaData] = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )


_OPEN: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    """A connection is one process's own: a child that used its parent's would corrupt both."""
    for store in list(_OPEN):
        store.engine.dispose(close=False)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)


class Store:
    """A database that holds our tables; opened once, shared by every room."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"Store({describe(self.engine.url)!r})"

    @classmethod
    def open(cls, url: str) -> Store:
        """Connect, and bring the schema to the current version.

        Raises:
            MissingExtra: the driver is not installed.
            StoreError: unreachable, read-only, full, corrupt, or written by a newer version.
        """
        store = cls(connect(url))
        if store.engine.dialect.name not in {"sqlite", "postgresql"}:
            raise ConfigurationError(
                "the audit store lives in SQLite or PostgreSQL; name one of them"
            )
        _protect(store.engine.url)
        try:
            with translated(store.engine.url):
                _migrate(store.engine)
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection inside a read transaction: every query sees the same snapshot."""
        with translated(self.engine.url), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's transactions do so by nature
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection inside a write transaction.

        The write lock is taken at the start on SQLite (``BEGIN IMMEDIATE``), so that what
        was read inside cannot have changed at commit. Leaving with an exception rolls back.
        """
        with translated(self.engine.url):
            connection = self.engine.connect().execution_options(compliance_writes=True)
            with connection:
                connection.info.pop(_SCRUB, None)
                with connection.begin():
                    yield connection
                scrub = connection.info.pop(_SCRUB, False)
            if scrub:
                self._scrub()

    @staticmethod
    def scrub_after(connection: sa.Connection) -> None:
        """Have old page images removed from disk once this write transaction has committed.

        SQLite overwrites deleted content in the file (``secure_delete``), but its write-ahead
        log keeps what a page held before. PostgreSQL keeps dead rows until it vacuums.
        """
        connection.info[_SCRUB] = True

    def _scrub(self) -> None:
        if self.engine.dialect.name != "sqlite":
            return
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            (busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
        if busy:
            raise StoreError(
                "the change was made, but a reader elsewhere keeps the old pages in the "
                "write-ahead log: end it, then open and close the store once more"
            )

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Yield a SQLModel session over `reading` or `writing`."""
        with (
            self.writing() if write else self.reading() as connection,
            Session(connection) as session,
        ):
            yield session
            if write:
                session.flush()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def connect(url: str) -> sa.Engine:
    """Return an engine that hides parameters from logs and errors.

    Raises:
        ConfigurationError: not a database URL.
        MissingExtra: the driver is not installed.
    """
    try:
        parsed = _with_driver(sa.make_url(url))
        engine = sa.create_engine(parsed, hide_parameters=True, **_options(parsed))
    except ImportError as error:
        raise _no_driver((error.name or "").partition(".")[0]) from error
    except sa.exc.NoSuchModuleError:
        raise ConfigurationError("the database URL names a kind that SQLAlchemy lacks") from None
    except (sa.exc.ArgumentError, ValueError):  # their texts may quote the URL, and its password
        raise ConfigurationError("not a database URL, such as sqlite:///file.db") from None
    if parsed.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def _no_driver(package: str) -> ConfigurationError:
    if package in _DRIVERS:
        return MissingExtra(_DRIVERS[package], package)
    return ConfigurationError(f"the database driver {package!r} is not installed; install it")


def _with_driver(url: sa.URL) -> sa.URL:
    """``postgresql://`` and ``mysql://`` mean the drivers that our extras install."""
    drivers = {
        "postgresql": "postgresql+psycopg",
        "mysql": "mysql+pymysql",
        "mariadb": "mariadb+pymysql",
    }
    return url.set(drivername=drivers.get(url.drivername, url.drivername))


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        wait = {} if "timeout" in url.query else {"timeout": 30}  # seconds for a lock
        return {"connect_args": {"check_same_thread": False, **wait}}
    return {"pool_pre_ping": True}


def describe(url: sa.URL) -> str:
    """Return a URL fit for logs and reports: without password and without query."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def translated(url: sa.URL) -> Iterator[None]:
    """Turn a driver's errors into ours, without the statement and its parameters."""
    try:
        yield
    except ComplianceError:
        raise
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0] if error.orig else "unknown"
        safe = reason if url.get_backend_name() == "sqlite" else type(error.orig).__name__
        raise StoreError(f"{describe(url)}: {safe}{_advice(reason)}") from None


def _advice(reason: str) -> str:
    advice = {
        "readonly": "; make the file and its folder writable",
        "locked": "; another process holds it: try again",
        "full": "; free disk space and try again",
        "malformed": "; restore it from a backup",
        "not a database": "; restore it from a backup, or name another file",
        "unable to open": "; check that the folder exists and may be written",
        "onnect": "; check that the server runs and that the URL is right",
    }
    return next((text for word, text in advice.items() if word in reason), "")


def _sqlite_connect(dbapi: Any, _record: object) -> None:
    dbapi.isolation_level = None  # we say BEGIN ourselves
    _write_ahead(dbapi)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        dbapi.execute(f"PRAGMA {pragma}").close()


def _write_ahead(dbapi: Any) -> None:
    """Switch to a write-ahead log; while another does, SQLite says locked without waiting."""
    give_up = time.monotonic() + _FIRST_OPENING
    while True:
        try:
            dbapi.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("compliance_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _protect(url: sa.URL) -> None:
    """Make the folder and the file ours alone before anything is written to them."""
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
        return
    if "uri" in url.query:  # SQLite's own file: URI says what may be made
        return
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except PermissionError as error:
        if not os.path.exists(path):  # noqa: PTH110  false where the folder may not be entered
            raise StoreError(f"{path}: {error.strerror}; choose a folder you may write") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


# -- schema ----------------------------------------------------------------------


def _migrate(engine: sa.Engine) -> None:
    """Run what is missing of the history; two processes at once are serialised by the database."""
    head = _head()
    with engine.connect() as connection, connection.begin():
        if _version(connection) == head:
            return
    writing = engine.connect().execution_options(compliance_writes=True)
    with writing as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _upgrade(connection)


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    query = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
    return connection.execute(query).scalar_one_or_none()


_MIGRATIONS = Path(__file__).parent / "migrations"


def _head() -> str:
    """Return the newest revision without importing Alembic: the last file by its number."""
    return max(path.stem.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            "the database was written by a newer version of compliance-toolkit; upgrade it"
        ) from error
