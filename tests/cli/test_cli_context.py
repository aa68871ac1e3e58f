"""What every command shares: reports whole and alone on stdout, files whole or not at all."""

import os
import pty
import subprocess
import sys

import pytest

from compliance.cli import context

# -- tables ------------------------------------------------------------------------------


def test_a_table_is_aligned_and_empty_cells_are_empty(capsys):
    context.rows([("a", None, 1), ("long", 0, True)], ("x", "y", "z"))
    assert capsys.readouterr().out == "x     y  z\na        1\nlong  0  True\n"


def test_a_name_cannot_command_the_terminal(capsys):
    context.rows([("\x1b[31mred\r\nforged  line\u202e",)], ("name",))
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert not set(out) & {"\x1b", "\r", "\u202e"}


# -- progress ------------------------------------------------------------------------------

WORK = """
import sys, time
from compliance.cli import context
with context.progress("scanning") as advance:
    advance(1, 4, "[/not markup].csv")
    time.sleep(float(sys.argv[1]))
    advance(2, 4, "next.csv")
print("done")
"""


def _on_a_terminal(seconds):
    """Run the work with a terminal as stderr; return stdout and what the terminal saw."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(seconds)],
        stdout=subprocess.PIPE, stderr=slave, env=environment, check=True, timeout=60,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:  # Linux says so when the other end is closed
        os.close(master)
    return done.stdout, seen.decode()


def test_work_of_more_than_two_seconds_shows_a_bar():
    out, seen = _on_a_terminal(2.6)
    assert out == b"done\n"
    assert "scanning: [/not markup].csv" in seen


def test_short_work_shows_none():
    assert _on_a_terminal(0.1) == (b"done\n", "")


def test_without_a_terminal_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr(context, "_PATIENCE", 0.0)
    with context.progress("scanning") as advance:
        advance(1, 2, "x")
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_takes_its_bar_away(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with pytest.raises(ZeroDivisionError), context.progress("scanning"):
        _ = 1 / 0
    assert capsys.readouterr() == ("", "")


# -- files -----------------------------------------------------------------------------------


def test_a_report_replaces_the_old_one_as_a_whole(cli, exports, outside):
    (outside / "report.json").write_text("old")
    answer = cli("audit", "pii", exports / "clean.csv", "-f", "json", "-o", "report.json")
    assert (answer.code, answer.out) == (0, "")
    assert "written to report.json" in answer.err
    assert (outside / "report.json").read_text().startswith("{")
    assert [p.name for p in outside.iterdir()] == ["report.json"]


def test_a_failed_audit_leaves_the_old_report(cli, outside):
    (outside / "report.json").write_text("old")
    assert cli("audit", "pii", "missing.csv", "-o", "report.json").code == 2
    assert (outside / "report.json").read_text() == "old"


@pytest.mark.parametrize("target", ["missing/report.txt", ".", "/dev/null/report.txt"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    cli, exports, outside, monkeypatch, target
):
    monkeypatch.setattr("compliance.audit.checks.pii", lambda *_: pytest.fail("it worked first"))
    answer = cli("audit", "pii", exports / "clean.csv", "-o", target)
    assert (answer.code, answer.out) == (2, "")
    assert target in answer.err


def test_an_output_that_fails_after_all_is_a_4(cli, exports, outside):
    answer = cli("audit", "pii", exports / "clean.csv", "-o", "/dev/full")
    assert (answer.code, answer.out) == (4, "")


def test_a_dash_is_stdout(cli, exports, outside):
    answer = cli("audit", "pii", exports / "clean.csv", "-f", "json", "-o", "-")
    assert (answer.code, answer.out[0]) == (0, "{")
    assert list(outside.iterdir()) == []


def test_an_unwritable_folder_is_refused(cli, exports, outside, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)  # root may write all
    answer = cli("audit", "pii", exports / "clean.csv", "-o", "report.txt")
    assert (answer.code, answer.out) == (2, "")
    assert "may not be written" in answer.err
