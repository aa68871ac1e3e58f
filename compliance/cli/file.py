"""``compliance file``: seal files, and open sealed ones, by role and with a record."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance.cli.context import (
    DryRun,
    Progress,
    check_writable,
    note,
    options,
    progress,
    vouched,
)
from compliance.errors import Refused

if TYPE_CHECKING:
    from compliance.guard import Guard

app = typer.Typer(help="Sealed files.", no_args_is_help=True)

Label = Annotated[
    str,
    typer.Option(
        "--label", help="What the file is; recorded, names no person, opens under it alone."
    ),
]
SUFFIX = ".sealed"
STREAM = "-"  # stdin, stdout; a file of that name is ./-
_DONE = {"seal": "file.sealed", "open": "file.opened"}


@app.command()
def seal(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="File to seal; - is stdin.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Write here; - is stdout; default: SOURCE.sealed.",
        ),
    ] = None,
    label: Label = "default",
    dry_run: DryRun = False,
) -> None:
    """Seal a file under the key of its label; the target appears whole or not at all."""
    from compliance.crypto import files

    target = target if target is not None else _beside(source)
    guard = vouched(options(context).guard())
    done = _work(guard, files.seal, "seal", source, target, label, dry_run)
    note(f"{'would seal' if dry_run else 'sealed'} {done} bytes to {_shown(target)}")


@app.command("open")
def open_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="Sealed file; - is stdin.")],
    target: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Write the plaintext here; - is stdout."
        ),
    ],
    label: Label = "default",
    dry_run: DryRun = False,
) -> None:
    """Open a sealed file into a file for its owner alone, once all of it is authenticated.

    Stdout gets each piece once it is authenticated: what it got is whole when the exit code is 0.
    """
    from compliance.crypto import files

    guard = vouched(options(context).guard())
    done = _work(guard, files.open_sealed, "open", source, target, label, dry_run)
    note(f"{'would open' if dry_run else 'opened'} {done} bytes to {_shown(target)}")


def _beside(source: str) -> str:
    if source == STREAM:
        raise typer.BadParameter("what comes from stdin has no name; say with -o where it goes")
    path = Path(source)
    if path.name in {"", ".."}:
        raise typer.BadParameter(f"{source or '(empty)'}: is a folder or nothing; name a file")
    return str(path.with_name(path.name + SUFFIX))


def _shown(target: str) -> str:
    return "stdout" if target == STREAM else target


def _work(
    guard: Guard,
    work: Callable[..., int],
    action: str,
    source: str,
    target: str,
    label: str,
    dry_run: bool,  # noqa: FBT001  the option of the command, passed on
) -> int:
    """Do it between an intent and an outcome; a dry run writes nothing and is not recorded."""
    from compliance.crypto import files

    files.require_label(label)
    output = _stdout(source) if target == STREAM else Path(target)
    if dry_run:
        guard.authority.require(guard.identity, f"file/{label}", action)
        return _rehearse(guard, action, source, target, label)
    with _recorded(guard, action, label) as facts, progress(action) as advance:
        guard.authority.require(guard.identity, f"file/{label}", action)
        facts["bytes"] = work(
            sys.stdin.buffer if source == STREAM else source,
            output,
            guard.keys,
            label=label,
            advance=partial(_show, advance, _size(source), label),
        )
    return int(facts["bytes"])


def _stdout(source: str) -> Any:
    """Return stdout without its buffer: what cannot be written shows here and not at the exit."""
    if sys.stdout is None:
        raise typer.BadParameter("stdout is closed; say with -o where it goes")
    with contextlib.suppress(OSError):  # no descriptor, or no such source, which is told later
        ours = os.fstat(sys.stdout.fileno())
        read = os.fstat(sys.stdin.fileno()) if source == STREAM else Path(source).stat()
        if stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, read):
            raise typer.BadParameter("stdout goes into the source itself; name another file")
    sys.stdout.flush()
    return getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)


def _rehearse(guard: Guard, action: str, source: str, target: str, label: str) -> int:
    """Return how many bytes it would be: a sealed file is read and authenticated to its end."""
    from compliance.crypto import files

    if target != STREAM:
        check_writable(Path(target))
    if source == STREAM:
        raise typer.BadParameter("a dry run would use up stdin; name a file")
    if action == "open":
        return files.open_sealed(source, _Nowhere(), guard.keys, label=label)
    with files.regular(Path(source)) as file:  # sealing would make the label's key
        return os.fstat(file.fileno()).st_size


def _size(source: str) -> int:
    path = Path(source)
    return 0 if source == STREAM or not path.is_file() else path.stat().st_size


def _show(advance: Progress, total: int, label: str, done: int) -> None:
    advance(done, total, label)


@contextlib.contextmanager
def _recorded(guard: Guard, action: str, label: str) -> Iterator[dict[str, Any]]:
    """Record the intent before anything is read, and how it ended; no file is named.

    Where the intent cannot be recorded nothing is done.
    """
    call = uuid.uuid4().hex
    facts: dict[str, Any] = {"label": label}

    def record(event: str, outcome: str | None = None) -> None:
        guard.trail.append(guard.event(event, call=call, outcome=outcome, facts=facts))

    record(f"file.{action}")
    try:
        yield facts
    except BaseException as error:
        facts["error"] = type(error).__name__  # never its text: it names the file
        record(_DONE[action], "refused" if isinstance(error, Refused) else "failed")
        raise
    record(_DONE[action], "ok")


class _Nowhere(io.RawIOBase):
    """A stream that takes everything and keeps nothing."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: Any, /) -> int:
        """Take it."""
        return len(data)
