"""The states of a request, who may move it, when it is due, and what it may say."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rights.office import ANNA, BEN, EVE, person

from compliance.access.identity import Identity
from compliance.errors import (
    AccessDenied,
    ComplianceError,
    InputError,
    IntegrityError,
    KeyDestroyed,
    PolicyError,
    RequestStateError,
    StalePlanError,
    TrailCorrupt,
)
from compliance.policy import Method, Regulation
from compliance.rights.request import STATES, deadline
from compliance.trail import verify as trail_verify

LUIS = {"email": "luisg@embraer.com.br"}
STEPS = ("identify", "plan", "approve", "run", "verify", "certificate")
NEXT = dict(zip(STATES, (*STEPS[:4], "run", "verify", "certificate"), strict=False))


def call(office, step, request, who=ANNA):
    return getattr(office.requests, step)(who, request)


def events(office, request):
    return [e.values["event"] for e in office.trail.read() if e.values["call"] == request]


def test_each_step_moves_one_state_and_is_in_the_trail(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS)
    assert events(here, request) == [
        "request.received",
        "request.identified",
        "request.planned",
        "request.approved",
        "request.running",
        "request.step",
        "request.step",
        "request.verifying",
        "request.keys-destroyed",
        "request.closed",
    ]
    trail_verify.check(here.store, here.ring.signer()).require()
    pseudonyms = {e.values["subject"] for e in here.trail.read() if e.values["call"] == request}
    assert len(pseudonyms) == 1
    assert pseudonyms != {None}


@pytest.mark.parametrize(
    "state", ["received", "identified", "planned", "approved", "verifying", "closed"]
)
def test_a_step_out_of_turn_names_the_next_command(sqlite_chinook, office, go, state):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until=state)
    repeatable = {
        "identified": {"identify"},
        "approved": {"plan"},
        "planned": {"plan"},
        "verifying": {"plan"},
    }
    allowed = {NEXT[state], *repeatable.get(state, set())}
    for step in set(STEPS) - allowed:
        with pytest.raises(
            RequestStateError, match=f"is {state}; next: `compliance request {NEXT[state]}"
        ):
            call(here, step, request, BEN)
    assert here.requests.get(ANNA, request).state == state


def test_the_submitter_cannot_approve_under_any_name(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="planned")
    with pytest.raises(AccessDenied, match="another person than 'anna'"):
        here.requests.approve(ANNA, request)
    with pytest.raises(AccessDenied):
        here.requests.approve(Identity("anna", Method.OS, "anna", on_behalf_of="ben"), request)
    with pytest.raises(AccessDenied, match="only 'asserted'"):
        here.requests.approve(Identity("ben", Method.ASSERTED, "root"), request)
    assert here.requests.get(ANNA, request).state == "planned"
    refused = [e for e in here.trail.read() if e.values["outcome"] == "refused"]
    assert len(refused) == 3


@pytest.mark.parametrize("column", ["submitter", "approver"])
def test_who_submitted_and_approved_says_the_trail_not_the_row(sqlite_chinook, office, go, column):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="planned" if column == "submitter" else "approved")
    with here.store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE compliance_request SET {column} = 'mallory'")
    before = sqlite_chinook.snapshot()
    step = here.requests.approve if column == "submitter" else here.requests.run
    for who in (ANNA, BEN):
        with pytest.raises(TrailCorrupt, match="compliance trail verify"):
            step(who, request)
    assert sqlite_chinook.snapshot() == before


@pytest.mark.parametrize(
    "step", ["identify", "plan", "approve", "run", "verify", "get", "certificate"]
)
def test_a_role_that_may_only_submit_may_do_nothing_else(sqlite_chinook, office, go, step):
    here = office(chinook=sqlite_chinook)
    request = here.requests.submit(EVE, "erasure", LUIS)
    with pytest.raises(AccessDenied, match="has no role"):
        call(here, step, request, EVE)
    with pytest.raises(AccessDenied):
        here.requests.submit(person("mallory"), "erasure", LUIS)


def test_a_second_open_request_is_refused_and_names_the_first(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    first = here.requests.submit(ANNA, "erasure", LUIS)
    with pytest.raises(InputError, match=f"request {first} .* open already"):
        here.requests.submit(BEN, "erasure", {"Email": " LUISG@embraer.com.br"})
    other = here.requests.submit(ANNA, "access", LUIS)
    here.requests.refuse(ANNA, first, "Art. 17(3)(e): legal claims")
    third = here.requests.submit(BEN, "erasure", LUIS)
    assert {r.id for r in here.requests.listing(ANNA)} == {first, other, third}


def test_a_refusal_has_a_ground_without_a_name(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = here.requests.submit(ANNA, "erasure", LUIS)
    for ground in ("", "  ", "x" * 301, "luisg@EMBRAER.com.br is a debtor"):
        with pytest.raises(InputError, match="ground"):
            here.requests.refuse(ANNA, request, ground)
    here.requests.refuse(ANNA, request, "Art. 12(5)")
    shown = here.requests.get(ANNA, request)
    assert (shown.state, shown.ground, shown.next) == ("refused", "Art. 12(5)", "")
    [event] = here.trail.read(filters={"event": "request.refused"})
    assert b"12(5)" not in event.body  # a trail cannot forget: free text stays out of it
    with pytest.raises(RequestStateError, match="nothing is left to do"):
        here.requests.identify(ANNA, request)


def test_nothing_is_found_and_a_certificate_says_so(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    before = sqlite_chinook.snapshot()
    request = go(here, {"email": "nobody@nowhere.example"})
    assert here.requests.get(ANNA, request).found == {"chinook": {}}
    assert sqlite_chinook.snapshot() == before


@pytest.mark.parametrize(
    ("kind", "subject", "regulation", "error", "message"),
    [
        ("erase", LUIS, "gdpr", InputError, "did you mean 'erasure'"),
        ("erasure", LUIS, "gdpt", PolicyError, "did you mean 'gdpr'"),
        ("erasure", {}, "gdpr", InputError, "name the person"),
        ("erasure", {"emial": "x"}, "gdpr", InputError, "no store knows a person by 'emial'"),
        ("erasure", {"email": "  "}, "gdpr", InputError, "is empty"),
        ("erasure", {"email": "x" * 1001}, "gdpr", InputError, "too long"),
        ("erasure", {"email": "a\0b"}, "gdpr", InputError, "no text"),
        ("erasure", {"email": "\ud800"}, "gdpr", InputError, "surrogate"),
        ("erasure", {"email": 1.5}, "gdpr", InputError, "whole number"),
        ("erasure", {"Employee.Emial": "x"}, "gdpr", InputError, "no store"),
    ],
)
def test_bad_submissions_are_clear_errors_and_leave_nothing(
    sqlite_chinook, office, kind, subject, regulation, error, message
):
    here = office(chinook=sqlite_chinook)
    with pytest.raises(error, match=message):
        here.requests.submit(ANNA, kind, subject, regulation)
    assert here.requests.listing(ANNA) == []


def test_an_empty_data_map_and_an_unknown_id_say_what_to_do(office):
    here = office()
    with pytest.raises(PolicyError, match="data map is empty"):
        here.requests.submit(ANNA, "erasure", LUIS)
    with pytest.raises(InputError, match="compliance request list"):
        here.requests.identify(ANNA, "0" * 32)


def test_a_store_that_cannot_be_searched_stops_the_request(sqlite_chinook, sqlite_db, office):
    events = sqlite_db(
        "CREATE TABLE visitor (visitor_id INTEGER PRIMARY KEY, phone TEXT)", name="e.db"
    )
    here = office(chinook=sqlite_chinook, events=events)
    request = here.requests.submit(ANNA, "erasure", LUIS)
    with pytest.raises(InputError, match="store 'events' knows a person only by phone, visitor_id"):
        here.requests.identify(ANNA, request)
    assert here.requests.get(ANNA, request).state == "received"


def test_two_stores_are_joined_by_an_identifier_learned_on_the_way(sqlite_db, office, go):
    crm = sqlite_db(
        "CREATE TABLE customer (customer_no INTEGER PRIMARY KEY, email TEXT)",
        "INSERT INTO customer VALUES (71, 'ada@x.example'), (72, 'bob@x.example')",
        name="crm.db",
    )
    shop = sqlite_db(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, customer_no INTEGER, name TEXT)",
        "INSERT INTO account VALUES (71, 72, 'Bob'), (1, 71, 'Ada')",
        name="shop.db",
    )
    shop_map = {
        "url": shop.url,
        "subjects": [{"table": "account", "key": "id", "identifiers": ["customer_no"]}],
    }
    here = office(crm=crm, shop=_store(shop_map))
    go(here, {"email": "ada@x.example"})
    assert crm.snapshot()["customer"].keys() == {(72,)}
    assert shop.snapshot()["account"].keys() == {(71,)}


def _store(values):
    from compliance.policy import Store

    return Store.model_validate(values)


# -- plans ---------------------------------------------------------------------------


def test_an_exchanged_plan_is_not_run(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    before = sqlite_chinook.snapshot()
    with here.store.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE compliance_request SET plan = replace(plan, '\"rows\":38', '\"rows\":37')"
        )
    with pytest.raises(IntegrityError, match="digest differs"):
        here.requests.run(ANNA, request)
    assert sqlite_chinook.snapshot() == before


def test_a_digest_exchanged_together_with_its_plan_is_not_run(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    here.requests.plan(ANNA, request)  # a plan nobody approved, put in place by hand
    with here.store.writing() as connection:
        connection.exec_driver_sql("UPDATE compliance_request SET state = 'approved'")
    with pytest.raises(TrailCorrupt, match="was not approved as its row says"):
        here.requests.run(ANNA, request)
    with here.store.writing() as connection:
        connection.exec_driver_sql("UPDATE compliance_request SET approver = 'ben'")
    with pytest.raises(IntegrityError, match=f"compliance request plan {request}"):
        here.requests.run(ANNA, request)
    assert here.requests.get(ANNA, request).state == "running"
    here.requests.plan(ANNA, request)  # nothing was done: the way out
    here.requests.approve(BEN, request)
    here.requests.run(ANNA, request)
    here.requests.verify(ANNA, request)


def test_a_run_that_began_or_is_held_is_not_planned_again(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    changes = ("_request SET state = 'running', lease = 'x'", "_request_step SET state = 'started'")
    for change in changes:
        with here.store.writing() as connection:
            connection.exec_driver_sql(f"UPDATE compliance{change}")
        with pytest.raises(RequestStateError, match="compliance request run"):
            here.requests.plan(ANNA, request)
        with here.store.writing() as connection:
            connection.exec_driver_sql("UPDATE compliance_request SET lease = NULL")


def test_planning_again_takes_the_approval_back(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    here.requests.plan(ANNA, request)
    shown = here.requests.get(ANNA, request)
    assert (shown.state, shown.approver) == ("planned", None)


def test_a_policy_that_changed_after_the_plan_means_planning_again(sqlite_chinook, office, go):
    request = go(office(chinook=sqlite_chinook, digest="aa"), LUIS, until="approved")
    later = office(chinook=sqlite_chinook, digest="bb")
    with pytest.raises(StalePlanError, match="the policy changed"):
        later.requests.run(ANNA, request)
    assert later.requests.get(ANNA, request).state == "identified"


# -- privacy -------------------------------------------------------------------------


def test_no_personal_value_is_anywhere_of_ours(sqlite_chinook, office, go, capfd):
    here = office(chinook=sqlite_chinook)
    texts = []
    request = here.requests.submit(ANNA, "erasure", {"email": "luisg@embraer.com.br"})
    for step, who in (("identify", ANNA), ("plan", ANNA), ("approve", BEN)):
        texts.append(repr(call(here, step, request, who)))
    texts += [
        repr(here.requests.run(ANNA, request, dry_run=True)),
        repr(here.requests.get(ANNA, request)),
    ]
    sqlite_chinook.execute("INSERT INTO Genre VALUES (99, 'luisg@embraer.com.br')")
    here.requests.run(ANNA, request)
    with pytest.raises(ComplianceError) as caught:
        here.requests.verify(ANNA, request)
    assert "chinook.Genre.Name: 1" in str(caught.value)
    texts += [str(caught.value), repr(here.requests), *capfd.readouterr()]
    texts += [e.body.decode() for e in here.trail.read()]
    stored = b"".join(path.read_bytes() for path in here.folder.iterdir())
    for value in ("luisg", "embraer", "Gonçalves", "Brigadeiro"):
        assert not [t for t in texts if value.lower() in t.lower()]
        assert value.lower().encode() not in stored.lower()


def test_after_an_erasure_our_own_record_of_the_person_is_gone_too(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    pseudonym = here.ring.pseudonym("email", "luisg@embraer.com.br")
    request = go(here, LUIS, until="verifying")
    row = here.requests.desk.row(request)
    assert here.requests.desk.subject(row).identifiers == LUIS
    here.requests.verify(ANNA, request)
    with pytest.raises(KeyDestroyed):
        here.requests.desk.subject(row)
    assert here.ring.pseudonym("email", "luisg@embraer.com.br") != pseudonym
    closed = here.requests.desk.row(request)
    assert (closed.subject, closed.open_reference) == (None, None)
    assert [r.state for r in here.requests.listing(ANNA)] == ["closed"]
    assert here.requests.get(ANNA, request).digest


def test_the_key_by_which_data_sets_know_the_person_dies_with_them(sqlite_chinook, office, go):
    from compliance.policy import Store
    from compliance.rights import datamap

    draft = datamap.discover(sqlite_chinook.url)
    draft["subjects"][0]["subject_type"] = "customer"
    here = office(chinook=Store(**draft))
    before, other = here.ring.pseudonym("customer", 1), here.ring.pseudonym("customer", 2)
    go(here, LUIS)
    assert here.ring.pseudonym("customer", 1) != before
    assert here.ring.pseudonym("customer", 2) == other


# -- deadlines -----------------------------------------------------------------------

GDPR = Regulation(name="GDPR", months=1, article="12(3)")
CCPA = Regulation(name="CCPA", days=45, article="1798.130")


@pytest.mark.parametrize(
    ("received", "law", "due"),
    [
        ("2026-01-31", GDPR, "2026-02-28"),
        ("2028-01-31", GDPR, "2028-02-29"),
        ("2026-12-15", GDPR, "2027-01-15"),
        ("2026-03-31", GDPR, "2026-04-30"),
        ("2026-01-31", CCPA, "2026-03-17"),
        ("2026-11-30", Regulation(name="x", months=3, article="y"), "2027-02-28"),
    ],
)
def test_deadlines_follow_the_calendar(received, law, due):
    assert deadline(dt.date.fromisoformat(received), law) == dt.date.fromisoformat(due)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2100, 1, 1)), st.integers(1, 30))
def test_a_month_later_is_in_the_month_so_many_later_and_never_past_its_day(received, months):
    due = deadline(received, Regulation(name="x", months=months, article="y"))
    assert (due.year * 12 + due.month) - (received.year * 12 + received.month) == months
    assert due.day <= received.day
    assert due.day == received.day or (due + dt.timedelta(1)).day == 1


def test_a_request_knows_its_deadline(sqlite_chinook, office):
    now = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    here = office(chinook=sqlite_chinook, clock=lambda: now)
    request = here.requests.submit(ANNA, "erasure", LUIS, "ccpa")
    shown = here.requests.get(ANNA, request)
    assert (shown.due, shown.next) == (dt.date(2026, 3, 17), "identify")
