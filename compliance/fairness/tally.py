"""The tally: how often each group met each outcome.

Every metric, interval, test and report of this room derives from these counts.
A tally holds no row, adds exactly (shards, days, sites), and is about 1.5 KB for
48 groups.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance import frames
from compliance.errors import InputError
from compliance.fairness import coding
from compliance.fairness.arrays import Counts, np

UNKNOWN = "(unknown)"
CELLS = ("true_negative", "false_positive", "false_negative", "true_positive")
MOST_VALUES = 1_000
"""Distinct values of one attribute: beyond, it is a number or a name and no group."""
MOST_GROUPS = 100_000
"""Groups in a tally, that is combinations of attribute values that occur."""

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tally:
    """Counts by group and confusion cell.

    Attributes:
        attributes: names of the sensitive attributes.
        groups: one value per attribute, as text, in ascending order, each group once.
        counts: groups x 4 (`CELLS`), int64, read-only.
    """

    attributes: tuple[str, ...]
    groups: tuple[Group, ...]
    counts: Counts

    def __post_init__(self) -> None:
        """Check shape, order and sign, and take a read-only copy of the counts."""
        counts = np.array(self.counts)
        if counts.dtype.kind not in "iu" or counts.shape != (len(self.groups), len(CELLS)):
            raise InputError(f"counts must be whole numbers, {len(self.groups)} x {len(CELLS)}")
        if any(len(group) != len(self.attributes) for group in self.groups):
            raise InputError("each group needs one value per attribute")
        if list(self.groups) != sorted(set(self.groups)):
            raise InputError("groups must be distinct and in ascending order")
        if (counts < 0).any():
            raise InputError("counts cannot be negative")
        if len(self.groups) > MOST_GROUPS:
            raise InputError(f"more than {MOST_GROUPS:,} groups; use fewer attributes or values")
        counts = counts.astype(np.int64)
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(
        cls,
        frame: Any,
        *,
        label: str,
        prediction: str,
        sensitive: Sequence[str],
        positive: Hashable,
        negative: Hashable = None,
        unknown: str = UNKNOWN,
    ) -> Tally:
        """Count a frame of any library in one pass.

        Args:
            frame: a pandas, polars, Arrow, DuckDB or Spark table.
            label: column with the true outcome.
            prediction: column with the decision; the label again to audit the data.
            sensitive: columns with the attributes.
            positive: the favourable value, in both columns.
            negative: the other value; name it where a shard may lack the positive one.
            unknown: the group of rows whose attribute is missing; they are counted.

        Raises:
            InputError: no such column, no rows, scores, labels that do not fit, too many groups.
        """
        table = frames.wrap(frame)
        if isinstance(sensitive, str):
            sensitive = [sensitive]
        _check_columns(table.columns, (label, prediction, *sensitive))
        return cls.from_values(
            table[label],
            table[prediction],
            {name: table[name] for name in sensitive},
            positive,
            negative=negative,
            unknown=unknown,
            names=(label, prediction),
        )

    @classmethod
    def from_values(
        cls,
        label: Any,
        prediction: Any,
        sensitive: Mapping[str, Any],
        positive: Hashable,
        *,
        negative: Hashable = None,
        unknown: str = UNKNOWN,
        names: tuple[str, str] = ("label", "prediction"),
    ) -> Tally:
        """Count sequences, arrays or series of equal length; see ``of``.

        Raises:
            InputError: as ``of``, and lengths that differ.
        """
        if not sensitive:
            raise InputError("name at least one sensitive attribute")
        actual, chosen = coding.flags(
            coding.encode(names[0], label), coding.encode(names[1], prediction), positive, negative
        )
        columns = [
            _grouped(coding.encode(k, v), unknown, len(actual)) for k, v in sensitive.items()
        ]
        groups, counts = _count(columns, actual * 2 + chosen)
        return cls(tuple(sensitive), groups, counts)

    @property
    def total(self) -> int:
        """Return the number of rows counted."""
        return int(self.counts.sum())

    def by(self, *attributes: str) -> Tally:
        """Return the tally of one attribute, or of an intersection, summed over the others.

        Raises:
            InputError: an attribute that was not counted, or one named twice.
        """
        for name in attributes:
            if name not in self.attributes:
                raise InputError(
                    f"{name!r} was not counted; there are: {', '.join(self.attributes)}"
                )
        if len(set(attributes)) < len(attributes):
            raise InputError("an attribute is named twice")
        at = [self.attributes.index(name) for name in attributes]
        groups = [tuple(group[i] for i in at) for group in self.groups]
        return Tally(attributes, *_merge(groups, self.counts))

    def __add__(self, other: Tally) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        if other.attributes != self.attributes:
            raise InputError("only tallies of the same attributes, in the same order, add up")
        counts = np.concatenate([self.counts, other.counts])
        return Tally(self.attributes, *_merge([*self.groups, *other.groups], counts))

    def __radd__(self, other: object) -> Tally:
        """Let ``sum(tallies)`` work, which starts at 0."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        same = (self.attributes, self.groups) == (other.attributes, other.groups)
        return same and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.attributes, self.groups, self.counts.tobytes()))

    def __repr__(self) -> str:
        by = ", ".join(self.attributes)
        return f"<Tally of {self.total:,} rows in {len(self.groups):,} groups by {by}>"


