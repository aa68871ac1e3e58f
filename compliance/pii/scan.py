"""Which columns hold personal data: of frames, files, folders and databases.

The answer is for columns, not cells: a seeded sample of each column's distinct
cells is read (`columns`), weighed against what its header says and what chance
would produce (`kinds`), and compared with what the policy declares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance import frames
from compliance.errors import ComplianceError
from compliance.findings import Finding, Outcome, Place, Scalar, Severity, Verdict
from compliance.frames import Frame
from compliance.pii.columns import Cells, blank, gather, hits_in, judge
from compliance.pii.detect import Detector
from compliance.pii.folders import is_encrypted, walk
from compliance.pii.kinds import spoken
from compliance.pii.outcomes import ColumnResult, outcome_of, severity_of
from compliance.pii.tables import Database, open_database
from compliance.policy import PIIRule

Progress = Callable[[int, int, str], None]
Declared = Mapping[str, tuple[str, ...]]

UNREAD = "pii.unread"
FOLDER, DATABASE = "pii.folder", "pii.database"
ENCRYPTED = "encrypted"
_ROWS = 10_000  # rows read of each database table, at least


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The outcome of scanning one table, and what it rests on, column by column."""

    outcome: Outcome
    columns: tuple[ColumnResult, ...]


# -- frames ------------------------------------------------------------------------


def scan_frame(
    frame: Frame,
    *,
    source: str,
    rule: PIIRule,
    declared: Declared | None = None,
    detector: Detector | None = None,
    table: str | None = None,
) -> ScanResult:
    """Scan a frame column by column; ``rule.action`` is left to the caller.

    Args:
        frame: the table.
        source: what findings name as their place: a data set, a file, a URL without secrets.
        rule: least score, least share, sample size and seed.
        declared: by column, the kinds that the policy expects there.
        detector: the engine; default: every kind it knows.
        table: the table's name, where the source has several.

    Raises:
        MissingExtra: presidio-analyzer or spaCy is not installed.
    """
    place = Place(source, table)
    columns = ((name, _values(frame, name)) for name in frame.columns)
    return _scan(columns, frame.shape[0], place, rule, declared or {}, detector or Detector.load())


def mask(frame: Frame, result: ScanResult) -> Frame:
    """Return the frame with every cell of a flagged column replaced by ``<KIND>``.

    The most severe kind names the column; missing cells stay missing. Columns of the
    result that the frame lacks are left alone.
    """
    worst: dict[str, str] = {}
    ordered = sorted(result.columns, key=lambda r: severity_of(r.kind))
    worst |= {r.name: r.kind for r in ordered if r.flagged and r.name in frame.columns}
    for name, kind in worst.items():
        missing = frame[name].is_null().to_list()
        frame = frames.with_column(frame, name, [None if m else f"<{kind}>" for m in missing])
    return frame


def _values(frame: Frame, name: str) -> list[Any]:
    """Return the values of a column, each once where its library can tell."""
    import narwhals as nw

    series = frame[name]
    plain = not series.dtype.is_nested() and series.dtype not in {nw.Object, nw.Unknown, nw.Binary}
    return (series.unique() if plain else series).to_list()


# -- the scan of one table ------------------------------------------------------------


def _scan(
    columns: Iterable[tuple[str, Iterable[Any]]],
    rows: int,
    place: Place,
    rule: PIIRule,
    declared: Declared,
    detector: Detector,
    **facts: Scalar,
) -> ScanResult:
    results: list[ColumnResult] = []
    totals: Counter[str] = Counter()
    for number, (name, values) in enumerate(columns, 1):
        cells = gather(values, rule.sample, rule.seed)
        label = f"column {number}" if hits_in(name, detector) else name
        results += _column(cells, label, name, place, rule, declared, detector)
        totals.update(_counts(cells))
    found = {"rows": rows, **{name: totals[name] for name in _counts(Cells((), 0))}, **facts}
    return ScanResult(outcome_of(tuple(results), place, rule, detector, found), tuple(results))


def _counts(cells: Cells) -> dict[str, int]:
    """Return what a column adds to the facts."""
    return {
        "columns": 1,
        "cells_distinct": cells.distinct,
        "cells_sampled": len(cells.sampled),
        "cells_textless": cells.textless,
        "cells_binary": cells.binary,
        "cells_cut": cells.cut,
    }


def _column(
    cells: Cells,
    label: str,
    name: str,
    place: Place,
    rule: PIIRule,
    declared: Declared,
    detector: Detector,
) -> Iterator[ColumnResult]:
    sampled, clean = len(cells.sampled), True
    context = place.table or Path(place.source).stem
    for e in judge(cells, spoken(name, context), rule.least_score, detector):
        clean, share = False, e.hits / sampled
        yield ColumnResult(
            label, e.kind, e.basis, round(share, 4), e.score, sampled, cells.distinct, e.hits,
            share >= rule.least_share, e.kind in declared.get(name, ()), name, cells.state,
        )  # fmt: skip
    if clean:
        yield ColumnResult(
            label, "", "", 0.0, 0.0, sampled, cells.distinct, 0, False, False, name, cells.state
        )  # fmt: skip


# -- files and folders -------------------------------------------------------------


