"""``compliance doctor``: what is missing or broken, and the command that mends it."""

import json
import os
import sqlite3
import sys
from importlib import metadata

import pytest


@pytest.fixture
def doctor(cli):
    """Return a function that runs it and returns its exit code and its items by name."""

    def run(*options):
        answer = cli(*options, "doctor", "-f", "json")
        return answer.code, {item["what"]: item for item in json.loads(answer.out)}

    return run


@pytest.fixture
def versions(monkeypatch):
    """Return a function that changes the installed version of a package; None uninstalls it."""
    real = metadata.version
    changed = {}

    def version(name):
        if name in changed and changed[name] is None:
            raise metadata.PackageNotFoundError(name)
        return changed.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    return changed.__setitem__


# -- packages ----------------------------------------------------------------------------------


def test_all_that_is_installed_is_listed_with_its_version(doctor, outside):
    code, items = doctor()
    assert code == 0
    assert items["core: pycasbin"] == {
        "what": "core: pycasbin", "state": "ok", "detail": metadata.version("pycasbin"), "mend": "",
    }  # fmt: skip
    assert {"pii: presidio-analyzer", "dp: opacus", "he: tenseal", "postgres: psycopg"} <= set(
        items
    )


def test_a_missing_extra_is_no_fault_and_names_its_command(doctor, versions, outside):
    versions("tenseal", None)
    code, items = doctor()
    assert code == 0
    assert items["he: tenseal"]["state"] == "missing"
    assert items["he: tenseal"]["mend"].endswith("'compliance-toolkit[he]'")


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_core_package_that_lacks_or_is_old_is_broken(doctor, versions, outside, version):
    versions("sqlmodel", None)
    versions("cryptography", version)
    code, items = doctor()
    assert code == 1
    assert items["core: cryptography"]["state"] == "broken"
    assert items["core: cryptography"]["mend"].startswith("pip install")


def test_an_old_extra_is_broken(doctor, versions, outside):
    versions("opacus", "1.5.3")
    code, items = doctor()
    assert code == 1
    assert items["dp: opacus"]["detail"] == "1.5.3 is older than 1.5.4"


@pytest.mark.parametrize("version", ["2.13.0+cpu", "2.10", "2.8.0rc1", "3", "1!0.1"])
def test_versions_are_compared_as_numbers(doctor, versions, outside, version):
    versions("torch", version)
    assert doctor()[1]["dp: torch"]["state"] == ("broken" if version == "1!0.1" else "ok")


def test_two_distributions_of_one_module_clash(doctor, versions, outside):
    versions("casbin", "1.43.0")
    code, items = doctor()
    assert code == 1
    assert items["clash: casbin"]["detail"] == "1.43.0 overwrites pycasbin"
    assert (
        items["clash: casbin"]["mend"] == "pip uninstall -y casbin pycasbin && pip install pycasbin"
    )


def test_a_checkout_that_was_never_installed_says_so(doctor, monkeypatch, outside):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    code, items = doctor()
    assert code == 1
    assert items["core"]["mend"] == "pip install -e ."


# -- the project ---------------------------------------------------------------------------------


def test_before_and_after_a_project_is_made(cli, doctor, outside):
    assert doctor()[1]["project"]["mend"] == "compliance init"
    cli("init")
    code, items = doctor()
    assert code == 0
    assert "project" not in items
    assert items["policy"]["state"] == "ok"
    assert items["keys"]["mend"] == "compliance keys init"
    assert items["audit store"]["state"] == "missing"
    assert list((outside / ".compliance").rglob("*")) == []  # it only looks
    cli("keys", "init")
    cli("trail", "list")
    assert {doctor()[1][name]["state"] for name in ("keys", "audit store")} == {"ok"}


def test_a_wrong_setting_is_broken(doctor, project):
    (project / "compliance.toml").write_text("polices = 'x'\n")
    code, items = doctor()
    assert code == 1
    assert "did you mean 'policies'" in items["settings"]["detail"]


def test_a_broken_policy_names_the_command_that_says_more(doctor, project):
    (project / "policies/roles.yaml").write_text("rolls: {}\n")
    code, items = doctor()
    assert code == 1
    assert "roles.yaml:1" in items["policy"]["detail"]
    assert items["policy"]["mend"] == "compliance policy check"


@pytest.mark.parametrize(
    ("break_it", "mend"),
    [
        (lambda path: path.chmod(0o644), "chmod 600 "),
        (lambda path: path.write_text("no key"), "restore "),
        (lambda path: path.unlink(), "restore "),
        (lambda path: (path.unlink(), path.mkdir()), "restore "),
    ],
    ids=["open", "no-key", "gone", "folder"],
)
def test_a_key_file_that_cannot_be_used_is_broken(cli, doctor, project, break_it, mend):
    cli("trail", "list")
    break_it(project / ".compliance/keys/master.json")
    code, items = doctor()
    assert code == 1
    assert items["keys"]["state"] == "broken"
    assert items["keys"]["mend"].startswith(mend)


