"""``compliance model`` and ``compliance budget``: sealed models and the privacy they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import Format, Output, check_output, emit, options, rows
from compliance.errors import ComplianceError

if TYPE_CHECKING:
    from compliance.guard import Guard
    from compliance.models.manifest import Manifest

app = typer.Typer(help="Sealed models.", no_args_is_help=True)
budget = typer.Typer(help="Privacy budgets.", no_args_is_help=True)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List sealed models with what their manifests say."""
    guard = options(context).guard()
    guard.authority.require(guard.identity, "model/all", "verify")
    table = [(name, version, *_row(found)) for name, version, found in guard.vault.listing()]
    rows(table, ("model", "version", "format", "created", "epsilon", "rows", "policy"))


def _row(found: Manifest | ComplianceError) -> tuple[object, ...]:
    if isinstance(found, ComplianceError):
        return ("REJECTED", "", "", "", "")
    origin = found.origin
    return (found.format, found.created, origin.epsilon, origin.rows, origin.policy_digest[:12])


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Only this model.")] = "",
    output_format: Format = "text",
    output: Output = None,
) -> None:
    """Verify signature, digest and place of sealed models; nothing of them is parsed."""
    from compliance.audit import checks, runner
    from compliance.findings import Severity

    check_output(output_format, output)
    guard = options(context).guard()
    guard.authority.require(guard.identity, "model/all", "verify")
    outcome = checks.models(row for row in verified(guard) if name in {"", row[0]})
    emit(
        [outcome], title="Model verification", output_format=output_format, output=output, facts={}
    )
    raise typer.Exit(runner.exit_code([outcome], Severity.LOW))


def verified(guard: Guard) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, version, and what is wrong with each sealed model, or None."""
    from compliance.models.control import gone

    for name, version in guard.vault.versions():
        try:
            guard.vault.verify(name, version)
        except ComplianceError as error:
            yield name, version, str(error)
        else:
            yield name, version, None
    for name, version in guard.vault.missing():
        yield name, version, gone(version)


@budget.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Only this budget.")] = "",
) -> None:
    """Show what each privacy budget allows, what is reserved, spent and left."""
    guard = options(context).guard()
    guard.authority.require(guard.identity, f"budget/{name or 'all'}", "read")
    table = []
    for key, norm in guard.policy.budgets.items():
        if name in {"", key}:
            s = guard.ledger.spending(key, norm)
            figures = (s.epsilon_total, s.reserved, s.settled, s.remaining)
            shown = [None if f is None else f"{f:f}" for f in figures]  # never 0E-9
            table.append((key, norm.dataset, norm.unit, *shown, s.runs))
    if name and not table:
        raise typer.BadParameter(
            f"unknown budget {name!r}; known: {', '.join(guard.policy.budgets)}"
        )
    header = ("budget", "dataset", "unit", "epsilon", "reserved", "settled", "remaining", "runs")
    rows(table, header)
