"""Fairness audits that do not cry wolf: tally once, then measure, test and judge.

The names load on first use: the guard imports this package, and numpy only
where decisions are audited.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compliance.fairness.assessment import assess, assess_frame
    from compliance.fairness.metrics import DISPARITIES, METRICS, RATES
    from compliance.fairness.reference import crosscheck, crosscheck_frame
    from compliance.fairness.tally import Tally

_HOMES = {
    "DISPARITIES": "metrics",
    "METRICS": "metrics",
    "RATES": "metrics",
    "Tally": "tally",
    "assess": "assessment",
    "assess_frame": "assessment",
    "crosscheck": "reference",
    "crosscheck_frame": "reference",
}

__all__ = [
    "DISPARITIES",
    "METRICS",
    "RATES",
    "Tally",
    "assess",
    "assess_frame",
    "crosscheck",
    "crosscheck_frame",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
