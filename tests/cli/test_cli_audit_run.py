"""``compliance audit run``: a plan of checks has one verdict, one report, one exit code."""

import json

import pytest
import yaml


@pytest.fixture
def plan(project):
    """Return a writer of plans."""

    def write(*checks, name="mine", **keys):
        path = project / "audits" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"title": "Mine", **keys, "checks": list(checks)}))
        return name

    return write


def _checked(answer):
    return [o["check"] for o in json.loads(answer.out)["outcomes"]]


def test_checks_run_in_order_under_the_plan_s_title(cli, plan, exports):
    name = plan(
        {"check": "policy"},
        {"check": "pii", "source": str(exports / "clean.csv")},
        {"check": "trail"},
    )
    cli("consent", "record", "--purpose", "credit-scoring", "1")
    answer = cli("audit", "run", name, "-f", "json")
    assert (answer.code, answer.err) == (0, "Mine: pass, 0 findings\n")
    assert _checked(answer) == ["policy.check", "pii.column", "trail.verify"]


def test_a_source_is_relative_to_the_project_and_not_to_the_reader(cli, plan, project, monkeypatch):
    (project / "data").mkdir()
    (project / "data/clean.csv").write_text("a\n1\n2\n")
    name = plan({"check": "pii", "source": "data"})
    monkeypatch.chdir("/")
    assert cli("-C", project, "audit", "run", name).code == 0


def test_a_source_may_stand_in_the_environment(cli, plan, exports, monkeypatch):
    name = plan({"check": "pii", "source": "env:EXPORT"})
    assert cli("audit", "run", name).code == 2
    monkeypatch.setenv("EXPORT", str(exports / "contacts.csv"))
    assert cli("audit", "run", name).code == 1


def test_the_plan_says_what_fails_and_the_flag_wins(cli, plan, exports):
    name = plan({"check": "pii", "source": str(exports / "contacts.csv")}, fail_on="critical")
    assert cli("audit", "run", name).code == 0
    assert cli("audit", "run", name, "--fail-on", "high").code == 1
    assert cli("audit", "run", name, "--fail-on", "serious").code == 2


def test_a_dead_server_keeps_nothing_from_the_other_checks(cli, plan, exports):
    dead = {"check": "pii", "source": "postgresql://u:hunter2@127.0.0.1:1/db"}
    answer = cli("audit", "run", plan(dead, {"check": "policy"}), "-f", "json")
    assert answer.code == 4
    assert _checked(answer) == ["audit.unfinished", "policy.check"]
    found = {"check": "pii", "source": str(exports / "contacts.csv")}
    answer = cli("audit", "run", plan(dead, found), "--allow-insufficient")
    assert answer.code == 1
    assert "hunter2" not in answer.all


def test_a_plan_without_evidence_is_a_3(cli, plan, project):
    name = plan({"check": "models"})
    assert cli("audit", "run", name).code == 3
    assert cli("audit", "run", name, "--allow-insufficient").code == 0


def test_a_trail_that_was_changed_is_a_1(cli, plan, project):
    import sqlite3

    cli("consent", "record", "--purpose", "credit-scoring", "1")
    with sqlite3.connect(project / ".compliance/compliance.db") as connection:
        connection.execute("UPDATE compliance_trail_entry SET actor = 'eve'")
    connection.close()
    answer = cli("audit", "run", plan({"check": "trail"}))
    assert answer.code == 1
    assert "entry 0" in answer.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: T\nchecks:\n  - {check: piii, source: x}\n", ["mine.yaml:3"]),
        ("title: T\nchecks:\n  - {check: pii, sorce: x}\n", ["mine.yaml:3", "'source'"]),
        ("title: T\nchecks: []\n", ["mine.yaml:2"]),
        ("title: T\n", ["checks"]),
        ("checks: [", ["mine.yaml:"]),
    ],
)
def test_a_wrong_plan_names_file_line_and_key(cli, project, text, words):
    (project / "audits/mine.yaml").write_text(text)
    answer = cli("audit", "run", "mine")
    assert (answer.code, answer.out) == (2, "")
    assert [w for w in words if w not in answer.err] == []


def test_an_unknown_plan_is_refused_with_the_nearest_one(cli, project):
    answer = cli("audit", "run", "nightli")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'nightly'" in answer.err


def test_a_norm_that_is_not_there_is_refused(cli, plan, exports):
    check = {
        "check": "fairness", "source": str(exports / "applications.csv"), "label": "repaid",
        "prediction": "predicted", "sensitive": ["sex"], "norms": ["five-fifths"],
    }  # fmt: skip
    answer = cli("audit", "run", plan(check))
    assert (answer.code, answer.out) == (2, "")
    assert "four-fifths" in answer.err


def test_a_plan_may_be_named_by_its_path(cli, plan, project):
    name = plan({"check": "policy"})
    assert cli("audit", "run", project / "audits" / f"{name}.yaml").code == 0


def test_outside_a_project_there_is_no_plan(cli, outside):
    answer = cli("audit", "run", "nightly")
    assert (answer.code, answer.out) == (2, "")
    assert "compliance init" in answer.err


def test_only_who_may_read_the_trail_runs_its_check(cli, office, become):
    become("ada")
    assert cli("audit", "run", "nightly").code == 4
    become("grace")
    assert cli("audit", "run", "nightly").code == 3


def test_the_shipped_plans_load_and_say_what_they_lack(cli, project):
    assert cli("audit", "run", "nightly").code == 3
    for name in ("before-data-is-used", "before-a-model-ships"):
        answer = cli("audit", "run", name)
        assert answer.code == 2
        assert str(project / "data") in answer.err
