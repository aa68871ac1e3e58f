"""The public names are pinned: to add or remove one is a decision, not an accident."""

from __future__ import annotations

import pytest

import compliance

PUBLIC = [
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


def test_the_public_names_are_these():
    assert compliance.__all__ == PUBLIC
    assert dir(compliance) == sorted([*PUBLIC, "__version__"])


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_loads_on_first_use(name):
    assert getattr(compliance, name).__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'compliance' has no attribute 'Gaurd'"):
        _ = compliance.Gaurd
