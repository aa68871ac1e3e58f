"""One column: a seeded sample of its distinct cells, and what they hold.

Cells exist here only between reading and counting; what leaves is counts, shares
and scores.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import heapq
import math
import numbers
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from compliance.findings import Severity
from compliance.pii.detect import Detector, Match
from compliance.pii.kinds import (
    CONTEXT_SCORE,
    KINDS,
    STRICT_SCORE,
    SUPPRESSORS,
    Form,
    Kind,
    beyond_chance,
    bounded,
    names,
    words_of,
)

WINDOW = 2_000  # Presidio's time grows with the square of the text: it reads windows
OVERLAP = 200
LONGEST = 20_000  # characters read of one cell; cells that are longer are counted
_LOOK_BACK = 60
_SEALED_FIRST, _SEALED_LEAST = b"\x01", 33  # of a sealed cell: its version, and its bytes
_LEAST_DIGITS = 5
_COVERED = 0.8
_LONGEST_FORM = 200

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+\-]?\d+)?")
_SHORT_NUMBER = re.compile(r"-?\d{1,6}(?:\.\d*)?")
_TIME = re.compile(
    r"(?:\d{4}-\d{2}-\d{2})?[T ]?(?:\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
    r"(?: ?Z| ?UTC|[+\-]\d{2}:?\d{2})?"
)
_OTHER = Kind(Severity.MEDIUM, strict=re.compile(r".+", re.DOTALL), score=0.0)


@dataclass(frozen=True, slots=True)
class Cells:
    """The sampled distinct cells of a column, as text, and how many there were.

    Attributes:
        sampled: the texts that are read.
        distinct: distinct texts in the column.
        binary: cells of bytes, which are not read.
        textless: truth values, durations and fractions, which hold no identifier.
        sealed: binary cells that look like sealed cells.
    """

    sampled: tuple[str, ...] = field(repr=False)
    distinct: int
    binary: int = 0
    textless: int = 0
    sealed: int = 0

    @property
    def state(self) -> str:
        """Return ``sealed``, ``unread`` where bytes are there that nobody read, or nothing."""
        if not self.binary:
            return ""
        alone = not self.distinct and not self.textless
        return "sealed" if alone and self.sealed == self.binary else "unread"

    @property
    def cut(self) -> int:
        """Return how many sampled cells are too long to be read to their end."""
        return sum(len(text) > LONGEST for text in self.sampled)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one kind in one column.

    Attributes:
        kind: the kind.
        hits: sampled distinct cells that hold it.
        score: the mean over those cells of each one's best score.
        basis: ``content`` or, where the header tipped the scale, ``header``.
    """

    kind: str
    hits: int
    score: float
    basis: str


def gather(values: Iterable[object], size: int, seed: int) -> Cells:
    """Take a sample of the distinct cells, the same for any order, library or partition.

    The sample is the ``size`` cells of the lowest keyed hash (bottom-k sampling,
    Cohen and Kaplan 2007), so samples of parts merge into that of the whole.
    """
    counts: Counter[str] = Counter()
    texts = {_text(value, counts) for value in values} - {""}
    key = seed.to_bytes(8, "big", signed=True)

    def order(text: str) -> tuple[bytes, str]:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=8, key=key).digest(), text

    sampled = sorted(texts) if len(texts) <= size else heapq.nsmallest(size, texts, key=order)
    return Cells(tuple(sampled), len(texts), counts["binary"], counts["textless"], counts["sealed"])


def _text(value: object, counts: Counter[str]) -> str:
    """Return a cell as text; "" for what is missing or holds none, which is counted."""
    match value:
        case str():
            return value.strip()
        case bool() | dt.timedelta():
            counts["textless"] += 1
        case int() | float():
            return _whole(value, counts)
        case bytes() | bytearray() | memoryview():
            counts["binary"] += 1
            counts["sealed"] += len(value) >= _SEALED_LEAST and value[:1] == _SEALED_FIRST
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return "" if value is None else _other_text(value, counts)
    return ""


