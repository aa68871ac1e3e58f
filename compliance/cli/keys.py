"""``compliance keys``: make the master key and list what hangs on it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from compliance.cli.context import note, options, rows
from compliance.config import Settings
from compliance.errors import ConfigurationError

app = typer.Typer(help="Keys of the project.", no_args_is_help=True)


@app.command()
def init(
    context: typer.Context,
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Ask for one, unless COMPLIANCE_PASSPHRASE holds it."),
    ] = False,
) -> None:
    """Make the master key; refuses to replace one that is there."""
    from compliance.crypto import master

    settings = options(context).settings()
    _authorise(settings)
    _require_none(settings)
    secret = os.environ.get("COMPLIANCE_PASSPHRASE") or None
    if passphrase and secret is None:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    master.create(settings.key_file, secret)
    how = "under a passphrase" if secret else "without a passphrase"
    note(f"wrote {settings.key_file} {how}; keep a copy where the database is not")


def _authorise(settings: Settings) -> None:
    """Ask the policy; the guard cannot, it would make the key on its own."""
    from compliance.access import identity, rbac
    from compliance.policy import Policy

    authority = rbac.Authority(Policy.load(settings.policies))
    authority.require(identity.current(settings), "key/master", "init")


def _require_none(settings: Settings) -> None:
    """Refuse while there is a key file, or a database whose keys another one opens."""
    from compliance.crypto.keys import has_keys
    from compliance.store import Store

    if settings.key_file.exists():
        raise ConfigurationError(f"{settings.key_file}: there is a master key already")
    store = Store.open(settings.database_url)
    try:
        if has_keys(store):
            raise ConfigurationError(
                "the database holds keys of another master key; restore that key file instead"
            )
    finally:
        store.close()


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
