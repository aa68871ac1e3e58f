"""The ground the suite stands on: closed network, private servers, skips that count in CI."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

SKIPS = """
import pytest

def test_lacks_something(): pytest.skip("no server")

@pytest.mark.may_skip
def test_may_lack_something(): pytest.skip("no server")

@pytest.mark.xfail(strict=True)
def test_known_fault(): assert False

def test_passes(): pass
"""


def _suite(folder: Path, source: str, **environ: str) -> str:
    """Run a little suite under our conftest; return what pytest printed."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_little.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    may_skip: x\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "."]
    kept = {
        k: v for k, v in os.environ.items() if k not in {"COMPLIANCE_REQUIRE", "PYTEST_ADDOPTS"}
    }
    done = subprocess.run(
        command, cwd=folder, env=kept | environ, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path):
    assert "1 passed, 2 skipped, 1 xfailed" in _suite(tmp_path, SKIPS)


def test_a_skip_is_a_failure_in_ci_unless_marked(tmp_path):
    printed = _suite(tmp_path, SKIPS, COMPLIANCE_REQUIRE="1")
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in printed
    assert "COMPLIANCE_REQUIRE=1 forbids" in printed


def test_a_module_that_skips_is_a_failure_in_ci(tmp_path):
    source = "import pytest\npytest.skip('no library', allow_module_level=True)\n"
    assert "1 skipped" in _suite(tmp_path, source)
    assert "1 error" in _suite(tmp_path, source, COMPLIANCE_REQUIRE="1")


def test_a_swallowed_connection_fails_the_test(tmp_path):
    source = """
import contextlib, socket

def test_reaches():
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)

def test_asks_a_resolver():
    with contextlib.suppress(OSError):
        socket.getaddrinfo("example.org", 443)
"""
    printed = _suite(tmp_path, source)
    assert "2 passed, 2 errors" in printed
    assert all(
        f"reached for the network: [\"socket.getaddrinfo '{host}'" in printed
        for host in ("192.0.2.1", "example.org")
    )


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("10.0.0.1", 5432), ("example.org", 443)])
def test_the_network_is_closed(address, reached):
    with pytest.raises(ConnectionRefusedError, match="closed to the network"):
        socket.create_connection(address, timeout=1)
    assert reached
    reached.clear()


def test_the_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@given(st.integers(0, 3))
def test_each_test_has_a_clean_environment(number):
    kept = {"COMPLIANCE_REQUIRE", "COMPLIANCE_TEST_DATA"}
    assert {name for name in os.environ if name.startswith("COMPLIANCE_")} <= kept
    assert not any(Path.home().iterdir())


@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
def test_a_database_is_private_and_empty(request, server):
    left_open = []
    # Registered first, so that it runs last: after the fixture dropped the database.
    request.addfinalizer(lambda: [connection.invalidate() for connection in left_open])
    engine = sa.create_engine(request.getfixturevalue(server))
    assert sa.inspect(engine).get_table_names() == []
    left_open.append(engine.connect())
    left_open[0].execute(sa.text("CREATE TABLE kept (id INTEGER)"))
    left_open[0].execute(sa.text("SELECT * FROM kept"))


def test_a_redis_database_is_private(redis_url):
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == [b"compliance:test"]
