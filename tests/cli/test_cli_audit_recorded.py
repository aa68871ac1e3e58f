"""Every audit in a project is on record; elsewhere it runs and says that it is not."""

import json
import subprocess
import sys

import pytest


def _entries(cli):
    out = cli("trail", "list", "-n", "100", "-f", "json").out
    return [json.loads(line) for line in out.splitlines()]


def test_an_audit_is_recorded_from_the_first_one_on(cli, exports, project):
    """Before any key or database is there: init is all that it takes."""
    assert not (project / ".compliance").exists()
    answer = cli("audit", "pii", exports / "contacts.csv", "-f", "json")
    facts = json.loads(answer.out)["facts"]
    [entry] = _entries(cli)
    assert "not recorded" not in answer.err
    assert facts["trail_entry"] == entry["index"] == 0
    assert facts["policy_digest"] == entry["policy"]
    assert (entry["event"], entry["method"], entry["outcome"]) == ("audit.pii", "os", "ok")
    assert entry["facts"] == {
        "exit_code": 1, "findings": 3, "outcomes": 1, "verdict_0_pii.column": "fail",
    }  # fmt: skip


def test_each_kind_of_audit_has_its_event(cli, exports, project, scored):
    rows = [("f", 1, 1, 50), ("m", 1, 1, 50), ("f", 0, 0, 50), ("m", 0, 0, 50)]
    options = ("--label", "label", "--prediction", "prediction", "--sensitive", "sex")
    assert cli("audit", "fairness", scored(*rows), *options).code == 0
    assert cli("audit", "run", "nightly").code == 3
    assert [e["event"] for e in _entries(cli)] == ["audit.plan", "audit.fairness"]


def test_a_project_is_recorded_in_from_below_and_from_elsewhere(cli, exports, project, monkeypatch):
    (project / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep/er")
    assert "not recorded" not in cli("audit", "pii", exports / "clean.csv").err
    monkeypatch.chdir("/")
    assert "not recorded" not in cli("-C", project, "audit", "pii", exports / "clean.csv").err
    monkeypatch.chdir(project)
    assert len(_entries(cli)) == 2


def test_settings_in_pyproject_make_a_project_too(cli, exports, project):
    (project / "compliance.toml").unlink()
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert "not recorded" in cli("audit", "pii", exports / "clean.csv").err
    (project / "pyproject.toml").write_text("[tool.compliance]\n")
    assert "not recorded" not in cli("audit", "pii", exports / "clean.csv").err


def test_outside_a_project_nothing_is_made(cli, exports, outside):
    answer = cli("audit", "pii", exports / "clean.csv")
    assert "not recorded" in answer.err
    assert list(outside.iterdir()) == []


def test_a_folder_that_is_only_called_policies_is_no_project(cli, exports, outside, scored):
    (outside / "policies").mkdir()
    (outside / "policies/cluster.yaml").write_text("apiVersion: v1\nkind: Policy\n")
    assert cli("audit", "pii", exports / "clean.csv").code == 0
    options = ("--label", "label", "--prediction", "prediction", "--sensitive", "sex")
    rows = [(s, v, v, 50) for s in "fm" for v in (0, 1)]
    assert cli("audit", "fairness", scored(*rows), *options).code == 0


def test_a_project_without_its_policies_is_no_silent_outside(cli, exports, project):
    (project / "policies").rename(project / "gone")
    answer = cli("audit", "pii", exports / "clean.csv")
    assert (answer.code, answer.out) == (2, "")
    assert "compliance init" in answer.err


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (lambda p: (p / "policies/roles.yaml").write_text("rolls: {}"), 2, "roles.yaml:1"),
        (lambda p: (p / ".compliance/compliance.db").write_bytes(b"x" * 8192), 4, "not a database"),
        (lambda p: (p / ".compliance/keys/master.json").unlink(), 2, "master.json"),
        (lambda p: (p / ".compliance/keys/master.json").chmod(0o644), 2, "chmod 600"),
    ],
    ids=["policy", "database", "no-key", "open-key"],
)
def test_an_audit_that_cannot_be_recorded_is_not_made(
    cli, exports, project, monkeypatch, break_it, code, words
):
    cli("audit", "pii", exports / "clean.csv")
    for log in (project / ".compliance").glob("compliance.db-*"):
        log.unlink()
    break_it(project)
    monkeypatch.setattr("compliance.audit.checks.pii", lambda *_: pytest.fail("it was made"))
    answer = cli("audit", "pii", exports / "clean.csv")
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err


def test_a_database_that_may_only_be_read_is_a_4(cli, exports, project, monkeypatch):
    cli("audit", "pii", exports / "clean.csv")
    url = f"sqlite:///file:{project}/.compliance/compliance.db?mode=ro&uri=true"
    monkeypatch.setenv("COMPLIANCE_DATABASE", url)
    answer = cli("audit", "pii", exports / "clean.csv")
    assert (answer.code, answer.out) == (4, "")
    assert "writable" in answer.err


def test_nobody_is_named_in_the_trail_on_a_mere_claim(cli, exports, project):
    answer = cli("--as", "grace", "audit", "pii", exports / "clean.csv")
    assert (answer.code, answer.out) == (4, "")
    assert "impersonate" in answer.err
    assert cli("--as", "grace", "audit", "run", "nightly").code == 4
    assert _entries(cli) == []


def test_two_audits_at_once_are_both_recorded(cli, exports, project):
    command = [sys.executable, "-m", "compliance", "audit", "pii", str(exports / "clean.csv")]
    both = [subprocess.Popen(command, stdout=-3, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert [e["index"] for e in _entries(cli)] == [1, 0]
    assert cli("trail", "verify").code == 0
