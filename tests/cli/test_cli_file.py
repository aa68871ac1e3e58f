"""``compliance file``: by role, with a record, whole or not at all."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from compliance.trail.log import Trail

ROWS = b"name,income\njane@example.com,31909\n" * 2000


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "jane.csv"
    path.write_bytes(ROWS)
    return path


def entries(cli):
    """Return event, outcome and facts of what is recorded of files, oldest first."""
    lines = cli("trail", "list", "-f", "json", "-n", 100).out.splitlines()
    kept = [e for e in map(json.loads, reversed(lines)) if e["event"].startswith("file.")]
    return [(e["event"], e["outcome"], e["facts"]) for e in kept]


def test_a_file_is_sealed_beside_itself_and_opened(cli, project, rows):
    answer = cli("file", "seal", rows, "--label", "exports")
    sealed = rows.with_name("jane.csv.sealed")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"sealed {len(ROWS)} bytes to {sealed}\n"
    assert b"jane" not in sealed.read_bytes()
    opened = rows.with_name("opened.csv")
    answer = cli("file", "open", sealed, "-o", opened, "--label", "exports")
    assert (answer.code, answer.out, answer.err) == (
        0,
        "",
        f"opened {len(ROWS)} bytes to {opened}\n",
    )
    assert opened.read_bytes() == ROWS
    assert stat.S_IMODE(opened.stat().st_mode) == 0o600


def test_intent_and_outcome_are_recorded_without_a_name(cli, project, rows):
    cli("file", "seal", rows, "--label", "exports")
    cli("file", "open", f"{rows}.sealed", "-o", rows, "--label", "exports")
    done = {"label": "exports", "bytes": len(ROWS)}
    assert entries(cli) == [
        ("file.seal", None, {"label": "exports"}), ("file.sealed", "ok", done),
        ("file.open", None, {"label": "exports"}), ("file.opened", "ok", done),
    ]  # fmt: skip
    assert "jane" not in cli("trail", "list", "-n", 100).out
    assert cli("trail", "verify").code == 0


def test_what_failed_is_recorded_as_failed(cli, project, rows):
    cli("file", "seal", rows)
    answer = cli("file", "open", f"{rows}.sealed", "-o", rows, "--label", "other")
    assert (answer.code, answer.out) == (1, "")
    assert rows.read_bytes() == ROWS
    assert entries(cli)[-2:] == [
        ("file.open", None, {"label": "other"}),
        ("file.opened", "failed", {"label": "other", "error": "DecryptionFailed"}),
    ]


@pytest.mark.parametrize("action", ["seal", "open"])
def test_where_nothing_can_be_recorded_nothing_is_done(cli, project, rows, monkeypatch, action):
    from compliance.errors import StoreError

    cli("file", "seal", rows)
    before = sorted(rows.parent.iterdir())

    def full(*_args):
        raise StoreError("the disk is full; make room")

    monkeypatch.setattr(Trail, "append", full)
    source = rows if action == "seal" else f"{rows}.sealed"
    answer = cli("file", action, source, "-o", rows.with_name("target"))
    assert (answer.code, answer.out) == (4, "")
    assert sorted(rows.parent.iterdir()) == before


# -- who may ----------------------------------------------------------------------------------------


def test_an_engineer_seals_and_an_officer_opens(cli, office, become, rows):
    become("ada")
    assert cli("file", "seal", rows).code == 0
    refused = cli("file", "open", f"{rows}.sealed", "-o", rows.with_name("opened"))
    assert refused.code == 4
    assert "has no role that permits 'open' on 'file/default'" in refused.err
    assert not rows.with_name("opened").exists()
    become("grace")
    assert cli("file", "open", f"{rows}.sealed", "-o", rows.with_name("opened")).code == 0
    assert [(event, outcome) for event, outcome, _ in entries(cli)[2:4]] == [
        ("file.open", None),
        ("file.opened", "refused"),
    ]


def test_who_has_no_role_seals_nothing(cli, office, become, rows):
    become("mallory")
    for command in (("seal", rows), ("open", rows, "-o", rows), ("seal", rows, "--dry-run")):
        answer = cli("file", *command)
        assert (answer.code, answer.out) == (4, "")
    assert rows.read_bytes() == ROWS
    assert not rows.with_name("jane.csv.sealed").exists()


def test_nobody_is_impersonated_into_an_entry(cli, project, rows):
    answer = cli("--as", "jane", "file", "seal", rows)
    assert answer.code == 4
    assert entries(cli) == []


def test_a_policy_may_grant_one_label(cli, office, become, rows):
    path = office.folder.parent / "policies/roles.yaml"
    text = path.read_text()
    path.write_text(text.replace("object: file/*", "object: file/exports*", 1))
    assert path.read_text() != text
    become("ada")
    assert cli("file", "seal", rows, "--label", "exports/2024").code == 0
    assert cli("file", "seal", rows, "--label", "contracts").code == 4


# -- a dry run ----------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(cli, project, rows):
    cli("file", "seal", rows)
    recorded, keys = entries(cli), cli("keys", "list").out
    before = {path: path.read_bytes() for path in rows.parent.iterdir() if path.is_file()}
    for command in (
        ("seal", rows, "-o", rows, "--label", "new"),
        ("open", f"{rows}.sealed", "-o", rows.with_name("opened")),
    ):
        answer = cli("file", *command, "--dry-run")
        assert answer.code == 0
        assert f"would {command[0]} {len(ROWS)} bytes" in answer.err
    assert {p: p.read_bytes() for p in rows.parent.iterdir() if p.is_file()} == before
    assert (entries(cli), cli("keys", "list").out) == (recorded, keys)


def test_a_dry_run_finds_an_altered_file(cli, project, rows):
    cli("file", "seal", rows, "-o", rows)
    os.truncate(rows, rows.stat().st_size - 1)
    assert cli("file", "open", rows, "-o", rows, "--dry-run").code == 1


def test_a_dry_run_finds_a_folder_that_is_not_there(cli, project, rows):
    answer = cli("file", "seal", rows, "-o", rows.parent / "gone" / "target", "--dry-run")
    assert answer.code == 2


# -- sources and targets --------------------------------------------------------------------------------


def test_stdin_is_sealed_as_it_comes(cli, project, rows, stdin):
    stdin(ROWS)
    assert cli("file", "seal", "-", "-o", rows.with_name("sealed")).code == 0
    stdin(rows.with_name("sealed").read_bytes())
    assert cli("file", "open", "-", "-o", rows.with_name("opened")).code == 0
    assert rows.with_name("opened").read_bytes() == ROWS


@pytest.mark.parametrize("command", [("seal", "-"), ("seal", "-", "-o", "x", "--dry-run")], ids=len)
def test_stdin_needs_a_target_and_no_rehearsal(cli, project, stdin, command):
    stdin(ROWS)
    assert cli("file", *command).code == 2
    assert not (project / "x").exists()


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("gone", "target", "No such file"), ("jane.csv", "gone/target", "no such folder"),
        ("project", "target", "is a folder"), ("jane.csv", "project", "no regular file"),
        ("jane.csv", "..", "no regular file"),
    ],
    ids=["source", "folder", "folder-as-source", "folder-as-target", "parent-as-target"],
)  # fmt: skip
def test_what_cannot_be_is_a_2(cli, project, rows, source, target, why):
    answer = cli("file", "seal", rows.parent / source, "-o", rows.parent / target)
    assert (answer.code, answer.out) == (2, "")
    assert why in answer.err


@pytest.mark.parametrize("source", [".", "..", "/", "", "./"])
def test_a_folder_without_a_target_is_a_2(cli, project, source):
    answer = cli("file", "seal", source)
    assert (answer.code, answer.out) == (2, "")
    assert "is a folder or nothing; name a file" in " ".join(answer.err.split())
    assert entries(cli) == []


@pytest.mark.parametrize(
    "label",
    ["a\nb", "x" * 101, "", "Ada Lovelace ada@example.org"],
    ids=["control", "long", "empty", "person"],
)
def test_what_is_no_label_is_a_2_and_not_recorded(cli, project, rows, label):
    for command in (("seal", rows), ("open", rows, "-o", rows)):
        answer = cli("file", *command, "--label", label)
        assert answer.code == 2
        assert "a plain name such as exports/2024" in answer.err
        assert "it is recorded for good" in answer.err
        assert "ada@" not in answer.err
    assert entries(cli) == []
    assert "file" not in cli("keys", "list").out


def test_what_does_not_open_is_named_with_the_next_step(cli, project, rows):
    answer = cli("file", "open", rows, "-o", rows.with_name("opened"))
    assert answer.code == 1
    assert f"{rows}: not a sealed file, or of a later version; name one" in answer.err
    cli("file", "seal", rows)
    answer = cli("file", "open", f"{rows}.sealed", "-o", rows, "--label", "other")
    assert f"{rows}.sealed: the sealed file does not open" in answer.err


def test_outside_a_project_nothing_is_sealed(cli, outside, rows):
    answer = cli("file", "seal", rows)
    assert answer.code == 2
    assert "compliance init" in answer.err
    assert list(outside.iterdir()) == []


def test_a_command_that_is_killed_leaves_its_intent_and_no_target(cli, project, rows):
    """The source is a pipe that never ends."""
    command = [sys.executable, "-m", "compliance", "file", "seal", "-", "-o", "target"]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE) as process:
        process.stdin.write(ROWS * 20)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not entries(cli) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert [event for event, *_ in entries(cli)] == ["file.seal"]
    assert "target" not in {path.name for path in project.iterdir()}
    assert not [path for path in project.iterdir() if path.name.endswith(".part")]
