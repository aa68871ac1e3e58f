"""``compliance policy``: check the norms and show what is in force."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from compliance.cli.context import FailOn, Format, Output, check_output, emit, options

app = typer.Typer(help="Check and show the policy.", no_args_is_help=True)


@app.command()
def check(
    context: typer.Context,
    output_format: Format = "text",
    output: Output = None,
    fail_on: FailOn = "medium",
) -> None:
    """Load every policy file and every plan; a wrong one names file, line and nearest key."""
    from compliance.audit import checks, runner
    from compliance.audit.plan import Plan
    from compliance.findings import Severity
    from compliance.policy import Policy

    check_output(output_format, output, fail_on)
    settings = options(context).settings()
    outcome = checks.policy(settings.policies)
    norms = Policy.load(settings.policies)
    for path in sorted(settings.audits.glob("*.yaml")):
        for name in Plan.load(str(path), settings.audits).norms():
            norms.norm(name)
    emit([outcome], title="Policy check", output_format=output_format, output=output, facts={})
    raise typer.Exit(runner.exit_code([outcome], Severity.parse(fail_on)))


@app.command()
def show(
    context: typer.Context,
    section: Annotated[
        str, typer.Argument(help="roles, purposes, datasets, ...; all by default.")
    ] = "",
) -> None:
    """Print the policy in force, as JSON, with its digest."""
    from compliance.policy import Policy

    policy = Policy.load(options(context).settings().policies)
    document = policy.model_dump(mode="json")
    if section and section not in document:
        raise typer.BadParameter(f"unknown section {section!r}; known: {', '.join(document)}")
    typer.echo(json.dumps(document[section] if section else document, indent=2, ensure_ascii=False))
