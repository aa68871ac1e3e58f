"""``compliance trail``: read the audit store and verify it."""

from __future__ import annotations

import itertools
import json
from typing import Annotated

import typer

from compliance.cli.context import Format, Output, check_output, emit, options, progress, rows

app = typer.Typer(help="Read and verify the audit store.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="How many, newest first.")
    ] = 20,
    event: Annotated[str | None, typer.Option(help="Only this event.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only this actor.")] = None,
    activity: Annotated[str | None, typer.Option(help="Only this activity.")] = None,
    outcome: Annotated[str | None, typer.Option(help="ok, refused or failed.")] = None,
    output_format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """List entries, newest first."""
    if output_format not in {"text", "json"}:
        raise typer.BadParameter("unknown format; known: text, json")
    if outcome not in {None, "ok", "refused", "failed"}:
        raise typer.BadParameter("unknown outcome; known: ok, refused, failed")
    guard = options(context).guard()
    guard.authority.require(guard.identity, "trail/entries", "read")
    filters = {"event": event, "actor": actor, "activity": activity, "outcome": outcome}
    found = list(itertools.islice(guard.trail.read(newest_first=True, filters=filters), limit))
    if output_format == "json":
        for entry in found:
            typer.echo(json.dumps({"index": entry.index, **entry.values}, ensure_ascii=True))
        return
    names = ("time", "event", "actor", "activity", "dataset", "outcome")
    table = [(e.index, *(e.values.get(n) for n in names), _short(e.values["facts"])) for e in found]
    rows(table, ("index", *names, "facts"))


def _short(facts: dict[str, object]) -> str:
    text = " ".join(f"{k}={v}" for k, v in facts.items())
    return text if len(text) <= 100 else text[:97] + "..."  # noqa: PLR2004  a terminal's width


@app.command()
def verify(context: typer.Context, output_format: Format = "text", output: Output = None) -> None:
    """Read every entry and compare it with the signed head; exit 1 and say where if it differs.

    Consent and budgets are compared with what the trail says was recorded of them.
    """
    from compliance.audit import checks, runner
    from compliance.findings import Severity

    check_output(output_format, output)
    guard = options(context).guard()
    guard.authority.require(guard.identity, "trail/entries", "read")
    with progress("verifying") as advance:
        outcome = checks.trail(guard.store, guard.keys.signer(), advance, guard.discrepancies())
    emit(
        [outcome], title="Trail verification", output_format=output_format, output=output, facts={}
    )
    raise typer.Exit(runner.exit_code([outcome], Severity.LOW))
