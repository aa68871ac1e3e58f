"""Dot plots with confidence bars, as inline SVG.

Horizontal positions are percentages, so that a plot fits a telephone and a
printed page alike while its letters keep their size. Colours come from the
page's style sheet; nothing here carries a style attribute, which the page's
content policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from compliance.findings import Interval, Scalar, Table
from compliance.reports import wording
from compliance.reports.markup import Node, node

MOST_ROWS = 60  # more dots than this on one plot tell a reader nothing

_TOP, _ROW, _FOOT = 36, 28, 48  # pixels
_LABELS, _LEFT, _WIDTH = 36, 39, 57  # percent of the width
_LARGEST = 1e300  # wider axes would overflow a float


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from ``low`` to ``high`` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return a value's place in percent, held within the axis."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(max(share, 0.0), 1.0)

    def percent(self, value: float) -> str:
        """Return a value's place as an SVG length."""
        return f"{self.at(value):.2f}%"

    @classmethod
    def over(cls, values: Iterable[float]) -> Scale:
        """Return an axis that holds all values, ends a little beyond them, and is never empty."""
        finite = [v for v in values if _plottable(v)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        pad = (high - low) * 0.06 or abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
        return cls(low, high, _ticks(low, high))


def _ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Return round numbers between two bounds, about as many as asked."""
    rough = (high - low) / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    # Where values are far larger than their spread, neighbouring ticks may be one float.
    return tuple(dict.fromkeys(float(f"{i * step:.12g}") for i in range(first, last + 1)))


def _plottable(value: float | None) -> bool:
    return value is not None and abs(value) <= _LARGEST  # false for NaN and infinities


def dot_plot(table: Table, ident: str) -> Node | None:
    """Return the plot a table asks for, or None if it asks for none.

    Args:
        table: ``plot`` names a column of intervals; the first column names the groups.
        ident: unique in the page; titles are referred to by it.
    """
    if table.plot is None or not table.rows:
        return None
    column = table.columns.index(table.plot)
    rows = [(_group(r[0]), _interval(r[column])) for r in table.rows[:MOST_ROWS]]
    scale = Scale.over(_values(rows, table.reference))
    height = _TOP + _ROW * len(rows) + _FOOT
    return node(
        "svg",
        node("title", f"{table.title}: {table.plot} by {table.columns[0]}", id=f"{ident}-title"),
        node("desc", _description(table, rows), id=f"{ident}-desc"),
        _names(table.columns[0], rows),
        _field(table, rows, scale),
        class_="plot", role="img", width="100%", height=height,
        aria_labelledby=f"{ident}-title {ident}-desc",
    )  # fmt: skip


def _group(cell: Scalar | Interval) -> str:
    """Return a group's whole name; each place shortens it to its own room."""
    if isinstance(cell, Interval):
        return wording.interval(cell)
    return cell if isinstance(cell, str) else wording.scalar(cell)


def _interval(cell: Scalar | Interval) -> Interval:
    if isinstance(cell, Interval):
        return cell
    return Interval(float(cell) if isinstance(cell, int | float) else None)


_Rows = Sequence[tuple[str, Interval]]


def _values(rows: _Rows, reference: float | None) -> Iterator[float]:
    parts = [v for _, i in rows for v in (i.value, i.low, i.high)]
    return (v for v in (*parts, reference) if v is not None)


def _description(table: Table, rows: _Rows) -> str:
    drawn = [(i.value, group) for group, i in rows if i.value is not None and _plottable(i.value)]
    text = f"{len(drawn)} of {len(table.rows)} groups are drawn as dots with confidence bars."
    if drawn:
        (low, least), (high, most) = min(drawn), max(drawn)
        text += f" Lowest: {wording.name(least)}, {wording.scalar(low)}."
        text += f" Highest: {wording.name(most)}, {wording.scalar(high)}."
    if table.reference is not None:
        text += f" A reference line stands at {wording.scalar(table.reference)}."
    return text


def _names(heading: str, rows: _Rows) -> Node:
    """Return the group names; a nested svg, so that a long name is cut and not drawn over dots."""
    texts = [
        node("text", wording.shorten(group, 40), x=0, y=_middle(i) + 4, class_="group")
        for i, (group, _) in enumerate(rows)
    ]
    head = node("text", wording.shorten(heading, 30), x=0, y=20, class_="group axis")
    return node("svg", head, *texts, width=f"{_LABELS}%", height="100%")


def _middle(row: int) -> float:
    return _TOP + _ROW * (row + 0.5)


def _field(table: Table, rows: _Rows, scale: Scale) -> Node:
    bottom = _TOP + _ROW * len(rows)
    return node(
        "svg",
        *_axis(scale, bottom, table.plot or ""),
        *_reference(table.reference, scale, bottom),
        *(_row(i, group, value, scale) for i, (group, value) in enumerate(rows)),
        x=f"{_LEFT}%", width=f"{_WIDTH}%", height="100%", class_="field",
    )  # fmt: skip


def _axis(scale: Scale, bottom: float, title: str) -> Iterator[Node]:
    for tick in scale.ticks:
        x = scale.percent(tick)
        yield node("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid")
        yield node("text", f"{tick:g}", x=x, y=bottom + 17, class_="tick")
    yield node("line", x1=0, x2="100%", y1=bottom, y2=bottom, class_="base")
    yield node("text", wording.shorten(title, 44), x="50%", y=bottom + 38, class_="tick axis")


def _reference(value: float | None, scale: Scale, bottom: float) -> Iterator[Node]:
    if value is None or not _plottable(value):
        return
    x, place = scale.percent(value), scale.at(value)
    side = "from" if place < 20 else "to" if place > 80 else "over"  # noqa: PLR2004  keeps the words on the page
    yield node("line", x1=x, x2=x, y1=_TOP - 10, y2=bottom, class_="reference")
    words = f"reference {wording.scalar(value)}"
    yield node("text", words, x=x, y=20, class_=f"tick axis {side}")


def _row(index: int, group: str, value: Interval, scale: Scale) -> Node:
    y = _middle(index)
    tip = node("title", f"{wording.name(group)}: {wording.interval(value)}")
    if value.value is None or not _plottable(value.value):
        word = node("text", wording.interval(value), x=8, y=y + 4, class_="tick from")
        return node("g", tip, word, class_="undefined")
    dot = node("circle", cx=scale.percent(value.value), cy=y, r=5, class_="dot")
    return node("g", tip, *_bar(value, scale, y), dot)


def _bar(value: Interval, scale: Scale, y: float) -> Iterator[Node]:
    """Return the bar with its end strokes; an infinite limit runs to the axis's end without one."""
    low, high = value.low, value.high
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return
    yield node("line", x1=scale.percent(low), x2=scale.percent(high), y1=y, y2=y, class_="bar")
    for limit in (low, high):
        if _plottable(limit):
            x = scale.percent(limit)
            yield node("line", x1=x, x2=x, y1=y - 5, y2=y + 5, class_="bar")
