"""The first and the last control: the intent before anything happens, the outcome after."""

from __future__ import annotations

from collections.abc import Mapping

from compliance.controls import Call, Opening, Phase, outcome_of
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


class RecordOpened:
    """Write what is opened before the body sees a row: a kill in the body leaves it known."""

    phase = Phase.RECORD_OPENED

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Record the openings; when that fails the body gets none of them."""
        if call.fresh:
            self._trail.append(*(_opening(call, "opened", o) for o in call.fresh))


class RecordOutcome:
    """Write how the call ended, also when the body raised."""

    phase = Phase.RECORD_OUTCOME

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Record the outcome, and the openings that were refused, in one append."""
        refused = [_opening(call, "refused", o) for o in call.fresh]
        facts = dict(call.facts)
        if call.error is not None:
            facts["error"] = type(call.error).__name__  # never its text: it may quote data
        outcome = event_of(call, "outcome", facts, outcome=outcome_of(call))
        self._trail.append(*refused, outcome)


def _opening(call: Call, what: str, opening: Opening) -> Event:
    facts = {**opening.facts, "audit_only": opening.audits}
    return event_of(call, what, facts, dataset=opening.dataset)


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
        facts={_ascii(name): fact(value) for name, value in (facts or {}).items()},
    )


def _ascii(name: str) -> str:
    """Return a fact's name as the trail takes it: columns and groups may be in any script."""
    return name.encode("ascii", "backslashreplace").decode()


def fact(value: Scalar) -> Fact:
    """Return a scalar as the trail holds it: figures with a fraction as decimal strings."""
    return decimal(value) if isinstance(value, float) else value
