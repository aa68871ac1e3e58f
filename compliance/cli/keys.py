"""``compliance keys``: the master key and what hangs on it, made, listed and rotated."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import DryRun, note, options, progress, rows
from compliance.config import Settings
from compliance.errors import ConfigurationError, InputError, Refused

if TYPE_CHECKING:
    from compliance.crypto.custody import Custodian
    from compliance.crypto.providers import MasterKey
    from compliance.guard import Guard

app = typer.Typer(help="Keys of the project.", no_args_is_help=True)
_AFTERWARDS = {
    "index": "look-ups still find both epochs; index the column again",
    "join": "what is encrypted now joins nothing from before: encrypt every table again",
    "format": "what was encrypted before decrypts with its own key_id only: encrypt it again",
    "token": "tokens stay; `Vault.reseal()` seals their values anew",
}
What = Annotated[str, typer.Argument(help="master, domain, or KIND/NAME as in `keys list`.")]
Named = Annotated[str, typer.Argument(help="KIND/NAME as in `keys list`.")]


@app.command()
def init(
    context: typer.Context,
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Ask for one, unless COMPLIANCE_PASSPHRASE holds it."),
    ] = False,
) -> None:
    """Make the master key; refuses to replace one that is there."""
    settings = options(context).settings()
    authorise(settings, "init")
    _require_none(settings)
    secret = os.environ.get("COMPLIANCE_PASSPHRASE") or None
    if passphrase and secret is None:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    make(settings, secret)


def make(settings: Settings, secret: str | None = None) -> MasterKey:
    """Make the master that the settings name, and say so."""
    from compliance.crypto import providers

    master = providers.create_master(settings, secret)
    where = providers.master_path(settings) or master.name
    protected = secret or os.environ.get("COMPLIANCE_PASSPHRASE")
    how = "under a passphrase" if protected else "without a passphrase"
    note(f"made {where} {how}; keep a copy where the database is not")
    return master


def authorise(settings: Settings, action: str) -> None:
    """Ask the policy; the guard cannot, it would make the key on its own."""
    from compliance.access import identity, rbac
    from compliance.policy import Policy

    authority = rbac.Authority(Policy.load(settings.policies))
    authority.require(identity.current(settings), "key/master", action)


def _require_none(settings: Settings) -> None:
    """Refuse while there is a master, or a database whose keys another one opens."""
    from compliance.crypto import providers
    from compliance.crypto.hierarchy import has_keys
    from compliance.store import Store

    if providers.has_master(settings):
        where = providers.master_path(settings) or settings.master
        raise ConfigurationError(f"{where}: there is a master key already")
    store = Store.open(settings.database_url)
    try:
        if has_keys(store):
            raise ConfigurationError(
                "the database holds keys of another master key; restore that one, or recover "
                "from an export (`compliance keys import`)"
            )
    finally:
        store.close()


@app.command("list")
def list_(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", help="Only keys of this kind.")] = None,
    output_format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """List keys by id, kind and state; never their material."""
    if output_format not in {"text", "json"}:
        raise typer.BadParameter("unknown format; known: text, json")
    keys = [k for k in opened(context, "list").keys.listing() if kind in {None, k.kind}]
    if output_format == "json":
        typer.echo(json.dumps([{**asdict(k), "state": k.state} for k in keys], indent=2))
        return
    table = [(k.id, k.kind, k.name[:40], k.epoch, k.state, k.created, k.sealed or "") for k in keys]
    rows(table, ("id", "kind", "name", "epoch", "state", "created", "nonces reserved"))


@app.command()
def rotate(context: typer.Context, what: What, dry_run: DryRun = False) -> None:
    """Put a new key in the place of the master, the domain key or one named key.

    Nothing that was sealed is rewritten: `keys reencrypt` does that for a column.
    """
    guard = opened(context, "rotate")
    keeper = custodian(guard)
    if what not in {"master", "domain"}:
        keeper.require(*_named(what))
    if dry_run:
        note(f"would rotate {what}; nothing was changed")
    elif what == "master":
        keeper.rotate_master()
        note("the domain key is under a new master; replace every copy of the earlier one")
    elif what == "domain":
        with progress("rotate") as advance:
            note(f"{keeper.rotate_domain(advance)} keys put under the new domain key")
    else:
        key = keeper.rotate(*_named(what))
        afterwards = _AFTERWARDS.get(key.kind, "what was sealed before still opens")
        note(f"{what}: epoch {key.epoch}, key {key.id}; {afterwards}")


@app.command()
def rewrap(
    context: typer.Context,
    to: Annotated[
        str | None, typer.Option("--to", help="Another master, as in the setting `master`.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Wrap the domain keys anew, after the master was rotated where it is kept, or by another."""
    from compliance.crypto import providers

    guard = opened(context, "rewrap")
    settings = replace(guard.settings, master=to or guard.settings.master)
    here = providers.has_master(settings)
    if dry_run:
        note(f"would rewrap by {settings.master}{'' if here else ', which would be made first'}")
        return
    target = None
    if to is not None:
        target = providers.open_master(settings) if here else make(settings)
    custodian(guard).rewrap(target)
    note(f"the domain key is wrapped by {guard.keys.keys.master.name}")
    if to is not None:
        note(
            f"now set the master to {to!r} (compliance.toml or COMPLIANCE_MASTER); the former one "
            "still opens older copies of the database: destroy it when they are gone"
        )


