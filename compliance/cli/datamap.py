"""``compliance datamap``: describe databases, and hold the description against them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import Format, Output, check_output, emit, note, options
from compliance.findings import Outcome, Verdict

if TYPE_CHECKING:
    from compliance.policy import Store

app = typer.Typer(help="Where personal data is.", no_args_is_help=True)


@app.command()
def discover(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="SQLAlchemy URL, or env:NAME that holds one.")
    ],
    name: Annotated[str, typer.Option(help="Name of the store in the policy.")] = "store",
) -> None:
    """Print a draft of the data map; a link without meaning waits for a person to decide."""
    import yaml

    from compliance.rights import datamap

    draft = json.loads(json.dumps(datamap.discover(url)))  # enumerations become plain words
    unlisted = len(datamap.unlisted(draft, url))
    if _is_secret(url):
        draft["url"] = f"env:{name.upper().replace('-', '_')}_URL"
        note(f"the URL holds a password: export it as {draft['url'].removeprefix('env:')}")
    typer.echo(yaml.safe_dump({"stores": {name: draft}}, sort_keys=False, allow_unicode=True))
    open_edges = sum(1 for edge in draft["edges"] if edge.get("meaning") is None)
    note(f"{unlisted} tables are not listed: link each, or list it as impersonal once reviewed")
    note(f"{open_edges} links have no meaning yet; add the reviewed map to policies/rights.yaml")


def _is_secret(url: str) -> bool:
    """Say whether a URL would bring a secret into the policy."""
    import sqlalchemy as sa

    if url.startswith("env:"):
        return False
    parsed = sa.make_url(url)
    return parsed.password is not None or "password" in parsed.query


@app.command()
def check(context: typer.Context, output_format: Format = "text", output: Output = None) -> None:
    """Compare the data map with the live schemas; a table or link without meaning fails."""
    from compliance.audit import runner
    from compliance.findings import Severity
    from compliance.policy import Policy

    check_output(output_format, output)
    policy = Policy.load(options(context).settings().policies)
    outcomes: list[Outcome] = []
    for name, store in policy.stores.items():
        outcomes += runner.gathered(_compare(name, store), name)
    emit(outcomes, title="Data map", output_format=output_format, output=output, facts={})
    raise typer.Exit(runner.exit_code(outcomes, Severity.LOW))


def _compare(name: str, store: Store) -> Iterator[Outcome]:
    from compliance.rights import datamap

    findings = datamap.check(store, store.url)
    verdict = Verdict.FAIL if findings else Verdict.PASS
    summary = f"{len(findings)} differences between the data map and {name}."
    yield Outcome("datamap.check", f"Data map: {name}", verdict, summary, tuple(findings))
