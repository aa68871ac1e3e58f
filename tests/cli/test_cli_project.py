"""``compliance init``: a project of one's own, and nothing of the user's replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compliance.access.identity import account_name
from compliance.config import shipped
from compliance.policy import Policy


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_writes_norms_plans_and_settings_and_lists_them(cli, outside):
    answer = cli("init")
    names = {f"policies/{p.name}" for p in shipped("policies").glob("*.yaml")}
    names |= {f"audits/{p.name}" for p in shipped("audits").glob("*.yaml")}
    assert answer.code == 0
    assert _files(outside).keys() == names | {"compliance.toml", ".gitignore"}
    assert set(answer.out.split()) == _files(outside).keys()
    assert "compliance policy check" in answer.err


def test_what_it_writes_is_in_force_and_sound(cli, outside):
    cli("init")
    assert cli("policy", "check").code == 0


def test_the_operating_system_s_user_becomes_the_first_member(cli, outside):
    cli("init")
    roles = Policy.load(outside / "policies").roles
    members = {name: role.members for name, role in roles.items()}
    assert members.pop("impersonate") == ()
    assert set(members.values()) == {(account_name(),)}


def test_a_dry_run_lists_the_same_and_writes_nothing(cli, outside):
    dry = cli("init", "--dry-run")
    assert list(outside.iterdir()) == []
    assert dry.out == cli("init").out
    assert "would write" in dry.err


def test_a_file_that_is_there_is_kept(cli, outside):
    (outside / "policies").mkdir()
    (outside / "policies/roles.yaml").write_text("# mine\n")
    (outside / "compliance.toml").write_text("# mine too\n")
    answer = cli("init")
    assert (outside / "policies/roles.yaml").read_text() == "# mine\n"
    assert (outside / "compliance.toml").read_text() == "# mine too\n"
    assert "roles.yaml" not in answer.out
    before = _files(outside)
    again = cli("init")
    assert (again.code, again.out) == (0, "")
    assert _files(outside) == before


@pytest.mark.parametrize(("lines", "told"), [("*.pyc\n", True), ("*.pyc\n/.compliance/\n", False)])
def test_keys_that_git_would_take_are_spoken_of(cli, outside, lines, told):
    (outside / ".gitignore").write_text(lines)
    assert ("add .compliance/ to" in cli("init").err) is told
    assert (outside / ".gitignore").read_text() == lines


def test_the_folder_may_be_named_in_two_ways(cli, outside):
    assert cli("init", outside / "one").code == 0
    assert cli("-C", outside / "two", "init").code == 0
    assert {p.name for p in outside.iterdir()} == {"one", "two"}


def test_a_folder_that_cannot_be_made_is_a_2(cli, outside):
    (outside / "file").write_text("")
    answer = cli("init", outside / "file" / "project")
    assert (answer.code, answer.out) == (2, "")
    assert "cannot be written" in answer.err


def test_a_users_own_policies_module_is_harmless(project):
    """Neither is it imported, nor does it take the place of the folder beside it."""
    for name in ("policies.py", "audits.py", "cli.py", "yaml.py"):
        (project / name).write_text("raise SystemExit('imported')\n")
    command = Path(sys.executable).with_name("compliance")
    done = subprocess.run(
        [command, "policy", "check"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
