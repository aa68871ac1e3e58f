"""``compliance keys``: make the master key and list what hangs on it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from compliance.cli.context import note, options, rows

app = typer.Typer(help="Keys of the project.", no_args_is_help=True)


@app.command()
def init(
    context: typer.Context,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key file; asks for a passphrase.")
    ] = False,
) -> None:
    """Make the master key; refuses to replace one that is there."""
    from compliance.crypto import master
    from compliance.crypto.keys import has_keys
    from compliance.errors import ConfigurationError
    from compliance.store import Store

    settings = options(context).settings()
    if has_keys(Store.open(settings.database_url)):
        raise ConfigurationError(
            "the database holds keys of another master key; restore that key file instead"
        )
    secret = os.environ.get("COMPLIANCE_PASSPHRASE")
    if passphrase and not secret:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    master.create(settings.key_file, secret if passphrase else None)
    note(f"wrote {settings.key_file}; keep a copy where the database is not")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List keys by id, kind and state; never their material."""
    guard = options(context).guard()
    guard.authority.require(guard.identity, "key/list", "list")
    table = [
        (k.id, k.kind, k.name[:40], k.epoch, k.created, k.destroyed or "")
        for k in guard.keys.listing()
    ]
    rows(table, ("id", "kind", "name", "epoch", "created", "destroyed"))
