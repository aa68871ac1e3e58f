"""The audit store's database: clear errors, no secret in any, and nobody else's tables."""

import contextlib
import logging
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import Field, SQLModel, select

from compliance import store as module
from compliance.errors import ConfigurationError, MissingExtra, StoreError
from compliance.store import Store, Table
from compliance.trail.tables import Head

PASSWORD = "hunter2"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new folder" / "audit.db"


@pytest.fixture
def store(file):
    opened = Store.open(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_store(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'any.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = Store.open(url)
    yield opened
    opened.close()


def put(connection, index=1):
    row = Head(id=index, size=0, root=b"", frontier=b"", note="n").model_dump()
    connection.execute(sa.insert(Head.__table__), row)


def count(store):
    with store.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(Head)).scalar_one()


# -- opening ----------------------------------------------------------------------------


def test_a_new_file_and_its_folder_are_the_owners_alone(store, file):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with store.writing() as connection:
        put(connection)
        for part in file.parent.iterdir():
            assert stat.S_IMODE(part.stat().st_mode) == 0o600


def test_opening_twice_changes_nothing(any_store):
    with any_store.writing() as connection:
        put(connection)
    again = Store.open(any_store.engine.url.render_as_string(hide_password=False))
    assert count(again) == 1
    again.close()


def test_sqlite_is_durable_and_overwrites_what_is_deleted(store):
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with store.reading() as connection:
        found = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in pragmas}
    assert found == pragmas


def test_processes_that_open_a_new_database_at_once_all_succeed(request, tmp_path):
    """The schema of PostgreSQL is raced for in the trail's own tests."""
    script = (
        "import sys; from compliance.store import Store; sys.stdin.readline();"
        "Store.open(sys.argv[1]).close(); print('open')"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'raced.db'}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(6)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["open\n"] * 6


def test_a_database_of_a_newer_version_is_refused(any_store):
    with any_store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {module.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        Store.open(any_store.engine.url.render_as_string(hide_password=False))


# -- transactions ---------------------------------------------------------------------------


def test_a_write_is_whole_or_not_at_all(any_store):
    with contextlib.suppress(StoreError), any_store.writing() as connection:
        put(connection, 1)
        put(connection, 1)
        pytest.fail("the second was taken")
    assert count(any_store) == 0
    with any_store.writing() as connection:
        put(connection)
    assert count(any_store) == 1


def test_the_callers_own_errors_pass_through_and_roll_back(any_store):
    with contextlib.suppress(ZeroDivisionError), any_store.session(write=True) as session:
        session.add(Head(size=0, root=b"", frontier=b"", note="n"))
        session.flush()
        raise ZeroDivisionError
    assert count(any_store) == 0


def test_a_session_writes_and_reads_our_tables(any_store):
    with any_store.session(write=True) as session:
        session.add(Head(size=7, root=b"", frontier=b"", note="n"))
    with any_store.session() as session:
        assert session.exec(select(Head)).one().size == 7


def test_a_reader_sees_one_state_however_long_it_reads(any_store):
    with any_store.reading() as connection:
        query = sa.select(sa.func.count()).select_from(Head)
        before = connection.execute(query).scalar_one()
        with any_store.writing() as other:
            put(other)
        assert connection.execute(query).scalar_one() == before == 0
    assert count(any_store) == 1


def test_writers_take_turns_from_the_first_read_on(store):
    """``BEGIN IMMEDIATE``: what was read inside cannot have changed at commit."""
    sizes = []

    def add():
        with store.writing() as connection:
            size = connection.execute(sa.select(sa.func.max(Head.id))).scalar() or 0
            put(connection, size + 1)
            sizes.append(size)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == list(range(8))


# -- what can be wrong -------------------------------------------------------------------------


def test_a_database_that_is_locked_too_long_is_an_error_that_says_so(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}?timeout=0.1"
    store = Store.open(url)
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.db")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    with (
        pytest.raises(StoreError, match="locked; another process holds it: try again"),
        store.writing(),
    ):
        pytest.fail("entered")
    holder.communicate("\n")
    with store.writing() as connection:
        put(connection)
    store.close()


