"""Tables of the requests: what names the person stands in them sealed, and goes with the key."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class RequestRow(Table, table=True):
    """A request; whose it is stands in it sealed.

    ``subject`` opens with the person's key. ``open_reference`` is a keyed hash that keeps two
    open requests of a kind apart; it is null once the request is over. ``lease`` fences a
    run: whoever holds the newest token may write.
    """

    __tablename__ = "compliance_request"

    id: str = Field(primary_key=True)
    kind: str
    regulation: str
    state: str = Field(index=True)
    submitter: str
    approver: str | None = None
    received: str
    due: str
    closed: str | None = None
    ground: str | None = None
    open_reference: str | None = Field(default=None, unique=True)
    subject: bytes | None = None
    found: str | None = Field(default=None, sa_type=sa.Text)
    generation: int = 0
    plan: str | None = Field(default=None, sa_type=sa.Text)
    digest: str | None = None
    certificate: str | None = Field(default=None, sa_type=sa.Text)
    lease: str | None = None
    lease_owner: str | None = None
    lease_until: str | None = None


class RequestStep(Table, table=True):
    """The work in one store under one plan: ``pending``, ``started`` or ``done``.

    ``sealed`` holds the secret part of the store's plan, under the person's key.
    """

    __tablename__ = "compliance_request_step"

    request: str = Field(primary_key=True)
    generation: int = Field(
        primary_key=True, sa_type=sa.Integer, sa_column_kwargs={"autoincrement": False}
    )
    store: str = Field(primary_key=True)
    position: int
    state: str
    visible: str = Field(sa_type=sa.Text)
    sealed: bytes | None = None
    finished: str | None = None
