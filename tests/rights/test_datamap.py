"""The data map: drafted with reasons, silent where a name is not plain, checked against drift."""

import pytest

from compliance.errors import ConfigurationError, StoreError
from compliance.findings import Severity
from compliance.policy import Store
from compliance.rights import datamap

UNLISTED = ["Album", "Artist", "Genre", "MediaType", "Playlist"]


def edges(draft):
    return {e["child"].rpartition(".")[2]: e["meaning"] for e in draft["edges"]}


def test_chinook_is_drafted_as_a_person_would(chinook):
    draft = datamap.discover(chinook.url)
    name = chinook.name
    assert {name(k): v for k, v in {
        "CustomerId": "owned",
        "InvoiceId": "owned",
        "SupportRepId": "acted",
        "ReportsTo": "acted",
        "TrackId": "shared",
    }.items()} == edges(draft)  # fmt: skip
    assert all(edge["reason"] for edge in draft["edges"])
    assert [s["table"] for s in draft["subjects"]] == sorted([name("Customer"), name("Employee")])
    assert name("Country") not in draft["personal"][name("Customer")]
    assert name("BillingAddress") in draft["personal"][name("Invoice")]
    assert draft["impersonal"] == [name("PlaylistTrack")]  # whatever holds text, people look at
    unlisted = [name(t) for t in UNLISTED]
    found = datamap.check(Store(**draft), chinook.url)
    assert [(f.kind, f.place.table) for f in found] == [("unmapped_table", t) for t in unlisted]
    draft["impersonal"] += unlisted
    assert datamap.check(Store(**draft), chinook.url) == ()


@pytest.mark.parametrize(
    ("columns", "impersonal"),
    [
        ("day DATE, rate NUMERIC, open BOOLEAN", True),
        ("note TEXT", False),
        ("data JSON", False),
        ("img BLOB", False),
        ("x", False),
        ("user_id INTEGER", False),
        ("customers INTEGER", False),
        ("handled_by INTEGER", False),
        ("phone INTEGER", False),
    ],
)
def test_only_a_table_that_can_name_nobody_is_drafted_impersonal(sqlite_db, columns, impersonal):
    db = sqlite_db(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT)",
        f"CREATE TABLE thing (id INTEGER PRIMARY KEY, {columns})",
    )
    draft = datamap.discover(db.url)
    assert draft["impersonal"] == (["thing"] if impersonal else [])
    assert datamap.unlisted(draft, db.url) == ([] if impersonal else ["thing"])
    kinds = [f.kind for f in datamap.check(Store(**draft), db.url)]
    assert kinds == ([] if impersonal else ["unmapped_table"])


def test_a_link_that_is_a_question_is_not_cleared_by_the_draft(sqlite_db):
    db = sqlite_db(
        "CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT)",
        "CREATE TABLE xray (id INTEGER PRIMARY KEY, who INTEGER NOT NULL REFERENCES patient (id))",
    )
    draft = datamap.discover(db.url)
    assert draft["impersonal"] == []
    assert [f.kind for f in datamap.check(Store(**draft), db.url)] == ["unknown_edge"]


def test_what_is_not_plain_has_no_meaning(sqlite_db):
    db = sqlite_db(
        "CREATE TABLE address (id INTEGER PRIMARY KEY, street TEXT)",
        """CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT,
        address_id INTEGER REFERENCES address (id), guardian INTEGER REFERENCES patient (id))""",
        "CREATE TABLE visit (id INTEGER PRIMARY KEY, patient_id INTEGER REFERENCES patient (id))",
        "CREATE TABLE xray (id INTEGER PRIMARY KEY, who INTEGER NOT NULL REFERENCES patient (id))",
        "CREATE TABLE bed (id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL REFERENCES patient (id))",
        """CREATE TABLE gift (id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL REFERENCES patient (id),
        to_id INTEGER NOT NULL REFERENCES patient (id), created_by INTEGER REFERENCES patient (id))""",
    )
    draft = datamap.discover(db.url)
    found = {e["child"]: (e["meaning"], e["reason"]) for e in draft["edges"]}
    assert {child: meaning for child, (meaning, _r) in found.items()} == {
        "patient.address_id": None,
        "patient.guardian": None,
        "visit.patient_id": None,
        "xray.who": None,
        "bed.patient_id": "owned",
        "gift.patient_id": None,
        "gift.to_id": None,
        "gift.created_by": "acted",
    }
    assert "exclusive_parent" in found["patient.address_id"][1]
    assert "NULL" in found["visit.patient_id"][1]
    assert "two persons" in found["gift.patient_id"][1]


