"""Intervals for rates, and the test that tells a gap between groups from chance.

The gate asks about the gap itself and not about any difference anywhere: the
statistic is the greatest standardised contrast among the pairs of groups that lie
beyond the norm, compared with the greatest contrast among *all* pairs when the
same decisions are dealt to the same groups at random. So a small group's odd rate
is not convicted by a tiny, certain difference between two large groups, and
looking at every pair is paid for. Dealing at random from the margins needs no
large-sample approximation, hence holds its level at every size (a chi-square
statistic does not below about five expected cases a cell); two groups use
Fisher's exact test, the same deal in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from compliance.errors import InputError, MissingExtra
from compliance.fairness.arrays import Counts, Flags, Floats, np
from compliance.findings import Interval

CONFIDENCE = 0.95
MOST_DEALS = 9_999
ENOUGH = 100
"""Deals as extreme as the data after which the test may stop (Besag and Clifford 1991)."""
BATCH = 500
MOST_EXACT = 10**9
"""Rows up to which numpy deals exactly; beyond, the normal limit serves."""
TIE = 1e-9

Beyond = Callable[[Floats, Floats], Flags]
"""Says which pairs of a lower and a higher rate lie beyond the norm."""


def _check_share(hits: int, cases: int, confidence: float) -> None:
    if not 0 <= hits <= cases:
        raise InputError(f"{hits} hits among {cases} cases: there cannot be more hits than cases")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}")


def wilson(hits: int, cases: int, confidence: float = CONFIDENCE) -> Interval:
    """Return a rate with its score interval (Wilson, JASA 22, 1927); empty without cases."""
    _check_share(hits, cases, confidence)
    if not cases:
        return Interval(None)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, weight = hits / cases, z * z / cases
    centre = rate + weight / 2
    reach = z * math.sqrt(rate * (1 - rate) / cases + weight / (4 * cases))
    low = (centre - reach) / (1 + weight) if hits else 0.0
    high = (centre + reach) / (1 + weight) if hits < cases else 1.0
    return Interval(rate, max(0.0, low), min(1.0, high))


def clopper_pearson(hits: int, cases: int, confidence: float = CONFIDENCE) -> Interval:
    """Return a rate with its exact interval (Clopper and Pearson, Biometrika 26, 1934).

    Raises:
        MissingExtra: scipy is not installed.
    """
    _check_share(hits, cases, confidence)
    if not cases:
        return Interval(None)
    tail = (1 - confidence) / 2
    quantile = _scipy("special").betaincinv
    low = float(quantile(hits, cases - hits + 1, tail)) if hits else 0.0
    high = float(quantile(hits + 1, cases - hits, 1 - tail)) if hits < cases else 1.0
    return Interval(hits / cases, low, high)


def require() -> None:
    """Make sure that scipy is there.

    Raises:
        MissingExtra: it is not.
    """
    _scipy("special")


def _scipy(part: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"scipy.{part}")
    except ImportError as error:
        raise MissingExtra("fairness", "scipy") from error


@dataclass(frozen=True, slots=True)
class Evidence:
    """How likely chance alone makes a contrast as great as the one seen.

    Attributes:
        p: the p-value; never below 1/10,000 when found by dealing.
        method: the test, in words.
    """

    p: float
    method: str


FISHER = "Fisher's exact test"
DEALT = "permutation test of the greatest contrast"


def contrast(hits: Counts, cases: Counts, beyond: Beyond | None = None, seed: int = 0) -> Evidence:
    """Test whether chance explains the greatest contrast in rates among the groups.

    Under the null, hits fall on cases whatever the group; given hits and group
    sizes that is a multivariate hypergeometric deal. The p-value is valid:
    P(p <= a) <= a for every a, also under the choice of pairs by ``beyond``, since
    the chosen pairs are compared with all pairs.

    Args:
        hits: by group.
        cases: by group, each at least one; two groups or more.
        beyond: which pairs count; all of them by default. No such pair gives p = 1.
        seed: of the deals; the same counts always give the same p.

    Raises:
        InputError: fewer than two groups, or counts that cannot be.
        MissingExtra: scipy is not installed.
    """
    hits, cases = np.asarray(hits, dtype=np.int64), np.asarray(cases, dtype=np.int64)
    if len(cases) < 2 or hits.shape != cases.shape or (hits < 0).any() or (hits > cases).any():  # noqa: PLR2004  a contrast has two sides
        raise InputError("a contrast needs two groups or more, and no more hits than cases")
    if (cases < 1).any():
        raise InputError("every group of a contrast needs at least one case")
    if len(cases) == 2:  # noqa: PLR2004  two groups
        return _fisher(hits, cases, beyond)
    found = _greatest(hits, cases, beyond)
    return Evidence(1.0 if found is None else _dealt(found, hits, cases, seed), DEALT)


def _fisher(hits: Counts, cases: Counts, beyond: Beyond | None) -> Evidence:
    low, high = np.sort(hits / cases)
    if beyond is not None and not beyond(low, high):
        return Evidence(1.0, FISHER)
    table = np.stack([hits, cases - hits])
    return Evidence(min(1.0, float(_scipy("stats").fisher_exact(table).pvalue)), FISHER)


def _pairs(groups: int) -> tuple[Counts, Counts]:
    first, second = np.triu_indices(groups, 1)
    return first, second


def _greatest(hits: Counts, cases: Counts, beyond: Beyond | None) -> float | None:
    """Return the greatest contrast, in standard errors, among the pairs that count."""
    rates = hits / cases
    first, second = _pairs(len(cases))
    contrasts = np.abs(rates[first] - rates[second]) / np.sqrt(1 / cases[first] + 1 / cases[second])
    if beyond is not None:
        low, high = np.minimum(rates[first], rates[second]), np.maximum(rates[first], rates[second])
        contrasts = contrasts[beyond(low, high)]
    spread = _spread(hits, cases)
    return float(contrasts.max()) / spread if len(contrasts) and spread else None


def _spread(hits: Counts, cases: Counts) -> float:
    """Return the standard deviation of one case, pooled: the same in every deal."""
    share = int(hits.sum()) / int(cases.sum())
    return math.sqrt(share * (1 - share))


def _dealt(found: float, hits: Counts, cases: Counts, seed: int) -> float:
    """Return the share of deals with a contrast as great, counting the data as one of them."""
    rng = np.random.default_rng(seed)
    seen = done = 0
    while done < MOST_DEALS:
        batch = min(BATCH, MOST_DEALS - done)
        reached = _reaches(_deal(rng, hits, cases, batch), found, hits, cases)
        if seen + int(reached.sum()) >= ENOUGH:
            last = int(np.flatnonzero(reached)[ENOUGH - seen - 1])
            return ENOUGH / (done + last + 1)
        seen, done = seen + int(reached.sum()), done + batch
    return (seen + 1) / (MOST_DEALS + 1)


def _deal(rng: np.random.Generator, hits: Counts, cases: Counts, times: int) -> Floats:
    """Return deals x groups: how far each group's rate lies from the overall rate."""
    total = int(cases.sum())
    share = int(hits.sum()) / total
    if total < MOST_EXACT:
        dealt = rng.multivariate_hypergeometric(cases, int(hits.sum()), times, method="marginals")
        return dealt / cases - share
    return rng.standard_normal((times, len(cases))) * np.sqrt(share * (1 - share) / cases)


def _reaches(offsets: Floats, found: float, hits: Counts, cases: Counts) -> Flags:
    """Return which deals hold a pair whose contrast is at least the one found.

    No pair's contrast exceeds the root of the sum of the two greatest squared
    group scores (Cauchy and Schwarz), which spares most deals the pairwise work.
    """
    spread, bar = _spread(hits, cases), found * (1 - TIE)
    scores = np.abs(offsets) * np.sqrt(cases) / spread
    top = np.partition(scores, -2, axis=1)[:, -2:]
    reached = np.hypot(top[:, 0], top[:, 1]) >= bar
    first, second = _pairs(len(cases))
    width = np.sqrt(1 / cases[first] + 1 / cases[second]) * spread * bar
    for row in np.flatnonzero(reached):
        reached[row] = (np.abs(offsets[row, first] - offsets[row, second]) >= width).any()
    return reached


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979).

    Rejecting those below alpha keeps the chance of any false rejection at alpha,
    however the tests depend on each other.
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, floor = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = floor
    return adjusted
