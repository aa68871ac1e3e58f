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
Kind = Annotated[str, typer.Option("--type", help="Kind of identifier, as in subject_type.")]
File = Annotated[Path | None, typer.Option("--file", help="One identifier a line; - is stdin.")]


@app.command()
def record(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = "person",
    file: File = None,
) -> None:
    """Record that subjects gave their consent for a purpose."""
    _write(context, "given", purpose, subjects, kind, file)


@app.command()
def withdraw(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = "person",
    file: File = None,
) -> None:
    """Record that subjects withdrew their consent; their rows are dropped from now on."""
    _write(context, "withdrawn", purpose, subjects, kind, file)


@app.command("opt-out")
def opt_out(
    context: typer.Context,
    purpose: Purpose,
    subjects: Subjects = None,
    kind: Kind = "person",
    file: File = None,
) -> None:
    """Record that subjects object to a purpose, or to automated decisions."""
    _write(context, "opted-out", purpose, subjects, kind, file)


def _write(
    context: typer.Context,
    state: Literal["given", "withdrawn", "opted-out"],
    purpose: str,
    subjects: list[str] | None,
    kind: str,
    file: Path | None,
) -> None:
    guard = options(context).guard()
    known = {d.subject_type for d in guard.policy.datasets.values()} | {"person"}
    if kind not in known:
        raise typer.BadParameter(
            f"unknown subject type {kind!r}; known: {', '.join(sorted(known))}"
        )
    everyone = [*(subjects or []), *_lines(file)]
    count = guard.consent(state, everyone, purpose=purpose, subject_type=kind)
    note(f"recorded: {count} subject{'' if count == 1 else 's'} {state} for {purpose}")


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
