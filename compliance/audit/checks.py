"""The checks: each turns a source into outcomes. Ids and meanings stand in docs/checks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compliance import frames
from compliance._yaml import nearest
from compliance.errors import InputError
from compliance.findings import Finding, Outcome, Place, Scalar, Severity, Verdict
from compliance.policy import Norm, PIIRule
from compliance.store import Store
from compliance.trail import checkpoint, verify

Progress = Callable[[int, int, str], None]
_CHECK = "fairness.gap"
_YES, _NO = (1, "1", "yes", "true", "y"), (0, "0", "no", "false", "n")


def quiet(_done: int, _total: int, _label: str) -> None:
    """Show no progress."""


def pii(source: str, rule: PIIRule, progress: Progress = quiet) -> Iterator[Outcome]:
    """Scan a file, a folder or a SQLAlchemy URL for personal data."""
    from compliance.pii import scan

    if "://" in source:
        yield from scan.scan_database(source, rule=rule, progress=progress)
    else:
        yield from scan.scan_path(_path(source), rule=rule, progress=progress)


def _path(source: str) -> Path:
    """Return a path that is there; a mistyped URL is not shown, it may hold a password."""
    path = Path(source)
    if not path.exists() and "@" in source:
        raise InputError("neither a file nor a database URL, such as sqlite:///file.db")
    return path


def fairness(
    source: str | Path,
    *,
    label: str,
    prediction: str,
    sensitive: Sequence[str],
    norms: Mapping[str, Norm],
    positive: Any = None,
) -> Outcome:
    """Audit the predictions in a file against norms.

    Args:
        source: a CSV, Parquet or JSONL file.
        label: the column of true outcomes.
        prediction: the column of predicted outcomes.
        sensitive: the columns of groups.
        norms: the norms to hold the gaps to, by name.
        positive: the favourable value; default: 1, true or yes, whichever occurs.

    Raises:
        InputError: columns missing, scores instead of decisions, or no positive value found.
    """
    from compliance.fairness import assess_frame

    frame = frames.read(source)
    for name in (label, prediction, *sensitive):
        _require_column(frame, name)
    if len(frame) == 0:
        return _nothing(str(source))
    values = [v for name in (label, prediction) for v in frames.distinct(frame, name)]
    return assess_frame(
        frame,
        norms,
        label=label,
        prediction=prediction,
        sensitive=sensitive,
        positive=_positive(positive, values),
        source=str(source),
    )


def _require_column(frame: frames.Frame, name: str) -> None:
    """Refuse a column that is not there; a header may hold personal data, so none but one is shown.

    Raises:
        InputError: names the nearest column.
    """
    if name not in frame.columns:
        near = nearest(name, frame.columns)
        hint = near if "did you mean" in near else "; see the first row of the file"
        raise InputError(f"no column {name!r} among {len(frame.columns)}{hint}")


def _nothing(source: str) -> Outcome:
    summary = "There is no row to audit, so nothing can be said."
    title = f"Fairness of decisions in {source}"
    return Outcome(_CHECK, title, Verdict.INSUFFICIENT, summary, facts={"rows": 0})


def _positive(given: Any, seen: Sequence[Any]) -> Any:
    """Return the favourable value as the columns write it; guess only what is unmistakable."""
    values = list(dict.fromkeys(seen))
    match = [v for v in values if _is(v, given)]
    if match:
        return match[0]
    if given is not None:
        raise InputError("the favourable value occurs neither in the labels nor the predictions")
    match = [v for v in values if _folded(v) in _YES]
    if len(match) == 1:
        return match[0]
    raise InputError("cannot tell the favourable outcome; name it with --positive VALUE")


def _is(value: Any, given: Any) -> bool:
    """Compare with what was typed: 1 is 1.0 and true; YAML reads a bare ``yes`` as true."""
    if given is None:
        return False
    if isinstance(given, bool):
        return _folded(value) in (_YES if given else _NO)
    if isinstance(value, bool):
        return str(given).strip().lower() in ({"true", "1"} if value else {"false", "0"})
    if isinstance(value, (int, float)):
        return _number(given) == value
    return bool(value == given) or str(value) == str(given)


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _folded(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def trail(
    store: Store,
    verifier: checkpoint.Verifier,
    progress: Progress = quiet,
    discrepancies: Iterable[tuple[str, str]] = (),
) -> Outcome:
    """Verify the audit store.

    Args:
        store: the database.
        verifier: knows the key that the head is signed with.
        progress: told how many entries are read.
        discrepancies: kind and message of each difference between the trail and the rows it
            vouches for; not asked for where the trail itself was changed: it is no witness then.
    """
    result = verify.check(store, verifier, lambda done, total: progress(done, total, "entries"))
    findings = tuple(
        Finding(
            "trail.verify",
            Severity.CRITICAL,
            fault.message,
            Place("trail", "entries", None if fault.index is None else str(fault.index)),
            kind=fault.kind,
            count=1,
        )
        for fault in result.faults
    )
    if not findings:
        findings = tuple(
            Finding("trail.verify", Severity.CRITICAL, message, Place("trail", kind), kind, 1)
            for kind, message in discrepancies
        )
    verdict, summary = _trail_verdict(result, findings)
    facts: dict[str, Scalar] = {
        "entries": result.size,
        "root": result.root.hex(),
        "level": result.level,
    }
    return Outcome("trail.verify", "Audit store", verdict, summary, findings, facts=facts)


def _trail_verdict(result: verify.Verification, findings: Sequence[Finding]) -> tuple[Verdict, str]:
    if result.faults:
        return Verdict.FAIL, f"The audit store was changed: {result.faults[0].message}."
    if findings:
        return Verdict.FAIL, (
            f"The trail is whole, and what it vouches for was changed: {findings[0].message}."
        )
    if not result.size:
        return Verdict.INSUFFICIENT, "The audit store holds no entry, so nothing was verified."
    return Verdict.PASS, (
        f"All {result.size} entries lead to the signed head. Level: {result.level}; NOT ANCHORED: "
        "whoever holds the signing key could have rewritten the whole log."
    )


def policy(folder: Path) -> Outcome:
    """Load the policy; a wrong one raises PolicyError with file, line and nearest key."""
    from compliance.policy import Policy

    loaded = Policy.load(folder)
    counts = {
        name: len(getattr(loaded, name))
        for name in ("roles", "purposes", "datasets", "activities", "budgets", "norms", "stores")
    }
    empty = tuple(
        Finding(
            "policy.check",
            Severity.LOW,
            f"role {name!r} has no member: nobody can act in it",
            Place(str(folder), "roles", name),
            kind="empty-role",
        )
        for name, role in loaded.roles.items()
        if not role.members and name != "impersonate"
    )
    summary = f"The policy is consistent; its digest is {loaded.digest}."
    facts: dict[str, Scalar] = {"digest": loaded.digest, **counts}
    return Outcome("policy.check", "Policy", Verdict.PASS, summary, empty, facts=facts)


def models(results: Iterable[tuple[str, str, str | None]]) -> Outcome:
    """Report sealed models: name, version, and what is wrong with each, or None."""
    rows = list(results)
    findings = tuple(
        Finding(
            "model.verify", Severity.CRITICAL, fault, Place("models", name, version), "model", 1
        )
        for name, version, fault in rows
        if fault
    )
    if not rows:
        summary, verdict = "There is no sealed model to verify.", Verdict.INSUFFICIENT
    elif findings:
        summary = f"{len(findings)} of {len(rows)} sealed models are not what was sealed."
        verdict = Verdict.FAIL
    else:
        summary, verdict = f"All {len(rows)} sealed models verify.", Verdict.PASS
    return Outcome(
        "model.verify", "Sealed models", verdict, summary, findings, facts={"models": len(rows)}
    )
