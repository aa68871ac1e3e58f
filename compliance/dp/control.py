"""The privacy budget as controls: reserved before the body, settled after it.

Crash points: between reservation and settlement the cap counts as spent, so that a
killed run, or one whose body raised, never gets its budget back.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from compliance.controls import Call, Opening, Phase
from compliance.dp.ledger import Ledger
from compliance.errors import NotPrivate
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
        """Raise BudgetExhausted where the budget does not cover the cap."""
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
