"""Runs that crash, meet, go stale or find no server: nothing twice, nothing false."""

import json
import signal

import pytest
from rights.office import ANNA, BEN

from compliance.errors import OperationError, RequestStateError, StalePlanError, StoreError
from compliance.policy import Store
from compliance.rights import datamap
from compliance.rights.certificate import verify_certificate

LUIS = {"email": "luisg@embraer.com.br"}
NEW_INVOICE = "INSERT INTO Invoice (InvoiceId, CustomerId, InvoiceDate, Total) VALUES (9999, 1, '2026-01-01', 1)"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
DIE_BEFORE = f"""
real = SqlConnector.erase
def erase(self, *args, commit, resumed=False):
    if commit and self.name == {{store!r}}:
        {KILL}
    return real(self, *args, commit=commit, resumed=resumed)
SqlConnector.erase = erase
office.requests.run(c.ANNA, {{request!r}})
"""
DIE_AFTER = f"""
real = SqlConnector.erase
def erase(self, *args, commit, resumed=False):
    done = real(self, *args, commit=commit, resumed=resumed)
    if commit and self.name == {{store!r}}:
        {KILL}
    return done
SqlConnector.erase = erase
office.requests.run(c.ANNA, {{request!r}})
"""
DIE_INSIDE = f"""
from compliance.rights.connectors import sql
real, calls = sql._execute, []
def execute(session, step):
    real(session, step)
    calls.append(step)
    if session.name == {{store!r}} and len(calls) > 4:
        {KILL}
sql._execute = execute
office.requests.run(c.ANNA, {{request!r}})
"""
CRM = (
    "CREATE TABLE customer (customer_id INTEGER PRIMARY KEY, email TEXT NOT NULL)",
    "INSERT INTO customer VALUES (1, 'luisg@embraer.com.br'), (2, 'b@x.example')",
)


def counts(office, request):
    envelope = office.requests.certificate(ANNA, request)
    stores = verify_certificate(envelope, office.ring.signer())["predicate"]["stores"]
    return {s["store"]: s["counts"] for s in stores}


def test_a_dry_run_counts_and_writes_nothing(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="planned")
    before = sqlite_chinook.snapshot()
    ran = here.requests.run(ANNA, request, dry_run=True)
    assert ran.dry_run
    assert ran.counts["chinook"]["Invoice"] == {"delete": 7}
    assert sqlite_chinook.snapshot() == before
    assert here.requests.get(ANNA, request).state == "planned"
    sqlite_chinook.execute(NEW_INVOICE)
    with pytest.raises(StalePlanError, match="plan again"):
        here.requests.run(ANNA, request, dry_run=True)


@pytest.mark.parametrize("death", [DIE_BEFORE, DIE_INSIDE, DIE_AFTER])
@pytest.mark.parametrize("store", ["chinook", "crm"])
def test_after_kill_9_a_run_resumes_to_the_same_end(
    sqlite_chinook, sqlite_db, office, go, in_process, death, store
):
    crm = sqlite_db(*CRM, name="crm.db")
    here = office(chinook=sqlite_chinook, crm=crm)
    request = go(here, LUIS, until="approved")
    child = in_process(here, death.format(store=store, request=request))
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, errors
    assert here.requests.get(ANNA, request).state == "running"
    with pytest.raises(RequestStateError, match="next: `compliance request run"):
        here.requests.verify(ANNA, request)
    here.requests.run(ANNA, request)
    here.requests.verify(ANNA, request)
    expected = {"Customer": {"delete": 1}, "Invoice": {"delete": 7}, "InvoiceLine": {"delete": 38}}
    assert counts(here, request) == {"chinook": expected, "crm": {"customer": {"delete": 1}}}
    assert (sqlite_chinook.counts()["Invoice"], crm.counts()["customer"]) == (405, 1)
    done = list(here.trail.read(filters={"event": "request.step", "outcome": "ok"}))
    assert [e.values["facts"]["store"] for e in done] == ["chinook", "crm"]


def test_after_kill_9_anonymised_rows_are_recognised(sqlite_chinook, office, go, in_process):
    rule = {"store": "chinook", "table": "Invoice", "basis": "tax", "article": "x"}
    here = office(chinook=sqlite_chinook, retention={"tax": rule})
    request = go(here, {"Customer.CustomerId": 1}, until="approved")
    child = in_process(here, DIE_AFTER.format(store="chinook", request=request))
    child.communicate(timeout=60)
    before = sqlite_chinook.snapshot()
    here.requests.run(ANNA, request)
    assert sqlite_chinook.snapshot() == before
    here.requests.verify(ANNA, request)
    assert sqlite_chinook.counts()["Invoice"] == 412