def scan_path(
    path: Path | str,
    *,
    rule: PIIRule | None = None,
    declared: Declared | None = None,
    detector: Detector | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Scan a CSV, Parquet or JSONL file, or every such file under a folder.

    A file of a folder that cannot be read becomes an outcome with a finding ``pii.unread``,
    and the scan goes on (an encrypted Parquet file is named as one, whatever its suffix); the last
    outcome (``pii.folder``) counts what was scanned and what
    was passed over. ``progress(done, total, label)`` is called before each file and at the end.

    Raises:
        InputError: no such file or folder; a file that cannot be read.
    """
    path, rule, detector = Path(path), rule or PIIRule(), detector or Detector.load()
    if path.suffix.lower() not in frames.SUFFIXES and is_encrypted(path):
        frames.require_plain(path)
    if not path.is_dir():
        yield _scan_file(path, str(path), rule, declared, detector)
        return
    found, unread = walk(path), 0
    for done, file in enumerate(found.files):
        label = _shown(file, path, detector)
        _tell(progress, done, len(found.files), label)
        try:
            outcome = _scan_file(file, label, rule, declared, detector)
        except ComplianceError as error:
            why = ENCRYPTED if is_encrypted(file) else type(error).__name__
            outcome = _unread(Place(label), why)
        unread += outcome.check == UNREAD
        yield outcome
    for folder in found.closed:
        yield _unread(Place(_shown(folder, path, detector)), "OSError")
    _tell(progress, len(found.files), len(found.files), "")
    counts = {"files": len(found.files), "unread": unread, "folders_unread": len(found.closed)}
    yield _folder(str(path), {**counts, **found.left_out})


def _scan_file(
    file: Path, label: str, rule: PIIRule, declared: Declared | None, detector: Detector
) -> Outcome:
    frame = frames.read(file)
    result = scan_frame(frame, source=label, rule=rule, declared=declared, detector=detector)
    return result.outcome


def _shown(path: Path, root: Path, detector: Detector) -> str:
    """Return a path with personal data in the names below the root replaced by its kind."""
    suffix = path.suffix if path.suffix.lower() in frames.SUFFIXES else ""
    names = Path(str(path.relative_to(root)).removesuffix(suffix)).parts
    return f"{root.joinpath(*(blank(name, detector) for name in names))}{suffix}"


def _tell(progress: Progress | None, done: int, total: int, label: str) -> None:
    if progress is not None:
        progress(done, total, label)


def _unread(place: Place, what: str) -> Outcome:
    how = "is an encrypted Parquet file" if what == ENCRYPTED else "could not be read"
    message = f"It {how}, so nothing is known of it; the scan went on."
    finding = Finding(UNREAD, Severity.MEDIUM, message, place, "unread", 1, {"error": what})
    title, summary = f"Not scanned: {place}", f"One source {how}."
    return Outcome(UNREAD, title, Verdict.INSUFFICIENT, summary, (finding,), (), {"unread": 1})


def _folder(source: str, counts: dict[str, Scalar]) -> Outcome:
    left = ", ".join(f"{counts[k]} {k}" for k in ("unsupported", "hidden", "symlinks"))
    return _whole(FOLDER, f"Files under {source}", "files", counts, f"; passed over: {left}")


def _whole(check: str, title: str, what: str, counts: dict[str, Scalar], left: str) -> Outcome:
    """Return the outcome of a folder or database: how much of it was scanned."""
    total, unread = int(counts[what] or 0), int(counts["unread"] or 0)
    verdict = Verdict.PASS if total > unread else Verdict.INSUFFICIENT
    summary = f"{total - unread} of {total} {what} were scanned{left}."
    return Outcome(check, title, verdict, summary, (), (), counts)


# -- databases -----------------------------------------------------------------------


def scan_database(
    url: str,
    *,
    rule: PIIRule | None = None,
    detector: Detector | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Scan every table and view of a database's default schema, reading only.

    Of each table the first rows are read, by primary key where there is one; how many and
    in which order stands in the facts. The last outcome (``pii.database``) counts the tables.
    A table that cannot be read becomes an outcome with
    a finding ``pii.unread``, and the scan goes on.

    Raises:
        InputError: not a database URL, an unknown dialect, or no such SQLite file.
        MissingExtra: the driver is not installed.
        OperationError: no server answers, or it refuses.
    """
    rule, detector = rule or PIIRule(), detector or Detector.load()
    with open_database(url) as database:
        names, unread = database.names(), 0
        left_out = database.schemas_left_out
        for done, name in enumerate(names):
            _tell(progress, done, len(names), name)
            outcome = _scan_table(database, name, rule, detector)
            unread += outcome.check == UNREAD
            yield outcome
        _tell(progress, len(names), len(names), "")
        counts: dict[str, Scalar] = {
            "tables": len(names),
            "unread": unread,
            "schemas_left_out": left_out,
        }
        left = f"; other schemas, not scanned: {left_out}" if left_out else ""
        yield _whole(DATABASE, f"Tables of {database.source}", "tables", counts, left)


def _scan_table(database: Database, name: str, rule: PIIRule, detector: Detector) -> Outcome:
    place = Place(database.source, name)
    try:
        rows = database.read(name, max(_ROWS, 20 * rule.sample))
    except ComplianceError as error:
        return _unread(place, type(error).__name__)
    columns = rows.columns.items()
    facts: dict[str, Scalar] = {"rows_read": rows.order}
    return _scan(columns, rows.count, place, rule, {}, detector, **facts).outcome
