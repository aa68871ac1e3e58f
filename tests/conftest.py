"""What every test stands on: private servers, real data, a closed network, a clean environment.

A test that lacks something skips and says what. With ``COMPLIANCE_REQUIRE=1``, as in CI,
a skip is a failure, unless the test is marked ``may_skip``.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

# One thread for each test process, set before torch and its kin are first imported.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")

ROOT = Path(__file__).resolve().parent.parent
REQUIRE = os.environ.get("COMPLIANCE_REQUIRE") == "1"
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test")
MARIADB = os.environ.get("TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/test")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ci" if REQUIRE or os.environ.get("CI") else "dev")


def pytest_make_parametrize_id(val):
    """Name values by type where their text differs between runs: workers must agree on names."""
    if isinstance(val, (bytes, bytearray, memoryview)) or " at 0x" in repr(val):
        return type(val).__name__
    return None


# -- skips that CI does not accept ---------------------------------------------


def missing(what):
    """Skip for want of something; under ``COMPLIANCE_REQUIRE=1`` the skip becomes a failure."""
    pytest.skip(f"missing: {what}")


def _refuse(report):
    report.outcome = "failed"
    report.longrepr = f"skipped, which COMPLIANCE_REQUIRE=1 forbids: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    xfailed = hasattr(report, "wasxfail")
    if REQUIRE and report.skipped and not xfailed and not item.get_closest_marker("may_skip"):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if REQUIRE and report.skipped:
        _refuse(report)
    return report


# -- the network is closed -----------------------------------------------------

_reached: list[str] = []


def _is_local(host):
    if host in (None, "", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False  # a name that a resolver would have to be asked for
    return address.is_loopback or address.is_unspecified


def _watch(event, args):
    """Refuse, and note, every lookup and connection that leaves this machine."""
    if event in {"socket.connect", "socket.sendto"}:
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # Unix sockets are local
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
    else:
        return
    if not _is_local(host):
        _reached.append(f"{event} {host!r}")
        raise ConnectionRefusedError(f"the test suite is closed to the network: {host!r}")


# An audit hook sees what monkeypatching misses (names imported early, C callers of _socket),
# and cannot be taken off again: it holds for the whole process.
sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _closed_network():
    """Fail a test that reached for the network, also when its code swallowed the refusal."""
    _reached.clear()
    yield
    reached = [*_reached]
    _reached.clear()
    assert not reached, f"reached for the network: {reached}"


@pytest.fixture
def reached():
    """Return the live list of network attempts; a test that expects some clears it."""
    return _reached


# -- a clean environment --------------------------------------------------------


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path_factory):
    """Give each test no settings of the caller's and a home directory of its own."""
    for name in os.environ:
        if name.startswith("COMPLIANCE_") and name not in {
            "COMPLIANCE_REQUIRE",
            "COMPLIANCE_TEST_DATA",
        }:
            monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


# -- what a test may need ---------------------------------------------------------


@pytest.fixture(scope="session")
def data():
    """Return the folder of shared real data."""
    folder = os.environ.get("COMPLIANCE_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        missing("the shared data: set COMPLIANCE_TEST_DATA to its folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def chromium():
    """Return the path of a Chromium."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    return found or missing("Chromium")


@pytest.fixture(scope="session")
def java():
    """Return the path of a Java virtual machine."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin" if home else None) or missing("Java")


@contextmanager
def _server(url, **connect_args) -> Iterator:
    """Yield a connection to a server in autocommit, or skip where none answers."""
    import sqlalchemy as sa

    engine = sa.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool, connect_args=connect_args
    )
    try:
        connection = engine.connect()
    except (sa.exc.OperationalError, ImportError) as error:
        missing(f"{engine.url.get_backend_name()} at {engine.url.host}: {type(error).__name__}")
    with connection:
        yield connection


@contextmanager
def _private(url, drop, **connect_args) -> Iterator[str]:
    """Yield the URL of a database that nobody else knows, and drop it afterwards."""
    import sqlalchemy as sa

    name = f"test_{uuid.uuid4().hex}"
    with _server(url, **connect_args) as server:
        server.execute(sa.text(f"CREATE DATABASE {name}"))
        try:
            yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
        finally:
            server.execute(sa.text(drop.format(name)))


@pytest.fixture
def postgres_url():
    """Yield the SQLAlchemy URL of an empty PostgreSQL database of this test's own."""
    with _private(POSTGRES, "DROP DATABASE {} WITH (FORCE)", connect_timeout=5) as url:
        yield url


@pytest.fixture
def mariadb_url():
    """Yield the SQLAlchemy URL of an empty MariaDB database of this test's own."""
    with _private(MARIADB, "DROP DATABASE {}", connect_timeout=5) as url:
        yield url
        _end_sessions(url)


def _end_sessions(url):
    """Close what the test left open: MariaDB's DROP DATABASE waits for open transactions."""
    import sqlalchemy as sa

    sessions = sa.text("SELECT id FROM information_schema.processlist WHERE db = :name")
    with _server(MARIADB) as server:
        for (session,) in server.execute(sessions, {"name": sa.make_url(url).database}).all():
            server.execute(sa.text(f"KILL {session:d}"))


@pytest.fixture
def redis_url():
    """Yield the URL of a Redis database of this test's own: it holds our claim and no other key."""
    redis = pytest.importorskip("redis")
    for number in range(1, 16):
        client = redis.Redis.from_url(f"{REDIS}/{number}", socket_connect_timeout=5)
        try:
            claimed = client.set("compliance:test", "claimed", nx=True)
        except redis.exceptions.ConnectionError:
            missing("Redis")
        if not claimed:
            continue
        if client.dbsize() == 1:
            break
        client.delete("compliance:test")
    else:
        missing("a Redis database that is empty")
    yield f"{REDIS}/{number}"
    client.flushdb()
    client.close()
