"""A trail on each engine that it runs on."""

import subprocess
import sys

import pytest

from compliance.crypto.signing import Signer
from compliance.store import Store
from compliance.trail.log import Trail

SEED = bytes(range(32))
NAME = "compliance/test"

WRITER = """
import sys
from compliance.crypto.signing import Signer
from compliance.store import Store
from compliance.trail.entries import Event
from compliance.trail.log import Trail
trail = Trail(Store.open(sys.argv[1]), Signer("compliance/test", bytes(range(32))))
who, count = sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    index = trail.append(Event(event="test.write", actor=who, facts={"number": number}))
    print(index, number, flush=True)
"""


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'trail.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return request.getfixturevalue(name)


@pytest.fixture
def signer():
    return Signer(NAME, SEED)


@pytest.fixture
def store(sqlite_url):
    opened = Store.open(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def trail(store, signer):
    return Trail(store, signer)


@pytest.fixture
def any_trail(url, signer):
    """A trail on each engine in turn."""
    opened = Store.open(url)
    yield Trail(opened, signer)
    opened.close()


@pytest.fixture
def writer():
    """Return a starter of processes that append and say what was acknowledged."""
    started = []

    def start(url, who, count):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url, who, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
