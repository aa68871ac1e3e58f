"""What every check returns: findings, tables of figures and one verdict.

A finding names the place, the kind and the count, and never a value: no field
here is meant to hold personal data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from compliance.errors import InputError

Scalar = str | int | float | bool | None


class Severity(IntEnum):
    """How much a finding matters; ordered, so that ``--fail-on`` is a comparison."""

    NOTE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @classmethod
    def parse(cls, text: str) -> Severity:
        """Return the severity with this name, in any case.

        Raises:
            InputError: no severity has it.
        """
        try:
            return cls[text.upper()]
        except KeyError:
            known = ", ".join(level.name.lower() for level in cls)
            raise InputError(f"unknown severity {text!r}; known: {known}") from None


class Verdict(StrEnum):
    """The answer of a check: undecidable is an answer of its own, never a pass."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    FAIL = "fail"
    INSUFFICIENT = "insufficient evidence"

    @classmethod
    def worst(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """Return fail over insufficient over pass; no verdict at all is insufficient."""
        order = (cls.PASS, cls.INSUFFICIENT, cls.FAIL)
        return max(verdicts, key=order.index, default=cls.INSUFFICIENT)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finding is: a source (file, URL without secrets, data set), table, column."""

    source: str
    table: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        return ".".join(part for part in (self.source, self.table, self.column) if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found.

    Attributes:
        check: the check's id, as in docs/checks.md (``pii.column``, ``fairness.gap``).
        severity: how much it matters.
        message: one sentence without any value from the data.
        place: where it is.
        kind: what it is (``EMAIL_ADDRESS``, ``demographic_parity_ratio``).
        count: how many cells, rows or people it concerns.
        evidence: further figures, by name.
    """

    check: str
    severity: Severity
    message: str
    place: Place
    kind: str = ""
    count: int = 0
    evidence: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Return 32 hex digits, equal for the same check, place and kind on every run."""
        place = self.place
        parts = (self.check, place.source, place.table or "", place.column or "", self.kind)
        text = "\x1f".join(parts)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence limits, for tables and plots."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Figures to show: columns, rows of scalars or intervals, and a caption.

    Attributes:
        plot: the name of a column of intervals to draw as dots with bars, by the first column.
        reference: a value to draw as a line across that plot.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar | Interval, ...], ...]
    caption: str = ""
    plot: str | None = None
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check on one source.

    Attributes:
        check: the check's id.
        title: a heading for people.
        verdict: pass, fail or insufficient evidence.
        summary: one sentence a person who is no engineer understands.
        findings: what was found.
        tables: the figures behind it.
        facts: further scalars, such as sample size, seed and engine.
    """

    check: str
    title: str
    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: Mapping[str, Scalar] = field(default_factory=dict)

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of this severity or worse."""
        return tuple(f for f in self.findings if f.severity >= severity)
