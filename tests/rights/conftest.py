"""Private copies of Chinook on three engines, offices over them, and processes that die."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rights.office import ANNA, BEN, Database, load_script, make_policy, open_office

from compliance.rights import datamap

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture
def sqlite_chinook(data, tmp_path):
    target = tmp_path / "chinook.db"
    shutil.copyfile(data / "rights/chinook/Chinook_Sqlite.sqlite", target)
    return Database(f"sqlite:///{target}", "sqlite")


@pytest.fixture(params=ENGINES)
def chinook(request, data):
    """Yield Chinook in a database of this test's own, on each engine."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_chinook")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        load_script(url, data / "rights/chinook/Chinook_PostgreSql.sql")
    else:
        url = request.getfixturevalue("mariadb_url")
        load_script(url, data / "rights/chinook/Chinook_MySql.sql")
    return Database(url, request.param)


@pytest.fixture(scope="session")
def cases(data):
    found = json.loads((data / "rights/cases.json").read_text("utf-8"))
    return {case["id"]: case for case in found}


@pytest.fixture
def office(tmp_path):
    """Return a maker of offices over named databases or store maps."""
    folder = tmp_path / "office"
    folder.mkdir(exist_ok=True)
    made = []

    def make(retention=None, digest="", clock=None, **stores):
        maps = {
            n: datamap.discover(s.url) if isinstance(s, Database) else s for n, s in stores.items()
        }
        options = {"clock": clock} if clock else {}
        made.append(
            open_office(folder, make_policy(maps, retention=retention, digest=digest), **options)
        )
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.fixture
def go():
    """Return a function that takes a request as far as a state."""

    def advance(office, subject, until="closed", kind="erasure"):
        requests = office.requests
        request = requests.submit(ANNA, kind, subject)
        steps = {
            "identified": lambda: requests.identify(ANNA, request),
            "planned": lambda: requests.plan(ANNA, request),
            "approved": lambda: requests.approve(BEN, request),
            "verifying": lambda: requests.run(ANNA, request),
            "closed": lambda: requests.verify(ANNA, request),
        }
        for state, step in steps.items():
            if until == "received":
                break
            step()
            assert requests.get(ANNA, request).state == state
            if state == until:
                break
        return request

    return advance


@pytest.fixture
def sqlite_db(tmp_path):
    """Return a maker of SQLite databases from statements."""

    def make(*statements, name="user.db"):
        path = tmp_path / name
        path.touch()
        database = Database(f"sqlite:///{path}", "sqlite")
        database.execute(*statements)
        return database

    return make


@pytest.fixture
def in_process(tmp_path):
    """Return a function that runs code in a process of its own over the office in this folder."""

    def run(office, code, **options):
        script = tmp_path / "child.py"
        body = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from pathlib import Path
        from rights import office as c
        from compliance.policy import Policy
        from compliance.rights.connectors.sql import SqlConnector
        policy = Policy.model_validate_json(Path({str(tmp_path / "policy.json")!r}).read_text())
        office = c.open_office(Path({str(office.folder)!r}), policy)
        """
        (tmp_path / "policy.json").write_text(office.policy.model_dump_json())
        script.write_text(textwrap.dedent(body) + textwrap.dedent(code))
        return subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return run
