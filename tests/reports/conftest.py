"""One report as a real run gives it: every verdict, severity, kind of cell and kind of place."""

import pytest

from compliance.findings import Finding, Interval, Outcome, Place, Severity, Table, Verdict

SCAN = Outcome(
    "pii.scan",
    "Personal data in applicants.csv",
    Verdict.FAIL,
    "Two columns hold personal data that the policy does not declare.",
    findings=(
        Finding(
            "pii.column",
            Severity.LOW,
            "Column holds dates close to birth dates.",
            Place("data/applicants 2026.csv", None, "opened_on"),
            "DATE_TIME",
            320,
        ),
        Finding(
            "pii.column",
            Severity.CRITICAL,
            "Column holds e-mail addresses.",
            Place("sqlite:///bank.db", "customers", "contact"),
            "EMAIL_ADDRESS",
            31998,
            {"share": 0.982, "sampled": 500},
        ),
    ),
    facts={"engine": "presidio", "seed": 0},
)
GAP = Outcome(
    "fairness.gap",
    "Equal chances in credit scoring",
    Verdict.FAIL,
    "The model grants credit to women far less often than to men.",
    findings=(
        Finding(
            "fairness.gap",
            Severity.HIGH,
            "Selection rate of the least favoured group is below the norm.",
            Place("credit-scoring", None, "sex"),
            "demographic_parity_ratio",
            5421,
        ),
    ),
    tables=(
        Table(
            "Impact ratio by race",
            ("Race", "People", "Impact ratio"),
            (
                ("White", 13946, Interval(1.0)),
                ("Black", 1561, Interval(0.498, 0.42, 0.58)),
                ("Asian", 480, Interval(1.017, 0.86, 1.19)),
                ("Other", 12, Interval(None)),
            ),
            caption="95 % limits.",
            plot="Impact ratio",
            reference=0.8,
        ),
    ),
)
ATTACK = Outcome(
    "attacks.membership",
    "Does the model betray who was in the training data?",
    Verdict.INSUFFICIENT,
    "Only 40 records could be tested, and that is too few to say.",
)
SEAL = Outcome("models.seal", "The model is what was sealed", Verdict.PASS, "It is, to the byte.")


@pytest.fixture
def outcomes():
    return (SCAN, GAP, ATTACK, SEAL)


@pytest.fixture
def facts():
    return {
        "generated_at": "2026-01-31T09:30:00Z",
        "tool_version": "1.2.3",
        "policy_digest": "ab" * 32,
    }
