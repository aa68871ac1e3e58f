"""Personal values of erased rows are looked for too, as long as they mean this person alone."""

import pytest
from rights.office import ANNA

from compliance.errors import VerificationFailed
from compliance.policy import Store
from compliance.rights import datamap, subject
from compliance.rights.connectors.sql import SqlConnector

LUIS = {"email": "luisg@embraer.com.br"}


def connector(database):
    return SqlConnector("here", Store(**datamap.discover(database.url)))


def planned(sql):
    return sql.plan(subject.searches(sql.store, LUIS), {}, "erasure")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("call Luis Goncalves back", True),  # a name of two columns, without its accents
        ("GONÇALVES, Luís", True),
        ("bring it to av. brigadeiro faria lima 2170, 2nd floor", True),
        ("tel. +55 12 3923 5555", True),
        ("ask Luis", False),
        ("Gonçalves was here", False),
        ("São José dos Campos is a town", False),
        ("Brigadeiro Faria Lima", False),
    ],
)
def test_names_streets_and_numbers_in_text_keep_a_request_open(
    sqlite_chinook, office, go, text, found
):
    here = office(chinook=sqlite_chinook)
    sqlite_chinook.execute(f"UPDATE Track SET Composer = '{text}' WHERE TrackId = 5")
    request = go(here, LUIS, until="verifying")
    if not found:
        here.requests.verify(ANNA, request)
        return
    with pytest.raises(VerificationFailed, match=r"chinook\.Track\.Composer: 1") as caught:
        here.requests.verify(ANNA, request)
    assert text not in str(caught.value)


def test_what_another_persons_own_row_holds_is_not_looked_for(sqlite_chinook):
    before = set(planned(connector(sqlite_chinook)).needles)
    assert {"Luís Gonçalves", "Av. Brigadeiro Faria Lima, 2170"} <= before
    sqlite_chinook.execute(
        "UPDATE Customer SET FirstName = 'Luis', LastName = 'Goncalves' WHERE CustomerId = 2",
        "UPDATE Invoice SET BillingAddress = 'AV. Brigadeiro Faria Lima 2170' WHERE InvoiceId = 1",
    )
    sql = connector(sqlite_chinook)
    plan = planned(sql)
    assert before - set(plan.needles) == {
        "Luís Gonçalves",
        "Gonçalves Luís",
        "Av. Brigadeiro Faria Lima, 2170",
    }
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {}


def test_a_copy_that_no_person_owns_is_found(sqlite_chinook):
    sqlite_chinook.execute(
        "CREATE TABLE newsletter (id INTEGER PRIMARY KEY, full_name TEXT)",
        "INSERT INTO newsletter VALUES (1, 'Luís Gonçalves')",
    )
    draft = datamap.discover(sqlite_chinook.url)
    draft["personal"]["newsletter"] = ["full_name"]
    sql = SqlConnector("here", Store(**draft))
    plan = planned(sql)
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {"newsletter.full_name": 1}


def test_binary_columns_are_said_to_be_unread(chinook):
    kind = {"postgresql": "bytea", "mariadb": "varbinary(9)"}.get(chinook.engine, "BLOB")
    track = chinook.name("Track")
    quoted = f"`{track}`" if chinook.engine == "mariadb" else f'"{track}"'
    chinook.execute(f"ALTER TABLE {quoted} ADD COLUMN img {kind}")
    sql = connector(chinook)
    plan = planned(sql)
    assert plan.unsearched == (f"{track}.img",)
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {}


@pytest.mark.parametrize(
    ("value", "specific"),
    [
        ("Ada Lovelace", True),
        ("ada@x.example", True),
        ("555-0199-2", True),
        ("DE89370400440532013000", True),
        ("1 High Street", True),
        ("Ada", False),
        ("n/a", False),
        ("12345", False),
        ("1980-01-02", False),
        ("02.01.1980", False),
        ("word " * 60, False),
        ("", False),
    ],
)
def test_only_a_specific_value_means_a_person(value, specific):
    assert bool(subject.specific([value])) is specific
