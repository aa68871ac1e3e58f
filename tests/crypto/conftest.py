"""Keys on each engine that they are kept in."""

import pytest

from compliance.crypto.keys import Keyring
from compliance.store import Store


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'keys.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return request.getfixturevalue(name)


@pytest.fixture
def key_file(tmp_path):
    return tmp_path / "keys" / "master.json"


@pytest.fixture
def store(sqlite_url):
    opened = Store.open(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def ring(store, key_file):
    return Keyring.open(store, key_file)


@pytest.fixture
def any_ring(url, key_file):
    opened = Store.open(url)
    yield Keyring.open(opened, key_file)
    opened.close()
