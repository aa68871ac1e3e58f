"""Tables of the budget ledger: one account for each budget, one reservation for each run.

Amounts are whole numbers, so that a hundred times .01 is 1 exactly: epsilon in units of
1e-9, delta in units of 1e-18.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field

from compliance.store import Table


class BudgetAccount(Table, table=True):
    """What a budget has given away; its row is the lock that every request takes.

    ``epsilon`` and ``delta`` are the sum over the budget's reservations of what each
    counts: the settled figure, or the reserved one while there is none. They move in the
    transaction that writes the reservation. The caps are those of the last request.
    """

    __tablename__ = "compliance_budget_account"

    budget: str = Field(primary_key=True)
    epsilon: int = Field(default=0, sa_type=sa.BigInteger)
    delta: int = Field(default=0, sa_type=sa.BigInteger)
    epsilon_cap: int = Field(sa_type=sa.BigInteger)
    delta_cap: int = Field(sa_type=sa.BigInteger)


class BudgetReservation(Table, table=True):
    """One run's claim on a budget: spent at the cap until it is settled lower."""

    __tablename__ = "compliance_budget_reservation"

    id: int | None = Field(default=None, primary_key=True)
    budget: str = Field(index=True)
    dataset: str
    unit: str
    activity: str
    actor: str
    reserved_at: str
    epsilon: int = Field(sa_type=sa.BigInteger)
    delta: int = Field(sa_type=sa.BigInteger)
    settled_at: str | None = None
    settled_epsilon: int | None = Field(default=None, sa_type=sa.BigInteger)
    settled_delta: int | None = Field(default=None, sa_type=sa.BigInteger)