def test_a_read_only_database_is_an_error_that_says_what_to_do(store, file):
    store.close()
    reader = Store.open(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert count(reader) == 0
    with (
        pytest.raises(StoreError, match="make the file and its folder writable"),
        reader.writing() as c,
    ):
        put(c)
    reader.close()
    assert not list(Path().glob("file:*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stand in for another user")
def test_a_folder_of_another_user_is_an_error_that_says_what_to_do(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest", "popen")):  # the latter of a parallel run
            parent.chmod(0o755)
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # a process of another user, for a moment
        try:
            os.setuid(65534)
            Store.open(f"sqlite:///{folder / 'x.db'}")
        except StoreError as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert "choose a folder you may write" in pipe.read()


@pytest.mark.parametrize("size", [100, 512, 4_096, 40_000])
def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path, size):
    path = tmp_path / "x.db"
    path.write_bytes(content := random.Random(7).randbytes(size))
    with pytest.raises(StoreError, match="restore it from a backup"):
        Store.open(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_damaged_database_is_an_error(store, file):
    with store.writing() as connection:
        for index in range(400):
            put(connection, index + 1)
    store.close()
    data = bytearray(file.read_bytes())
    data[4_096:] = random.Random(7).randbytes(len(data) - 4_096)
    file.write_bytes(data)
    with pytest.raises(StoreError, match="malformed; restore it from a backup"):
        Store.open(f"sqlite:///{file}")


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=str(tmp_path)):
        Store.open(f"sqlite:///{tmp_path}")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def test_a_server_that_is_not_there_is_an_error_that_says_what_to_check():
    with pytest.raises(StoreError, match="check that the server runs"):
        Store.open(f"postgresql://ana:{PASSWORD}@127.0.0.1:1/x?connect_timeout=2")


# -- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "audit.db",
        "sqlite",
        "//x",
        f"nonsense://ana:{PASSWORD}@host/x",
        f"postgresql://ana:{PASSWORD}@host:port/x",
        f"postgresql://ana:{PASSWORD}:host/x",
        f"postgresql+nodriver://ana:{PASSWORD}@host/x",
    ],
)
def test_what_is_no_database_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError) as caught:
        Store.open(url)
    error = caught.value
    while error is not None:
        assert PASSWORD not in str(error) or error.__suppress_context__
        error = error.__cause__


def test_a_server_that_the_store_does_not_run_on_is_refused(mariadb_url):
    with pytest.raises(ConfigurationError, match="SQLite or PostgreSQL"):
        Store.open(mariadb_url)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("postgresql://h/x", "psycopg", "postgres"), ("mysql://h/x", "pymysql", "mysql")],
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch, url, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as caught:
        module.connect(url)
    assert (caught.value.package, caught.value.extra) == (package, extra)


def test_a_driver_that_no_extra_of_ours_has_is_named_without_one():
    with pytest.raises(ConfigurationError, match=r"oracledb.*not installed") as caught:
        module.connect("oracle+oracledb://h/x")
    assert not isinstance(caught.value, MissingExtra)


# -- secrets ----------------------------------------------------------------------------------------


def test_a_password_is_in_no_description_and_no_error():
    url = f"postgresql://ana:{PASSWORD}@127.0.0.1:1/x?password={PASSWORD}&connect_timeout=2"
    store = Store(module.connect(url))
    assert PASSWORD not in repr(store)
    assert repr(store) == "Store('postgresql+psycopg://ana:***@127.0.0.1:1/x')"
    with pytest.raises(StoreError) as caught, store.reading():
        pytest.fail("entered")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_values_are_in_no_error_and_no_log(any_store, caplog):
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    row = {"id": 1, "size": 0, "root": b"", "frontier": b"", "note": "Jane Doe"}
    twice = [sa.insert(Head.__table__).values(row)] * 2
    with pytest.raises(StoreError) as caught, any_store.writing() as connection:
        list(map(connection.execute, twice))
    assert "Jane" not in str(caught.value)
    assert "Jane" not in repr(caught.value.__context__)
    assert "Jane" not in caplog.text


# -- whose tables -----------------------------------------------------------------------------------


def test_our_tables_and_a_users_never_mix(tmp_path):
    class Hero(SQLModel, table=True):
        __tablename__ = "hero_of_the_user"
        id: int | None = Field(default=None, primary_key=True)

    try:
        assert not [name for name in SQLModel.metadata.tables if name.startswith(module.PREFIX)]
        assert not [name for name in Table.metadata.tables if not name.startswith(module.PREFIX)]

        theirs = sa.create_engine(f"sqlite:///{tmp_path / 'theirs.db'}")
        SQLModel.metadata.create_all(theirs)
        assert sa.inspect(theirs).get_table_names() == ["hero_of_the_user"]
        theirs.dispose()

        ours = Store.open(f"sqlite:///{tmp_path / 'ours.db'}")
        names = sa.inspect(ours.engine).get_table_names()
        assert names
        assert all(name.startswith(module.PREFIX) for name in names)
        ours.close()
    finally:
        SQLModel.metadata.remove(Hero.__table__)


def test_our_tables_live_beside_a_users_in_one_database(tmp_path):
    path = tmp_path / "shared.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customer (name TEXT)")
    connection.execute("INSERT INTO customer VALUES ('Jane')")
    connection.commit()
    Store.open(f"sqlite:///{path}").close()
    assert connection.execute("SELECT name FROM customer").fetchall() == [("Jane",)]
    connection.close()
