"""``compliance file`` in a pipeline: - is stdin and stdout, never a file of that name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = b"name,income\njane@example.com,31909\n" * 20_000
COMMAND = [sys.executable, "-m", "compliance", "file"]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "jane.csv"
    path.write_bytes(ROWS)
    return path


def run(*arguments, **options):
    """Run a command as a shell does; return exit code, stdout and stderr, as bytes."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | options
    done = subprocess.run([*COMMAND, *map(str, arguments)], check=False, **options)
    return done.returncode, done.stdout, done.stderr


def outcomes(cli):
    """Return event and outcome of what is recorded of files, oldest first."""
    lines = reversed(cli("trail", "list", "-f", "json", "-n", 100).out.splitlines())
    kept = [e for e in map(json.loads, lines) if e["event"].startswith("file.")]
    return [(e["event"], e["outcome"], e["facts"].get("error")) for e in kept]


def test_a_pipe_gets_the_bytes_and_no_file_is_made(cli, project, rows):
    code, sealed, told = run("seal", rows, "-o", "-")
    assert (code, told) == (0, b"sealed %d bytes to stdout\n" % len(ROWS))
    assert sealed.startswith(b"compliance file 1\n")
    code, opened, told = run("open", "-", "-o", "-", input=sealed)
    assert (code, opened) == (0, ROWS)
    assert told == b"opened %d bytes to stdout\n" % len(ROWS)
    assert not (project / "-").exists()
    assert [outcome for _, outcome, _ in outcomes(cli)] == [None, "ok", None, "ok"]


def test_a_file_called_like_the_stream_is_named_with_its_folder(cli, project):
    Path("-").write_bytes(ROWS)
    assert cli("file", "seal", "./-").code == 0
    assert cli("file", "open", "./-.sealed", "-o", "./-").code == 0
    assert Path("-").read_bytes() == ROWS


def test_a_reader_that_goes_away_is_a_4_and_recorded_as_failed(cli, project, rows):
    cli("file", "seal", rows)
    command = [*COMMAND, "open", f"{rows}.sealed", "-o", "-"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.read(10) == ROWS[:10]
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 4
    assert b"its reader went away, run it again" in told
    assert b"Exception ignored" not in told
    assert outcomes(cli)[-1] == ("file.opened", "failed", "StoreError")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110  no path of ours
@pytest.mark.parametrize("action", ["seal", "open"])
def test_a_full_disk_behind_stdout_is_a_4(cli, project, rows, action):
    small = rows.with_name("small")
    small.write_bytes(b"a,b\n")
    cli("file", "seal", small)
    source = small if action == "seal" else f"{small}.sealed"
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
        code, _, told = run(action, source, "-o", "-", stdout=full)
    assert code == 4
    assert b"No space left on device" in told
    assert b"make room" in told
    assert outcomes(cli)[-1][1:] == ("failed", "StoreError")


def test_what_was_cut_off_ends_with_a_1_whatever_the_pipe_got(cli, project, rows):
    cli("file", "seal", rows)
    os.truncate(f"{rows}.sealed", 400_000)
    code, opened, _ = run("open", f"{rows}.sealed", "-o", "-")
    assert code == 1
    assert ROWS.startswith(opened)
    assert len(opened) < len(ROWS)


def test_a_dry_run_writes_nothing_to_stdout(cli, project, rows):
    cli("file", "seal", rows)
    for source, action in ((rows, "seal"), (f"{rows}.sealed", "open")):
        code, written, told = run(action, source, "-o", "-", "--dry-run")
        assert (code, written) == (0, b"")
        assert told == b"would %s %d bytes to stdout\n" % (action.encode(), len(ROWS))


def test_a_file_is_not_read_while_it_grows_by_what_was_read(cli, project, rows):
    """``seal f -o - >> f`` would end with the disk."""
    for source, given in ((rows, None), ("-", rows)):
        with rows.open("ab") as end, (given or rows).open("rb") as start:
            code, _, told = run("seal", source, "-o", "-", stdout=end, stdin=start)
        assert code == 2
        assert b"stdout goes into the source itself" in told
    assert rows.read_bytes() == ROWS


def test_a_closed_stdout_is_a_2(cli, project, rows):
    line = f"{sys.executable} -m compliance file seal {rows} -o - >&-"
    done = subprocess.run(["/bin/sh", "-c", line], check=False, capture_output=True, timeout=120)
    assert done.returncode == 2
    assert b"stdout is closed" in done.stderr
