"""What a scan says of one table: findings, a verdict, and what was not read."""

from __future__ import annotations

from dataclasses import dataclass, field

from compliance.findings import Finding, Outcome, Place, Scalar, Severity, Table, Verdict
from compliance.pii.detect import Detector
from compliance.pii.kinds import KINDS
from compliance.policy import PIIRule

CHECK = "pii.column"
_STATES = {"": "nothing found", "unread": "binary, not read", "sealed": "sealed"}
_NAMED = 10  # columns that a summary names


@dataclass(frozen=True, slots=True)
class ColumnResult:
    """What one column holds of one kind; ``kind`` is empty where nothing was found.

    Attributes:
        column: the column as reports name it; a header that is itself personal data is replaced.
        kind: the kind of personal data.
        basis: ``content``, or ``header`` where the column's name tipped the scale.
        share: of the sampled distinct cells, those that hold the kind.
        score: the mean of those cells' best scores.
        sampled: distinct cells read.
        distinct: distinct cells there are.
        hits: sampled cells that hold the kind.
        reported: the share reaches the policy's least share.
        declared: the policy declares the kind for this column.
        name: the column's own name, for `mask`; kept out of repr.
        state: ``unread`` where it holds bytes, which are not read; ``sealed`` where its cells all
            look like sealed cells; else empty.
    """

    column: str
    kind: str
    basis: str
    share: float
    score: float
    sampled: int
    distinct: int
    hits: int
    reported: bool
    declared: bool
    name: str = field(repr=False)
    state: str = ""

    @property
    def flagged(self) -> bool:
        """Say whether this is personal data that nobody declared."""
        return self.reported and not self.declared


def outcome_of(
    results: tuple[ColumnResult, ...],
    place: Place,
    rule: PIIRule,
    detector: Detector,
    totals: dict[str, Scalar],
) -> Outcome:
    """Return the outcome of one table.

    A column of bytes that nobody read passes nothing: without findings the verdict is then that
    the evidence is insufficient. Sealed cells are what they should be, and decide nothing.
    """
    findings = tuple(_finding(r, place) for r in results if r.flagged)
    facts: dict[str, Scalar] = {
        "engine": detector.engine,
        "names": detector.names,
        "sample": rule.sample,
        "seed": rule.seed,
        "least_score": rule.least_score,
        "least_share": rule.least_share,
        "columns_declared": len({r.name for r in results if r.reported and r.declared}),
        "columns_below_share": len({r.name for r in results if r.kind and not r.reported}),
        "columns_unread": len(_in_state(results, "unread")),
        "columns_sealed": len(_in_state(results, "sealed")),
    }
    empty = not totals["cells_distinct"] and not totals["cells_textless"]
    verdict = Verdict.FAIL if findings else Verdict.PASS
    if not findings and (empty or facts["columns_unread"]):
        verdict = Verdict.INSUFFICIENT
    summary = _summary(results, findings, empty=empty)
    title = f"Personal data in {place}"
    return Outcome(CHECK, title, verdict, summary, findings, (_table(results),), facts | totals)


def severity_of(kind: str) -> Severity:
    """Return how much a kind of personal data matters."""
    return KINDS[kind].severity if kind in KINDS else Severity.MEDIUM


def _in_state(results: tuple[ColumnResult, ...], state: str) -> list[str]:
    """Return the columns in a state, as reports name them, each once."""
    return list({r.name: r.column for r in results if r.state == state}.values())


def _summary(
    results: tuple[ColumnResult, ...], findings: tuple[Finding, ...], *, empty: bool
) -> str:
    unread, sealed = (_in_state(results, state) for state in ("unread", "sealed"))
    parts = [_read(results, findings, empty=empty)]
    if unread:
        parts.append(f"Binary cells were not read in {_listed(unread)}.")
    if sealed:
        parts.append(f"Sealed cells, which hide what they hold, are in {_listed(sealed)}.")
    return " ".join(parts)


def _read(results: tuple[ColumnResult, ...], findings: tuple[Finding, ...], *, empty: bool) -> str:
    """Say what is known of the columns of which something was read."""
    if empty:
        return "There is no cell to scan, so nothing can be said."
    total = len({r.name for r in results})
    read = len({r.name for r in results if not r.state or r.sampled})
    of = f"{total} columns" if read == total else f"{read} columns that were read"
    held = len({f.place.column for f in findings})
    if not held:
        return f"None of {of} holds undeclared personal data of the kinds looked for."
    return f"{held} of {of} hold personal data that the policy does not declare."


def _listed(columns: list[str]) -> str:
    """Return how many columns and their names, of which a long list names the first."""
    rest = len(columns) - _NAMED
    names = ", ".join(columns[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(columns)} column{'' if len(columns) == 1 else 's'}: {names}"


def _finding(result: ColumnResult, place: Place) -> Finding:
    by = "its header and the form of its cells" if result.basis == "header" else "its cells"
    return Finding(
        CHECK,
        severity_of(result.kind),
        f"The column holds {result.kind}, by {by}; declare it in the policy, mask it or drop it.",
        Place(place.source, place.table, result.column),
        result.kind,
        result.hits,
        {
            "share": result.share,
            "score": result.score,
            "sampled": result.sampled,
            "distinct": result.distinct,
            "basis": result.basis,
        },
    )


def _table(results: tuple[ColumnResult, ...]) -> Table:
    columns = ("column", "kind", "basis", "share", "score", "hits", "sampled", "distinct", "status")
    rows = tuple(
        (r.column, r.kind, r.basis, r.share, r.score, r.hits, r.sampled, r.distinct, _status(r))
        for r in results
    )
    return Table("Columns", columns, rows, "Counts are of distinct cells in the sample.")


def _status(result: ColumnResult) -> str:
    if not result.kind:
        return _STATES[result.state]
    if not result.reported:
        return "below the least share"
    return "declared" if result.declared else "not declared"
