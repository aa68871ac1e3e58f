"""Columns become integer codes: the only place of this room that sees rows.

Arrow factorises where it can (one pass, zero-copy from dictionaries and
categoricals); columns of mixed Python types fall back to a Python dictionary.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Number
from typing import Any

from compliance import frames
from compliance.errors import InputError
from compliance.fairness.arrays import Counts, Flags, np

MISSING = -1
MOST_SHOWN = 5
_MOST_CODE = 9
"""No error message lists the values of a column that holds more distinct ones than this."""
TWO = 2
_MOST_CODE = 9
_CODES = frozenset(
    {"0", "1", "2", "-1", "yes", "no", "y", "n", "true", "false", "t", "f", "good", "bad", "pass"}
    | {"fail", "accept", "reject", "approved", "denied", "positive", "negative", "<=50k", ">50k"}
)
"""Labels that an error message may quote: any other may be a person, named by mistake."""


@dataclass(frozen=True, slots=True, repr=False)
class Coded:
    """A column as codes into its distinct values; a missing value has the code -1.

    Every value listed occurs at least once: unused categories are gone.
    """

    name: str
    distinct: tuple[Any, ...]
    codes: Counts

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def missing(self) -> int:
        """Return the number of rows without a value."""
        return int((self.codes == MISSING).sum())


def encode(name: str, values: Any) -> Coded:
    """Return a column (series, array or sequence) as codes.

    Raises:
        InputError: not one-dimensional, or cells that cannot be grouped, such as lists.
    """
    values = values if frames.is_series(values) else _sequence(name, values)
    found = _by_arrow(values)
    listed, codes = found if found is not None else _by_hand(name, values)
    return _compact(name, listed, codes)


def _by_arrow(values: Any) -> tuple[list[Any], Counts] | None:
    try:
        array = _to_arrow(values)
        codes = array.indices.fill_null(0).cast("int64").to_numpy(zero_copy_only=False)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return None  # mixed Python types: the slow path tells good from bad
    if array.null_count:
        codes = np.where(array.is_valid().to_numpy(zero_copy_only=False), codes, MISSING)
    return array.dictionary.to_pylist(), codes


def _to_arrow(values: Any) -> Any:
    """Return an Arrow dictionary array, without a copy where the column is one already."""
    import narwhals as nw

    if frames.is_series(values):
        series = nw.from_native(values, series_only=True)
    else:
        series = nw.new_series("", values, backend="pyarrow")
    array = series.to_arrow()
    if series.dtype not in {nw.Categorical, nw.Enum}:
        array = array.dictionary_encode()
    if hasattr(array, "chunks"):
        array = array.unify_dictionaries().combine_chunks()
    return array


def _sequence(name: str, values: Any) -> Any:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise InputError(f"{name}: expected a column of values, got {type(values).__name__}")
    if isinstance(values, list):
        return values
    return np.asarray(values) if hasattr(values, "__array__") else list(values)


def _by_hand(name: str, values: Any) -> tuple[list[Any], Counts]:
    seen: dict[tuple[str, Hashable], int] = {}
    try:
        cells = values.to_list() if frames.is_series(values) else list(values)
        codes = [MISSING if is_missing(v) else seen.setdefault(_key(v), len(seen)) for v in cells]
    except TypeError:
        raise InputError(
            f"{name}: its cells cannot be grouped (not one plain value each)"
        ) from None
    return [value for _, value in seen], np.asarray(codes, dtype=np.int64)


def _key(value: Any) -> tuple[str, Hashable]:
    """Return a key that tells 1 from "1" and does not tell 1 from 1.0 or True."""
    hash(value)
    return kind(value).replace("boolean", "number"), value


def is_missing(value: Any) -> bool:
    """Say whether a cell is None, NaN, NaT or pandas' NA (which answers no comparison)."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _compact(name: str, listed: list[Any], codes: Counts) -> Coded:
    """Drop values that no row holds, and NaN, which Arrow may list as a value."""
    used = np.bincount(codes[codes >= 0], minlength=len(listed)) > 0
    keep = np.fromiter((u and not is_missing(v) for u, v in zip(used, listed, strict=True)), bool)
    if keep.all():
        return Coded(name, tuple(listed), codes)
    target = np.append(np.where(keep, np.cumsum(keep) - 1, MISSING), MISSING)  # [-1] maps to -1
    return Coded(name, tuple(v for v, k in zip(listed, keep, strict=True) if k), target[codes])


