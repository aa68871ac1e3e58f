"""Leases: one process runs a request; after a crash another may take over at once.

A token fences: it changes with every claim, and only its holder may mark a step. The
claim of a process that is provably gone (same boot, same PID namespace) is free; one of
another machine is free when it expires.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from pathlib import Path

import sqlalchemy as sa

from compliance.errors import RequestStateError
from compliance.rights.desk import REQUEST, Desk, Row
from compliance.trail.entries import Event, stamp

LASTS = dt.timedelta(minutes=15)


def claim(desk: Desk, row: Row, event: Event) -> Row:
    """Mark a request as running by this process; return the row as it is then.

    Raises:
        RequestStateError: another process runs it, or was faster.
    """
    if row.lease and not _free(row, desk.clock()):
        raise RequestStateError(f"request {row.id} is being run by another process; wait for it")
    values = {"state": "running", **_terms(desk)}
    with desk.store.writing() as connection:
        desk.move(connection, row, event, values)
    return desk.row(row.id)


def renew(desk: Desk, row: Row, connection: sa.Connection) -> None:
    """Return when the lease is still ours, and prolong it.

    Raises:
        RequestStateError: another process has taken over.
    """
    until = stamp(desk.clock() + LASTS)
    mine = (REQUEST.c.id == row.id) & (REQUEST.c.lease == row.lease)
    if connection.execute(sa.update(REQUEST).where(mine).values(lease_until=until)).rowcount != 1:
        raise RequestStateError(f"request {row.id} was taken over by another process")


def release(desk: Desk, row: Row) -> None:
    """Give the lease back, if it is still ours."""
    mine = (REQUEST.c.id == row.id) & (REQUEST.c.lease == row.lease)
    with desk.store.writing() as connection:
        connection.execute(sa.update(REQUEST).where(mine).values(**NONE))


NONE = {"lease": None, "lease_owner": None, "lease_until": None}


def _terms(desk: Desk) -> dict[str, str]:
    return {
        "lease": secrets.token_hex(16),
        "lease_owner": _process(os.getpid()),
        "lease_until": stamp(desk.clock() + LASTS),
    }


def _free(row: Row, now: dt.datetime) -> bool:
    return bool(row.lease_until < stamp(now)) or _gone(row.lease_owner)


def _gone(owner: str) -> bool:
    """Return whether the process certainly ended; another boot or namespace cannot be judged."""
    place, _, rest = owner.rpartition("|")
    pid = rest.partition(":")[0]
    return bool(place) and place == _machine() and _process(int(pid)) != owner


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> str:
    """Return a name that no later process with the same PID has."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return f"{_machine()}|{pid}:"
    state, started = fields[0], fields[19]
    return f"{_machine()}|{pid}:{'' if state in 'ZX' else started}"
