"""Nothing is closed on the word of the run."""

import pytest
from rights.office import ANNA, BEN

from compliance.errors import VerificationFailed

LUIS = {"email": "luisg@embraer.com.br"}
BACK = "INSERT INTO Customer VALUES (1, 'Luis', 'G', '', '', '', '', '', '', '', '', 'luisg@embraer.com.br', NULL)"


def left(office, request):
    with pytest.raises(VerificationFailed) as caught:
        office.requests.verify(ANNA, request)
    assert office.requests.get(ANNA, request).state == "verifying"
    assert "luisg" not in str(caught.value)
    return str(caught.value)


def test_a_row_that_came_back_is_found_by_key_and_by_identifier(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="verifying")
    sqlite_chinook.execute(BACK)
    assert "chinook.Customer: 1" in left(here, request)
    sqlite_chinook.execute("UPDATE Customer SET CustomerId = 777 WHERE CustomerId = 1")
    assert "chinook.Customer: 1" in left(here, request)  # under another key, by the identifier
    failed = list(here.trail.read(filters={"event": "request.verified", "outcome": "failed"}))
    assert [e.values["facts"]["places"] for e in failed] == [2, 2]


def test_what_came_back_is_planned_again_and_both_rounds_are_certified(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="verifying")
    sqlite_chinook.execute(BACK)
    here.requests.plan(ANNA, request)
    here.requests.approve(BEN, request)
    here.requests.run(ANNA, request)
    here.requests.verify(ANNA, request)
    assert sqlite_chinook.counts()["Customer"] == 58


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see LUISG@EMBRAER.COM.BR.", True),
        ("<luisg@embraer.com.br>", True),
        ("luisg [at] embraer com br", False),
        ("aluisg@embraer.com.br", False),
        ("luisg@embraer.com.brx", False),
    ],
)
def test_mentions_in_text_are_found_on_word_boundaries(sqlite_chinook, office, go, text, found):
    here = office(chinook=sqlite_chinook)
    sqlite_chinook.execute(f"UPDATE Track SET Composer = '{text}' WHERE TrackId = 5")
    request = go(here, LUIS, until="verifying")
    if not found:
        here.requests.verify(ANNA, request)
        return
    assert "chinook.Track.Composer: 1" in left(here, request)
    sqlite_chinook.execute("UPDATE Track SET Composer = NULL WHERE TrackId = 5")
    here.requests.verify(ANNA, request)


def test_an_anonymised_cell_that_was_filled_again_is_found(sqlite_chinook, office, go):
    rule = {"store": "chinook", "table": "Invoice", "basis": "tax", "article": "x"}
    here = office(chinook=sqlite_chinook, retention={"tax": rule})
    request = go(here, LUIS, until="verifying")
    sqlite_chinook.execute("UPDATE Customer SET Phone = '1' WHERE CustomerId = 1")
    assert "chinook.Customer.Phone: 1" in left(here, request)


def test_access_to_rows_that_changed_is_not_closed(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="verifying", kind="access")
    sqlite_chinook.execute(
        "DELETE FROM InvoiceLine WHERE InvoiceId IN (SELECT InvoiceId FROM Invoice WHERE CustomerId = 1)"
    )
    with pytest.raises(VerificationFailed, match=r"chinook\.InvoiceLine: 38"):
        here.requests.verify(ANNA, request)
