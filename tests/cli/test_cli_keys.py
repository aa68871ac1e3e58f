"""``compliance keys``: one master key, made once, shown never."""

import base64
import json
import stat

import pytest
from sealing import open_cell, seal_cells, told

from compliance.crypto.providers import hpke
from compliance.errors import KeyRetired
from compliance.store import connect


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


# -- rotation, destruction, recovery -----------------------------------------------------


def test_every_rotation_keeps_what_was_sealed_and_is_in_the_trail(cli, project):
    (cell, _), place = seal_cells(project)
    for what in ("master", "domain", "column/people.iban"):
        assert cli("keys", "rotate", what, "--dry-run").code == 0
        answer = cli("keys", "rotate", what)
        assert (answer.code, answer.out) == (0, ""), answer.err
        assert open_cell(project, cell, place) == b"column"
    assert cli("keys", "rewrap").code == 0
    entries = told(cli)
    assert entries.count("key.master-rotated") == entries.count("key.rewrapped") == 1
    assert entries.count("key.rotated") == 2
    assert cli("trail", "verify").code == 0


def test_an_earlier_epoch_is_retired_in_its_time(cli, project, monkeypatch):
    from compliance.crypto import cache, custody

    (cell, _), place = seal_cells(project)
    cli("keys", "rotate", "column/people.iban")
    assert cli("keys", "retire", "column/people.iban").code == 4
    monkeypatch.setattr(custody, "_age", lambda _created: cache.SECONDS + 1)
    assert cli("keys", "retire", "column/people.iban").code == 0
    with pytest.raises(KeyRetired):
        open_cell(project, cell, place)
    key = int.from_bytes(cell[1:5], "big")
    assert "retired" in cli("keys", "list").out
    assert cli("keys", "restore", key).code == 0
    assert open_cell(project, cell, place) == b"column"


def test_domain_keys_move_to_another_master_and_back(cli, project, monkeypatch, tmp_path):
    (cell, _), place = seal_cells(project)
    private = tmp_path / "private.pem"
    hpke.generate(private)
    answer = cli("keys", "rewrap", "--to", f"hpke:{private}")
    assert answer.code == 0, answer.err
    assert "COMPLIANCE_MASTER" in answer.err
    assert cli("keys", "list").code == 2
    monkeypatch.setenv("COMPLIANCE_MASTER", f"hpke:{private}")
    assert open_cell(project, cell, place) == b"column"
    assert cli("keys", "rotate", "master").code == 2
    assert cli("keys", "rewrap", "--to", "file").code == 0
    monkeypatch.delenv("COMPLIANCE_MASTER")
    assert open_cell(project, cell, place) == b"column"


@pytest.mark.parametrize("what", ["", "x", "column", "column/", "column/no.such", "domain/default"])
def test_a_key_that_is_not_there_is_not_rotated(cli, project, what):
    answer = cli("keys", "rotate", what)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_only_who_keeps_keys_rotates_destroys_and_exports_them(cli, office, become, tmp_path):
    become("ada")
    for command in (
        ("rotate", "master"),
        ("rewrap",),
        ("retire", "column/a.b"),
        ("restore", "1"),
        ("destroy", "1", "--yes"),
        ("export", "--public", "-o", tmp_path / "x"),
    ):
        answer = cli("keys", *command)
        assert (answer.code, answer.out) == (4, ""), command


MODELS = """
import sqlalchemy as sa
from compliance.crypto.orm import Encrypted
people = sa.Table(
    "people", sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("iban", Encrypted(str)),
)
nothing = 7
"""


def test_a_column_is_sealed_anew_from_the_command_line(cli, project, monkeypatch):
    import importlib

    from compliance import Guard
    from compliance.crypto.orm import bind

    name = f"models_{project.parent.name}".replace("-", "_")
    (project / f"{name}.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(project))
    people = importlib.import_module(name).people
    guard = Guard(project)
    bind(people.metadata, guard.keys)
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{project / 'shop.db'}")
    engine = connect(f"sqlite:///{project / 'shop.db'}")
    people.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(people.insert(), [{"id": i, "iban": "DE89"} for i in range(7)])
    guard.store.close()
    assert cli("keys", "rotate", "column/people.iban").code == 0
    answer = cli("keys", "reencrypt", f"{name}:people", "--url", "env:SHOP_URL")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[1].split() == ["iban", "7", "0"]
    assert "key.reencrypted" in told(cli)
    for wrong in (f"{name}:nothing", f"{name}:none", "no.such.module:x", "", ":x"):
        assert cli("keys", "reencrypt", wrong, "--url", "env:SHOP_URL").code == 2
    assert cli("keys", "reencrypt", f"{name}:people", "--url", "env:NOT_SET").code == 2
    engine.dispose()
