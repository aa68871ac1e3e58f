"""Findings: ordered, fingerprinted by place, and an undecided check is never a pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError
from compliance.findings import Finding, Outcome, Place, Severity, Verdict

TEXT = st.text(st.characters(exclude_characters="\x1f"), max_size=5)
PLACES = st.builds(Place, TEXT, st.none() | TEXT.filter(bool), st.none() | TEXT.filter(bool))


def finding(**changes):
    values = {"check": "pii.column", "severity": Severity.HIGH, "message": "m", "place": Place("s")}
    return Finding(**values | changes)


@pytest.mark.parametrize("severity", Severity)
def test_a_severity_is_read_by_its_name_in_any_case(severity):
    assert Severity.parse(severity.name) is Severity.parse(severity.name.lower()) is severity


@pytest.mark.parametrize("text", ["", "hihg", "3", "high "])
def test_an_unknown_severity_is_an_error_that_lists_the_known(text):
    with pytest.raises(InputError, match="known: note, low, medium, high, critical"):
        Severity.parse(text)


def test_severities_are_ordered():
    assert sorted(Severity) == [
        Severity.parse(n) for n in ("note", "low", "medium", "high", "critical")
    ]


@given(st.lists(st.sampled_from(Verdict)))
def test_one_failure_fails_and_one_doubt_is_no_pass(verdicts):
    worst = Verdict.worst(verdicts)
    if Verdict.FAIL in verdicts:
        assert worst is Verdict.FAIL
    elif Verdict.INSUFFICIENT in verdicts or not verdicts:
        assert worst is Verdict.INSUFFICIENT
    else:
        assert worst is Verdict.PASS


def test_a_place_is_written_from_the_outside_in():
    assert str(Place("db", "people", "name")) == "db.people.name"
    assert str(Place("file.csv", column="name")) == "file.csv.name"


@given(PLACES, PLACES)
def test_two_places_share_a_fingerprint_only_when_they_are_one(one, other):
    same = finding(place=one).fingerprint == finding(place=other).fingerprint
    assert same is (one == other)


def test_a_fingerprint_does_not_change_between_runs_or_with_the_figures():
    """Pinned: code-scanning services match yesterday's findings by it."""
    place = Place("s", "t", "c")
    one = finding(place=place, kind="EMAIL", count=3, severity=Severity.LOW)
    other = finding(place=place, kind="EMAIL", count=4, message="other")
    assert one.fingerprint == other.fingerprint == "d4c9208d28c29b5588247380846625fe"
    assert finding(place=place, kind="PHONE").fingerprint != one.fingerprint


def test_an_outcome_gives_its_findings_at_or_above_a_severity():
    outcome = Outcome("c", "t", Verdict.FAIL, "s", tuple(finding(severity=s) for s in Severity))
    assert [f.severity for f in outcome.at_least(Severity.HIGH)] == [3, 4]
