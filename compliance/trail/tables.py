"""Tables of the trail: entries as bytes, one head row."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class Entry(Table, table=True):
    """One entry; the columns beside ``body`` repeat parts of it for queries, and are verified.

    ``root`` is the tree's root after the last entry of an append: it tells where a log
    whose bodies and leaf hashes were both rewritten first departs from its past.
    """

    __tablename__ = "compliance_trail_entry"

    index: int = Field(
        primary_key=True, sa_type=sa.BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    body: bytes
    leaf_hash: bytes
    root: bytes | None = None
    time: str = Field(index=True)
    event: str = Field(index=True)
    actor: str = Field(index=True)
    activity: str | None = Field(default=None, index=True)
    subject: str | None = Field(default=None, index=True)
    outcome: str | None = None


class Head(Table, table=True):
    """The one row that says how long the log is; moved by compare-and-swap."""

    __tablename__ = "compliance_trail_head"

    id: int = Field(default=1, primary_key=True)
    size: int = Field(sa_type=sa.BigInteger)
    root: bytes
    frontier: bytes
    note: str
