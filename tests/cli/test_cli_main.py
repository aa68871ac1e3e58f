"""Exit codes and streams of the command as a whole: a crash is never a 1."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import compliance
from compliance import cli as front
from compliance import errors


def _leaves(command, *path):
    children = getattr(command, "commands", {})
    if not children:
        yield path
    for name, child in children.items():
        yield from _leaves(child, *path, name)


LEAVES = sorted(_leaves(get_command(front.app)))


@pytest.mark.parametrize("path", [(), *LEAVES], ids=" ".join)
def test_every_command_has_help(cli, path):
    answer = cli(*path, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(" ".join(["Usage: compliance", *path]))


def test_the_version_is_shown(cli):
    assert cli("--version").out == f"compliance-toolkit {compliance.__version__}\n"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_an_unknown_option_is_a_usage_error(cli, path):
    answer = cli(*path, "--nonsense")
    assert (answer.code, answer.out) == (2, "")
    assert "--nonsense" in answer.err


@pytest.mark.parametrize("words", [(), ("audit",), ("nonsense",), ("audit", "pii")])
def test_half_a_command_is_a_usage_error(cli, words):
    answer = cli(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: compliance" in answer.err


def test_a_root_that_is_no_directory_is_no_silent_here(cli, exports):
    answer = cli("-C", exports / "missing", "audit", "pii", exports / "clean.csv")
    assert answer.code == 2
    assert "no such directory" in answer.err


def _all_errors(kind=errors.ComplianceError):
    yield kind
    for child in kind.__subclasses__():
        yield from _all_errors(child)


@pytest.mark.parametrize("kind", sorted(set(_all_errors()), key=lambda k: k.__name__))
def test_each_error_has_the_exit_code_of_its_class(cli, monkeypatch, kind):
    error = kind("pii", "spacy") if kind is errors.MissingExtra else kind("what to do")

    def fail(_arguments):
        raise error

    monkeypatch.setattr(front, "_invoke", fail)
    answer = cli("doctor")
    assert (answer.code, answer.out) == (kind.exit_code, "")
    assert answer.err == f"error: {error}\n"


@pytest.mark.parametrize("crash", [RuntimeError, ZeroDivisionError, RecursionError, MemoryError])
def test_a_crash_is_a_4_and_quotes_no_data(cli, monkeypatch, crash):
    def fail(_arguments):
        raise crash("jane@example.com")

    monkeypatch.setattr(front, "_invoke", fail)
    answer = cli("doctor")
    assert (answer.code, answer.out) == (4, "")
    assert crash.__name__ in answer.err
    assert "test_cli_main.py" in answer.err
    assert "jane" not in answer.err


def test_the_traceback_is_there_for_who_asks_for_it(cli, monkeypatch):
    monkeypatch.setattr(front, "_invoke", lambda _arguments: 1 / 0)
    monkeypatch.setenv("COMPLIANCE_DEBUG", "1")
    assert "Traceback" in cli("doctor").err


def test_a_missing_file_inside_is_a_crash_and_not_a_broken_output(cli, monkeypatch):
    monkeypatch.setattr(front, "_invoke", lambda _arguments: Path("/no/such/file").read_text())
    answer = cli("doctor")
    assert answer.code == 4
    assert "FileNotFoundError" in answer.err


def test_ctrl_c_is_a_4(cli, monkeypatch, outside):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("compliance.audit.checks.pii", interrupt)
    answer = cli("audit", "pii", "x.csv")
    assert (answer.code, answer.out) == (4, "")
    assert answer.err.endswith("interrupted; what was finished is recorded\n")


def test_ctrl_c_ends_a_real_process_with_4(outside):
    code = (
        "import compliance.audit.checks as c, time\n"
        "def wait(*a):\n print('ready', flush=True); time.sleep(60); yield\n"
        "c.pii = wait\n"
        "from compliance.cli import main; main(['audit', 'pii', 'x.csv'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "interrupted" in err
    assert "Traceback" not in err


# -- streams ----------------------------------------------------------------------------


def test_the_command_is_also_a_module(shell, exports, outside):
    answer = shell("audit", "pii", exports / "contacts.csv", "-f", "json")
    assert answer.code == 1
    assert json.loads(answer.out)["verdict"] == "fail"
    assert "PII audit: fail" in answer.err


def test_a_reader_that_goes_away_is_no_finding(exports, outside):
    """A big page into a pipe that nobody reads: neither the 1 of click nor the 120 of Python."""
    code = "from compliance.cli import main; main(['audit', 'pii', sys.argv[1], '-f', 'html'])"
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; {code}", str(exports)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 4
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_stdout_is_a_4_that_says_so(shell, exports, outside):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        answer = shell(
            "audit", "pii", exports / "clean.csv",
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert answer.code == 4
    assert "No space left" in answer.err
    assert "Exception ignored" not in answer.err


def test_a_terminal_of_another_encoding_gets_escapes(shell, outside):
    (outside / "größe.csv").write_text("größe\n1\n", "utf-8")
    answer = shell(
        "audit", "pii", "größe.csv", env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )  # fmt: skip
    assert answer.code == 0
    assert "gr\\xf6\\xdfe" in answer.out


def test_a_file_name_that_is_no_text_is_no_crash(shell, outside):
    with open(b"odd\xff.csv", "w") as file:  # noqa: PTH123  pathlib has no bytes
        file.write("a\n1\n")
    answer = shell("audit", "pii", ".")
    assert answer.code == 4, answer.err  # Arrow opens no such name: unread, and said so
    assert "pii.unread" in answer.out
    assert "odd\\udcff.csv" in answer.out
