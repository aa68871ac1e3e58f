"""Scanning databases: all tables, no writes, no password, no crash."""

import dataclasses
import json
import sqlite3
import sys

import pytest
import sqlalchemy as sa

from compliance.errors import InputError, MissingExtra, OperationError
from compliance.findings import Verdict
from compliance.pii.scan import DATABASE, UNREAD, scan_database
from compliance.pii.tables import open_database
from compliance.policy import PIIRule

PEOPLE = [(i, f"u{i}@example.org", 536221000 + i, f"note {i}") for i in range(1, 31)]


def fill(url, *more):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as c:
        c.exec_driver_sql(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(80), ssn INTEGER, note VARCHAR(80))"
        )
        c.exec_driver_sql("CREATE TABLE colours (name VARCHAR(20))")
        c.exec_driver_sql("CREATE VIEW contacts AS SELECT id, mail FROM people")
        insert = sa.text("INSERT INTO people VALUES (:id, :mail, :ssn, :note)")
        rows = [dict(zip(("id", "mail", "ssn", "note"), row, strict=True)) for row in PEOPLE]
        c.execute(insert, rows)
        c.execute(sa.text("INSERT INTO colours VALUES ('red'), ('blue')"))
        for statement in more:
            c.exec_driver_sql(statement)


def found(outcomes):
    return {(f.place.table, f.place.column, f.kind) for o in outcomes for f in o.findings}


EXPECTED = {
    ("people", "mail", "EMAIL_ADDRESS"),
    ("people", "ssn", "US_SSN"),
    ("contacts", "mail", "EMAIL_ADDRESS"),
}


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.mark.parametrize("server", ["sqlite_url", "postgres_url", "mariadb_url"])
def test_every_table_and_view_is_scanned(server, request):
    url = request.getfixturevalue(server)
    fill(url)
    told = []
    outcomes = list(scan_database(url, progress=lambda *step: told.append(step)))
    assert found(outcomes) == EXPECTED
    assert [(done, of, label) for done, of, label in told] == [
        (0, 3, "colours"), (1, 3, "contacts"), (2, 3, "people"), (3, 3, ""),
    ]  # fmt: skip
    assert outcomes[-1].check == DATABASE
    assert (outcomes[-1].facts["tables"], outcomes[-1].facts["unread"]) == (3, 0)
    by_table = {o.findings[0].place.table: o.facts for o in outcomes if o.findings}
    assert by_table["people"]["rows_read"] == "first rows by primary key"
    assert by_table["contacts"]["rows_read"] == "first rows in the server's order"
    assert by_table["people"]["rows"] == 30


@pytest.mark.parametrize("server", ["sqlite_url", "postgres_url", "mariadb_url"])
def test_the_server_itself_refuses_writes(server, request):
    url = request.getfixturevalue(server)
    fill(url)
    with pytest.raises(OperationError), open_database(url) as database:
        database._connection.exec_driver_sql("INSERT INTO colours VALUES ('green')")
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as c:
        assert c.exec_driver_sql("SELECT count(*) FROM colours").scalar() == 2


def test_a_view_that_writes_is_refused_and_the_scan_goes_on(postgres_url):
    fill(
        postgres_url,
        """CREATE FUNCTION sneak() RETURNS text LANGUAGE sql VOLATILE
           AS $$ INSERT INTO colours VALUES ('green') RETURNING name::text $$""",
        "CREATE VIEW backdoor AS SELECT sneak() AS s",
        "CREATE MATERIALIZED VIEW stored AS SELECT mail FROM people",
        "CREATE SCHEMA other",
    )
    outcomes = list(scan_database(postgres_url))
    assert [o.findings[0].place.table for o in outcomes if o.check == UNREAD] == ["backdoor"]
    assert found(outcomes) == EXPECTED | {
        ("stored", "mail", "EMAIL_ADDRESS"), ("backdoor", None, "unread"),
    }  # fmt: skip
    assert outcomes[-1].facts["schemas_left_out"] == 1


def test_types_of_every_kind_are_read_or_counted(postgres_url):
    fill(
        postgres_url,
        """CREATE TABLE odd (j jsonb, a text[], u uuid, i inet, b bytea, n numeric(9), t timestamptz,
           d interval, p point, r int4range)""",
        """INSERT INTO odd SELECT '{"m": ["a@example.org"]}', ARRAY['b@example.org'], gen_random_uuid(),
           '203.0.113.7', '\\x00', 5, now(), '1 day', '(1,2)', '[1,5)'""",
    )
    (odd,) = (o for o in scan_database(postgres_url) if "odd" in o.title)
    assert {(f.place.column, f.kind) for f in odd.findings} == {
        ("j", "EMAIL_ADDRESS"), ("a", "EMAIL_ADDRESS"), ("i", "IP_ADDRESS"),
    }  # fmt: skip
    assert odd.facts["cells_binary"] == 1


