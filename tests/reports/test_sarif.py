import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.findings import Finding, Outcome, Place, Severity, Verdict
from compliance.reports import sarif


def _run(outcomes, facts=None):
    document = json.loads(sarif.to_sarif(outcomes, title="Nightly", facts=facts or {}))
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("/sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    return run


def _found(place, severity=Severity.HIGH, message="m"):
    return Outcome("c", "t", Verdict.FAIL, "s", (Finding("c", severity, message, place, "K", 3),))


def _location(source, table=None, column=None):
    (result,) = _run([_found(Place(source, table, column))])["results"]
    (location,) = result["locations"]
    return location


def test_the_driver_is_named_with_its_version_and_every_rule(outcomes, facts):
    driver = _run(outcomes, facts)["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("compliance-toolkit", "1.2.3")
    ids = [rule["id"] for rule in driver["rules"]]
    assert ids == sorted(set(ids))
    assert {"pii.column", "pii.scan", "fairness.gap", "models.seal"} <= set(ids)
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])


def test_each_result_points_at_its_rule(outcomes):
    run = _run(outcomes)
    rules = run["tool"]["driver"]["rules"]
    assert run["results"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]


def test_each_finding_is_one_result_with_its_fingerprint(outcomes):
    findings = [f for o in outcomes for f in o.findings]
    results = [r for r in _run(outcomes)["results"] if "locations" in r]
    prints = [r["partialFingerprints"][sarif.FINGERPRINT] for r in results]
    assert prints == [f.fingerprint for f in findings]


@pytest.mark.parametrize(
    ("severity", "level"),
    [*zip(Severity, ["note", "note", "warning", "error", "error"], strict=True)],
)
def test_severity_becomes_a_level(severity, level):
    (result,) = _run([_found(Place("x"), severity)])["results"]
    assert (result["kind"], result["level"]) == ("fail", level)
    assert result["properties"]["severity"] == severity.name.lower()


def test_what_could_not_be_decided_is_open_at_level_none(outcomes):
    (result,) = [r for r in _run(outcomes)["results"] if r["kind"] == "open"]
    assert (result["ruleId"], result["level"]) == ("attacks.membership", "none")


def test_no_outcome_is_an_open_result():
    run = _run([])
    assert run["properties"]["verdict"] == "insufficient evidence"
    assert [(r["kind"], r["ruleId"]) for r in run["results"]] == [("open", sarif.NOTHING_AUDITED)]


def test_a_failed_check_without_findings_is_still_a_failed_result():
    (result,) = _run([Outcome("c", "t", Verdict.FAIL, "It failed.")])["results"]
    assert (result["kind"], result["level"]) == ("fail", "error")


def test_a_check_that_passed_leaves_no_result():
    assert _run([Outcome("c", "t", Verdict.PASS, "s")])["results"] == []


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("people.csv", "people.csv"),
        ("./data/my people.csv", "data/my%20people.csv"),
        ("données/100%.parquet", "donn%C3%A9es/100%25.parquet"),
        ("a:b/x?.csv", "a%3Ab/x%3F.csv"),
    ],
)
def test_a_file_is_a_relative_encoded_reference(source, uri):
    assert _location(source) == {"physicalLocation": {"artifactLocation": {"uri": uri}}}


def test_an_absolute_path_is_relative_to_a_declared_root():
    location = _location("/srv/data/x.csv")["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "srv/data/x.csv", "uriBaseId": "ROOT"}
    assert _run([])["originalUriBaseIds"]["ROOT"]["uri"] == "file:///"


def test_tables_and_columns_are_logical_locations():
    location = _location("sqlite:///bank.db", "customers", "email")
    assert "physicalLocation" not in location
    assert [(p["kind"], p["name"]) for p in location["logicalLocations"]] == [
        ("resource", "sqlite:///bank.db"),
        ("table", "customers"),
        ("column", "email"),
    ]
    assert (
        location["logicalLocations"][2]["fullyQualifiedName"] == "sqlite:///bank.db.customers.email"
    )


def test_a_data_set_is_no_file():
    assert not sarif.is_file("credit-scoring.v2")


def test_a_name_cannot_pose_as_a_link():
    (result,) = _run([_found(Place("x"), message="column [click](https://evil.example)")])[
        "results"
    ]
    assert "](" not in result["message"]["text"]


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_every_path_becomes_a_valid_relative_reference(name):
    uri = sarif.artifact(f"folder/{name}.csv")["uri"]
    assert uri.isascii()
    assert not urlsplit(uri).scheme
    assert unquote(uri, errors="surrogatepass").startswith("folder/")