def test_a_passphrase_that_is_missing_or_wrong_is_asked_for(cli, doctor, project, monkeypatch):
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", "correct horse")
    cli("keys", "init")
    assert doctor()[1]["keys"]["state"] == "ok"
    for secret in ("", "wrong horse"):
        monkeypatch.setenv("COMPLIANCE_PASSPHRASE", secret)
        code, items = doctor()
        assert code == 1
        assert items["keys"]["mend"] == "export COMPLIANCE_PASSPHRASE=..."


def test_a_master_key_on_a_server_is_named_and_not_asked(doctor, project, monkeypatch):
    monkeypatch.setenv("COMPLIANCE_MASTER", "vault:transit/domain")
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    items = doctor()[1]
    assert items["keys"]["state"] == "ok"
    assert items["keys"]["detail"] == "vault:https://127.0.0.1:1/transit/domain"


@pytest.mark.parametrize(
    ("master", "state", "mend"),
    [
        ("file:other.json", "missing", "compliance keys init"),
        ("hpke:pair.pem", "missing", "compliance keys init"),
        ("valt:transit/domain", "broken", "correct COMPLIANCE_MASTER"),
        ("vault:transit", "broken", "correct COMPLIANCE_MASTER"),
    ],
)
def test_another_master_key_that_is_missing_or_misnamed(
    doctor, project, monkeypatch, master, state, mend
):
    monkeypatch.setenv("COMPLIANCE_MASTER", master)
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    items = doctor()[1]
    assert (items["keys"]["state"], items["keys"]["mend"]) == (state, mend)


def test_a_master_key_whose_library_is_missing_names_the_extra(doctor, project, monkeypatch):
    monkeypatch.setenv("COMPLIANCE_MASTER", "vault:transit/domain")
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "hvac", None)
    code, items = doctor()
    assert code == 1
    assert items["keys"]["mend"] == "pip install 'compliance-toolkit[vault]'"


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/db", "nonsense:hunter2"])
def test_a_database_that_does_not_answer_is_broken(cli, project, monkeypatch, url):
    monkeypatch.setenv("COMPLIANCE_DATABASE", url)
    answer = cli("doctor")
    assert answer.code == 1
    assert "COMPLIANCE_DATABASE" in answer.out
    assert "hunter2" not in answer.all


def test_a_database_that_answers_is_ok(doctor, project, monkeypatch, postgres_url):
    monkeypatch.setenv("COMPLIANCE_DATABASE", postgres_url)
    code, items = doctor()
    assert code == 0
    assert items["audit store"]["state"] == "ok"


def test_a_corrupt_database_is_broken(cli, doctor, project):
    cli("keys", "init")
    (project / ".compliance/compliance.db").write_bytes(os.urandom(8192))
    code, items = doctor()
    assert code == 1
    assert items["audit store"]["mend"] == "restore it from a backup"


def test_the_text_has_one_line_for_each_item(cli, doctor, project):
    lines = cli("doctor").out.splitlines()
    assert len(lines) == 1 + len(doctor()[1])
    assert lines[0].split() == ["state", "what", "detail", "mend"]


def test_an_unknown_format_is_a_2_before_any_work(cli, outside):
    answer = cli("doctor", "-f", "sarif")
    assert (answer.code, answer.out) == (2, "")


def test_a_master_that_does_not_open_the_database_is_broken(cli, project):
    from compliance.crypto import master

    cli("trail", "list")
    assert cli("doctor").code == 0
    key_file = project / ".compliance/keys/master.json"
    key_file.unlink()
    master.create(key_file)
    answer = cli("doctor")
    assert answer.code == 1
    assert "wrapped by" in answer.out


def test_a_database_of_another_tenant_is_told_and_gets_no_key(cli, project, monkeypatch):
    cli("trail", "list")
    before = cli("keys", "list").out
    monkeypatch.setenv("COMPLIANCE_TENANT", "acme")
    answer = cli("doctor")
    assert answer.code == 1
    assert "database of its own" in answer.out
    monkeypatch.delenv("COMPLIANCE_TENANT")
    assert cli("keys", "list").out == before
    with sqlite3.connect(project / ".compliance/compliance.db") as database:
        tenants = database.execute("SELECT DISTINCT tenant FROM compliance_key").fetchall()
    database.close()
    assert tenants == [("default",)]
