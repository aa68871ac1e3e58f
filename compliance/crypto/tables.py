"""Table of wrapped keys; the master key is never here."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class WrappedKey(Table, table=True):
    """A key wrapped by its parent (AES-KWP, RFC 5649); destroyed means ``wrapped`` is null.

    ``name`` of a subject key is a keyed hash of the subject, never an identifier, and is
    overwritten when the key is destroyed.
    """

    __tablename__ = "compliance_key"
    __table_args__ = (sa.UniqueConstraint("tenant", "kind", "name", "epoch"),)

    id: int | None = Field(default=None, primary_key=True)
    tenant: str
    kind: str
    name: str
    epoch: int = 1
    parent: int | None = None
    wrapped: bytes | None = None
    created: str
    destroyed: str | None = None
