"""Findings become documents: text, JSON, SARIF, JUnit or HTML, and safely a file.

No renderer reads a clock, a terminal or the environment: the same outcomes,
title and facts give the same characters everywhere.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from compliance.errors import InputError, OperationError
from compliance.findings import Finding, Interval, Outcome, Scalar, Table, Verdict
from compliance.reports import wording
from compliance.reports.html import to_html
from compliance.reports.junit import to_junit
from compliance.reports.sarif import to_sarif
from compliance.reports.text import to_text

Format = Literal["text", "json", "sarif", "junit", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)

SCHEMA_VERSION = 1
_MODE = 0o644


def report(
    outcomes: Sequence[Outcome],
    format: Format | str,  # noqa: A002  the name of the command line's flag
    *,
    title: str,
    facts: Mapping[str, Scalar],
) -> str:
    """Return the outcomes as a document.

    Args:
        outcomes: what the checks returned; none at all is the verdict insufficient.
        format: one of `FORMATS`.
        title: the document's heading.
        facts: about the run as a whole. ``tool_version``, ``policy_digest`` and
            ``generated_at`` (ISO 8601) are the usual ones; any key is shown.

    Raises:
        InputError: an unknown format, a ragged table, or a value that is no scalar.
    """
    if format not in _RENDERERS:
        near = difflib.get_close_matches(str(format), FORMATS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown format {format!r}{hint} (known: {', '.join(FORMATS)})")
    for table in (table for outcome in outcomes for table in outcome.tables):
        wording.text_rows(table)
    return _RENDERERS[format](outcomes, title=title, facts=facts)


# -- JSON ------------------------------------------------------------------------


def to_json(outcomes: Sequence[Outcome], *, title: str, facts: Mapping[str, Scalar]) -> str:
    """Return the outcomes as JSON, in ASCII, with nothing shortened.

    Schema version 1; a later version may add keys, and removes or renames none::

        schema_version  1
        title           text
        verdict         "pass" | "fail" | "insufficient evidence"
        facts           {name: scalar}
        outcomes        [{check, title, verdict, summary, facts,
                          findings: [{check, severity, message, kind, count, evidence, fingerprint,
                                      place: {source, table, column}}],
                          tables: [{title, caption, columns, plot, reference,
                                    rows: [[scalar | {value, low, high}]]}]}]

    ``severity`` is ``note`` to ``critical``. A scalar is text, number, boolean
    or null; an undefined figure is null, an infinite one ``"inf"`` or ``"-inf"``.
    ``fingerprint`` is equal for the same check, place and kind on every run.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "verdict": Verdict.worst(o.verdict for o in outcomes).value,
        "facts": wording.json_scalars(facts),
        "outcomes": [_json_outcome(o) for o in outcomes],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _json_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "check": outcome.check,
        "title": outcome.title,
        "verdict": outcome.verdict.value,
        "summary": outcome.summary,
        "facts": wording.json_scalars(outcome.facts),
        "findings": [_json_finding(f) for f in outcome.findings],
        "tables": [_json_table(t) for t in outcome.tables],
    }


def _json_finding(finding: Finding) -> dict[str, Any]:
    place = finding.place
    return {
        "check": finding.check,
        "severity": finding.severity.name.lower(),
        "message": finding.message,
        "kind": finding.kind,
        "count": finding.count,
        "evidence": wording.json_scalars(finding.evidence),
        "fingerprint": finding.fingerprint,
        "place": {"source": place.source, "table": place.table, "column": place.column},
    }


def _json_table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "caption": table.caption,
        "columns": list(table.columns),
        "plot": table.plot,
        "reference": wording.json_scalar(table.reference),
        "rows": [[_json_cell(cell) for cell in row] for row in table.rows],
    }


def _json_cell(cell: Scalar | Interval) -> object:
    if not isinstance(cell, Interval):
        return wording.json_scalar(cell)
    return {n: wording.json_scalar(getattr(cell, n)) for n in ("value", "low", "high")}


_RENDERERS: Mapping[str, Callable[..., str]] = {
    "text": to_text,
    "json": to_json,
    "sarif": to_sarif,
    "junit": to_junit,
    "html": to_html,
}


# -- files -----------------------------------------------------------------------


def write(path: Path | str, text: str) -> None:
    """Put a document into a file, whole or not at all, readable by everybody (0644).

    A crash at any moment leaves the old file or the new one; the temporary file
    lies in the same folder, since a rename is atomic within one file system only.

    Raises:
        OperationError: the folder is missing or read-only, the disk is full, or
            the path is a folder or a device.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise OperationError(f"{path}: is no regular file; name a file to write the report to")
    try:
        _replace(target, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OperationError(
            f"{path}: the report could not be written ({reason}); "
            "name a file in a folder that exists, is writable and has room"
        ) from None


def _replace(target: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".report-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_MODE)
        Path(temporary).replace(target)  # commit point
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
