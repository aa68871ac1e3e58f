"""The first and the last control: the intent before anything happens, the outcome after."""

from __future__ import annotations

from collections.abc import Mapping

from compliance.controls import Call, Phase, outcome_of
from compliance.findings import Scalar
from compliance.trail.entries import Event, Fact, decimal
from compliance.trail.log import Trail


class RecordIntent:
    """Write the intent; when that fails nothing else runs."""

    phase = Phase.RECORD_INTENT

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Record who is about to do what."""
        call.intent = self._trail.append(event_of(call, "intent"))


class RecordOutcome:
    """Write how the call ended, also when the body raised."""

    phase = Phase.RECORD_OUTCOME

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Record the openings and the outcome in one append."""
        opened = [
            event_of(call, "opened", {**o.facts, "audit_only": o.audits}, dataset=o.dataset)
            for o in (*call.openings, *call.fresh)
        ]
        facts = dict(call.facts)
        if call.error is not None:
            facts["error"] = type(call.error).__name__  # never its text: it may quote data
        outcome = event_of(call, "outcome", facts, outcome=outcome_of(call))
        self._trail.append(*opened, outcome)


def event_of(
    call: Call,
    what: str,
    facts: Mapping[str, Scalar] | None = None,
    *,
    dataset: str | None = None,
    outcome: str | None = None,
) -> Event:
    """Return an event of this call, with its identity, purpose and policy digest."""
    who = call.identity
    return Event(
        event=f"{call.kind}.{what}",
        actor=who.actor,
        method=str(who.method),
        account=who.account,
        on_behalf_of=who.on_behalf_of,
        activity=None if call.kind == "dataset" else call.name,
        purpose=call.purpose,
        dataset=call.name if call.kind == "dataset" else dataset,
        call=call.id,
        policy=call.policy.digest,
        outcome=outcome,
        facts={name: fact(value) for name, value in (facts or {}).items()},
    )


def fact(value: Scalar) -> Fact:
    """Return a scalar as the trail holds it: figures with a fraction as decimal strings."""
    return decimal(value) if isinstance(value, float) else value
