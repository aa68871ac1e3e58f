"""The privacy budget as controls: reserved before the body, settled after it.

Crash points: between reservation and settlement the cap counts as spent, so that a
killed run, or one whose body raised, never gets its budget back.

The ledger is rows that a hand could edit; the trail is signed. What the trail says was
spent is compared with the ledger under the budget's lock, before any run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from compliance.controls import Call, Opening, Phase
from compliance.dp.ledger import Ledger, rounded
from compliance.errors import IntegrityError, NotPrivate
from compliance.findings import Scalar
from compliance.policy import Budget
from compliance.trail.control import event_of
from compliance.trail.log import Trail

Facts = dict[str, Scalar]


class Reserve:
    """Reserve the activity's cap for one run; the trail entry commits with it."""

    phase = Phase.RESERVE

    def __init__(self, ledger: Ledger, trail: Trail) -> None:
        self._ledger = ledger
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Reserve the cap, or leave everything as it was.

        Raises:
            BudgetExhausted: the budget does not cover the cap.
            IntegrityError: the trail says that more was spent than the ledger holds.
        """
        rule = call.activity.privacy
        if rule is None:
            return
        budget = call.policy.budgets[rule.budget]
        require_unit(call, budget)
        with self._ledger.store.writing() as connection:
            call.reservation = self._ledger.reserve(
                connection,
                rule.budget,
                budget,
                rule.epsilon,
                rule.delta,
                activity=call.name,
                actor=call.identity.actor,
            )
            facts: Facts = {"budget": rule.budget, "epsilon": rule.epsilon, "delta": rule.delta}
            self._trail.append_in(connection, event_of(call, "reserved", facts))
            for fault in _short(connection, self._ledger, self._trail, (rule.budget,)):
                raise IntegrityError(
                    f"{fault}: restore the database from a backup; see `compliance trail verify`"
                )


_SPENDING = tuple(
    f"{kind}.{what}" for kind in ("training", "activity") for what in ("reserved", "settled")
)
_Spent = dict[str, dict[Any, tuple[Decimal, Decimal]]]


def discrepancies(
    ledger: Ledger, trail: Trail, budgets: Collection[str] | None = None
) -> tuple[str, ...]:
    """Say which budgets' ledgers hold less than the trail says was spent of them.

    Both are read in one snapshot. What the trail itself holds is taken at its word: verify
    it first.

    Args:
        ledger: the budgets.
        trail: the trail of the same database.
        budgets: their names; default: all that the trail ever saw drawn on.
    """
    with ledger.store.reading() as connection:
        return tuple(_short(connection, ledger, trail, budgets))


def _short(
    connection: sa.Connection, ledger: Ledger, trail: Trail, budgets: Collection[str] | None
) -> Iterator[str]:
    for budget, calls in _spent(connection, trail).items():
        if budgets is not None and budget not in budgets:
            continue
        held = ledger.held_in(connection, budget)
        epsilon, delta = (sum(amounts, Decimal()) for amounts in zip(*calls.values(), strict=True))
        if epsilon > held[0] or delta > held[1]:
            yield f"the ledger of budget {budget!r} holds less than the trail says was spent"


def _spent(connection: sa.Connection, trail: Trail) -> _Spent:
    """Return what each call spent of each budget; what was settled replaces what was reserved."""
    spent: _Spent = {}
    for entry in trail.events_in(connection, _SPENDING):
        facts = entry.values["facts"]
        amounts = rounded(_amount(facts["epsilon"]), _amount(facts["delta"]))
        spent.setdefault(facts["budget"], {})[entry.values["call"]] = amounts
    return spent


def _amount(fact: Any) -> Decimal:
    return Decimal(str(fact))


def require_unit(call: Call, budget: Budget) -> None:
    """DP-SGD protects one row; where the unit is a person, a person must be one row.

    All openings of the budget's data set count together: a body may open it in parts, and
    may not open it twice.

    Raises:
        NotPrivate: a subject has several rows, or rows belong to nobody that is known.
    """
    if budget.unit != "subject":
        return
    rows: Counter[str] = Counter()
    for opening in call.openings:
        if not opening.audits and opening.dataset in {"", budget.dataset}:
            rows.update(map(_text, _subjects(opening)))
    most = max(rows.values(), default=0)
    if most > 1:
        raise NotPrivate(
            f"one subject has {most} rows in {budget.dataset!r}, but the budget protects subjects "
            "and training protects rows: aggregate to one row each, open the data set once, or "
            "set unit: row"
        )


def _subjects(opening: Opening) -> list[Any]:
    if opening.subjects is None:
        raise NotPrivate(
            f"the budget protects subjects, and {opening.dataset or 'unregistered data'} names "
            "none: declare its subject column, or set unit: row"
        )
    return opening.subjects


def _text(subject: Any) -> str:
    """Return a subject as text: 7, 7.0 and "7" are one person, as databases mix them."""
    whole = isinstance(subject, (float, Decimal)) and subject == subject // 1
    return str(int(subject) if whole else subject).strip()


class Deliver:
    """Check, before anything is audited or sealed, that demanded privacy was delivered."""

    phase = Phase.AUDIT

    def __call__(self, call: Call) -> None:
        """Raise NotPrivate where the body trained without, or returned another model.

        What goes on is the plain module, free of hooks, gradients and activations.
        """
        rule = call.activity.privacy
        if rule is None or (call.kind == "activity" and call.result is None):
            return
        require_unit(call, call.policy.budgets[rule.budget])
        if call.private is not None:
            call.result = call.private.release(call.result)
            call.facts["private"] = True
        elif rule.required:
            raise NotPrivate(
                f"the policy demands differential privacy of {call.name!r} and the body never "
                "called run.private(model, optimizer, loader, epochs=...)"
            )


class Unchanged:
    """Check, after the audit and before sealing, that predicting did not change the model."""

    phase = Phase.SEAL

    def __call__(self, call: Call) -> None:
        """Raise NotPrivate where the predictor left other parameters than the private steps."""
        if call.private is not None and call.result is not None:
            call.private.check(call.result)


class Settle:
    """Settle the reservation at what the accountant says was spent."""

    phase = Phase.SETTLE

    def __init__(self, ledger: Ledger, trail: Trail) -> None:
        self._ledger = ledger
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Settle what was delivered; in every other case what was reserved stays spent."""
        rule = call.activity.privacy
        if rule is None or call.reservation is None or "private" not in call.facts:
            return
        spent = call.private.epsilon_spent()
        delta = rule.delta if spent else 0.0
        call.facts |= {"epsilon": spent, "delta": delta, "steps": call.private.steps}
        with self._ledger.store.writing() as connection:
            self._ledger.settle(call.reservation, spent, delta, connection=connection)
            facts: Facts = {"budget": rule.budget, "epsilon": spent, "delta": delta}
            self._trail.append_in(connection, event_of(call, "settled", facts))