def test_two_processes_at_once_and_one_wins(sqlite_chinook, office, go, in_process):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    code = f"""
    import json
    from compliance.errors import RequestStateError
    real = SqlConnector.erase
    def erase(self, *args, **options):
        import time
        time.sleep(0.5)  # long enough for both to be at it
        return real(self, *args, **options)
    SqlConnector.erase = erase
    print("ready", flush=True)
    sys.stdin.read(1)
    try:
        office.requests.run(c.ANNA, {request!r})
        print("won")
    except RequestStateError:
        print("lost")
    """
    import subprocess

    both = [in_process(here, code, stdin=subprocess.PIPE) for _ in range(2)]
    for child in both:
        assert child.stdout.readline() == "ready\n"
    for child in both:
        child.stdin.write("x")
        child.stdin.flush()
    said = sorted(child.communicate(timeout=60)[0].strip() for child in both)
    assert said == ["lost", "won"]
    here.requests.verify(ANNA, request)
    assert counts(here, request)["chinook"]["Customer"] == {"delete": 1}
    steps = list(here.trail.read(filters={"event": "request.step", "outcome": "ok"}))
    assert len(steps) == 1


def test_new_rows_send_the_request_back_to_be_planned(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    sqlite_chinook.execute(NEW_INVOICE)
    before = sqlite_chinook.snapshot()
    with pytest.raises(StalePlanError, match="nothing was written: plan again"):
        here.requests.run(ANNA, request)
    assert sqlite_chinook.snapshot() == before
    assert here.requests.get(ANNA, request).state == "identified"
    here.requests.plan(ANNA, request)
    here.requests.approve(BEN, request)
    here.requests.run(ANNA, request)
    here.requests.verify(ANNA, request)
    assert counts(here, request)["chinook"]["Invoice"] == {"delete": 8}


def test_a_second_store_gone_stale_keeps_what_the_first_did(
    sqlite_chinook, sqlite_db, office, go, monkeypatch
):
    crm = sqlite_db(*CRM, name="crm.db")
    here = office(chinook=sqlite_chinook, crm=crm)
    request = go(here, LUIS, until="approved")
    from compliance.rights.connectors.sql import SqlConnector

    real = SqlConnector.erase

    def erase(self, *args, commit, resumed=False):
        if commit and self.name == "crm":  # a second row for the person, between rehearsal and work
            crm.execute("INSERT INTO customer VALUES (3, 'luisg@embraer.com.br')")
            monkeypatch.undo()
        return real(self, *args, commit=commit, resumed=resumed)

    monkeypatch.setattr(SqlConnector, "erase", erase)
    with pytest.raises(StalePlanError):
        here.requests.run(ANNA, request)
    here.requests.plan(ANNA, request)
    here.requests.approve(BEN, request)
    here.requests.run(ANNA, request)
    envelope = here.requests.verify(ANNA, request)
    stores = verify_certificate(envelope, here.ring.signer())["predicate"]["stores"]
    rows = [(s["store"], s["counts"]) for s in stores]
    assert ("crm", {"customer": {"delete": 2}}) in rows
    assert [s for s, c in rows if c] == ["chinook", "crm"]


def test_a_dead_server_leaves_the_request_running(sqlite_chinook, office, go, postgres_url, data):
    from rights.office import load_script

    load_script(postgres_url, data / "rights/chinook/Chinook_PostgreSql.sql")
    draft = datamap.discover(postgres_url)
    here = office(chinook=sqlite_chinook, far=Store(**draft))
    request = go(here, LUIS, until="approved")
    dead = office(
        chinook=sqlite_chinook, far=Store(**draft | {"url": postgres_url.replace("5432", "1")})
    )
    before = sqlite_chinook.snapshot()
    with pytest.raises(OperationError, match="check that the server runs"):
        dead.requests.run(ANNA, request)
    assert dead.requests.get(ANNA, request).state == "running"
    assert sqlite_chinook.snapshot() == before  # rehearsed everywhere before the first write
    here.requests.run(ANNA, request)
    here.requests.verify(ANNA, request)


def test_a_missing_file_is_a_dead_server_and_is_not_made(sqlite_chinook, office, go, tmp_path):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS, until="approved")
    path = tmp_path / "chinook.db"
    path.rename(tmp_path / "away.db")
    with pytest.raises(StoreError, match="no such file"):
        here.requests.run(ANNA, request)
    assert not path.exists()
    (tmp_path / "away.db").rename(path)
    here.requests.run(ANNA, request)
    assert json.loads(json.dumps(here.requests.verify(ANNA, request)))
