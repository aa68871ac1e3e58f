"""The migration history is linear and leads to exactly the tables that the code declares."""

import importlib
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import compliance
from compliance.errors import StoreError
from compliance.store import PREFIX, VERSION_TABLE, Store, Table

MIGRATIONS = Path(compliance.__file__).parent / "migrations"
for room in ("trail", "crypto", "access", "dp", "rights"):
    importlib.import_module(f"compliance.{room}.tables")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = Store.open(str(url))
    yield opened
    opened.close()


def test_the_history_leads_to_the_declared_tables(store):
    with store.engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Table.metadata) == []


def test_the_history_is_linear_and_numbered_in_order():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    revisions = [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1


def test_every_table_of_ours_carries_the_prefix(store):
    names = sa.inspect(store.engine).get_table_names()
    assert names
    assert all(name.startswith(PREFIX) for name in names)


def test_opening_twice_changes_nothing(store, tmp_path):
    before = sa.inspect(store.engine).get_table_names()
    Store.open(store.engine.url.render_as_string(hide_password=False)).close()
    assert sa.inspect(store.engine).get_table_names() == before


def test_a_store_of_a_newer_version_is_refused(store):
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        Store.open(store.engine.url.render_as_string(hide_password=False))
