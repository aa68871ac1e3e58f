"""JUnit XML for continuous integration: a suite for each check, a case for each finding.

Red and green agree with the verdict: findings of a check that passed are cases
that pass and carry their words; a check that could not decide is skipped. The
last case of each suite is the check's own verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compliance.findings import Finding, Outcome, Scalar, Severity, Verdict
from compliance.reports import wording
from compliance.reports.markup import Node, node, to_xml


def to_junit(outcomes: Sequence[Outcome], *, title: str, facts: Mapping[str, Scalar]) -> str:
    """Return the document; no outcome at all is one skipped case."""
    suites = [_suite(outcome, facts) for outcome in outcomes] or [_nothing(facts)]
    return to_xml(node("testsuites", *suites, name=title, **_counts(suites)))


def _suite(outcome: Outcome, facts: Mapping[str, Scalar]) -> Node:
    cases = [_finding(f, outcome.verdict) for f in outcome.findings]
    cases.append(_verdict(outcome.check, outcome.verdict, outcome.summary))
    properties = _properties({**facts, **outcome.facts})
    return node("testsuite", properties, *cases, name=outcome.title, **_counts(cases))


def _nothing(facts: Mapping[str, Scalar]) -> Node:
    case = _verdict("report", Verdict.INSUFFICIENT, wording.headline(()))
    name = "Nothing was audited"
    return node("testsuite", _properties(facts), case, name=name, **_counts([case]))


def _properties(facts: Mapping[str, Scalar]) -> Node | None:
    items = [node("property", name=k, value=wording.scalar(v)) for k, v in facts.items()]
    return node("properties", *items) if items else None


def _counts(nodes: Sequence[Node]) -> dict[str, int]:
    """Return the totals of cases, however deep they lie."""
    cases = [case for n in nodes for case in n.iter("testcase")]
    failed = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"tests": len(cases), "failures": failed, "errors": 0, "skipped": skipped}


def _finding(finding: Finding, verdict: Verdict) -> Node:
    heading = f"{finding.kind or 'finding'} at {finding.place}"
    if verdict is Verdict.FAIL and finding.severity is Severity.NOTE:
        verdict = Verdict.PASS
    kind = finding.severity.name.lower()
    return _case(finding.check, heading, verdict, kind, finding.message, _details(finding))


def _verdict(check: str, verdict: Verdict, summary: str) -> Node:
    return _case(check, "verdict", verdict, "verdict", summary, summary)


def _case(check: str, name: str, verdict: Verdict, kind: str, message: str, body: str) -> Node:
    if verdict is Verdict.FAIL:
        child = node("failure", body, type=kind, message=message)
    elif verdict is Verdict.INSUFFICIENT:
        child = node("skipped", message=message)
    else:
        child = node("system-out", body)
    return node("testcase", child, classname=check, name=name)


def _details(finding: Finding) -> str:
    figures = {"count": finding.count, **finding.evidence, "fingerprint": finding.fingerprint}
    listed = "; ".join(f"{wording.name(k)}: {wording.scalar(v)}" for k, v in figures.items())
    return f"[{finding.severity.name}] {finding.message} ({listed})"
