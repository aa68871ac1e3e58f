"""Tables of wrapped keys and of tokens; the master key is never here."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class WrappedKey(Table, table=True):
    """A key wrapped by its parent (AES-KWP, RFC 5649); destroyed means ``wrapped`` is null.

    ``name`` of a subject key is a keyed hash of the subject, never an identifier, and is
    overwritten when the key is destroyed. ``wrapper`` names the master that wraps a domain
    key, ``sealed`` counts the random nonces that were reserved under the key, and a key
    that is ``retired`` opens nothing until it is wanted back. ``mac`` binds kind, name, epoch
    and state to the key itself: a row that was edited does not unwrap.
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
    retired: str | None = None
    wrapper: str | None = None
    mac: bytes | None = None
    sealed: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )


class Token(Table, table=True):
    """A token and the value that it stands for, sealed; the value is found by its blind index."""

    __tablename__ = "compliance_token"
    __table_args__ = (sa.UniqueConstraint("tenant", "space", "digest"),)

    token: str = Field(primary_key=True)
    tenant: str
    space: str
    digest: str
    sealed: bytes
    created: str
