"""The cross-check: our counts against fairlearn, the field's reference, on the same rows.

The reference path is naive on purpose: it reads plain Python values, shares no
coding with the tally, and hands them to `fairlearn.metrics.MetricFrame`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from compliance import frames
from compliance.errors import InputError, IntegrityError, MissingExtra
from compliance.fairness.arrays import Counts, np
from compliance.fairness.coding import is_missing
from compliance.fairness.metrics import DISPARITIES, RATES, Rate
from compliance.fairness.tally import UNKNOWN, Group, Tally, group_name
from compliance.findings import Scalar

LIMIT = 100_000
TOLERANCE = 1e-12
CHECKED = tuple(rate for rate in RATES.values() if rate.name != "base_rate")
"""The rates that fairlearn or scikit-learn computes too."""


def crosscheck(
    label: Any,
    prediction: Any,
    sensitive: Mapping[str, Any],
    positive: Hashable,
    *,
    intersections: bool = True,
    limit: int = LIMIT,
) -> dict[str, Scalar]:
    """Compare rates and gaps with fairlearn's on up to ``limit`` evenly spaced rows.

    Cells that are undefined here are left out: fairlearn writes 0 there.

    Returns:
        Facts for the outcome: fairlearn's version, the rows and the figures compared.

    Raises:
        IntegrityError: a figure differs by more than 1e-12; names metric and attribute.
        InputError: as `Tally.from_values`.
        MissingExtra: fairlearn is not installed.
    """
    if limit < 1:
        raise InputError("the cross-check needs at least one row")
    version, functions = _fairlearn()
    step = max(1, math.ceil(len(label) / limit))
    both = [_plain(label)[::step], _plain(prediction)[::step]]
    groups = {name: _plain(values)[::step] for name, values in sensitive.items()}
    tally = Tally.from_values(both[0], both[1], groups, positive, negative=_other(both, positive))
    coded = [np.array([int(v == positive) for v in column]) for column in both]
    named = {k: np.array([_named(v) for v in values]) for k, values in groups.items()}
    compared = 0
    for attributes in combined(tuple(named), intersections=intersections):
        theirs = _measure(functions, coded, {name: named[name] for name in attributes})
        compared += _compare(tally.by(*attributes), theirs)
    return {"fairlearn": version, "fairlearn_rows": len(both[0]), "fairlearn_figures": compared}


def crosscheck_frame(
    frame: Any,
    *,
    label: str,
    prediction: str,
    sensitive: Sequence[str],
    positive: Hashable,
    intersections: bool = True,
    limit: int = LIMIT,
) -> dict[str, Scalar]:
    """Compare with fairlearn on the rows of a frame; see `crosscheck`."""
    table = frames.wrap(frame)
    names = [sensitive] if isinstance(sensitive, str) else list(sensitive)
    step = max(1, math.ceil(len(table) / max(1, limit)))
    columns = {name: frames.column(table[::step], name) for name in (label, prediction, *names)}
    return crosscheck(
        columns[label],
        columns[prediction],
        {name: columns[name] for name in names},
        positive,
        intersections=intersections,
        limit=limit,
    )


def combined(attributes: Sequence[str], *, intersections: bool) -> list[tuple[str, ...]]:
    """Return each attribute and, where wanted, each pair of attributes."""
    pairs = combinations(attributes, 2) if intersections else ()
    return [*((name,) for name in attributes), *pairs]


def require() -> None:
    """Make sure that fairlearn is there.

    Raises:
        MissingExtra: it is not.
    """
    _fairlearn()


def _fairlearn() -> tuple[str, dict[str, Callable[..., float]]]:
    try:
        import fairlearn
        from fairlearn import metrics
        from sklearn.metrics import accuracy_score, precision_score
    except ImportError as error:
        raise MissingExtra("fairness", "fairlearn") from error
    functions: dict[str, Callable[..., float]] = {
        rate.name: getattr(metrics, rate.name) for rate in CHECKED if hasattr(metrics, rate.name)
    }
    functions["accuracy"] = accuracy_score
    functions["precision"] = partial(precision_score, zero_division=0.0)
    return fairlearn.__version__, functions


def _other(columns: list[list[Any]], positive: Hashable) -> Hashable:
    """Return the negative value: a sample of rows may lack the positive one, and may."""
    return next((v for column in columns for v in column if v != positive), None)


def _plain(values: Any) -> list[Any]:
    """Return a column as Python values, missing ones as None."""
    for name in ("to_list", "tolist", "to_pylist"):
        if hasattr(values, name):
            values = getattr(values, name)()
            break
    return [None if is_missing(v) else v for v in values]


def _named(value: Any) -> str:
    return UNKNOWN if value is None else group_name(value)


def _measure(
    functions: dict[str, Callable[..., float]],
    coded: list[Counts],
    groups: dict[str, Any],
) -> Any:
    from fairlearn.metrics import MetricFrame

    return MetricFrame(
        metrics=functions, y_true=coded[0], y_pred=coded[1], sensitive_features=groups
    )


def _compare(tally: Tally, theirs: Any) -> int:
    """Compare each group's rates and each gap; return how many figures were compared."""
    compared, whole = 0, set()
    for rate in CHECKED:
        ours = rate.by_group(tally)
        for group, value in ours.items():
            if value is not None:
                _agree(value, _cell(theirs, rate, group), rate.name, tally.attributes)
                compared += 1
        if None not in ours.values():
            whole.add(rate.name)
    return compared + _compare_gaps(tally, theirs, whole)


def _cell(theirs: Any, rate: Rate, group: Group) -> float:
    key = group if len(group) > 1 else group[0]
    return float(theirs.by_group[rate.name].loc[key])


def _compare_gaps(tally: Tally, theirs: Any, whole: set[str]) -> int:
    gaps = {"difference": theirs.difference(), "ratio": theirs.ratio()}
    compared = 0
    for disparity in DISPARITIES.values():
        ours = disparity(tally)
        if ours is None or any(rate.name not in whole for rate in disparity.rates):
            continue
        each = [float(gaps[disparity.kind][rate.name]) for rate in disparity.rates]
        _agree(ours, disparity.worst(list(each)) or 0.0, disparity.name, tally.attributes)
        compared += 1
    return compared


def _agree(ours: float, theirs: float, name: str, attributes: Sequence[str]) -> None:
    if not abs(ours - theirs) <= TOLERANCE:  # NaN must not agree
        where = " x ".join(attributes)
        raise IntegrityError(
            f"{name} by {where} is {ours!r} here and {theirs!r} by fairlearn; "
            "the audit cannot be trusted: report this with your library versions"
        )