# -- two-valued columns ----------------------------------------------------------


def kind(value: Any) -> str:
    """Return what sort of value this is, in words: boolean, number, text or the type's name."""
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (Number, Decimal, np.number)):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def flags(
    label: Coded, prediction: Coded, positive: Hashable, negative: Hashable = None
) -> tuple[Flags, Flags]:
    """Return which rows are labelled and which are predicted positive.

    1, 1.0 and True are one value; 1 and "1" are two. Without ``negative``, the
    positive value must occur and both columns share at most two values, so that
    a wrong name for the positive value never reads as a rate of zero.

    Raises:
        InputError: lengths differ, no rows, missing values, scores or more than two
            values, or values that do not fit the positive (and negative) value.
    """
    if len(label) != len(prediction):
        raise InputError(f"{len(label)} labels but {len(prediction)} predictions")
    if not len(label):
        raise InputError("no rows: there is nothing to audit")
    _check_positive(positive)
    for column in (label, prediction):
        _check_two_valued(column)
    _check_fit(label, prediction, positive, negative)
    return _equals(label, positive), _equals(prediction, positive)


def _check_positive(positive: Hashable) -> None:
    try:
        hash(positive)
    except TypeError:
        raise InputError("the positive value must be one plain value") from None
    if is_missing(positive):
        raise InputError("name the positive value, such as 1, 'yes' or True")


def _check_two_valued(column: Coded) -> None:
    if column.missing:
        raise InputError(
            f"{column.name}: {column.missing} of {len(column)} rows have no value; "
            "complete or remove these rows first"
        )
    if len(column.distinct) <= TWO:
        return
    fractional = any(isinstance(v, float) and not v.is_integer() for v in column.distinct)
    advice = "these look like scores: turn them into decisions with a threshold first"
    raise InputError(
        f"{column.name}: a decision has two values, here are {_describe(column)}"
        + (f"; {advice}" if fractional else "; map them onto two values first")
    )


def _check_fit(label: Coded, prediction: Coded, positive: Hashable, negative: Hashable) -> None:
    expected: list[Any] = [positive] if negative is None else [positive, negative]
    held = _union(label.distinct + prediction.distinct)
    both = f"{label.name} holds {_describe(label)}; {prediction.name} holds {_describe(prediction)}"
    if negative is not None and len(_union((*expected, *held))) > TWO:
        raise InputError(f"some values are neither {positive!r} nor {negative!r}: {both}")
    if negative is None and not any(_same(v, positive) for v in held):
        raise InputError(
            f"the positive value {positive!r} ({kind(positive)}) occurs in neither column: {both}"
        )
    if len(held) > TWO or len({_key(v)[0] for v in (*expected, *held)}) > 1:
        raise InputError(f"label and prediction do not use the same two values: {both}")


def _union(values: tuple[Any, ...]) -> list[Any]:
    return [value for _, value in dict.fromkeys(map(_key, values))]


def _same(one: Any, other: Any) -> bool:
    return _key(one) == _key(other)


def _equals(column: Coded, positive: Hashable) -> Flags:
    return np.array([_same(v, positive) for v in column.distinct], dtype=bool)[column.codes]


def _describe(column: Coded) -> str:
    kinds = " and ".join(sorted({kind(v) for v in column.distinct}))
    text = f"{len(column.distinct)} distinct value(s), {kinds}"
    if len(column.distinct) > MOST_SHOWN:
        return text
    shown = [repr(v) for v in column.distinct if _is_code(v)]
    return f"{text} ({', '.join(sorted(shown))})" if len(shown) == len(column.distinct) else text


def _is_code(value: Any) -> bool:
    """Say whether a value is a label's usual code."""
    if isinstance(value, str):
        return value.strip().lower() in _CODES
    return isinstance(value, (bool, int, float)) and abs(value) <= _MOST_CODE
