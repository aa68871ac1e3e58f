"""The person of a request: identifiers that hold across stores, and their normal forms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from compliance.errors import InputError
from compliance.policy import Store, SubjectTable

Search = Mapping[str, Mapping[str, tuple[object, ...]]]  # table -> column -> the values looked for
MAX_LENGTH = 1_000
_LEAST_DIGITS = 5
_LEAST_PHONE = 7  # digits of a telephone number without its area code
_LEAST_LETTERS = 5
_LONGEST = 200
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d[./]\d\d[./]\d{4}")
_AMBIGUOUS = frozenset({"id", "key", "pk", "rowid"})  # the same word means another thing elsewhere


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """Who the request is about; its repr shows the names of the identifiers alone."""

    identifiers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Subject({', '.join(self.identifiers)})"

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Subject:
        """Check what was submitted.

        Raises:
            InputError: nothing given, an empty value, or text no database takes.
        """
        if not values:
            raise InputError("name the person: at least one identifier, such as email=...")
        return cls({name: _clean(name, value) for name, value in sorted(values.items())})

    @property
    def primary(self) -> tuple[str, str]:
        """Return the identifier under which the request is filed: type and normal form."""
        name = min(self.identifiers, key=lambda n: ("email" not in normal_name(n), n))
        table, _, column = name.rpartition(".")
        kind = f"{table}.{normal_name(column)}" if table else normal_name(column)
        return kind, fold(self.identifiers[name])


def _clean(name: str, value: object) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"identifier {name!r} must be text or a whole number")
    text = unicodedata.normalize("NFC", str(value)).strip()
    if not text or len(text) > MAX_LENGTH or "\0" in text:
        raise InputError(f"identifier {name!r} is empty, too long or no text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"identifier {name!r} holds a lone surrogate") from None
    return text


def normal_name(name: str) -> str:
    """Return an identifier's name as it compares across stores: CustomerId is customer_id."""
    return re.sub(r"[\W_]", "", name).casefold()


def fold(value: object) -> str:
    """Return the form in which two values of an identifier are the same; e-mail ignores case."""
    text = unicodedata.normalize("NFC", str(value)).strip()
    return text.casefold() if "@" in text else text


def searches(
    store: Store, identifiers: Mapping[str, str]
) -> dict[str, dict[str, tuple[object, ...]]]:
    """Return where to look in a store: every subject table that knows one of the identifiers."""
    found = {s.table: _columns(s, identifiers) for s in store.subjects}
    return {table: columns for table, columns in found.items() if columns}


def _columns(
    subject: SubjectTable, identifiers: Mapping[str, str]
) -> dict[str, tuple[object, ...]]:
    known = {normal_name(c): c for c in (subject.key, *subject.identifiers)}
    columns: dict[str, tuple[object, ...]] = {}
    for name, value in identifiers.items():
        table, _, column = name.rpartition(".")
        if normal_name(column) in known and table in {"", subject.table}:
            columns[known[normal_name(column)]] = (value,)
    return columns


def learned_search(
    subject: SubjectTable, learned: Mapping[str, Collection[object]]
) -> dict[str, tuple[object, ...]]:
    """Return a search by one identifier learned elsewhere; e-mail before any other."""
    columns = sorted(subject.identifiers, key=lambda c: ("email" not in normal_name(c), c))
    for column in columns:
        values = learned.get(normal_name(column))
        if values and normal_name(column) not in _AMBIGUOUS:
            return {column: tuple(sorted(values, key=str))}
    return {}


def known_names(stores: Iterable[Store]) -> list[str]:
    """Return the identifiers that the data map can look up."""
    return sorted({c for store in stores for s in store.subjects for c in (s.key, *s.identifiers)})


# -- residue -----------------------------------------------------------------------


def tokens(text: str) -> tuple[str, ...]:
    """Return the words of a text without case, accents and punctuation."""
    plain = text
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        plain = "".join(c for c in parts if not unicodedata.combining(c))
    return tuple(re.findall(r"[^\W_]+", plain.casefold()))


@dataclass(frozen=True, repr=False)
class Needle:
    """A value to look for in text, in normal form."""

    value: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Return the value's tokens."""
        return tokens(self.value)

    @cached_property
    def digits(self) -> str:
        """Return the digits of a number written with separators, as in telephone numbers."""
        joined = "".join(self.words)
        return joined if joined.isdigit() else ""

    @property
    def distinctive(self) -> bool:
        """Return whether a match means this person: a lone word or a short number does not."""
        if self.digits:
            return len(self.digits) >= _LEAST_DIGITS
        return len(self.words) > 1 or any(c.isdigit() for c in self.value)

    @property
    def prefilter(self) -> str:
        """Return a piece that every match holds literally, up to case; empty where none is sure.

        Words of names have none: a text may write them with accents that the value lacks.
        """
        if self.digits:
            return ""
        parts = [p for p in re.findall(r"[^\W_]+", self.value) if p.isascii()]
        sure = parts if "@" in self.value else [p for p in parts if p.isdigit()]
        return max(sure, key=len, default="").lower()

    def found_in(self, text: str) -> bool:
        """Return whether the text holds the value on word boundaries."""
        return bool(Matcher([self]).found(text))

    @property
    def specific(self) -> bool:
        """Return whether a personal value means this person: e-mail, number, name, street line.

        A date does not, nor does a lone word, nor a text too long to be repeated.
        """
        if not self.distinctive or len(self.value) > _LONGEST or _DATE.match(self.value):
            return False
        if "@" in self.value or sum(c.isdigit() for c in self.value) >= _LEAST_PHONE:
            return True
        return len(self.words) > 1 and sum(map(str.isalpha, self.value)) >= _LEAST_LETTERS


class Matcher:
    """Looks for many needles in a text in one pass."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self._numbers: list[Needle] = []
        self._starts: dict[str, list[Needle]] = {}
        for needle in needles:
            if needle.digits:
                self._numbers.append(needle)
            elif needle.words:
                self._starts.setdefault(needle.words[0], []).append(needle)

    def found(self, text: str) -> set[Needle]:
        """Return the needles that the text holds on word boundaries; numbers ignore separators."""
        words = tokens(text)
        found = {
            needle
            for at, word in enumerate(words)
            for needle in self._starts.get(word, ())
            if words[at : at + len(needle.words)] == needle.words
        }
        if self._numbers:
            bare = re.sub(r"[\s().+/-]", "", text)
            found.update(needle for needle in self._numbers if needle.digits in bare)
        return found


def needles(values: Iterable[object]) -> list[Needle]:
    """Return the distinctive values, each once."""
    return [
        n for n in map(Needle, sorted({fold(v) for v in values if v is not None})) if n.distinctive
    ]


def specific(values: Iterable[object]) -> list[Needle]:
    """Return those among the distinctive values that are specific enough without being asked."""
    return [needle for needle in needles(values) if needle.specific]
