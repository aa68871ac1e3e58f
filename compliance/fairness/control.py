"""Fairness as controls: rows and columns held back from the body, then the audit of its result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from compliance import frames
from compliance.controls import Call, Opening, Phase
from compliance.errors import AuditFailed, InputError, InsufficientEvidence, PurposeError
from compliance.findings import Outcome, Verdict
from compliance.frames import Frame
from compliance.policy import FairnessRule

_MOST = 50  # groups named in the trail; more distinct values than this are no groups
_SMALL = 5  # a group below this is pooled in the trail: a count of one points at a person


class References(Protocol):
    """Turns identifiers into keyed hashes; see `compliance.crypto.keys.Keyring`."""

    def references(self, subject_type: str, identifiers: list[object]) -> list[str]:
        """Return a keyed hash for each identifier."""


class HoldBack:
    """Keep from the body what the audit needs: its rows, and ``audit_only`` columns of all rows."""

    phase = Phase.HOLD_BACK

    def __init__(self, ring: References) -> None:
        self._ring = ring

    def __call__(self, call: Call) -> None:
        """Split each opening into what the body sees and what the guard keeps."""
        rule = call.activity.fairness
        if rule is not None and call.kind != "decision":
            _require_library()
        for opening in call.fresh:
            rows = len(opening.frame)
            if rule is not None:
                _require_columns(call, opening, rule)
                self._hold(call, opening, rule)
            opening.frame = opening.frame.select(_visible(call, opening))
            opening.facts["rows_for_body"] = 0 if opening.audits else len(opening.frame)
            opening.facts["rows_held_for_audit"] = rows - len(opening.frame)

    def _hold(self, call: Call, opening: Opening, rule: FairnessRule) -> None:
        if opening.audits or call.kind == "decision":
            opening.held = opening.frame
        elif rule.rows.share is not None and rule.label in opening.frame.columns:
            keys = self._keys(call, opening)
            mask = [_draw(rule.rows.seed, key) < rule.rows.share for key in keys]
            opening.held = frames.keep_rows(opening.frame, mask)
            opening.held_keys = [key for key, m in zip(keys, mask, strict=True) if m]
            opening.frame = frames.keep_rows(opening.frame, [not m for m in mask])
            if opening.subjects is not None:
                pairs = zip(opening.subjects, mask, strict=True)
                opening.subjects = [subject for subject, m in pairs if not m]
            if len(opening.frame) == 0 or len(opening.held) == 0:
                raise InputError("too few rows to hold some back for the audit; see rows.share")

    def _keys(self, call: Call, opening: Opening) -> list[str]:
        """Return a hash of each row's subject, so that all rows of a person fall on one side.

        Rows without a subject are told apart by their content: in whatever order or parts a
        body opens them again, the rows that were held back are the same.
        """
        if opening.subjects is None:
            rows = map(repr, map(tuple, map(dict.values, frames.records(opening.frame))))
            return [
                hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest() for row in rows
            ]
        kind = call.policy.dataset(opening.dataset).subject_type
        return self._ring.references(kind, opening.subjects)


def _require_library() -> None:
    """Find out before the body runs, and a budget is spent, that the audit cannot.

    Raises:
        MissingExtra: fairlearn, scipy or numpy is not installed.
    """
    from compliance.fairness import inference, reference

    inference.require()
    reference.require()


def _require_columns(call: Call, opening: Opening, rule: FairnessRule) -> None:
    """Refuse, before the body runs, data that the audit could not be made on.

    Raises:
        InputError: label or sensitive column missing, or dropped for the purpose.
        PurposeError: the body would see the data set that the audit is made on.
    """
    if call.kind == "decision" or not opening.dataset:
        return
    if opening.dataset == rule.rows.dataset and not opening.audits:
        raise PurposeError(
            f"the audit of {call.name!r} is made on {opening.dataset!r}, so its body may not see it"
        )
    labelled = rule.label in call.policy.dataset(opening.dataset).columns
    if not opening.audits and (rule.rows.share is None or not labelled):
        return
    missing = [n for n in (rule.label, *rule.sensitive) if n not in opening.frame.columns]
    if missing:
        raise InputError(
            f"the audit of {call.name!r} needs of {opening.dataset!r} the columns "
            f"{', '.join(missing)}: the function must return them, and the policy list them for "
            f"the purpose {call.purpose!r} (audit_only: true keeps them from the body)"
        )


def _draw(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _visible(call: Call, opening: Opening) -> list[str]:
    """Return the columns that the body may see: never ``audit_only``, and no label to decide by."""
    if not opening.dataset:
        return list(opening.frame.columns)
    listed = call.policy.dataset(opening.dataset).columns
    rule = call.activity.fairness
    hidden = {rule.label} if rule is not None and call.kind == "decision" else set()
    return [c for c in opening.frame.columns if not listed[c].audit_only and c not in hidden]


class Audit:
    """Run the result on the rows that were held back, and decide by the norms of the policy."""

    phase = Phase.AUDIT

    def __call__(self, call: Call) -> None:
        """Raise unless the audit passes, or the policy only wants a report."""
        rule = call.activity.fairness
        if (
            rule is None
            or call.kind == "decision"
            or (call.kind == "activity" and not released(call))
        ):
            return
        outcome = self.examine(call, rule)
        call.outcomes.append(outcome)
        call.facts |= {"fairness": outcome.verdict.value, **_figures(outcome)}
        if rule.on_fail == "report" or outcome.verdict is Verdict.PASS:
            return
        if outcome.verdict is Verdict.FAIL:
            raise AuditFailed(f"no model is released: {outcome.summary}")
        if not rule.allow_insufficient:
            raise InsufficientEvidence(
                f"no model is released: {outcome.summary} "
                "(fairness.allow_insufficient in the policy releases it all the same)"
            )

    def examine(self, call: Call, rule: FairnessRule) -> Outcome:
        """Return the outcome of the audit, checked against fairlearn."""
        from compliance.fairness import Tally, assess, crosscheck  # numpy, scipy and fairlearn

        held, source = _held(call, rule)
        predictions = _predictions(call, _features(call, held, source, rule))
        if len(predictions) != len(held):
            raise AuditFailed(f"{len(predictions)} predictions for {len(held)} audit rows")
        label = frames.column(held, rule.label)
        sensitive = {name: frames.column(held, name) for name in rule.sensitive}
        tally = Tally.from_values(label, predictions, sensitive, positive=rule.positive)
        facts = crosscheck(label, predictions, sensitive, positive=rule.positive)
        norms = {n: call.policy.norm(n) for n in rule.norms}
        return assess(tally, norms, source=source, facts=facts)


def released(call: Call) -> bool:
    """Say whether there is a model to audit and to seal."""
    return call.result is not None


def _held(call: Call, rule: FairnessRule) -> tuple[Frame, str]:
    parts = [(held, o.dataset) for o, held in _once(call)]
    if not parts:
        raise AuditFailed(
            f"no data set with the label {rule.label!r} was opened, so nothing can be audited"
        )
    if any(frame.schema != parts[0][0].schema for frame, _ in parts):
        raise AuditFailed("the audit's rows came in parts with different columns or types")
    held = parts[0][0] if len(parts) == 1 else frames.concat([frame for frame, _ in parts])
    missing = [n for n in (rule.label, *rule.sensitive) if n not in held.columns]
    if missing:
        raise AuditFailed(
            f"the audit needs the columns {', '.join(missing)}; list them for the purpose "
            "(with audit_only: true to keep them from the body)"
        )
    return held, parts[0][1]


def _once(call: Call) -> list[tuple[Opening, Frame]]:
    """Return what each opening holds; rows of subjects that an earlier one held count once."""
    parts: list[tuple[Opening, Frame]] = []
    seen: dict[str, set[str]] = {}
    for opening in call.openings:
        if opening.held is None:
            continue
        before = seen.setdefault(opening.dataset, set())
        held = opening.held
        if opening.held_keys:
            held = frames.keep_rows(held, [key not in before for key in opening.held_keys])
        before.update(opening.held_keys)
        if len(held):
            parts.append((opening, held))
    return parts


def _features(call: Call, held: Frame, dataset: str, rule: FairnessRule) -> Any:
    known = call.policy.dataset(dataset).columns if dataset else {}
    hidden = {rule.label, *(name for name, column in known.items() if column.audit_only)}
    return frames.native(held.select([c for c in held.columns if c not in hidden]))


def _predictions(call: Call, features: Any) -> list[Any]:
    predict = call.predictor or getattr(call.result, "predict", None)
    if predict is None:
        raise AuditFailed(
            "the result has no predict(); give one with run.predictor(function of a frame)"
        )
    return listed(predict(features))


def listed(values: Any) -> list[Any]:
    """Return predictions of any library as a flat list of Python values.

    Raises:
        InputError: not one value for each row.
    """
    values = values.detach().cpu() if hasattr(values, "detach") else values
    for name in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, name):
            values = getattr(values, name)()
            break
    if isinstance(values, (str, dict)) or not isinstance(values, Iterable):
        raise InputError(f"expected one value for each row, not a {type(values).__name__}")
    flat = [
        v[0] if isinstance(v, Sequence) and not isinstance(v, str) and len(v) == 1 else v
        for v in values
    ]
    if any(isinstance(v, (list, tuple, dict, set)) for v in flat):
        raise InputError("expected one value for each row, not several")
    return flat


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Return the scalars of an outcome for the trail: n, number of tests, engine."""
    return {f"fairness_{name}": value for name, value in outcome.facts.items()}