@app.command()
def reencrypt(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Your mapped class or Table, as MODULE:NAME; it is imported.")
    ],
    url: Annotated[str, typer.Option("--url", help="SQLAlchemy URL of its database, or env:NAME.")],
) -> None:
    """Seal a table's encrypted columns anew under the newest epochs, in small transactions.

    The table stays in use. A run that was cut off goes on where it stood when it is run again.
    """
    from compliance.cli.mapped import bound_table
    from compliance.crypto.reencryption import reencrypt as run
    from compliance.rights.connectors.schema import open_engine
    from compliance.store import translated

    guard = opened(context, "rotate")
    table = bound_table(model, guard.keys, guard.settings.root)
    engine = open_engine(url)
    try:
        with translated(engine.url), progress("reencrypt") as advance:
            done = run(engine, table, progress=advance)
    finally:
        engine.dispose()
    counts = {f"cells_{n}": count for n, count in done.cells.items()}
    counts |= {f"left_{n}": count for n, count in done.left.items()}
    facts = {"table": table.fullname, **counts}
    outcome = "failed" if any(done.left.values()) else "ok"
    guard.trail.append(guard.event("key.reencrypted", outcome=outcome, facts=facts))
    rows([(n, done.cells[n], done.left[n]) for n in done.cells], ("column", "sealed anew", "left"))
    if any(done.left.values()):
        note("what is left does not open, or changed meanwhile: run again, then look at it")
        raise typer.Exit(1)


@app.command()
def retire(context: typer.Context, what: Named, dry_run: DryRun = False) -> None:
    """Close the earlier epochs of a key: an old ciphertext that is put back is refused."""
    keeper = custodian(opened(context, "rotate"))
    kind, name = _named(what)
    keeper.require(kind, name)
    if dry_run:
        note(f"would retire the earlier epochs of {what}; nothing was changed")
        return
    note(
        f"earlier epochs of {what} retired: {len(keeper.retire(kind, name))}; what still lies "
        "under them opens after `compliance keys restore ID`"
    )


@app.command()
def restore(
    context: typer.Context,
    key: Annotated[int, typer.Argument(help="The id of a retired key.")],
) -> None:
    """Take a retired epoch back, as for a backup that was sealed under it."""
    custodian(opened(context, "rotate")).restore(key)
    note(f"key {key} opens again; retire it when the backup is sealed anew")


def opened(context: typer.Context, action: str, about: str = "named") -> Guard:
    """Return the guard of who may do this; a refusal is on record."""
    guard = options(context).guard()
    with _refusals(guard, action):
        guard.authority.require(guard.identity, f"key/{about}", action)
    return guard


@contextlib.contextmanager
def _refusals(guard: Guard, action: str) -> Iterator[None]:
    try:
        yield
    except Refused:
        guard.trail.append(guard.event(f"key.{action}", outcome="refused"))
        raise


def custodian(guard: Guard) -> Custodian:
    """Return who acts on the guard's keys and records it."""
    from compliance.crypto.custody import Custodian

    return Custodian(guard.keys, guard.trail, guard.event)


def _named(what: str) -> tuple[str, str]:
    kind, separator, name = what.partition("/")
    if not separator or not kind or not name:
        raise InputError(f"{what!r}: write master, domain or KIND/NAME, such as column/people.iban")
    return kind, name


def content(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
