"""Group metrics from a tally, with fairlearn's names and fairlearn's values.

A rate over no cases is undefined (None), where fairlearn says 0. A disparity
compares the groups in which its rates are defined, and is undefined with fewer
than two of them. Each metric is a callable: ``selection_rate(tally)``,
``demographic_parity_ratio(tally.by("sex"))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from compliance.errors import InputError
from compliance.fairness.arrays import Counts
from compliance.fairness.tally import Group, Tally

TN, FP, FN, TP = range(4)
ALL = (TN, FP, FN, TP)
Kind = Literal["difference", "ratio"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of cases: hits in the cells ``of`` among those in the cells ``among``.

    Attributes:
        name: fairlearn's name (``base_rate`` is ours).
        title: the rate in words.
    """

    name: str
    title: str
    of: tuple[int, ...]
    among: tuple[int, ...]

    def parts(self, tally: Tally) -> tuple[Counts, Counts]:
        """Return hits and cases by group."""
        return tally.counts[:, self.of].sum(axis=1), tally.counts[:, self.among].sum(axis=1)

    def by_group(self, tally: Tally) -> dict[Group, float | None]:
        """Return the rate of each group."""
        pairs = zip(*(part.tolist() for part in self.parts(tally)), strict=True)
        return dict(zip(tally.groups, (_share(k, n) for k, n in pairs), strict=True))

    def __call__(self, tally: Tally) -> float | None:
        """Return the rate over all groups."""
        hits, cases = self.parts(tally)
        return _share(int(hits.sum()), int(cases.sum()))


@dataclass(frozen=True, slots=True)
class Disparity:
    """The widest gap between two groups, over one rate or the worst of several."""

    name: str
    kind: Kind
    rates: tuple[Rate, ...]

    @property
    def title(self) -> str:
        """Return the rates compared, in words."""
        return " or ".join(rate.title for rate in self.rates)

    def __call__(self, tally: Tally) -> float | None:
        """Return the gap between the groups of the tally."""
        return self.worst([gap(self.kind, *rate.parts(tally)) for rate in self.rates])

    def worst(self, gaps: list[float | None]) -> float | None:
        """Return the worst of the gaps of the several rates; undefined if one is."""
        known = [g for g in gaps if g is not None]
        if len(known) < len(gaps):
            return None
        return max(known) if self.kind == "difference" else min(known)


def _share(hits: int, cases: int) -> float | None:
    return hits / cases if cases else None


def gap(kind: Kind, hits: Counts, cases: Counts) -> float | None:
    """Return highest minus lowest rate, or lowest over highest; None where undefined."""
    rates = hits[cases > 0] / cases[cases > 0]
    if len(rates) < 2:  # noqa: PLR2004  a gap needs two groups
        return None
    low, high = float(rates.min()), float(rates.max())
    if kind == "difference":
        return high - low
    return low / high if high else None


def count(tally: Tally) -> int:
    """Return the number of rows."""
    return tally.total


selection_rate = Rate("selection_rate", "selection rate", (FP, TP), ALL)
base_rate = Rate("base_rate", "base rate", (FN, TP), ALL)
true_positive_rate = Rate("true_positive_rate", "true positive rate", (TP,), (FN, TP))
false_positive_rate = Rate("false_positive_rate", "false positive rate", (FP,), (TN, FP))
true_negative_rate = Rate("true_negative_rate", "true negative rate", (TN,), (TN, FP))
false_negative_rate = Rate("false_negative_rate", "false negative rate", (FN,), (FN, TP))
accuracy = Rate("accuracy", "accuracy", (TN, TP), ALL)
precision = Rate("precision", "precision", (TP,), (FP, TP))

RATES: Mapping[str, Rate] = MappingProxyType(
    {
        rate.name: rate
        for rate in (
            selection_rate,
            true_positive_rate,
            false_positive_rate,
            true_negative_rate,
            false_negative_rate,
            accuracy,
            precision,
            base_rate,
        )
    }
)
_ODDS = (true_positive_rate, false_positive_rate)

demographic_parity_difference = Disparity(
    "demographic_parity_difference", "difference", (selection_rate,)
)
demographic_parity_ratio = Disparity("demographic_parity_ratio", "ratio", (selection_rate,))
equalized_odds_difference = Disparity("equalized_odds_difference", "difference", _ODDS)
equalized_odds_ratio = Disparity("equalized_odds_ratio", "ratio", _ODDS)
equal_opportunity_difference = Disparity(
    "equal_opportunity_difference", "difference", (true_positive_rate,)
)
equal_opportunity_ratio = Disparity("equal_opportunity_ratio", "ratio", (true_positive_rate,))


def _derived() -> list[Disparity]:
    """Return fairlearn's ``<rate>_difference`` and ``<rate>_ratio``."""
    named = {r.name: r for r in RATES.values() if r.name.endswith("_rate") and r is not base_rate}
    named["accuracy_score"] = accuracy
    kinds: tuple[Kind, ...] = ("difference", "ratio")
    return [Disparity(f"{n}_{kind}", kind, (r,)) for n, r in named.items() for kind in kinds]


DISPARITIES: Mapping[str, Disparity] = MappingProxyType(
    {
        disparity.name: disparity
        for disparity in (
            demographic_parity_difference,
            demographic_parity_ratio,
            equalized_odds_difference,
            equalized_odds_ratio,
            equal_opportunity_difference,
            equal_opportunity_ratio,
            *_derived(),
        )
    }
)

METRICS: Mapping[str, Callable[[Tally], float | int | None]] = MappingProxyType(
    {"count": count, **RATES, **DISPARITIES}
)
"""Every metric by name."""


def metric(name: str) -> Callable[[Tally], float | int | None]:
    """Return a metric by name.

    Raises:
        InputError: there is none of this name; the message lists those there are.
    """
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}; there are: {', '.join(METRICS)}")
    return METRICS[name]
