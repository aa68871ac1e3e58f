"""``compliance consent``: what subjects said, by arguments, file or standard input."""

import json

import pytest
import yaml

from compliance import Guard

PURPOSE = ("--purpose", "credit-scoring")


def _permitted(project, *subjects, kind="customer"):
    guard = Guard(project)
    try:
        return guard.consents.permits("credit-scoring", kind, subjects)
    finally:
        guard.store.close()


def test_consent_is_given_and_withdrawn(cli, project):
    answer = cli("consent", "record", *PURPOSE, "1", "2", "3")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "recorded: 3 customers given for credit-scoring\n"
    assert cli("consent", "withdraw", *PURPOSE, "2").err == (
        "recorded: 1 customer withdrawn for credit-scoring\n"
    )
    assert _permitted(project, 1, 2, 3, 4) == [True, False, True, False]


def test_it_counts_for_the_subjects_of_the_data_sets_without_saying_so(cli, project):
    """The one subject type of the policy is meant: a record under another would do nothing."""
    cli("consent", "record", *PURPOSE, "1")
    assert _permitted(project, 1) == [True]
    assert _permitted(project, 1, kind="person") == [False]


def test_an_unknown_type_is_refused(cli, project):
    answer = cli("consent", "record", *PURPOSE, "--type", "person", "1")
    assert (answer.code, answer.out) == (2, "")
    assert "customer" in answer.err


def test_where_there_are_several_types_one_is_to_be_named(cli, project):
    path = project / "policies/datasets.yaml"
    policy = yaml.safe_load(path.read_text())
    policy["datasets"]["staff"] = {
        "subject": "id", "subject_type": "employee",
        "columns": {"id": {"purposes": ["customer-support"]}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(policy))
    answer = cli("consent", "record", *PURPOSE, "1")
    assert answer.code == 2
    assert "customer, employee" in answer.err
    assert cli("consent", "record", *PURPOSE, "--type", "employee", "1").code == 0


def test_one_subject_counts_once(cli, project):
    assert "1 customer " in cli("consent", "record", *PURPOSE, "7", " 7", "7").err


def test_subjects_come_from_a_file(cli, project):
    (project / "who.txt").write_bytes(b"\xef\xbb\xbf1\r\n2\r\n\r\n  3  \r\n")  # as Excel writes it
    answer = cli("consent", "record", *PURPOSE, "--file", "who.txt", "4")
    assert "4 customers" in answer.err
    assert _permitted(project, 1, 2, 3, 4) == [True] * 4


def test_subjects_come_from_standard_input(cli, project, stdin):
    stdin(b"1\n2\n")
    assert "2 customers" in cli("consent", "record", *PURPOSE, "--file", "-").err


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_nobody_is_a_2(cli, project, stdin, data):
    stdin(data)
    answer = cli("consent", "record", *PURPOSE, "--file", "-")
    assert (answer.code, answer.out) == (2, "")
    assert "at least one subject" in answer.err
    assert cli("consent", "record", *PURPOSE).code == 2


@pytest.mark.parametrize("name", ["missing.txt", "binary.txt", "."])
def test_a_file_that_cannot_be_read_is_a_2(cli, project, name):
    (project / "binary.txt").write_bytes(b"\xff\xfe1\n")
    answer = cli("consent", "record", *PURPOSE, "--file", name)
    assert (answer.code, answer.out) == (2, "")
    assert name in answer.err


def test_an_unknown_purpose_is_a_2_and_records_nothing(cli, project):
    answer = cli("consent", "record", "--purpose", "credit-scorin", "1")
    assert (answer.code, answer.out) == (2, "")
    assert "credit-scoring" in answer.err
    assert cli("trail", "verify").code == 3


def test_an_objection_to_automated_decisions_is_kept(cli, project):
    answer = cli("consent", "opt-out", "--purpose", "automated-decisions", "5")
    assert answer.err == "recorded: 1 customer opted-out for automated-decisions\n"
    guard = Guard(project)
    assert guard.consents.decidable("customer", [4, 5]) == [True, False]
    guard.store.close()


def test_each_word_is_on_record_without_the_person(cli, project):
    cli("consent", "record", *PURPOSE, "jane@example.com")
    [entry] = [json.loads(x) for x in cli("trail", "list", "-f", "json").out.splitlines()]
    assert (entry["event"], entry["purpose"]) == ("consent.given", "credit-scoring")
    assert (entry["subject"], entry["facts"]["subjects"]) == (None, 1)
    assert "jane" not in json.dumps(entry)


def test_only_who_keeps_consent_records_it(cli, office, become):
    become("ada")
    answer = cli("consent", "record", *PURPOSE, "1")
    assert (answer.code, answer.out) == (4, "")
    become("grace")
    assert cli("consent", "record", *PURPOSE, "1").code == 0


def test_acting_for_another_needs_the_role_and_is_on_record(cli, office, become):
    become("ada")
    refused = cli("--as", "grace", "consent", "record", *PURPOSE, "1")
    assert (refused.code, refused.out) == (4, "")
    assert "impersonate" in refused.err
    path = office.folder.parent / "policies/roles.yaml"
    roles = yaml.safe_load(path.read_text())
    roles["roles"]["impersonate"]["members"] = ["ada"]
    path.write_text(yaml.safe_dump(roles))
    assert cli("--as", "grace", "consent", "record", *PURPOSE, "1").code == 0
    become("grace")
    entry = json.loads(cli("trail", "list", "-n", "1", "-f", "json").out)
    assert (entry["actor"], entry["on_behalf_of"]) == ("ada", "grace")
