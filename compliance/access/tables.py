"""Table of consent events; the latest one of a subject and purpose is in force."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class ConsentEvent(Table, table=True):
    """A subject, by keyed hash, gave or withdrew consent for a purpose, or opted out of it.

    ``entry`` is the index of the trail's entry that vouches for the row and the rest of its
    batch; a later entry is a later word.
    """

    __tablename__ = "compliance_consent_event"
    __table_args__ = (sa.Index("ix_compliance_consent_event_lookup", "purpose", "reference"),)

    id: int | None = Field(default=None, primary_key=True)
    reference: str
    purpose: str
    state: str
    time: str
    actor: str
    entry: int = Field(sa_type=sa.BigInteger, index=True)
