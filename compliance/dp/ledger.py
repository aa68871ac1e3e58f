"""The budget ledger: no sequence of requests, crashes or processes overspends a budget.

A run reserves its worst case before it starts and settles what it spent at the end.
Losses add up (basic composition: the sum of the epsilons and of the deltas; Dwork and
Roth 2014, Theorem 3.16), which holds for requests chosen adaptively. Between the two
the reservation counts in full: a run that was killed stays spent at its cap.

Who owns what: the account row owns the sum and is locked first by every request, on
SQLite by the write transaction itself. Sum and reservation commit together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from compliance.dp.tables import BudgetAccount, BudgetReservation
from compliance.errors import BudgetExhausted, InputError
from compliance.policy import Budget
from compliance.store import Store

_ACCOUNT = BudgetAccount.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
_RESERVATION = BudgetReservation.__table__  # type: ignore[attr-defined]  # as above
_EPSILON = 9  # decimal places
_DELTA = 18
_MOST = 2**62  # far below what a BIGINT holds, so that sums cannot overflow

Amount = float | Decimal


@dataclass(frozen=True, slots=True)
class Reservation:
    """A granted claim: what the run may spend at most."""

    id: int
    budget: str
    epsilon: Decimal
    delta: Decimal


@dataclass(frozen=True, slots=True)
class Spending:
    """Where a budget stands.

    Attributes:
        epsilon_total: the cap; None where the budget was never drawn on and none was given.
        reserved: held by runs that have not settled; spent for all purposes.
        settled: spent by runs that have.
        remaining: what the next run may reserve; never below 0.
        runs: how many reservations were granted, the ``unsettled`` ones among them.
    """

    budget: str
    epsilon_total: Decimal | None
    reserved: Decimal
    settled: Decimal
    remaining: Decimal | None
    delta_total: Decimal | None
    delta_reserved: Decimal
    delta_settled: Decimal
    delta_remaining: Decimal | None
    runs: int
    unsettled: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """One line of a budget's history; settled figures are None while the run is open."""

    id: int
    budget: str
    dataset: str
    unit: str
    activity: str
    actor: str
    reserved_at: str
    epsilon: Decimal
    delta: Decimal
    settled_at: str | None
    settled_epsilon: Decimal | None
    settled_delta: Decimal | None