def _other_text(value: object, counts: Counter[str]) -> str:
    if callable(listed := getattr(value, "tolist", None)):  # numpy's arrays and scalars
        return _text(listed(), counts)
    if isinstance(value, (numbers.Real, decimal.Decimal)):
        return _whole(value, counts)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item, counts)}" for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(item, counts) for item in value)
    return str(value).strip()


def _whole(value: float | numbers.Real | decimal.Decimal, counts: Counter[str]) -> str:
    """Return a whole number's digits: identifiers beside missing cells are stored as floats."""
    try:
        whole = math.trunc(value)
        text = str(whole) if whole == value else ""
    except ValueError:  # not a number, or of more digits than Python will write
        return ""
    except OverflowError:  # infinite
        text = ""
    counts["textless"] += not text
    return text


# -- cells -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Hit:
    """An accepted match; ``certain`` ones need no comparison with chance."""

    match: Match
    score: float
    certain: bool

    def overlaps(self, other: _Hit) -> bool:
        return self.match.start < other.match.end and other.match.start < self.match.end


def hits_in(text: str, detector: Detector) -> dict[str, _Hit]:
    """Return the best accepted hit of each kind in a text."""
    best: dict[str, _Hit] = {}
    for hit in _hits(text, detector):
        best.setdefault(hit.match.kind, hit)
    return best


def blank(text: str, detector: Detector) -> str:
    """Return a text with each accepted hit replaced by ``<KIND>``."""
    for hit in sorted(_hits(text, detector), key=lambda h: -h.match.start):
        text = f"{text[: hit.match.start]}<{hit.match.kind}>{text[hit.match.end :]}"
    return text


def _hits(text: str, detector: Detector) -> list[_Hit]:
    """Return the accepted hits, surest first; of overlapping ones the surest stays."""
    taken: list[_Hit] = []
    found = [hit for match in _matches(text, detector) if (hit := _accept(match, text))]
    for hit in sorted(found, key=lambda h: (-h.score, -h.match.score, h.match.start)):
        if not any(hit.overlaps(other) for other in taken):
            taken.append(hit)
    return [hit for hit in taken if hit.match.kind not in SUPPRESSORS]


def _matches(text: str, detector: Detector) -> Iterator[Match]:
    """Yield the matches in overlapping windows, each cut at white space."""
    start, end = 0, min(len(text), LONGEST)
    while True:
        stop = _cut(text, start + WINDOW, end)
        for match in detector.find(text[start:stop]):
            yield replace(match, start=match.start + start, end=match.end + start)
        if stop >= end:
            return
        start = _cut(text, stop - OVERLAP, end)


