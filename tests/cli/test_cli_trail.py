"""``compliance trail``: what is on record, and whether it still is what was recorded."""

import json
import sqlite3

import pytest

from compliance import Guard


@pytest.fixture
def recorded(cli, project):
    """Put four entries on record."""
    for number in (1, 2, 3):
        cli("consent", "record", "--purpose", "credit-scoring", str(number))
    cli("consent", "withdraw", "--purpose", "credit-scoring", "2")
    return project / ".compliance/compliance.db"


def _entries(answer):
    return [json.loads(line) for line in answer.out.splitlines()]


def _tamper(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_entries_are_listed_newest_first(cli, recorded):
    answer = cli("trail", "list", "-f", "json")
    assert (answer.code, answer.err) == (0, "")
    assert [e["index"] for e in _entries(answer)] == [3, 2, 1, 0]
    text = cli("trail", "list", "-n", "2").out.splitlines()
    assert len(text) == 3
    assert "consent.withdrawn" in text[1]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--event", "consent.given"), 3),
        (("--event", "nothing"), 0),
        (("--outcome", "ok"), 4),
        (("--outcome", "failed"), 0),
        (("--actor", "nobody"), 0),
        (("--activity", "x"), 0),
        (("-n", "0"), 0),
    ],
)
def test_they_can_be_narrowed(cli, recorded, options, count):
    answer = cli("trail", "list", "-f", "json", *options)
    assert (answer.code, len(_entries(answer))) == (0, count)


@pytest.mark.parametrize(
    "options", [("-n", "-1"), ("-n", "x"), ("--outcome", "good"), ("-f", "html")]
)
def test_a_wrong_option_is_a_2_with_nothing_on_stdout(cli, recorded, options):
    answer = cli("trail", "list", *options)
    assert (answer.code, answer.out) == (2, "")


def test_a_subject_is_a_pseudonym(cli, project):
    cli("consent", "record", "--purpose", "credit-scoring", "jane@example.com")
    assert "jane" not in cli("trail", "list", "-f", "json").out


def test_a_whole_trail_verifies(cli, recorded):
    answer = cli("trail", "verify", "-f", "json")
    assert (answer.code, answer.err) == (0, "Trail verification: pass, 0 findings\n")
    assert json.loads(answer.out)["outcomes"][0]["facts"]["entries"] == 4


def test_an_empty_trail_is_no_pass(cli, project):
    assert cli("trail", "verify").code == 3


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE compliance_trail_entry SET actor = 'eve' WHERE \"index\" = 2", "2"),
        ("UPDATE compliance_trail_entry SET body = x'7b7d' WHERE \"index\" = 1", "1"),
        ('DELETE FROM compliance_trail_entry WHERE "index" = 1', "1"),
        ('DELETE FROM compliance_trail_entry WHERE "index" = 3', None),
        ("UPDATE compliance_trail_head SET size = 3", None),
    ],
)
def test_what_was_changed_is_a_1_and_named(cli, recorded, statement, place):
    _tamper(recorded, statement)
    answer = cli("trail", "verify", "-f", "json")
    assert answer.code == 1
    findings = json.loads(answer.out)["outcomes"][0]["findings"]
    assert findings[0]["place"]["column"] == place


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM compliance_consent_event WHERE entry = 3",
        "UPDATE compliance_consent_event SET state = 'given'",
        "UPDATE compliance_consent_event SET purpose = 'marketing' WHERE entry = 0",
    ],
)
def test_consent_rows_that_a_hand_changed_are_a_1_here_and_in_the_nightly_audit(
    cli, recorded, statement
):
    _tamper(recorded, statement)
    for command in (("trail", "verify"), ("audit", "run", "nightly")):
        answer = cli(*command, "-f", "json")
        assert answer.code == 1
        findings = _findings(answer)
        assert {f["kind"] for f in findings} == {"consent"}
        assert {f["severity"] for f in findings} == {"critical"}


def _findings(answer):
    outcomes = json.loads(answer.out)["outcomes"]
    return [f for o in outcomes for f in o["findings"] if f["check"] == "trail.verify"]


def test_a_budget_that_a_hand_made_smaller_is_a_1(cli, recorded):
    guard = Guard()
    facts = {"budget": "customers", "epsilon": "0.5", "delta": "1e-06"}
    guard.trail.append(guard.event("training.reserved", call="c", facts=facts))
    guard.store.close()
    answer = cli("trail", "verify", "-f", "json")
    (finding,) = _findings(answer)
    assert (answer.code, finding["kind"], finding["severity"]) == (1, "budget", "critical")
    assert "ledger of budget 'customers' holds less" in finding["message"]


def test_consent_put_where_there_is_no_trail_is_a_1_and_not_too_little_to_say(cli, project):
    assert cli("trail", "verify").code == 3
    _tamper(
        project / ".compliance/compliance.db",
        "INSERT INTO compliance_consent_event (reference, purpose, state, time, actor, entry) "
        "VALUES ('r', 'credit-scoring', 'given', '2026', 'x', 0)",
    )
    assert cli("trail", "verify").code == 1


def test_nothing_is_recorded_after_a_head_that_was_not_signed(cli, recorded):
    _tamper(recorded, "UPDATE compliance_trail_head SET size = 3")
    answer = cli("consent", "record", "--purpose", "credit-scoring", "9")
    assert answer.code == 1
    assert "compliance trail verify" in answer.err


def test_a_database_that_is_none_is_a_4_with_advice(cli, recorded):
    recorded.write_bytes(b"not a database at all" * 500)
    for log in recorded.parent.glob("compliance.db-*"):
        log.unlink()
    for command in (("trail", "verify"), ("trail", "list")):
        answer = cli(*command)
        assert (answer.code, answer.out) == (4, "")
        assert "backup" in answer.err


def test_only_an_auditor_reads(cli, office, become):
    become("ada")
    for command in ("list", "verify"):
        answer = cli("trail", command)
        assert (answer.code, answer.out) == (4, "")
        assert "'ada' has no role" in answer.err
    become("grace")
    assert cli("trail", "list").code == 0


def test_a_mere_assertion_is_refused_by_the_shipped_policy(cli, project, become):
    become("grace")
    for command in (
        ("trail", "list"), ("trail", "verify"), ("keys", "list"), ("keys", "init"),
        ("consent", "record", "--purpose", "credit-scoring", "1"),
        ("budget", "show"), ("model", "list"), ("model", "verify"), ("request", "list"),
    ):  # fmt: skip
        answer = cli(*command)
        assert (answer.code, answer.out) == (4, ""), command
        assert "established by 'os' or stronger" in answer.err
