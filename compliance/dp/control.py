"""The privacy budget as controls: reserved before the body, settled after it.

Crash points: between reservation and settlement the cap counts as spent, so that a
killed run, or one whose body raised, never gets its budget back.
"""

from __future__ import annotations

from collections import Counter

from compliance.controls import Call, Phase
from compliance.dp.ledger import Ledger
from compliance.errors import NotPrivate
from compliance.findings import Scalar
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
        if budget.unit == "subject":
            _one_row_each(call, budget.dataset)
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


def _one_row_each(call: Call, dataset: str) -> None:
    """DP-SGD protects one row; where the unit is a person, a person must be one row."""
    for opening in call.openings:
        if opening.dataset == dataset and opening.subjects is not None and not opening.audits:
            most = max(Counter(map(str, opening.subjects)).values(), default=0)
            if most > 1:
                raise NotPrivate(
                    f"one subject has {most} rows in {dataset!r}, but the budget protects subjects "
                    "and training protects rows: aggregate to one row each, or set unit: row"
                )


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
        if call.private is not None:
            call.result = call.private.release(call.result)
            call.facts["private"] = True
        elif rule.required:
            raise NotPrivate(
                f"the policy demands differential privacy of {call.name!r} and the body never "
                "called run.private(model, optimizer, loader, epochs=...)"
            )


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
