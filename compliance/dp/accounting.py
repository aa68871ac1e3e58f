"""What DP-SGD costs: the least of the valid upper bounds on epsilon.

Two bounds are computed and the smaller one is reported under its name:

* ``RDP``: Rényi accounting of the Poisson-sampled Gaussian (Mironov, Talwar, Zhang 2019,
  arXiv:1908.10530), converted by Canonne, Kamath, Steinke 2020 (arXiv:2004.00010, Prop. 12).
* ``PLD``: privacy loss distributions composed by FFT, discretised pessimistically by
  "connect the dots" (Doroshenko et al. 2022, arXiv:2207.04380).

The Gaussian (GDP, central limit) approximation is no upper bound and is never used:
at noise 1.1, rate 256/60000, 3,516 steps and delta 1e-5 it claims 1.077 where the
truth is above 1.13. Neighbouring data sets differ by one row added or removed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from compliance.errors import InputError, MissingExtra

NOISE = (0.1, 1e6)
"""The noise multipliers that `noise_for` considers."""
_TOLERANCE = 1e-3  # relative: how far above the least noise the search may end
_ROUNDING = 1e-14  # of delta for each step: 100 times what FFT rounding was seen to lose
_ERROR = 5e-5  # sizes the grid: epsilon is about this much too large, relatively
_SEARCH = 3.0  # the grid of a search is this much coarser than that of an answer
_CELLS = 1e6  # the finest grid has about this many cells to one epsilon


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound on epsilon, and the accountant that proves it."""

    epsilon: float
    accountant: Literal["RDP", "PLD"]