def group_name(value: Any) -> str:
    """Return a group's name: the value as text, so that shards merge whatever their types.

    A whole float reads as its integer: pandas turns an integer column with gaps into floats.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _check_columns(there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise InputError(f"no column {name!r}; there are: {', '.join(map(repr, there))}")
    if len(set(wanted[2:])) < len(wanted[2:]):
        raise InputError("a sensitive attribute is named twice")


def _grouped(column: coding.Coded, unknown: str, rows: int) -> tuple[list[str], Counts]:
    """Return the sorted group names of an attribute and each row's index into them."""
    if len(column) != rows:
        raise InputError(f"{column.name}: {len(column)} values for {rows} labels")
    if len(column.distinct) > MOST_VALUES:
        raise InputError(
            f"{column.name}: {len(column.distinct):,} distinct values; an attribute may have "
            f"{MOST_VALUES:,}. Put them into bands, such as decades of age."
        )
    named = [*map(group_name, column.distinct), unknown]  # the code -1 finds the last one
    listed = sorted(set(named if column.missing else named[:-1]))
    place = {name: index for index, name in enumerate(listed)}
    return listed, np.array([place.get(name, 0) for name in named], dtype=np.int64)[column.codes]


def _count(
    columns: list[tuple[list[str], Counts]], cells: Counts
) -> tuple[tuple[Group, ...], Counts]:
    """Count each combination of group and cell by its index in mixed radix."""
    shape = tuple(len(names) for names, _ in columns)
    index = np.zeros_like(cells)
    for names, codes in columns:
        index = index * len(names) + codes
    span = math.prod(shape)
    if span <= max(MOST_GROUPS, len(cells)):
        counts = np.bincount(index * 4 + cells, minlength=span * 4).reshape(span, 4)
        present = np.flatnonzero(counts.any(axis=1))
        counts = counts[present]
    else:
        present, inverse = np.unique(index, return_inverse=True)
        counts = np.bincount(inverse * 4 + cells, minlength=len(present) * 4).reshape(-1, 4)
    picked = zip(*np.unravel_index(present, shape), strict=True)
    listed = [names for names, _ in columns]
    return tuple(tuple(n[i] for n, i in zip(listed, at, strict=True)) for at in picked), counts


def _merge(groups: Iterable[Group], counts: Counts) -> tuple[tuple[Group, ...], Counts]:
    """Add up the rows of equal groups, exactly."""
    groups = list(groups)
    listed = sorted(set(groups))
    place = {group: index for index, group in enumerate(listed)}
    merged = np.zeros((len(listed), len(CELLS)), dtype=np.int64)
    np.add.at(merged, [place[group] for group in groups], counts)
    return tuple(listed), merged