def _cut(text: str, at: int, end: int) -> int:
    """Return the last white space before a position, not too far back; else the position."""
    if at >= end:
        return end
    space = max(text.rfind(blank, at - OVERLAP // 2, at) for blank in " \n\t")
    return space if space > 0 else at


def _accept(match: Match, text: str) -> _Hit | None:
    """Weigh a match: by its own structure, or by the words before it."""
    if match.kind in SUPPRESSORS:
        long = match.end - match.start >= len("1.1.2024")
        return _Hit(match, STRICT_SCORE, certain=True) if long else None
    kind, piece = KINDS.get(match.kind, _OTHER), text[match.start : match.end]
    if kind.chance and not bounded(text, match.start):
        return None
    before = words_of(text[max(0, match.start - _LOOK_BACK) : match.start])
    named = bool(kind.words) and names(kind, before)
    if kind.strict is not None and kind.strict.fullmatch(piece):
        certain = named or kind.chance == 0 or piece.startswith("+")
        return _Hit(match, max(match.score, kind.score), certain)
    if named and sum(map(str.isdigit, piece)) >= _LEAST_DIGITS:
        return _Hit(match, CONTEXT_SCORE, certain=True)
    return None


# -- columns ---------------------------------------------------------------------


@dataclass
class _Tally:
    """Per kind, the cells that speak for it, by their position in the sample."""

    sure: dict[int, float] = field(default_factory=dict)
    chancy: dict[int, float] = field(default_factory=dict)
    formed: set[int] = field(default_factory=set)
    tried: int = 0


def judge(
    cells: Cells, forms: Mapping[str, Form], least_score: float, detector: Detector
) -> list[Evidence]:
    """Return what the cells hold, kind by kind, most hits first.

    Args:
        cells: the sample.
        forms: the kinds that the header names, as `kinds.spoken` returns them.
        least_score: the least score of a match that counts.
        detector: the engine.
    """
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    numeric = replace(detector, kinds=_numeric_kinds(detector, forms))
    for position, text in enumerate(cells.sampled):
        _read(position, text, numeric if _NUMBER.fullmatch(text) else detector, tallies)
        for kind in _formed(text, forms, detector):
            tallies[kind].formed.add(position)
    return sorted(_weighed(tallies, forms, cells, least_score), key=lambda e: (-e.hits, e.kind))


def _numeric_kinds(detector: Detector, forms: Mapping[str, Form]) -> tuple[str, ...]:
    """Return the kinds that a bare number can be: one with a checksum, or what the header names."""
    return tuple(k for k in detector.kinds if k == "CREDIT_CARD" or k in forms)


def _read(position: int, text: str, detector: Detector, tallies: dict[str, _Tally]) -> None:
    """Count what a cell holds by its content."""
    if _SHORT_NUMBER.fullmatch(text) or _TIME.fullmatch(text):
        return
    for name in detector.kinds:
        candidate = KINDS[name].candidate if name in KINDS else None
        if candidate is not None and candidate.search(text[:LONGEST]):
            tallies[name].tried += 1
    for name, hit in hits_in(text, detector).items():
        side = tallies[name].sure if hit.certain else tallies[name].chancy
        side[position] = hit.score


def _formed(text: str, forms: Mapping[str, Form], detector: Detector) -> Iterator[str]:
    """Yield the kinds that the header names and the cell looks like."""
    if len(text) > _LONGEST_FORM:
        return
    for kind, form in forms.items():
        if form.pattern.fullmatch(text) if form.pattern else _covered(kind, text, detector):
            yield kind


def _covered(name: str, text: str, detector: Detector) -> bool:
    """Say whether a match of the kind covers the cell; a checksum alone must stand by content."""
    if name not in detector.kinds or KINDS[name].strict is not None:
        return False
    enough = name == "URL" or sum(map(str.isdigit, text)) >= _LEAST_DIGITS
    length = _COVERED * len(text)
    alone = replace(detector, kinds=(name,))
    return enough and any(m.end - m.start >= length for m in alone.find(text))


def _weighed(
    tallies: Mapping[str, _Tally], forms: Mapping[str, Form], cells: Cells, least_score: float
) -> Iterator[Evidence]:
    """Put content and header together, kind by kind."""
    for kind, tally in tallies.items():
        scores = _content(kind, tally, least_score)
        read = len(scores)
        form = forms.get(kind)
        enough = form is not None and len(tally.formed) >= form.least * len(cells.sampled)
        if enough and least_score <= CONTEXT_SCORE:
            scores = dict.fromkeys(tally.formed, CONTEXT_SCORE) | scores
        if scores:
            mean = sum(scores.values()) / len(scores)
            basis = "content" if read == len(scores) else "header"
            yield Evidence(kind, len(scores), round(mean, 4), basis)


def _content(kind: str, tally: _Tally, least_score: float) -> dict[int, float]:
    """Return the cells that hold the kind by their content, less what chance explains."""
    scores = dict(tally.sure)
    passed = min(len(tally.sure) + len(tally.chancy), tally.tried)
    if beyond_chance(passed, tally.tried, KINDS.get(kind, _OTHER).chance):
        scores |= tally.chancy
    return {position: score for position, score in scores.items() if score >= least_score}
