"""Privacy and compliance middleware for machine learning.

The public names load on first use, so that ``import compliance`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compliance.config import Settings
    from compliance.errors import ComplianceError
    from compliance.findings import Finding, Outcome, Severity, Verdict
    from compliance.guard import Guard, Run
    from compliance.policy import Policy

_HOMES = {
    "ComplianceError": "compliance.errors",
    "Finding": "compliance.findings",
    "Guard": "compliance.guard",
    "Outcome": "compliance.findings",
    "Policy": "compliance.policy",
    "Run": "compliance.guard",
    "Settings": "compliance.config",
    "Severity": "compliance.findings",
    "Verdict": "compliance.findings",
}

__all__ = [
    "ComplianceError",
    "Finding",
    "Guard",
    "Outcome",
    "Policy",
    "Run",
    "Settings",
    "Severity",
    "Verdict",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compliance' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