@pytest.mark.parametrize(
    ("change", "kind", "severity", "message"),
    [
        (
            "CREATE TABLE log (id INTEGER)",
            "unmapped_table",
            Severity.MEDIUM,
            "log is not in the data map",
        ),
        (
            "CREATE TABLE fan (id INTEGER, c INTEGER REFERENCES Customer (CustomerId))",
            "unknown_edge",
            Severity.HIGH,
            "fan.c -> Customer.CustomerId has no meaning",
        ),
        (
            "ALTER TABLE Customer RENAME COLUMN Fax TO Telefax",
            "missing",
            Severity.HIGH,
            "Customer.Fax",
        ),
        ("DROP TABLE PlaylistTrack", "missing", Severity.HIGH, "names PlaylistTrack"),
    ],
)
def test_drift_is_found(sqlite_chinook, change, kind, severity, message):
    store = Store(**datamap.discover(sqlite_chinook.url))
    sqlite_chinook.execute(change)
    faults = datamap.check(store, sqlite_chinook.url)
    found = {f.kind: f for f in faults if f.place.table not in UNLISTED}
    assert (found[kind].severity, message in found[kind].message) == (severity, True)


def test_a_key_is_not_to_be_listed_as_personal(sqlite_chinook):
    draft = datamap.discover(sqlite_chinook.url)
    draft["personal"]["Customer"] = ["CustomerId"]
    draft["impersonal"] += UNLISTED
    [finding] = datamap.check(Store(**draft), sqlite_chinook.url)
    assert "is a key or a link" in finding.message


def test_an_edge_into_a_table_cleared_by_people_needs_no_meaning(sqlite_chinook):
    draft = datamap.discover(sqlite_chinook.url)
    draft["edges"] = [e for e in draft["edges"] if "TrackId" not in e["child"]]
    draft["impersonal"] += [*UNLISTED, "Track"]
    assert datamap.check(Store(**draft), sqlite_chinook.url) == ()
    draft["impersonal"].remove("Track")
    kinds = {f.kind for f in datamap.check(Store(**draft), sqlite_chinook.url)}
    assert kinds == {"unknown_edge", "unmapped_table"}


def test_composite_links_are_one_edge(sqlite_db):
    db = sqlite_db(
        "CREATE TABLE customer (a INTEGER, b INTEGER, email TEXT, PRIMARY KEY (a, b))",
        """CREATE TABLE customer_note (id INTEGER PRIMARY KEY, customer_a INTEGER NOT NULL,
        customer_b INTEGER NOT NULL, FOREIGN KEY (customer_a, customer_b) REFERENCES customer (a, b))""",
    )
    [edge] = datamap.discover(db.url)["edges"]
    assert (edge["child"], edge["parent"]) == (
        "customer_note.customer_a,customer_b",
        "customer.a,b",
    )


def test_tables_of_another_schema_are_named_with_it(postgres_url):
    from rights.office import Database

    db = Database(postgres_url, "postgresql")
    db.execute(
        'CREATE SCHEMA "My Shop"',
        'CREATE TABLE "My Shop"."Client" (id int PRIMARY KEY, "E-Mail" text)',
        """INSERT INTO "My Shop"."Client" VALUES (1, 'a1@x.example'), (2, 'b2@x.example')""",
    )
    from compliance.rights import subject
    from compliance.rights.connectors.sql import SqlConnector

    person = {"table": "My Shop.Client", "key": "id", "identifiers": ["E-Mail"]}
    sql = SqlConnector("shop", Store(url=postgres_url, subjects=[person]))
    plan = sql.plan(subject.searches(sql.store, {"email": "A1@x.example"}), {}, "erasure")
    assert plan.counts() == {"My Shop.Client": {"delete": 1}}
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {}
    assert db.scalar('SELECT count(*) FROM "My Shop"."Client"') == 1


def test_a_url_may_come_from_the_environment(sqlite_chinook, monkeypatch):
    monkeypatch.setenv("SHOP_URL", sqlite_chinook.url)
    assert datamap.discover("env:SHOP_URL")["url"] == "env:SHOP_URL"
    monkeypatch.delenv("SHOP_URL")
    with pytest.raises(ConfigurationError, match="SHOP_URL is not set"):
        datamap.discover("env:SHOP_URL")


def test_a_url_that_is_none_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="no database URL"):
        datamap.discover("not a url")
    with pytest.raises(StoreError, match="no such file"):
        datamap.discover(f"sqlite:///{tmp_path / 'none.db'}")


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("SupportRepId", "support_rep_id"),
        ("HTTPServer2", "http_server2"),
        ("e mail", "e_mail"),
        ("a_b", "a_b"),
    ],
)
def test_names_are_compared_as_words(name, snake):
    assert datamap.words(name) == snake
