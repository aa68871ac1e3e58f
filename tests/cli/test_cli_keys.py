"""``compliance keys``: one master key, made once, shown never."""

import base64
import json
import stat

import pytest


def _file(project):
    return project / ".compliance/keys/master.json"


def test_the_key_is_made_for_its_owner_alone(cli, project):
    answer = cli("keys", "init")
    assert (answer.code, answer.out) == (0, "")
    assert "without a passphrase" in answer.err
    assert stat.S_IMODE(_file(project).stat().st_mode) == 0o600
    assert cli("trail", "list").code == 0


@pytest.mark.parametrize("used", [False, True])
def test_a_key_that_is_there_is_kept(cli, project, used):
    cli("keys", "init")
    if used:
        cli("trail", "list")
    before = _file(project).read_bytes()
    answer = cli("keys", "init")
    assert (answer.code, answer.out) == (2, "")
    assert "there is a master key already" in answer.err
    assert _file(project).read_bytes() == before


def test_a_lost_key_is_to_be_restored_and_not_replaced(cli, project):
    cli("trail", "list")
    _file(project).unlink()
    answer = cli("keys", "init")
    assert answer.code == 2
    assert "restore" in answer.err
    assert not _file(project).exists()


def _protected(project):
    return json.loads(_file(project).read_text())["protection"] == "scrypt"


@pytest.mark.parametrize("options", [(), ("--passphrase",)])
def test_a_passphrase_in_the_environment_protects_the_file(cli, project, monkeypatch, options):
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", "correct horse")
    answer = cli("keys", "init", *options)
    assert answer.code == 0
    assert "under a passphrase" in answer.err
    assert _protected(project)
    assert cli("trail", "list").code == 0
    monkeypatch.setenv("COMPLIANCE_PASSPHRASE", "wrong")
    wrong = cli("trail", "list")
    monkeypatch.delenv("COMPLIANCE_PASSPHRASE")
    missing = cli("trail", "list")
    assert (wrong.code, missing.code) == (1, 2)
    assert "COMPLIANCE_PASSPHRASE" in missing.err
    assert "horse" not in answer.all + wrong.all + missing.all


def test_a_passphrase_is_asked_for_twice(cli, project, monkeypatch):
    asked = iter(["correct horse", "correct horse"])
    monkeypatch.setattr("getpass.getpass", lambda *_args, **_options: next(asked))
    answer = cli("keys", "init", "--passphrase")
    assert answer.code == 0, answer.err
    assert next(asked, None) is None
    assert _protected(project)


def test_without_an_answer_there_is_no_key(cli, project, monkeypatch):
    def end(*_args, **_options):
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end)
    answer = cli("keys", "init", "--passphrase")
    assert (answer.code, answer.out) == (4, "")
    assert not _file(project).exists()


def test_only_who_keeps_keys_makes_and_lists_them(cli, office, become):
    for command in ("init", "list"):
        become("ada")
        answer = cli("keys", command)
        assert (answer.code, answer.out) == (4, "")
        become("grace")
        assert cli("keys", command).code == 0


def test_outside_a_project_no_key_is_made(cli, outside):
    answer = cli("keys", "init")
    assert answer.code == 2
    assert "compliance init" in answer.err
    assert list(outside.iterdir()) == []


def test_the_list_shows_no_material(cli, project):
    cli("consent", "record", "--purpose", "credit-scoring", "jane@example.com")
    answer = cli("keys", "list")
    assert answer.code == 0
    kinds = {line.split()[1] for line in answer.out.splitlines()[1:]}
    assert kinds == {"domain", "lookup", "signing"}
    master = base64.b64decode(json.loads(_file(project).read_text())["key"])
    for shown in (master.hex(), base64.b64encode(master).decode(), "jane"):
        assert shown not in answer.all
