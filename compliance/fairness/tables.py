"""The tables of a fairness audit: the gaps, and the rates by group with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compliance.fairness.arrays import Counts, Flags, np
from compliance.fairness.inference import CONFIDENCE, wilson
from compliance.fairness.metrics import DISPARITIES, Rate, selection_rate
from compliance.fairness.tally import Tally
from compliance.findings import Interval, Scalar, Table
from compliance.policy import Norm

FEWEST_NAMED = 5
"""Smaller groups are shown as one line: a rate over one person is that person's outcome."""

GAP_COLUMNS = (
    "attribute",
    "norm",
    "metric",
    "value",
    "limit",
    "p",
    "p adjusted",
    "groups held",
    "verdict",
    "basis",
)


def gap_table(rows: Iterable[Sequence[Scalar]]) -> Table:
    """Return the table of tests: one row for each attribute (or pair) and norm."""
    return Table(
        title="Gaps between groups",
        columns=GAP_COLUMNS,
        rows=tuple(tuple(row) for row in rows),
        caption=(
            "A gap fails only when it exceeds its norm and its adjusted p is below alpha. p is the "
            "chance of so great a gap beyond the norm (or, within the norm, of so great a gap at "
            "all) if the group made no difference."
        ),
    )


def group_table(tally: Tally, norms: Mapping[str, Norm]) -> Table:
    """Return rows, standing and rates of each group, with Wilson intervals.

    Groups of fewer than five rows appear as one line without rates.
    """
    rates = _rates(norms)
    sizes = tally.counts.sum(axis=1)
    times = np.sum([held(tally, norm) for norm in norms.values()], axis=0)
    shown = np.flatnonzero(sizes >= FEWEST_NAMED)
    intervals = [_intervals(rate, tally) for rate in rates]
    rows: list[tuple[Scalar | Interval, ...]] = [
        (
            " x ".join(tally.groups[i]),
            int(sizes[i]),
            _standing(int(times[i]), len(norms)),
            *(column[i] for column in intervals),
        )
        for i in shown
    ]
    rows += _pooled(sizes[sizes < FEWEST_NAMED], len(rates))
    return Table(
        title=f"Rates by {' x '.join(tally.attributes)}",
        columns=("group", "rows", "standing", *(rate.name for rate in rates)),
        rows=tuple(rows),
        caption=_caption(tally, rates[0], norms),
        plot=rates[0].name,
        reference=_reference(tally, rates[0], norms),
    )


def held(tally: Tally, norm: Norm) -> Flags:
    """Return which groups have the cases, behind every rate of the metric, to be held to a norm."""
    cases = [rate.parts(tally)[1] for rate in DISPARITIES[norm.metric].rates]
    enough: Flags = np.logical_and.reduce([n >= norm.least_group for n in cases])
    return enough


def _standing(times: int, norms: int) -> str:
    if times in {0, norms}:
        return "held" if times else "insufficient"
    return f"held to {times} of {norms} norms"


def _rates(norms: Mapping[str, Norm]) -> list[Rate]:
    """Return the rates that the norms compare, in their order, and the selection rate."""
    used = [rate for norm in norms.values() for rate in DISPARITIES[norm.metric].rates]
    return list(dict.fromkeys([*used, selection_rate]))


def _intervals(rate: Rate, tally: Tally) -> list[Interval]:
    hits, cases = rate.parts(tally)
    return [wilson(k, n) for k, n in zip(hits.tolist(), cases.tolist(), strict=True)]


def _pooled(sizes: Counts, rates: int) -> list[tuple[Scalar | Interval, ...]]:
    if not len(sizes):
        return []
    name = f"({len(sizes)} group(s) of fewer than {FEWEST_NAMED})"
    return [(name, int(sizes.sum()), "insufficient", *(Interval(None) for _ in range(rates)))]


def _deciding(rate: Rate, norms: Mapping[str, Norm]) -> Norm | None:
    return next((n for n in norms.values() if rate in DISPARITIES[n.metric].rates), None)


def _reference(tally: Tally, rate: Rate, norms: Mapping[str, Norm]) -> float | None:
    """Return the rate below which a group lies beyond the norm, seen from the highest group."""
    norm = _deciding(rate, norms)
    hits, cases = rate.parts(tally)
    held = cases >= max(1, norm.least_group if norm else 1)
    if norm is None or not held.any():
        return None
    top = float((hits[held] / cases[held]).max())
    line = top * norm.at_least if norm.at_least is not None else top - (norm.at_most or 0.0)
    return line if 0 < line < 1 else None


def _caption(tally: Tally, rate: Rate, norms: Mapping[str, Norm]) -> str:
    overall = rate(tally)
    share = "undefined" if overall is None else f"{overall:.1%}"
    line = _reference(tally, rate, norms) is not None
    return f"Overall {rate.title}: {share}. Bars are {CONFIDENCE:.0%} Wilson intervals." + (
        " The line is where the norm begins, seen from the highest group." if line else ""
    )
