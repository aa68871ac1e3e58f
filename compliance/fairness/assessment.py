"""The verdict: a norm is failed only when the gap exceeds it and chance does not explain it.

Every attribute, and every pair of attributes, is held to every norm. Over all
these tests together a process that treats all groups alike fails with
probability alpha at most (Holm). Where the gap exceeds the norm and chance may
explain it, or too few groups are large enough, the verdict is insufficient
evidence: more data is needed, and it is no pass.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compliance.errors import InputError, PolicyError
from compliance.fairness.arrays import Floats, np
from compliance.fairness.inference import CONFIDENCE, DEALT, FISHER, Beyond, contrast, holm
from compliance.fairness.metrics import DISPARITIES, Disparity, gap
from compliance.fairness.reference import combined, crosscheck_frame
from compliance.fairness.tables import gap_table, group_table, held
from compliance.fairness.tally import UNKNOWN, Tally
from compliance.findings import Finding, Outcome, Place, Scalar, Severity, Table, Verdict
from compliance.policy import Norm

CHECK = "fairness.gap"
ROUNDING = 1e-12
"""A rate that meets the norm exactly may miss it by a rounding: .24 / .3 < .8."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One attribute (or pair) held to one norm.

    Attributes:
        attributes: one name, or two for an intersection.
        name: of the norm in the policy.
        value: the gap among the groups held; None where undefined.
        p: how likely chance alone makes such a gap; None where nothing could be tested.
        adjusted: p for the number of tests; 1 where the gap is within the norm.
        held: groups large enough for every rate of the metric.
        groups: all groups.
        rows: rows in the groups held.
    """

    attributes: tuple[str, ...]
    name: str
    norm: Norm
    held: int
    groups: int
    rows: int
    value: float | None = None
    p: float | None = None
    adjusted: float | None = None

    @property
    def metric(self) -> Disparity:
        """Return the metric that the norm names."""
        return DISPARITIES[self.norm.metric]

    @property
    def threshold(self) -> float:
        """Return the norm's limit."""
        limit = self.norm.at_most if self.metric.kind == "difference" else self.norm.at_least
        assert limit is not None  # noqa: S101  _check_norms saw to it
        return limit

    @property
    def exceeds(self) -> bool:
        """Say whether the gap lies beyond the norm."""
        return self.value is not None and bool(
            self.value > self.threshold + ROUNDING
            if self.metric.kind == "difference"
            else self.value < self.threshold - ROUNDING
        )

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of this test alone."""
        if self.value is None or self.adjusted is None:
            return Verdict.INSUFFICIENT
        if not self.exceeds:
            return Verdict.PASS
        return Verdict.FAIL if self.adjusted < self.norm.alpha else Verdict.INSUFFICIENT

    @property
    def where(self) -> str:
        """Return the attributes in words."""
        return " x ".join(self.attributes)

    def beyond(self, low: Floats, high: Floats) -> Any:
        """Say which pairs of rates lie beyond the norm; two rates of zero never do."""
        if self.metric.kind == "difference":
            return high - low > self.threshold + ROUNDING
        return low < (self.threshold - ROUNDING) * high


def assess(
    tally: Tally,
    norms: Mapping[str, Norm],
    *,
    source: str,
    intersections: bool = True,
    facts: Mapping[str, Scalar] | None = None,
) -> Outcome:
    """Hold a tally to norms.

    Groups below a norm's ``least_group`` (cases behind the rate) are shown and not
    held to it. Rows without an attribute value form a group of their own, which is
    held like any other: leaving the value out must not hide a gap.

    Args:
        tally: what was counted.
        norms: by name; each metric a difference with ``at_most`` or a ratio with ``at_least``.
        source: what was audited (a file, a data set), for the findings.
        intersections: also hold each pair of attributes.
        facts: further facts for the outcome, such as those of `crosscheck`.

    Raises:
        InputError: no norm, or a tally without rows or attributes.
        PolicyError: a norm with an unknown metric, or a limit on the wrong side.
    """
    _check_norms(norms)
    if not tally.total or not tally.attributes:
        raise InputError("the tally holds no rows or no attributes: there is nothing to assess")
    combinations = combined(tally.attributes, intersections=intersections)
    tallies = {attributes: tally.by(*attributes) for attributes in combinations}
    gates = _corrected([_gate(t, n, norm) for t in tallies.values() for n, norm in norms.items()])
    return Outcome(
        check=CHECK,
        title=f"Fairness of decisions by {', '.join(tally.attributes)}",
        verdict=Verdict.worst(gate.verdict for gate in gates),
        summary=_summary(gates, tally.total),
        findings=(*_gap_findings(gates, source), *_group_findings(tallies, norms, source)),
        tables=_tables(tallies, norms, gates),
        facts={**_facts(tally, norms, gates), **(facts or {})},
    )


def assess_frame(
    frame: Any,
    norms: Mapping[str, Norm],
    *,
    label: str,
    prediction: str,
    sensitive: Sequence[str],
    positive: Hashable,
    source: str,
    intersections: bool = True,
    verify: bool = True,
) -> Outcome:
    """Count a frame, verify the counts with fairlearn (unless told not to), and hold it to norms.

    Raises:
        IntegrityError: fairlearn computes another figure.
        MissingExtra: fairlearn is not installed.
        InputError: as `Tally.of`.
    """
    tally = Tally.of(
        frame, label=label, prediction=prediction, sensitive=sensitive, positive=positive
    )
    facts: Mapping[str, Scalar] = {"fairlearn": None}
    if verify:
        facts = crosscheck_frame(
            frame,
            label=label,
            prediction=prediction,
            sensitive=sensitive,
            positive=positive,
            intersections=intersections,
        )
    return assess(tally, norms, source=source, intersections=intersections, facts=facts)


def _check_norms(norms: Mapping[str, Norm]) -> None:
    if not norms:
        raise InputError("name at least one norm to hold the decisions to")
    for name, norm in norms.items():
        if norm.metric not in DISPARITIES:
            known = ", ".join(DISPARITIES)
            raise PolicyError(f"norm {name}: {norm.metric!r} compares no groups; known: {known}")
        side = "at_most" if DISPARITIES[norm.metric].kind == "difference" else "at_least"
        if getattr(norm, side) is None:
            raise PolicyError(f"norm {name}: {norm.metric} takes {side}")


# -- one test --------------------------------------------------------------------


def _gate(tally: Tally, name: str, norm: Norm) -> Gate:
    rates = DISPARITIES[norm.metric].rates
    parts = [rate.parts(tally) for rate in rates]
    large = held(tally, norm)
    gate = Gate(
        attributes=tally.attributes,
        name=name,
        norm=norm,
        held=int(large.sum()),
        groups=len(tally.groups),
        rows=int(tally.counts[large].sum()),
    )
    if gate.held < 2:  # noqa: PLR2004  a gap needs two groups
        return gate
    kept = [(hits[large], cases[large]) for hits, cases in parts]
    value = gate.metric.worst([gap(gate.metric.kind, *part) for part in kept])
    gate = replace(gate, value=value)
    # Where the gap is within the norm, p speaks of any gap at all and decides nothing.
    beyond: Beyond | None = gate.beyond if gate.exceeds else None
    p = min(contrast(hits, cases, beyond).p for hits, cases in kept)
    return replace(gate, p=min(1.0, len(kept) * p))  # Bonferroni over the metric's rates


def _corrected(gates: list[Gate]) -> list[Gate]:
    """Adjust for every test that was made; a gap within its norm cannot fail, so its p is 1."""
    tested = [gate for gate in gates if gate.p is not None]
    raw = [gate.p if gate.exceeds and gate.p is not None else 1.0 for gate in tested]
    adjusted = iter(holm(raw))
    return [gate if gate.p is None else replace(gate, adjusted=next(adjusted)) for gate in gates]


# -- what people read ------------------------------------------------------------


def _told(gate: Gate) -> str:
    """Return what a test found, as the middle of a sentence."""
    if gate.held < 2:  # noqa: PLR2004  a gap needs two groups
        return (
            f"by {gate.where}, {gate.held} of {gate.groups} groups have the "
            f"{gate.norm.least_group} cases that the norm {gate.name} asks for; two are needed"
        )
    if gate.value is None:
        return f"by {gate.where}, the {gate.metric.title} is zero in every group: no ratio"
    if gate.metric.kind == "ratio":
        found = (
            f"by {gate.where}, the lowest {gate.metric.title} is {gate.value:.1%} of the highest, "
            f"where the norm {gate.name} asks for at least {gate.threshold:.0%}"
        )
    else:
        found = (
            f"by {gate.where}, the {gate.metric.title} differs by {100 * gate.value:.1f} "
            f"percentage points, where the norm {gate.name} allows {100 * gate.threshold:.0f}"
        )
    return f"{found} ({_chance(gate)})"


def _chance(gate: Gate) -> str:
    if not gate.exceeds:
        return _p(gate.p)
    said = f"{_p(gate.p)}, {_p(gate.adjusted)} after correction"
    if gate.verdict is Verdict.FAIL:
        return f"{said}: chance does not explain it"
    return f"{said}: chance may explain it"


def _p(value: float | None) -> str:
    """Return a p-value in words; it is never told as zero."""
    if value is None:
        return "p unknown"
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"  # noqa: PLR2004  four places


def _summary(gates: list[Gate], rows: int) -> str:
    """Return the verdict in one sentence that a person who is no engineer understands."""
    tests = f"{len(gates)} comparison{'s' if len(gates) > 1 else ''} over {rows:,} decisions"
    verdict = Verdict.worst(gate.verdict for gate in gates)
    chosen = [gate for gate in gates if gate.verdict is verdict]
    if verdict is Verdict.PASS:
        return f"In {tests}, every gap between groups is within its norm."
    more = f" {len(chosen) - 1} further comparison(s) ended alike." if len(chosen) > 1 else ""
    first = min(chosen, key=lambda gate: 1.0 if gate.p is None else gate.p)
    if verdict is Verdict.FAIL:
        return f"In {tests}, groups are treated differently: {_told(first)}.{more}"
    return f"In {tests}, the evidence does not suffice for a verdict: {_told(first)}.{more}"


def _gap_findings(gates: list[Gate], source: str) -> list[Finding]:
    severity = {Verdict.FAIL: Severity.HIGH, Verdict.INSUFFICIENT: Severity.LOW}
    return [
        Finding(
            check=CHECK,
            severity=severity[gate.verdict],
            message=_sentence(_told(gate)),
            place=Place(source, column=gate.where),
            kind=gate.norm.metric,
            count=gate.rows,
            evidence=_evidence(gate),
        )
        for gate in gates
        if gate.verdict is not Verdict.PASS
    ]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _evidence(gate: Gate) -> dict[str, Scalar]:
    return {
        "verdict": str(gate.verdict),
        "value": gate.value,
        "norm": gate.name,
        "threshold": gate.threshold,
        "p": gate.p,
        "p_adjusted": gate.adjusted,
        "alpha": gate.norm.alpha,
        "groups_held": gate.held,
        "groups": gate.groups,
        "basis": gate.norm.basis,
        "dated": gate.norm.dated.isoformat(),
    }


def _group_findings(
    tallies: Mapping[tuple[str, ...], Tally], norms: Mapping[str, Norm], source: str
) -> list[Finding]:
    """Return a note for groups too small to be held, and one for rows without a value."""
    notes = []
    for attributes, tally in tallies.items():
        sizes = tally.counts.sum(axis=1)
        place = Place(source, column=" x ".join(attributes))
        small = ~np.logical_and.reduce([held(tally, norm) for norm in norms.values()])
        if small.any():
            message = (
                f"{int(small.sum())} of {len(sizes)} groups are too small to be held to every norm."
            )
            notes.append(_note("fairness.small_group", message, place, int(sizes[small].sum())))
        unknown = np.array([UNKNOWN in group for group in tally.groups])
        if unknown.any() and len(attributes) == 1:
            count = int(sizes[unknown].sum())
            message = f"{count:,} rows have no value; they are counted as a group of their own."
            notes.append(_note("fairness.unknown", message, place, count))
    return notes


def _note(check: str, message: str, place: Place, count: int) -> Finding:
    return Finding(check, Severity.NOTE, message, place, kind="group", count=count)


def _tables(
    tallies: Mapping[tuple[str, ...], Tally], norms: Mapping[str, Norm], gates: list[Gate]
) -> tuple[Table, ...]:
    by_group = (group_table(tally, norms) for tally in tallies.values())
    rows = [
        (
            g.where,
            g.name,
            g.norm.metric,
            g.value,
            g.threshold,
            g.p,
            g.adjusted if g.exceeds else None,
            f"{g.held} of {g.groups}",
            str(g.verdict),
            f"{g.norm.basis} ({g.norm.dated.isoformat()})",
        )
        for g in gates
    ]
    return (gap_table(rows), *by_group)


def _facts(tally: Tally, norms: Mapping[str, Norm], gates: list[Gate]) -> dict[str, Scalar]:
    return {
        "n": tally.total,
        "alpha": max(norm.alpha for norm in norms.values()),
        "tests": sum(gate.p is not None for gate in gates),
        "correction": "Holm",
        "test": f"{FISHER} (two groups), {DEALT} (more)",
        "confidence": CONFIDENCE,
        "seed": 0,
    }
