"""The schema is enforced by every server, and the data map covers all of it."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from compliance import _yaml
from compliance.policy import Policy, Store
from compliance.simulate import rows, tables
from compliance.simulate.bank import Bank, create_database
from compliance.store import connect

POLICIES = Path(__file__).parents[2] / "policies"


# The root fixtures skip where no server answers, and drop the database afterwards.
@pytest.fixture(params=["postgres_url", "mariadb_url"])
def server_url(request):
    return request.getfixturevalue(request.param)


ORPHANS = {
    "application": {"customer_id": 10**6},
    "payment": {"counterparty_customer_id": 10**6},
    "note": {"staff_id": 10**6},
    "decision": {"application_id": 10**6},
    "staff": {"manager_id": 10**6},
}


def refused_orphans(url):
    engine = connect(url)
    refused = set()
    for name, change in ORPHANS.items():
        with engine.connect() as connection:
            try:
                connection.execute(sa.update(tables.METADATA.tables[name]).values(change))
            except sa.exc.IntegrityError:
                refused.add(name)
            connection.rollback()
    engine.dispose()
    return refused


def test_servers_enforce_the_foreign_keys(server_url):
    create_database(server_url, customers=30)
    assert refused_orphans(server_url) == set(ORPHANS)


def test_sqlite_enforces_the_foreign_keys(tmp_path):
    bank = Bank.create(tmp_path, customers=30)
    assert refused_orphans(bank.url) == set(ORPHANS)


def test_no_foreign_key_dangles_in_the_file(bank):
    engine = connect(bank.url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        declared = {
            t: len(sa.inspect(connection).get_foreign_keys(t)) for t in tables.METADATA.tables
        }
    engine.dispose()
    assert sum(declared.values()) == 10


def test_every_server_holds_the_same_bank(server_url, stored, by_key):
    create_database(server_url, customers=150, seed=5)
    assert stored(server_url) == by_key(rows.build(rows.Recipe(customers=150, seed=5)))


def test_a_bank_can_keep_its_rows_on_a_server(server_url, tmp_path):
    remote = Bank.create(tmp_path / "remote", customers=60, url=server_url)
    local = Bank.create(tmp_path / "local", customers=60)
    assert not (remote.folder / "bank.db").exists()
    assert remote.applicants().equals(local.applicants())
    assert list(remote.consents()) == list(local.consents())


def test_the_data_map_is_a_valid_store_and_plain_yaml(bank):
    data = bank.datamap()
    assert json.loads(json.dumps(data)) == data
    store = Store.model_validate(data)
    assert store.url == bank.url
    assert all(edge.reason for edge in store.edges)
    meaning = {edge.child: edge.meaning.value for edge in store.edges}
    assert meaning["payment.counterparty_customer_id"] == "shared"
    assert meaning["payment.customer_id"] == meaning["decision.application_id"] == "owned"
    assert meaning["staff.manager_id"] == meaning["note.staff_id"] == "acted"


def test_the_data_map_gives_every_link_of_the_live_schema_a_meaning(bank):
    engine = connect(bank.url)
    inspector = sa.inspect(engine)
    live = {
        (
            f"{table}.{key['constrained_columns'][0]}",
            f"{key['referred_table']}.{key['referred_columns'][0]}",
        )
        for table in inspector.get_table_names()
        for key in inspector.get_foreign_keys(table)
    }
    store = Store.model_validate(bank.datamap())
    assert {(edge.child, edge.parent) for edge in store.edges} == live
    columns = {
        t: {c["name"] for c in inspector.get_columns(t)} for t in inspector.get_table_names()
    }
    engine.dispose()
    for table, personal in store.personal.items():
        assert set(personal) <= columns[table]
    for subject in store.subjects:
        assert {subject.key, *subject.identifiers} <= columns[subject.table]


def test_every_column_that_holds_a_name_or_an_address_is_declared_personal(bank, built):
    personal = bank.datamap()["personal"]
    names = {p["name"] for p in built["customer"] + built["staff"]}
    for table, values in built.items():
        for column in values[0]:
            texts = [row[column] for row in values if isinstance(row[column], str)]
            if any("@" in text or any(name in text for name in names) for text in texts[:200]):
                assert column in personal[table], (table, column)


def test_the_overrides_fit_the_shipped_policy(bank):
    merged = {}
    for source in _yaml.read_folder(POLICIES):
        merged |= source.values
    policy = Policy.model_validate(merged | bank.policy_overrides())
    assert policy.store("bank").url == bank.url