class Ledger:
    """The budgets of one database."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def reserve(
        self,
        connection: sa.Connection | None,
        budget_name: str,
        budget: Budget,
        epsilon: Amount,
        delta: Amount,
        *,
        activity: str,
        actor: str,
    ) -> Reservation:
        """Claim a run's worst case, durably once the transaction has committed.

        Args:
            connection: the caller's write transaction; None for one of our own.
            budget_name: the budget's name in the policy.
            budget: its caps, as in force now.
            epsilon: above 0; rounded up to nine places.
            delta: 0 or more, below 1; rounded up to eighteen places.
            activity: who spends.
            actor: who asked.

        Raises:
            BudgetExhausted: what is left does not cover the request; nothing was reserved.
            InputError: a figure is out of range.
        """
        asked = (_epsilon(epsilon), _delta(delta))
        if asked[0] == 0:
            raise InputError("epsilon must be above 0")
        with self._writing(connection) as inside:
            account = _locked(inside, budget_name, _caps(budget))
            _require_room(budget_name, account, asked, _caps(budget))
            values = {
                "budget": budget_name,
                "dataset": budget.dataset,
                "unit": budget.unit,
                "activity": activity,
                "actor": actor,
                "reserved_at": _now(),
                "epsilon": asked[0],
                "delta": asked[1],
            }
            insert = sa.insert(_RESERVATION).values(values).returning(_RESERVATION.c.id)
            number = int(inside.execute(insert).scalar_one())
            _move(inside, budget_name, asked, _caps(budget))
        return Reservation(
            number, budget_name, _units(asked[0], _EPSILON), _units(asked[1], _DELTA)
        )

    def settle(
        self,
        reservation: Reservation,
        epsilon: Amount,
        delta: Amount,
        *,
        connection: sa.Connection | None = None,
    ) -> None:
        """Replace a reservation by what the run spent, and free the rest.

        Settling again at the same figures changes nothing.

        Raises:
            BudgetExhausted: more than was reserved; the reservation stays spent.
            InputError: unknown, or settled before at other figures.
        """
        spent = (_epsilon(epsilon), _delta(delta))
        with self._writing(connection) as inside:
            _locked(inside, reservation.budget)
            row = _reservation(inside, reservation)
            if row.settled_at is not None:
                _require_same(row, spent)
                return
            if spent[0] > row.epsilon or spent[1] > row.delta:
                raise BudgetExhausted(
                    f"the run spent more of budget {reservation.budget!r} than it had reserved; "
                    "the reservation stays spent"
                )
            values = {"settled_at": _now(), "settled_epsilon": spent[0], "settled_delta": spent[1]}
            inside.execute(
                sa.update(_RESERVATION).where(_RESERVATION.c.id == row.id).values(values)
            )
            _move(inside, reservation.budget, (spent[0] - row.epsilon, spent[1] - row.delta))

    def spending(self, budget_name: str, budget: Budget | None = None) -> Spending:
        """Return where a budget stands, summed over its reservations.

        Args:
            budget_name: the budget's name in the policy.
            budget: its caps; default: those of the last request.
        """
        with self.store.reading() as connection:
            sums = connection.execute(_sums(budget_name)).one()
        caps = _caps(budget) if budget else (sums.epsilon_cap, sums.delta_cap)
        return Spending(
            budget_name,
            *_standing(caps[0], int(sums.reserved), int(sums.settled), _EPSILON),
            *_standing(caps[1], int(sums.delta_reserved), int(sums.delta_settled), _DELTA),
            runs=int(sums.runs),
            unsettled=int(sums.unsettled),
        )

    @staticmethod
    def held_in(connection: sa.Connection, budget_name: str) -> tuple[Decimal, Decimal]:
        """Return the epsilon and delta that are given away, in the caller's own transaction.

        Account and reservations say the same; where a hand made them differ, the lesser.
        """
        sums = connection.execute(_sums(budget_name)).one()
        query = sa.select(_ACCOUNT.c.epsilon, _ACCOUNT.c.delta)
        account = connection.execute(query.where(_ACCOUNT.c.budget == budget_name)).one_or_none()
        epsilon, delta = (0, 0) if account is None else (account.epsilon, account.delta)
        return (
            _units(min(epsilon, int(sums.reserved + sums.settled)), _EPSILON),
            _units(min(delta, int(sums.delta_reserved + sums.delta_settled)), _DELTA),
        )

    def history(self, budget_name: str) -> list[Drawing]:
        """Return every reservation of a budget, oldest first."""
        query = sa.select(_RESERVATION).where(_RESERVATION.c.budget == budget_name)
        with self.store.reading() as connection:
            rows = connection.execute(query.order_by(_RESERVATION.c.id)).all()
        return [_drawing(row) for row in rows]

    @contextmanager
    def _writing(self, connection: sa.Connection | None) -> Iterator[sa.Connection]:
        if connection is not None:
            yield connection
            return
        with self.store.writing() as own:
            yield own


# -- inside the transaction ---------------------------------------------------------

_Pair = tuple[int, int]


def _locked(connection: sa.Connection, budget: str, caps: _Pair | None = None) -> Any:
    """Return the account under a lock that lasts until the transaction ends.

    The first request of a budget opens the account; where two do so at once, the
    primary key lets one through and the other waits for it.
    """
    query = sa.select(_ACCOUNT).where(_ACCOUNT.c.budget == budget).with_for_update()
    account = connection.execute(query).one_or_none()
    if account is None and caps is None:
        raise InputError(f"budget {budget!r} has no reservations")
    if account is None and caps is not None:
        values = {"budget": budget, "epsilon_cap": caps[0], "delta_cap": caps[1]}
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(_ACCOUNT).values(epsilon=0, delta=0, **values))
        except sa.exc.IntegrityError:  # another process opened it meanwhile
            return _locked(connection, budget)
        account = connection.execute(query).one()
    return account


def _require_room(budget: str, account: Any, asked: _Pair, caps: _Pair) -> None:
    left = (caps[0] - account.epsilon, caps[1] - account.delta)
    if asked[0] <= left[0] and asked[1] <= left[1]:
        return
    short = _text(max(left[0], 0), _EPSILON), _text(max(left[1], 0), _DELTA)
    raise BudgetExhausted(
        f"budget {budget!r} has epsilon {short[0]} and delta {short[1]} left, and the run asks "
        f"for epsilon {_text(asked[0], _EPSILON)} and delta {_text(asked[1], _DELTA)}; lower the "
        "activity's cap, or have the budget raised in policies/"
    )


def _move(connection: sa.Connection, budget: str, by: _Pair, caps: _Pair | None = None) -> None:
    values: dict[str, Any] = {
        "epsilon": _ACCOUNT.c.epsilon + by[0],
        "delta": _ACCOUNT.c.delta + by[1],
    }
    if caps is not None:
        values |= {"epsilon_cap": caps[0], "delta_cap": caps[1]}
    connection.execute(sa.update(_ACCOUNT).where(_ACCOUNT.c.budget == budget).values(values))


def _reservation(connection: sa.Connection, reservation: Reservation) -> Any:
    here = (_RESERVATION.c.id == reservation.id) & (_RESERVATION.c.budget == reservation.budget)
    row = connection.execute(sa.select(_RESERVATION).where(here)).one_or_none()
    if row is None:
        raise InputError(f"budget {reservation.budget!r} has no reservation {reservation.id}")
    return row


def _require_same(row: Any, spent: _Pair) -> None:
    if (row.settled_epsilon, row.settled_delta) != spent:
        raise InputError(f"reservation {row.id} was settled before, at other figures")


def _sums(budget: str) -> sa.Select[Any]:
    """One statement, so that sums and caps are of one moment."""
    table = _RESERVATION.c
    is_open = table.settled_at.is_(None)

    def total(column: Any, *, when: Any) -> Any:
        return sa.func.coalesce(sa.func.sum(sa.case((when, column), else_=0)), 0)

    def cap(column: Any) -> Any:
        return sa.select(column).where(_ACCOUNT.c.budget == budget).scalar_subquery()

    return sa.select(
        total(table.epsilon, when=is_open).label("reserved"),
        total(table.settled_epsilon, when=~is_open).label("settled"),
        total(table.delta, when=is_open).label("delta_reserved"),
        total(table.settled_delta, when=~is_open).label("delta_settled"),
        sa.func.count(table.id).label("runs"),
        total(1, when=is_open).label("unsettled"),
        cap(_ACCOUNT.c.epsilon_cap).label("epsilon_cap"),
        cap(_ACCOUNT.c.delta_cap).label("delta_cap"),
    ).where(table.budget == budget)


# -- amounts -------------------------------------------------------------------------


def rounded(epsilon: Amount, delta: Amount) -> tuple[Decimal, Decimal]:
    """Return what a request for these figures takes from a budget: both rounded up."""
    return _units(_epsilon(epsilon), _EPSILON), _units(_delta(delta), _DELTA)


def _epsilon(value: Amount) -> int:
    return _whole(value, "epsilon", _EPSILON, ROUND_CEILING)


def _delta(value: Amount) -> int:
    units = _whole(value, "delta", _DELTA, ROUND_CEILING)
    if units >= 10**_DELTA:
        raise InputError("delta must be below 1")
    return units


def _caps(budget: Budget) -> _Pair:
    """What a budget grants is rounded down, what a run asks for is rounded up."""
    return (
        _whole(budget.epsilon, "epsilon", _EPSILON, ROUND_FLOOR),
        _whole(budget.delta, "delta", _DELTA, ROUND_FLOOR),
    )


def _whole(value: Amount, name: str, places: int, rounding: str) -> int:
    """Return an amount in its smallest units; a float means the decimal it prints as."""
    try:
        number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    except (TypeError, ValueError):
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise InputError(f"{name} must be a number, 0 or more")
    with localcontext(prec=60):
        units = int(number.scaleb(places).to_integral_value(rounding))
    if units > _MOST:
        raise InputError(f"{name} is too large for a budget")
    return units


def _units(value: int, places: int) -> Decimal:
    return Decimal(value).scaleb(-places)


def _text(value: int, places: int) -> str:
    """Return an amount as people write it: ``0.01``, ``1E-5``."""
    return f"{float(_units(value, places)):g}"


def _standing(
    cap: int | None, reserved: int, settled: int, places: int
) -> tuple[Decimal | None, Decimal, Decimal, Decimal | None]:
    left = None if cap is None else _units(max(cap - reserved - settled, 0), places)
    total = None if cap is None else _units(cap, places)
    return total, _units(reserved, places), _units(settled, places), left


def _drawing(row: Any) -> Drawing:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented way to a row's names
    for name in ("epsilon", "settled_epsilon", "delta", "settled_delta"):
        places = _EPSILON if name.endswith("epsilon") else _DELTA
        values[name] = None if values[name] is None else _units(values[name], places)
    return Drawing(**values)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
