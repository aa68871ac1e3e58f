"""One bank for all tests that only read it, and how to read all of it."""

import pytest
import sqlalchemy as sa

from compliance.simulate import rows, tables
from compliance.simulate.bank import Bank
from compliance.store import connect


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    return Bank.create(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="session")
def built():
    return rows.build(rows.Recipe())


@pytest.fixture(scope="session")
def stored():
    """Return a reader of every row of every table of a database, by table, in order of key."""

    def read(url):
        engine = connect(url)
        try:
            with engine.connect() as connection:
                return {
                    table.name: [
                        dict(row._mapping)
                        for row in connection.execute(sa.select(table).order_by(*table.primary_key))
                    ]
                    for table in tables.METADATA.sorted_tables
                }
        finally:
            engine.dispose()

    return read


@pytest.fixture(scope="session")
def by_key():
    """Return what orders built rows as `stored` returns them."""

    def order(table, values):
        names = [column.name for column in table.primary_key]
        return sorted(values, key=lambda row: [row[name] for name in names])

    return lambda built: {t.name: order(t, built[t.name]) for t in tables.METADATA.sorted_tables}
