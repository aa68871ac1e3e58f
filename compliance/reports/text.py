"""Plain text for a terminal: the verdict first, then findings by severity, figures and facts.

No colour codes and nothing that a terminal would obey: a report reads the same
in a pipe, a log and an e-mail.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from compliance.findings import Finding, Outcome, Scalar, Table, Verdict
from compliance.reports import wording

WIDTH = 96  # columns of a terminal

_GAP = "   "


def to_text(outcomes: Sequence[Outcome], *, title: str, facts: Mapping[str, Scalar]) -> str:
    """Return text whose lines are at most `WIDTH` columns wide."""
    verdict = Verdict.worst(o.verdict for o in outcomes)
    lines = [
        *_wrapped(f"{verdict.upper()}: {title}"),
        *_wrapped(wording.headline(outcomes)),
        *_checks(outcomes),
        *_findings(outcomes),
        *_figures(outcomes),
        *_facts(facts),
    ]
    return "\n".join(lines) + "\n"


def _checks(outcomes: Sequence[Outcome]) -> Iterator[str]:
    if outcomes:
        yield from ("", "CHECKS")
    for outcome in outcomes:
        yield from _wrapped(f"{outcome.verdict.upper()}  {outcome.title} ({outcome.check})", 2)
        yield from _wrapped(outcome.summary, 6)


def _findings(outcomes: Sequence[Outcome]) -> Iterator[str]:
    found = wording.ranked(outcomes)
    yield from ("", f"FINDINGS: {len(found) or 'none'}")
    for finding in found:
        yield from _finding(finding)


def _finding(finding: Finding) -> Iterator[str]:
    where = f"{wording.name(finding.kind or finding.check)} at {wording.name(finding.place)}"
    yield from _wrapped(f"{finding.severity.name:<8}  {where}  (count {finding.count:,})", 2)
    yield from _wrapped(finding.message, 12)
    yield from _wrapped("; ".join(_pairs(finding.evidence)), 12)


def _figures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        for table in outcome.tables:
            yield ""
            yield from _wrapped(f"{outcome.title}: {table.title}")
            yield from _table(table)
            yield from _wrapped(table.caption, 2)


def _facts(facts: Mapping[str, Scalar]) -> Iterator[str]:
    if facts:
        yield from ("", "FACTS")
    for pair in _pairs(facts):
        yield from _wrapped(pair, 2)


def _pairs(facts: Mapping[str, Scalar]) -> list[str]:
    return [f"{wording.label(key)}: {wording.scalar(value)}" for key, value in facts.items()]


# -- layout ------------------------------------------------------------------------


def _table(table: Table) -> Iterator[str]:
    """Return aligned columns if they fit; else a paragraph for each row, so that none is cut."""
    heads = [wording.name(column) for column in table.columns]
    rows = wording.text_rows(table)
    widths = [max(map(_width, column)) for column in zip(heads, *rows, strict=True)]
    if 2 + sum(widths) + len(_GAP) * (len(widths) - 1) > WIDTH:
        for row in rows:
            yield from _wrapped("; ".join(f"{h}: {c}" for h, c in zip(heads, row, strict=True)), 2)
        return
    right = [wording.is_numeric(column) for column in wording.columns_of(table)]
    ruler = tuple("-" * width for width in widths)
    for row in (tuple(heads), ruler, *rows):
        aligned = map(_aligned, row, widths, right)
        yield ("  " + _GAP.join(aligned)).rstrip()


def _aligned(cell: str, width: int, right: bool) -> str:  # noqa: FBT001  one flag of each column
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Return the terminal columns that a text takes: wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Return a paragraph as lines; later lines stand under the first."""
    text = wording.plain(text)
    narrow = _width(text) <= len(text)
    space = " " * indent
    room = WIDTH - indent
    # A character takes two columns at most, so half the characters always fit.
    lines = textwrap.wrap(text, room if narrow else room // 2, break_on_hyphens=False)
    return [space + line.rstrip() for line in lines]
