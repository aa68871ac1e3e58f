"""``compliance keys destroy|export|import``: gone is gone, and nothing is gone by mistake."""

import io
import sqlite3

import pytest
from sealing import open_cell, seal_cells, told

from compliance.crypto.providers import hpke
from compliance.errors import KeyDestroyed


def _file(project):
    return project / ".compliance/keys/master.json"


def test_a_subject_is_erased_by_an_identifier_that_no_history_keeps(cli, project, monkeypatch):
    (_, cell), place = seal_cells(project)
    monkeypatch.setattr("sys.stdin", io.StringIO("jane@example.com\n"))
    assert cli("keys", "destroy", "--subject", "person", "--dry-run").code == 0
    assert open_cell(project, cell, place) == b"subject"
    monkeypatch.setattr("sys.stdin", io.StringIO("jane@example.com\n"))
    answer = cli("keys", "destroy", "--subject", "person", "--yes")
    assert answer.code == 0
    assert "effective in every process from" in answer.err
    assert "jane" not in answer.all + told(cli)
    with pytest.raises(KeyDestroyed):
        open_cell(project, cell, place)


def test_nothing_is_destroyed_without_a_yes_a_key_and_one_way_of_naming_it(
    cli, project, monkeypatch
):
    (cell, _), place = seal_cells(project)
    key = int.from_bytes(cell[1:5], "big")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli("keys", "destroy", key).code != 0
    assert cli("keys", "destroy").code == 2
    assert cli("keys", "destroy", key, "--subject", "person").code == 2
    assert cli("keys", "destroy", 999, "--yes").code == 2
    assert cli("keys", "destroy", 1, "--yes").code == 2  # the domain key
    monkeypatch.setattr("sys.stdin", io.StringIO("nobody@example.com\n"))
    assert cli("keys", "destroy", "--subject", "person", "--yes").code == 2
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli("keys", "destroy", "--subject", "person", "--yes").code == 2
    assert open_cell(project, cell, place) == b"column"
    assert cli("keys", "destroy", key, "--yes").code == 0
    with pytest.raises(KeyDestroyed):
        open_cell(project, cell, place)


def test_a_lost_master_is_recovered_from_an_export(cli, project, tmp_path):
    (cell, _), place = seal_cells(project)
    cli("keys", "init")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    hpke.generate(private)
    public.write_bytes(hpke.public_of(private.read_bytes()))
    export = tmp_path / "keys.json"
    assert cli("keys", "export", "--recipient", public, "-o", export).code == 0
    _file(project).unlink()
    assert cli("keys", "list").code == 2
    answer = cli("keys", "import", export, "--identity", private)
    assert answer.code == 0, answer.err
    assert open_cell(project, cell, place) == b"column"
    assert {"key.exported", "key.imported"} <= set(told(cli).split())


def test_the_public_key_checks_what_the_project_signed(cli, project, tmp_path):
    output = tmp_path / "trail.pem"
    assert cli("keys", "export", "--public", "-o", output).code == 0
    assert output.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert cli("keys", "export", "-o", output).code == 2


def test_a_destroyed_key_that_is_put_back_is_found(cli, project):
    (cell, _), _place = seal_cells(project)
    key = int.from_bytes(cell[1:5], "big")
    database = sqlite3.connect(project / ".compliance/compliance.db")
    where = "FROM compliance_key WHERE id = ?"
    ((wrapped,),) = database.execute(f"SELECT wrapped {where}", [key]).fetchall()
    assert cli("keys", "destroy", key, "--yes").code == 0
    assert cli("trail", "verify").code == 0
    change = "UPDATE compliance_key SET wrapped = ?, destroyed = NULL WHERE id = ?"
    database.execute(change, [wrapped, key])
    database.commit()
    database.close()
    answer = cli("trail", "verify")
    assert answer.code == 1
    assert f"key {key} was destroyed" in answer.out


@pytest.mark.parametrize(
    "said", ["", "  ", "jane@example.com\nben@example.com\n", "\njane@example.com\n"]
)
def test_one_identifier_is_read_and_no_other_is_passed_over(cli, project, monkeypatch, said):
    (_, cell), place = seal_cells(project)
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    answer = cli("keys", "destroy", "--subject", "person", "--yes")
    assert answer.code == 2
    assert "one identifier" in answer.err
    assert open_cell(project, cell, place) == b"subject"


def test_who_has_no_key_was_not_erased_and_no_entry_says_so(cli, project, monkeypatch):
    seal_cells(project)
    for option in ("--yes", "--dry-run"):
        monkeypatch.setattr("sys.stdin", io.StringIO("nobody@example.com\n"))
        answer = cli("keys", "destroy", "--subject", "person", option)
        assert answer.code == 2
        assert "nothing was destroyed" in answer.err
    assert "destroyed" not in told(cli)


def test_where_nobody_can_be_asked_the_answer_is_no(cli, project, monkeypatch):
    (cell, _), place = seal_cells(project)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    answer = cli("keys", "destroy", int.from_bytes(cell[1:5], "big"))
    assert answer.code == 2
    assert "--yes" in answer.err
    assert open_cell(project, cell, place) == b"column"


def test_a_dry_run_refuses_what_the_run_would_refuse(cli, project):
    seal_cells(project)
    for command in (
        ("destroy", 999),
        ("destroy", 1),
        ("rotate", "column/no.such"),
        ("rotate", "x"),
        ("retire", "column/no.such"),
        ("retire", "domain/default"),
        ("rewrap", "--to", "foo:bar"),
    ):
        answer = cli("keys", *command, "--dry-run")
        assert answer.code == 2, command


def test_a_recovery_that_fails_makes_no_master(cli, project, tmp_path):
    seal_cells(project)
    private, other, public = (tmp_path / n for n in ("private.pem", "other.pem", "public.pem"))
    for key in (private, other):
        hpke.generate(key)
    public.write_bytes(hpke.public_of(private.read_bytes()))
    export = tmp_path / "keys.json"
    assert cli("keys", "export", "--recipient", public, "-o", export).code == 0
    _file(project).unlink()
    assert cli("keys", "import", export, "--identity", other).code != 0
    assert not _file(project).exists()
    assert cli("keys", "import", export, "--identity", private).code == 0


def test_refused_acts_on_keys_are_on_record(cli, office, become, tmp_path):
    become("ada")
    for command in (("rotate", "master"), ("destroy", "1", "--yes"), ("rewrap",), ("list",)):
        assert cli("keys", *command).code == 4
    become("grace")
    entries = told(cli)
    for event in ("key.rotate ", "key.destroy ", "key.rewrap ", "key.list "):
        assert event in entries
