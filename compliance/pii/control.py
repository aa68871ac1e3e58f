"""The PII scan as a control: what the body will see, column by column, before it sees it."""

from __future__ import annotations

from compliance.controls import Call, Opening, Phase
from compliance.errors import PIIFound
from compliance.pii.scan import ScanResult, mask, scan_frame


class Scan:
    """Scan each opening and block, mask or allow what the policy says."""

    phase = Phase.SCAN

    def __call__(self, call: Call) -> None:
        """Raise PIIFound where the policy blocks; what was found is in the call's outcomes."""
        for opening in call.fresh:
            self._scan(call, opening)

    def _scan(self, call: Call, opening: Opening) -> None:
        rule = call.activity.pii
        known = call.policy.dataset(opening.dataset).columns if opening.dataset else {}
        source = opening.dataset or "(unregistered)"
        declared = {name: column.pii for name, column in known.items()}
        result = scan_frame(opening.frame, source=source, rule=rule, declared=declared)
        call.outcomes.append(result.outcome)
        opening.facts |= _facts(result, rule.action)
        if not result.outcome.findings or rule.action == "allow":
            return
        if rule.action == "block":
            raise PIIFound(_sentence(source, result))
        opening.frame = mask(opening.frame, result)
        if opening.held is not None:
            opening.held = mask(opening.held, result)


def _facts(result: ScanResult, action: str) -> dict[str, str | int | float | bool | None]:
    found = {f"{f.place.column}:{f.kind}": f.count for f in result.outcome.findings}
    facts = {f"pii_{name}": value for name, value in result.outcome.facts.items()}
    return facts | {"pii_action": action, "pii_findings": len(found), **found}


def _sentence(source: str, result: ScanResult) -> str:
    places = ", ".join(f"{f.place.column} ({f.kind})" for f in result.outcome.findings[:5])
    return (
        f"{source}: personal data in columns not declared to hold it: {places}; remove the column, "
        "declare it in the policy (datasets.*.columns.*.pii), or set pii.action to mask"
    )
