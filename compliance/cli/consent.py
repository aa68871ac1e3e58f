"""``compliance consent``: record what data subjects agreed to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from compliance.cli.context import note, options
from compliance.errors import InputError

app = typer.Typer(help="Record consent, withdrawal and opt-out.", no_args_is_help=True)

Subjects = Annotated[list[str] | None, typer.Argument(help="Identifiers of the subjects.")]
Purpose = Annotated[str, typer.Option(help="A purpose of the policy, or automated-decisions.")]
Kind = Annotated[
    str | None,
    typer.Option("--type", help="Their subject_type; needed where data sets have several."),
]
File = Annotated[Path | None, typer.Option("--file", help="One identifier a line; - is stdin.")]


@app.command()
def record(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = None,
    file: File = None,
) -> None:
    """Record that subjects gave their consent for a purpose."""
    _write(context, "given", purpose, subjects, kind, file)


@app.command()
def withdraw(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = None,
    file: File = None,
) -> None:
    """Record that subjects withdrew their consent; their rows are dropped from now on."""
    _write(context, "withdrawn", purpose, subjects, kind, file)


@app.command("opt-out")
def opt_out(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = None,
    file: File = None,
) -> None:
    """Record that subjects object to a purpose, or to automated decisions."""
    _write(context, "opted-out", purpose, subjects, kind, file)


def _write(
    context: typer.Context,
    state: Literal["given", "withdrawn", "opted-out"],
    purpose: str,
    subjects: list[str] | None,
    kind: str | None,
    file: Path | None,
) -> None:
    guard = options(context).guard()
    kind = _kind(kind, {d.subject_type for d in guard.policy.datasets.values() if d.subject})
    everyone = list(dict.fromkeys(one.strip() for one in [*(subjects or []), *_lines(file)]))
    count = guard.consent(state, everyone, purpose=purpose, subject_type=kind)
    note(f"recorded: {count} {kind}{'' if count == 1 else 's'} {state} for {purpose}")


def _kind(given: str | None, known: set[str]) -> str:
    """Return the kind of identifier: under a wrong one the record would stand and have no effect.

    Without any data set every kind is as good as another.
    """
    names = ", ".join(sorted(known))
    if given is None and len(known) > 1:
        raise typer.BadParameter(f"say with --type who they are: {names}")
    kind = given or next(iter(known), "person")
    if known and kind not in known:
        raise typer.BadParameter(f"unknown subject type {kind!r}; known: {names}")
    return kind


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode("utf-8-sig")  # spreadsheets write a mark before the first identifier
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
