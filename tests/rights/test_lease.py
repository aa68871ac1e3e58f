"""One process runs a request; a dead one holds nothing, a living one everything."""

import datetime as dt
import os
import subprocess
import sys

import pytest
from rights.office import ANNA

from compliance.errors import RequestStateError
from compliance.rights import lease

LUIS = {"email": "luisg@embraer.com.br"}


@pytest.fixture
def waiting(sqlite_chinook, office, go):
    time = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]
    here = office(chinook=sqlite_chinook, clock=lambda: time[0])
    here.time = time
    here.request = go(here, LUIS, until="approved")
    here.desk = here.requests.desk
    return here


def claim(here):
    row = here.desk.row(here.request)
    return lease.claim(here.desk, row, here.desk.event("running", ANNA, here.request))


def owner(here, process):
    with here.store.writing() as connection:
        connection.exec_driver_sql("UPDATE compliance_request SET lease_owner = ?", (process,))


def test_a_living_process_is_not_disturbed_until_its_lease_expires(waiting):
    claim(waiting)
    with pytest.raises(RequestStateError, match="run by another process"):
        waiting.requests.run(ANNA, waiting.request)
    waiting.time[0] += lease.LASTS + dt.timedelta(seconds=1)
    waiting.requests.run(ANNA, waiting.request)


def test_a_process_that_is_gone_holds_nothing(waiting):
    if not lease._machine():
        pytest.skip("missing: /proc, which says that a process ended")
    claim(waiting)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner(waiting, lease._process(child.pid))
        with pytest.raises(RequestStateError):
            claim(waiting)
        child.kill()
        child.wait()
        claim(waiting)


def test_another_machine_is_waited_for(waiting):
    claim(waiting)
    owner(waiting, "other-boot/pid:[1]|1:1")
    with pytest.raises(RequestStateError):
        claim(waiting)


def test_a_reused_process_number_is_another_process(waiting):
    claim(waiting)
    owner(waiting, lease._process(os.getpid()) + "1")
    claim(waiting)


def test_who_lost_the_lease_may_write_no_more(waiting):
    old = claim(waiting)
    waiting.time[0] += lease.LASTS + dt.timedelta(seconds=1)
    claim(waiting)
    with (
        pytest.raises(RequestStateError, match="taken over"),
        waiting.store.writing() as connection,
    ):
        lease.renew(waiting.desk, old, connection)
    lease.release(waiting.desk, old)
    assert waiting.desk.row(waiting.request).lease is not None
