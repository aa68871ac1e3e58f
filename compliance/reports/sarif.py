"""SARIF 2.1.0 (OASIS Standard, errata 01): findings for code-scanning services.

A finding is a result of kind ``fail``. A check that could not decide is a
result of kind ``open``, whose level the standard fixes at ``none`` (§3.27.10).
A check that passed leaves no result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from compliance.findings import Finding, Outcome, Place, Scalar, Severity, Verdict
from compliance.frames import SUFFIXES
from compliance.reports import wording

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
FINGERPRINT = "complianceFinding/v1"
NOTHING_AUDITED = "report.nothing-audited"

LEVELS: Mapping[Severity, str] = {
    Severity.NOTE: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
_FILES = {*SUFFIXES, ".db", ".json", ".sqlite", ".sqlite3", ".txt"}
_ROOT = "ROOT"

_Json = dict[str, Any]


def to_sarif(outcomes: Sequence[Outcome], *, title: str, facts: Mapping[str, Scalar]) -> str:
    """Return one run; ``facts["tool_version"]`` becomes the driver's version."""
    rules = _rules(outcomes)
    index = {rule["id"]: i for i, rule in enumerate(rules)}
    properties = {
        "title": wording.plain(title),
        "verdict": Verdict.worst(o.verdict for o in outcomes).value,
        "facts": wording.json_scalars(facts),
    }
    run: _Json = {
        "tool": {"driver": _driver(facts) | {"rules": rules}},
        "invocations": [{"executionSuccessful": True}],
        "originalUriBaseIds": {_ROOT: {"uri": "file:///"}},
        "results": [r | {"ruleIndex": index[r["ruleId"]]} for r in _results(outcomes)],
        "properties": properties,
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _driver(facts: Mapping[str, Scalar]) -> _Json:
    version = facts.get("tool_version")
    known = {"version": wording.scalar(version)} if version is not None else {}
    return {"name": "compliance-toolkit"} | known


def _rules(outcomes: Sequence[Outcome]) -> list[_Json]:
    """Return each check once, by id; its words are the title of the first outcome of that id."""
    titles = {f.check: f.check for o in outcomes for f in o.findings}
    titles |= {o.check: o.title for o in reversed(outcomes)}
    if not outcomes:
        titles[NOTHING_AUDITED] = "Nothing was audited"
    return [
        {"id": wording.plain(check), "shortDescription": {"text": _prose(words)}}
        for check, words in sorted(titles.items())
    ]


def _results(outcomes: Sequence[Outcome]) -> Iterator[_Json]:
    for outcome in outcomes:
        yield from (_result(f) for f in outcome.findings)
        if outcome.verdict is Verdict.INSUFFICIENT:
            yield _verdict(outcome.check, outcome.title, outcome.summary, "open", "none")
        elif outcome.verdict is Verdict.FAIL and not outcome.findings:
            yield _verdict(outcome.check, outcome.title, outcome.summary, "fail", "error")
    if not outcomes:
        words = wording.headline(outcomes)
        yield _verdict(NOTHING_AUDITED, "", words, "open", "none")


def _result(finding: Finding) -> _Json:
    return {
        "ruleId": wording.plain(finding.check),
        "kind": "fail",
        "level": LEVELS[finding.severity],
        "message": {"text": _prose(finding.message)},
        "locations": [_location(finding.place)],
        "partialFingerprints": {FINGERPRINT: finding.fingerprint},
        "properties": {
            "severity": finding.severity.name.lower(),
            "kind": wording.plain(finding.kind),
            "count": finding.count,
            "evidence": wording.json_scalars(finding.evidence),
        },
    }


def _verdict(check: str, title: str, words: str, kind: str, level: str) -> _Json:
    """Return a result about a check as a whole, which is at no place."""
    same = Finding(check, Severity.NOTE, "", Place(title), kind=f"verdict:{kind}")
    return {
        "ruleId": wording.plain(check),
        "kind": kind,
        "level": level,
        "message": {"text": _prose(words)},
        "partialFingerprints": {FINGERPRINT: same.fingerprint},
    }


def _prose(text: str) -> str:
    """Return a message in which no name can pose as an embedded link (§3.11.6)."""
    return wording.plain(text).replace("](", "] (") or "(no text)"


def _location(place: Place) -> _Json:
    """Return where a finding is: the file if it is one, and the table or column within."""
    location: _Json = {}
    if is_file(place.source):
        location["physicalLocation"] = {"artifactLocation": artifact(place.source)}
    logical = list(_logical(place))
    if logical:
        location["logicalLocations"] = logical
    return location


def _logical(place: Place) -> Iterator[_Json]:
    if not is_file(place.source):
        yield _named(place.source, place.source, "resource")
    if place.table:
        yield _named(place.table, f"{place.source}.{place.table}", "table")
    if place.column:
        yield _named(place.column, str(place), "column")


def _named(name: str, full: str, kind: str) -> _Json:
    return {"name": wording.name(name), "fullyQualifiedName": wording.plain(full), "kind": kind}


def is_file(source: str) -> bool:
    """Say whether a source is a path and not a URL or the name of a data set."""
    if "://" in source:
        return False
    return "/" in source or "\\" in source or PurePath(source).suffix.lower() in _FILES


def artifact(source: str) -> _Json:
    """Return a relative, percent-encoded reference; an absolute path is relative to ROOT."""
    path = PurePath(source)
    uri = quote(path.as_posix().lstrip("/"), safe="/", errors="surrogatepass")
    return {"uri": uri, "uriBaseId": _ROOT} if path.is_absolute() else {"uri": uri}
