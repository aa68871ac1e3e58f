"""How verdicts, names and figures are worded, the same in every format.

Names come from other people's data: they may hold markup, terminal escapes,
direction overrides or ten thousand characters. `plain` is the one place that
makes them safe to show; escaping for a format's own syntax comes after it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

from compliance.errors import InputError
from compliance.findings import Finding, Interval, Outcome, Scalar, Table, Verdict

UNDEFINED = "undefined"
NAME_LIMIT = 200
PROSE_LIMIT = 2000

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need these two
_LAST_TWO = 0xFFFE  # of every plane
_TINY, _HUGE = 1e-3, 1e15  # beyond them, scientific notation
_MOST_DECIMALS = 4

VERDICT_MEANING: Mapping[Verdict, str] = {
    Verdict.PASS: "The check ran on enough evidence and found nothing beyond its threshold.",
    Verdict.FAIL: "The check found something beyond its threshold, and beyond chance.",
    Verdict.INSUFFICIENT: "There was too little evidence to decide. This is not a pass.",
}


def plain(text: str, limit: int = PROSE_LIMIT) -> str:
    r"""Return text with every invisible character written out, such as ``\u202e``, and shortened.

    The result holds no control character, no direction override, no lone
    surrogate and nothing that XML 1.0 forbids.
    """
    text = shorten(text, limit)
    if text.isprintable():
        return text
    return "".join(_escape(c) if _unsafe(c) else c for c in text)


def _unsafe(char: str) -> bool:
    last_two = ord(char) & _LAST_TWO == _LAST_TWO  # noncharacters, as are U+FDD0 to U+FDEF
    return (last_two or "\ufdd0" <= char <= "\ufdef") or (
        unicodedata.category(char) in _INVISIBLE and char not in _JOINERS
    )


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shorten(text: str, limit: int) -> str:
    """Return at most about ``limit`` characters: start, end, and how long the whole is."""
    if len(text) <= limit:
        return text
    note = f"… ({len(text)} characters) …"
    keep = max(2, limit - len(note))
    return text[: keep - keep // 3] + note + text[-(keep // 3) :]


def name(text: object) -> str:
    """Return a name fit for a table cell."""
    return plain(str(text), NAME_LIMIT)


def label(key: str) -> str:
    """Return a fact's key as a heading: ``policy_digest`` becomes ``Policy digest``."""
    text = name(key).replace("_", " ")
    return text[:1].upper() + text[1:]


# -- figures -------------------------------------------------------------------


def scalar(value: Scalar, decimals: int | None = None) -> str:
    """Return one figure or text; None and not-a-number are ``undefined``."""
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value, _decimals(value) if decimals is None else decimals)
    return name(value)


def interval(value: Interval, decimals: int | None = None) -> str:
    """Return ``0.31 [0.28, 0.34]``; without limits the value alone."""
    if value.value is None or math.isnan(value.value):
        return UNDEFINED
    if decimals is None:
        decimals = _decimals(value)
    centre = _number(value.value, decimals)
    if value.low is None and value.high is None:
        return centre
    low, high = (UNDEFINED if v is None else _number(v, decimals) for v in (value.low, value.high))
    return f"{centre} [{low}, {high}]"


def cells(column: Sequence[Scalar | Interval]) -> list[str]:
    """Return a column's cells as text, its fractions with one number of decimals."""
    decimals = max((_decimals(v) for v in column), default=0)
    return [
        interval(v, decimals) if isinstance(v, Interval) else scalar(v, decimals) for v in column
    ]


def is_numeric(column: Sequence[Scalar | Interval]) -> bool:
    """Say whether a column holds figures only, and so is set flush right."""
    return bool(column) and not any(isinstance(v, str | bool) for v in column)


def text_rows(table: Table) -> list[tuple[str, ...]]:
    """Return a table's rows with every cell worded.

    Raises:
        InputError: a row is not as long as the header, or the plot names no column.
    """
    wide = len(table.columns)
    if any(len(row) != wide for row in table.rows):
        raise InputError(f"table {name(table.title)!r}: every row needs {wide} cells")
    if table.plot is not None and table.plot not in table.columns:
        raise InputError(f"table {name(table.title)!r}: its plot names no column")
    return list(zip(*(cells(column) for column in columns_of(table)), strict=True))


def columns_of(table: Table) -> list[tuple[Scalar | Interval, ...]]:
    """Return a table's cells column by column."""
    return [tuple(row[i] for row in table.rows) for i in range(len(table.columns))]


def _decimals(cell: Scalar | Interval) -> int:
    """Return how many decimals a cell needs; trailing zeros need none.

    A fraction of one shows three or four, so that 0.7996 is not taken for 0.8.
    """
    if isinstance(cell, Interval):
        return _needed([cell.value, cell.low, cell.high], 3)
    return _needed([cell], 4) if isinstance(cell, float) else 0


def _needed(values: Sequence[float | None], significant: int) -> int:
    """Return the decimals that give the largest value this many significant digits."""
    shown = [v for v in values if v is not None and _TINY <= abs(v) < _HUGE]
    if not shown:
        return 0
    exponent = math.floor(math.log10(max(map(abs, shown))))
    exponent = -1 if exponent == 0 else exponent  # ratios about 1 are read as fractions are
    most = min(max(significant - 1 - exponent, 0), _MOST_DECIMALS)
    return max(len(f"{v:.{most}f}".partition(".")[2].rstrip("0")) for v in shown)


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and not _TINY <= abs(value) < _HUGE:
        return f"{value:.3g}"
    return f"{value:.{decimals}f}"


# -- verdicts --------------------------------------------------------------------


def headline(outcomes: Sequence[Outcome]) -> str:
    """Return the whole result as one sentence."""
    if not outcomes:
        return "Nothing was audited, so nothing can be said. This is not a pass."
    total = f"{len(outcomes)} check" if len(outcomes) == 1 else f"{len(outcomes)} checks"
    verdicts = [o.verdict for o in outcomes]
    failed, unsure = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.INSUFFICIENT)
    if failed and unsure:
        return f"{failed} of {total} failed, and {unsure} could not be decided."
    if failed:
        return f"{failed} of {total} failed."
    if unsure:
        return f"{unsure} of {total} could not be decided. This is not a pass."
    return f"{len(outcomes)} of {total} passed."


def ranked(outcomes: Sequence[Outcome]) -> list[Finding]:
    """Return every finding, the worst first; among equals by check, place and kind."""
    found = [f for outcome in outcomes for f in outcome.findings]
    return sorted(found, key=lambda f: (-f.severity, f.check, str(f.place), f.kind))


# -- machine formats -------------------------------------------------------------


def json_scalar(value: Scalar) -> Scalar:
    """Return a value that JSON can hold: not-a-number is null, infinities ``"inf"``, ``"-inf"``.

    Raises:
        InputError: the value is no scalar.
    """
    if value is not None and not isinstance(value, str | int | float):
        raise InputError(
            f"a report holds text, numbers, true, false and None, not {type(value).__name__}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def json_scalars(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return a mapping of scalars that JSON can hold."""
    return {key: json_scalar(value) for key, value in values.items()}