class TallyDecisions:
    """Count decisions by outcome and by group; the trail holds the counts and no row."""

    phase = Phase.AUDIT

    def __call__(self, call: Call) -> None:
        """Check that every row got one decision, and count."""
        if call.kind != "decision":
            return
        rows = sum(len(o.frame) for o in call.openings)
        decisions = call.yielded or listed(call.result)
        if len(decisions) != rows:
            raise InputError(f"{len(decisions)} decisions for {rows} rows; return one for each row")
        rule = call.activity.fairness
        call.facts["decisions"] = rows
        if rule is not None:
            positive = _favourable(decisions, rule.positive)
            call.facts["positive"] = sum(positive)
            for name in rule.sensitive:
                call.facts |= _by_group(call, name, positive)


def _favourable(decisions: list[Any], positive: Any) -> list[bool]:
    """Say which decisions are favourable; a missing one is none, nor a word for a number."""
    others = {d for d in decisions if d != positive}
    missing = any(d is None or d != d for d in others)  # noqa: PLR0124  NaN
    mixed = any(isinstance(d, str) != isinstance(positive, str) for d in others)
    if missing or mixed or len(others) > 1:
        raise InputError(
            f"decisions must be {positive!r} and one other value of its kind; return decisions, "
            "not scores, in the terms of the policy's `positive`"
        )
    return [d == positive for d in decisions]


def _by_group(call: Call, name: str, positive: list[bool]) -> dict[str, Any]:
    groups: list[Any] = []
    for opening in call.openings:
        held = opening.held
        known = held is not None and name in held.columns
        groups += (
            frames.column(held, name) if held is not None and known else [None] * len(opening.frame)
        )
    counts: dict[str, list[int]] = {}
    for group, yes in zip(groups, positive, strict=True):
        total = counts.setdefault("(unknown)" if group is None else str(group), [0, 0])
        total[0] += 1
        total[1] += yes
    if len(counts) > _MOST:
        return {f"{name}_groups": len(counts)}
    pooled = [c for c in counts.values() if c[0] < _SMALL]
    shown = {g: c for g, c in counts.items() if c[0] >= _SMALL}
    if pooled:
        shown["(groups below 5)"] = [sum(c[0] for c in pooled), sum(c[1] for c in pooled)]
    return {f"{name}={g}": f"{yes}/{n}" for g, (n, yes) in shown.items()}
