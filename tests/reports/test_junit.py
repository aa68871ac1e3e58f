import xml.etree.ElementTree as ET

import pytest

from compliance.findings import Finding, Outcome, Place, Severity, Verdict
from compliance.reports.junit import to_junit


def _suites(outcomes, facts=None):
    root = ET.fromstring(to_junit(outcomes, title="Nightly", facts=facts or {}))
    assert root.tag == "testsuites"
    return root


def _outcome(verdict, *severities):
    place = Place("people.csv", None, "mail")
    found = tuple(Finding("c", s, "message", place, "EMAIL", 2) for s in severities)
    return Outcome("c", "t", verdict, "summary", found)


def _results(suite):
    names = ("failure", "skipped", "error")
    return [next((n for n in names if c.find(n) is not None), "ok") for c in suite.iter("testcase")]


def test_each_outcome_is_a_suite_and_each_finding_and_verdict_a_case(outcomes):
    suites = _suites(outcomes).findall("testsuite")
    assert [s.get("name") for s in suites] == [o.title for o in outcomes]
    assert [len(s.findall("testcase")) for s in suites] == [len(o.findings) + 1 for o in outcomes]


def test_the_totals_are_the_cases(outcomes):
    root = _suites(outcomes)
    for element in (root, *root.findall("testsuite")):
        results = _results(element)
        assert int(element.get("tests")) == len(results)
        assert int(element.get("failures")) == results.count("failure")
        assert int(element.get("skipped")) == results.count("skipped")
        assert element.get("errors") == "0"


@pytest.mark.parametrize(
    ("verdict", "result"),
    [(Verdict.PASS, "ok"), (Verdict.FAIL, "failure"), (Verdict.INSUFFICIENT, "skipped")],
)
def test_red_and_green_agree_with_the_verdict(verdict, result):
    (suite,) = _suites([_outcome(verdict, Severity.HIGH)]).findall("testsuite")
    assert _results(suite) == [result, result]


def test_a_note_fails_nothing_but_its_check_still_does():
    assert _results(_suites([_outcome(Verdict.FAIL, Severity.NOTE)])) == ["ok", "failure"]


def test_nothing_audited_is_skipped_and_never_green():
    assert _results(_suites([])) == ["skipped"]


def test_facts_are_properties_of_each_suite(outcomes, facts):
    for suite in _suites(outcomes, facts).findall("testsuite"):
        properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
        assert properties.items() >= facts.items()


def test_a_failure_says_what_where_and_how_many():
    case = _suites([_outcome(Verdict.FAIL, Severity.HIGH)]).find(".//testcase")
    assert case.get("name") == "EMAIL at people.csv.mail"
    assert case.get("classname") == "c"
    assert case.find("failure").get("type") == "high"
    assert "count: 2" in case.find("failure").text