def test_the_sample_shop_is_scanned_as_it_should(data):
    url = f"sqlite:///{data / 'rights' / 'chinook' / 'Chinook_Sqlite.sqlite'}"
    tables = {}
    for table, column, kind in found(scan_database(url)):
        tables.setdefault(table, set()).add((column, kind))
    assert set(tables) == {"Customer", "Employee", "Invoice"}
    assert tables["Customer"] == {
        ("FirstName", "PERSON"), ("LastName", "PERSON"), ("Address", "LOCATION"),
        ("Phone", "PHONE_NUMBER"), ("Fax", "PHONE_NUMBER"), ("Email", "EMAIL_ADDRESS"),
    }  # fmt: skip


def test_only_the_first_rows_of_a_large_table_are_read(sqlite_url):
    fill(sqlite_url)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as c:
        c.executemany("INSERT INTO colours VALUES (?)", ((f"c{i}",) for i in range(12_000)))
    c.close()
    (colours, *_) = scan_database(sqlite_url, rule=PIIRule(sample=10))
    assert (colours.facts["rows"], colours.facts["cells_sampled"]) == (10_000, 10)


def test_text_that_is_no_text_does_not_stop_the_scan(sqlite_url):
    fill(sqlite_url, "INSERT INTO colours VALUES (CAST(x'ff' AS TEXT))")
    assert found(scan_database(sqlite_url)) == EXPECTED


def test_an_empty_database_is_no_pass(tmp_path):
    path = tmp_path / "empty.db"
    path.write_bytes(b"")
    (outcome,) = scan_database(f"sqlite:///{path}")
    assert outcome.verdict is Verdict.INSUFFICIENT


# -- errors -------------------------------------------------------------------------


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(InputError, match="no such SQLite file"):
        list(scan_database(f"sqlite:///{tmp_path / 'no.db'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(OperationError, match="cannot be read"):
        list(scan_database(f"sqlite:///{path}"))


SECRET = "s3cr3t-w0rd"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"postgresql://eve:{SECRET}@127.0.0.1:9/test", OperationError),
        (f"mysql://eve:{SECRET}@127.0.0.1:9/test", OperationError),
        (f"mariadb+pymysql://eve:{SECRET}@127.0.0.1:9/test?charset=utf8mb4", OperationError),
        (f"nosuch://eve:{SECRET}@127.0.0.1:9/test", InputError),
        (f"postgresql+psycopg2://eve:{SECRET}@127.0.0.1:9/test", InputError),
        (f"eve:{SECRET}@127.0.0.1", InputError),
        (f"postgresql://eve:{SECRET}@127.0.0.1:port/test", InputError),
    ],
)
def test_a_server_dialect_or_driver_that_is_not_there_is_clear_and_shows_no_password(url, error):
    with pytest.raises(error) as caught:
        list(scan_database(url))
    told = repr(caught.value) + str(caught.value.__cause__) + str(caught.value.__suppress_context__)
    assert SECRET not in told
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("driver", "extra"), [("psycopg", "postgres"), ("pymysql", "mysql")])
def test_a_missing_driver_names_the_install_command(driver, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, driver, None)
    scheme = {"psycopg": "postgresql", "pymysql": "mysql"}[driver]
    with pytest.raises(MissingExtra, match=rf"compliance-toolkit\[{extra}\]") as caught:
        list(scan_database(f"{scheme}://eve:{SECRET}@127.0.0.1/test"))
    assert SECRET not in str(caught.value)


def test_neither_password_nor_query_reaches_the_outcome(postgres_url):
    fill(postgres_url)
    url = sa.make_url(postgres_url).set(password=SECRET, query={"application_name": "q-u-e-r-y"})
    outcomes = list(scan_database(url.render_as_string(hide_password=False)))
    told = json.dumps([dataclasses.asdict(o) for o in outcomes], default=str) + repr(outcomes)
    assert found(outcomes) == EXPECTED
    assert SECRET not in told
    assert "q-u-e-r-y" not in told
    assert "u7@example.org" not in told
