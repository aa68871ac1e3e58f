"""``compliance datamap``: describe databases, and hold the description against them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from compliance.cli.context import Format, Output, check_format, emit, note, options

app = typer.Typer(help="Where personal data is.", no_args_is_help=True)


@app.command()
def discover(
    url: Annotated[str, typer.Argument(help="SQLAlchemy URL of a database.")],
    name: Annotated[str, typer.Option(help="Name of the store in the policy.")] = "store",
) -> None:
    """Print a draft of the data map; a link without meaning waits for a person to decide."""
    import yaml

    from compliance.rights import datamap

    draft = json.loads(json.dumps(datamap.discover(url)))  # enumerations become plain words
    typer.echo(yaml.safe_dump({"stores": {name: draft}}, sort_keys=False, allow_unicode=True))
    open_edges = sum(1 for edge in draft["edges"] if edge.get("meaning") is None)
    note(f"{open_edges} links have no meaning yet; add the reviewed map to policies/rights.yaml")


@app.command()
def check(context: typer.Context, output_format: Format = "text", output: Output = None) -> None:
    """Compare the data map with the live schemas; a table or link without meaning fails."""
    from compliance.audit import runner
    from compliance.findings import Outcome, Severity, Verdict
    from compliance.policy import Policy
    from compliance.rights import datamap

    check_format(output_format)
    policy = Policy.load(options(context).settings().policies)
    outcomes = []
    for name, store in policy.stores.items():
        findings = datamap.check(store, store.url)
        verdict = Verdict.FAIL if findings else Verdict.PASS
        summary = f"{len(findings)} differences between the data map and {name}."
        outcomes.append(
            Outcome("datamap.check", f"Data map: {name}", verdict, summary, tuple(findings))
        )
    emit(outcomes, title="Data map", output_format=output_format, output=output, facts={})
    raise typer.Exit(runner.exit_code(outcomes, Severity.LOW))