def best_bound(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Bound:
    """Return the least valid bound on the epsilon of DP-SGD with Poisson sampling.

    Args:
        noise_multiplier: standard deviation of the noise over the clipping norm, above 0.
        sample_rate: the chance of each row to be in a batch, in (0, 1].
        steps: how many noisy steps were, or will be, taken.
        delta: in (0, 1).

    Raises:
        InputError: a figure is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    _check(noise_multiplier, "noise_multiplier")
    _check_run(sample_rate, steps, delta)
    if steps == 0:
        return Bound(0.0, "RDP")
    return _best(noise_multiplier, (sample_rate, steps, delta))


def noise_for(*, epsilon: float, sample_rate: float, steps: int, delta: float) -> float:
    """Return a noise multiplier, the least to a thousandth, that keeps DP-SGD within epsilon.

    `best_bound` at the result is never above ``epsilon``.

    Raises:
        InputError: a figure is out of range, or no noise in `NOISE` is enough.
        MissingExtra: dp-accounting is not installed.
    """
    _check(epsilon, "epsilon")
    _check_run(sample_rate, steps, delta)
    if steps == 0:
        raise InputError("steps must be at least 1")
    run = (sample_rate, steps, delta)
    return _least_noise(epsilon, _enough(epsilon, run), run)


_Run = tuple[float, int, float]


def _enough(epsilon: float, run: _Run) -> float:
    """Bisect with the cheap bound; PLD, which never needs more noise, only where RDP cannot."""

    def by_rdp(noise: float) -> float:
        return _rdp(noise, *run)

    def by_either(noise: float) -> float:
        return _best(noise, run, coarse=_SEARCH, enough=epsilon).epsilon

    bound = by_rdp if by_rdp(NOISE[1]) <= epsilon else by_either
    if bound(NOISE[1]) > epsilon:
        rate, steps, delta = run
        raise InputError(
            f"epsilon {epsilon:g} is out of reach in {steps} steps at rate {rate:g} and "
            f"delta {delta:g}; train fewer epochs or allow a larger epsilon"
        )
    low, high = NOISE
    while high / low > 1 + 10 * _TOLERANCE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if bound(middle) <= epsilon else (middle, high)
    return high


def _least_noise(epsilon: float, enough: float, run: _Run) -> float:
    """Narrow a bracket on a coarse grid, whose upper end holds the target; then polish it.

    The logarithm of epsilon is close to a line in that of the noise: the regula falsi,
    kept a little inside the bracket, needs few steps.
    """

    def excess(noise: float) -> float:
        found = _best(noise, run, coarse=_SEARCH, enough=epsilon).epsilon
        return math.log(max(found, 1e-300) / epsilon)

    (low, below), (high, above) = _bracket(excess, enough)
    slope = (above - below) / math.log(high / low) if below > 0 else math.inf
    while high / low > 1 + _TOLERANCE and below > 0:
        share = min(max(below / (below - above), 0.05), 0.95)
        middle = low * (high / low) ** share
        found = excess(middle)
        if found <= 0:
            high, above = middle, found
        else:
            low, below = middle, found
    return _polished(epsilon, high, slope, run)


def _polished(epsilon: float, noise: float, slope: float, run: _Run) -> float:
    """Spend what the coarse grid's caution left over; never return what overspends."""
    found = _best(noise, run).epsilon
    while found > epsilon:
        noise *= 1 + _TOLERANCE
        found = _best(noise, run).epsilon
    if found == 0 or math.isinf(slope):
        return noise
    less = noise * math.exp(math.log(epsilon / found) * 0.9 / slope)
    return less if NOISE[0] <= less and _best(less, run).epsilon <= epsilon else noise


_Point = tuple[float, float]


def _bracket(excess: Callable[[float], float], enough: float) -> tuple[_Point, _Point]:
    """Stride down from enough noise to too little, or to the least noise we consider."""
    high = low = (enough, excess(enough))
    stride = 0.9
    while low[1] <= 0 and low[0] > NOISE[0]:
        noise = max(NOISE[0], low[0] * stride)
        high, low = low, (noise, excess(noise))
        stride **= 1.5
    return (low, low) if low[1] <= 0 else (low, high)


# -- the two bounds ----------------------------------------------------------------


def _best(noise: float, run: _Run, *, coarse: float = 1.0, enough: float = 0.0) -> Bound:
    rdp = Bound(_rdp(noise, *run), "RDP")
    pld = Bound(_pld((noise, *run), rdp.epsilon, coarse, enough), "PLD")
    return min(rdp, pld, key=lambda bound: bound.epsilon)


def _rdp(noise: float, rate: float, steps: int, delta: float) -> float:
    """dp-accounting's figure; where it says 0, which is also its answer to lost digits, our own."""
    library = _library()
    accountant = library.rdp.RdpAccountant()
    step = library.PoissonSampledDpEvent(rate, library.GaussianDpEvent(noise))
    with _quiet():
        accountant.compose(library.SelfComposedDpEvent(step, steps))
        epsilon = float(accountant.get_epsilon(delta))
    return _finite(epsilon) if epsilon != 0 else _rdp_series(noise, rate, steps, delta)


def _rdp_series(noise: float, rate: float, steps: int, delta: float) -> float:
    """The same bound at whole orders, by a sum of positive terms that loses no digits.

    E[(P/Q)^a] - 1 = sum over k >= 2 of C(a, k) q^k (1-q)^(a-k) (exp(k(k-1)/2s^2) - 1)
    (arXiv:1908.10530, section 3.3). Zero is the answer only where the divergence r proves
    it: the total variation is at most sqrt(1 - exp(-r)) (Bretagnolle-Huber).
    """
    import numpy as np

    orders = np.array([*range(2, 64), *range(64, 1025, 16)], dtype=float)
    r = np.array([steps * _log_moment(noise, rate, int(a)) / (a - 1) for a in orders])
    if (-np.expm1(-r) <= delta**2).any():
        return 0.0
    epsilon = r + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    return max(0.0, _finite(float(np.nanmin(epsilon))))


def _log_moment(noise: float, rate: float, order: int) -> float:
    import numpy as np
    from scipy.special import gammaln, logsumexp, xlog1py

    k = np.arange(2.0, order + 1)
    exponent = k * (k - 1) / (2 * noise**2)
    log_expm1 = exponent + np.log(-np.expm1(-exponent))
    log_choose = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = log_choose + k * np.log(rate) + xlog1py(order - k, -rate) + log_expm1
    return float(np.logaddexp(0, logsumexp(terms)))


@lru_cache(maxsize=256)
def _pld(
    run: tuple[float, float, int, float], rdp: float, coarse: float = 1.0, enough: float = 0.0
) -> float:
    """Compose on a grid sized by RDP's figure, and again where that proves far too large.

    Infinity where PLD has nothing to add: RDP's bound stands. A search that only asks
    whether epsilon is at most ``enough`` spares itself the second pass.
    """
    if rdp == 0:
        return math.inf
    try:
        found = _composed(run, rdp, coarse)
        if found <= enough or not 0 < found < rdp / 1.5:
            return found
        return min(found, _composed(run, max(found, rdp / 50), coarse))
    except (ArithmeticError, ValueError, MemoryError):
        return math.inf


def _composed(run: tuple[float, float, int, float], scale: float, coarse: float) -> float:
    """Return epsilon on a grid for epsilons of about this scale.

    The discretisation only ever adds to epsilon, in proportion to the steps and to the
    square of the cell: with the cell below, a few parts in ten thousand. Rounding in the
    FFT errs to either side, by about 1e-16 of delta a step (measured against the exact
    Gaussian): it is taken off delta with a margin, so that the figure stays a bound.
    """
    noise, rate, steps, delta = run
    left = delta - _ROUNDING * (steps + 100)
    if left <= 0:
        return math.inf
    scale = min(scale, 1e6)
    cell = coarse * max(min(math.sqrt(_ERROR * scale / steps), scale / 1e3), scale / _CELLS)
    once = _library().pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise, value_discretization_interval=cell, sampling_prob=rate
    )
    return _finite(float(once.self_compose(steps).get_epsilon_for_delta(left)))


def _finite(epsilon: float) -> float:
    """A bound that is no number bounds nothing."""
    return epsilon if epsilon >= 0 else math.inf


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        import dp_accounting  # type: ignore[import-untyped]  # ships no types
        import dp_accounting.pld  # type: ignore[import-untyped]  # as above
        import dp_accounting.rdp  # type: ignore[import-untyped]  # as above
    except ImportError as error:
        raise MissingExtra("dp", "dp-accounting") from error
    return dp_accounting


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes on orders that failed: fewer are still a bound, and a zero is done again."""
    logger = logging.getLogger("absl")
    logger.addFilter(_is_news)
    try:
        yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    message = str(record.msg)
    return "Excluding this order" not in message and "Negative Renyi" not in message


# -- input ---------------------------------------------------------------------------


def _check(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a number above 0")


def _check_run(sample_rate: float, steps: int, delta: float) -> None:
    if not 0 < sample_rate <= 1:
        raise InputError("sample_rate must be above 0 and at most 1")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError("steps must be a whole number, 0 or more")
    if not 0 < delta < 1:
        raise InputError("delta must be above 0 and below 1")
