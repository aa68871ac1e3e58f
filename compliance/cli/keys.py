"""``compliance keys``: the master key and what hangs on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import DryRun, note, options, progress, rows
from compliance.config import Settings
from compliance.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from compliance.crypto.custody import Custodian, Destroyed
    from compliance.guard import Guard

app = typer.Typer(help="Keys of the project.", no_args_is_help=True)
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def init(
    context: typer.Context,
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Ask for one, unless COMPLIANCE_PASSPHRASE holds it."),
    ] = False,
) -> None:
    """Make the master key; refuses to replace one that is there."""
    from compliance.crypto import providers

    settings = options(context).settings()
    _authorise(settings, "init")
    _require_none(settings)
    secret = os.environ.get("COMPLIANCE_PASSPHRASE") or None
    if passphrase and secret is None:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    master = providers.create_master(settings, secret)
    how = "under a passphrase" if secret else "without a passphrase"
    note(f"made {master.name} {how}; keep a copy where the database is not")


def _authorise(settings: Settings, action: str) -> None:
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
        raise ConfigurationError(f"{settings.master}: there is a master key already")
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
def list_(context: typer.Context) -> None:
    """List keys by id, kind and state; never their material."""
    guard = _guard(context, "list")
    table = [
        (k.id, k.kind, k.name[:40], k.epoch, k.state, k.created, k.sealed or "")
        for k in guard.keys.listing()
    ]
    rows(table, ("id", "kind", "name", "epoch", "state", "created", "sealed"))


@app.command()
def rotate(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="master, domain, or KIND/NAME as in `keys list`.")],
    dry_run: DryRun = False,
) -> None:
    """Put a new key in the place of the master, the domain key or one named key.

    Nothing that was sealed is rewritten: `keys reencrypt` does that for a column.
    """
    guard = _guard(context, "rotate")
    if dry_run:
        note(f"would rotate {what}; nothing was changed")
        return
    custodian = _custodian(guard)
    if what == "master":
        note(f"{custodian.rotate_master()} domain keys rewrapped; every copy of the earlier "
             "master is out of date: replace it")  # fmt: skip
    elif what == "domain":
        with progress("rotate") as advance:
            note(f"{custodian.rotate_domain(advance)} keys put under the new domain key")
    else:
        key = custodian.rotate(*_named(what))
        note(f"{what}: epoch {key.epoch}, key {key.id}; what was sealed before still opens")


@app.command()
def rewrap(
    context: typer.Context,
    to: Annotated[
        str | None, typer.Option("--to", help="Another master, as in the setting `master`.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Wrap the domain keys anew, after the master was rotated where it is kept, or by another."""
    from dataclasses import replace

    from compliance.crypto import providers

    guard = _guard(context, "rewrap")
    if dry_run:
        note(f"would rewrap the domain keys by {to or guard.keys.keys.master.name}")
        return
    target = None
    if to is not None:
        settings = replace(guard.settings, master=to)
        here = providers.has_master(settings)
        target = (providers.open_master if here else providers.create_master)(settings)
    count = _custodian(guard).rewrap(target)
    note(f"{count} domain keys rewrapped by {guard.keys.keys.master.name}")
    if to is not None:
        note(f"now set the master to {to!r} (compliance.toml or COMPLIANCE_MASTER)")


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

    guard = _guard(context, "rotate")
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
    guard.trail.append(guard.event("key.reencrypted", outcome="ok", facts=facts))
    rows([(n, done.cells[n], done.left[n]) for n in done.cells], ("column", "sealed anew", "left"))
    if any(done.left.values()):
        note("what is left does not open, or changed meanwhile: run again, then look at it")
        raise typer.Exit(1)


@app.command()
def retire(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="KIND/NAME as in `keys list`.")],
) -> None:
    """Close the earlier epochs of a key: an old ciphertext that is put back is refused."""
    guard = _guard(context, "rotate")
    ids = _custodian(guard).retire(*_named(what))
    note(f"{len(ids)} earlier epochs of {what} retired")


@app.command()
def restore(
    context: typer.Context,
    key: Annotated[int, typer.Argument(help="The id of a retired key.")],
) -> None:
    """Take a retired epoch back, as for a backup that was sealed under it."""
    _custodian(_guard(context, "rotate")).restore(key)
    note(f"key {key} opens again; retire it when the backup is sealed anew")


@app.command()
def destroy(
    context: typer.Context,
    keys: Annotated[list[int] | None, typer.Argument(help="Ids as in `keys list`.")] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="Destroy a data subject's key: the type; see the manual."),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Destroy keys: what they sealed can never be opened again, by anybody.

    With `--subject TYPE` the identifier is read from standard input, for a command line is
    kept in histories and shown to other users.
    """
    if bool(keys) == (subject is not None):
        raise typer.BadParameter("give the ids of keys, or --subject TYPE")
    guard = _guard(context, "destroy")
    what = f"keys {', '.join(map(str, keys))}" if keys else f"the key of one {subject}"
    identifier = "" if subject is None else _from_stdin(subject)
    if dry_run:
        note(f"would destroy {what}; nothing was changed")
        return
    if not yes and not typer.confirm(f"Destroy {what} for ever?", err=True):
        raise InputError("nothing was destroyed; say so with --yes where nobody can be asked")
    custodian = _custodian(guard)
    gone = (
        custodian.destroy_subject(subject, identifier) if subject else custodian.destroy(keys or ())
    )
    _tell(gone)


def _tell(gone: Destroyed) -> None:
    if not gone.keys:
        raise InputError("there was no such key; nothing was destroyed")
    when = gone.effective.isoformat(timespec="seconds")
    note(f"destroyed {len(gone.keys)} keys; effective everywhere from {when}")


def _from_stdin(subject: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Identifier of the {subject}", hide_input=True, err=True))
    identifier = sys.stdin.readline().rstrip("\n")
    if not identifier.strip():
        raise InputError("write the identifier to standard input, one line")
    return identifier


@app.command()
def export(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    recipient: Annotated[
        Path | None,
        typer.Option("--recipient", help="A public key, PEM: seal the domain keys to it."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="The public key that signs the trail, as PEM.")
    ] = False,
) -> None:
    """Write the domain keys sealed to a recipient, for recovery; or the public signing key."""
    if (recipient is None) is not public:
        raise typer.BadParameter("give --recipient FILE or --public")
    from compliance.reports.render import write

    guard = _guard(context, "export", about="public" if public else "domain")
    if recipient is None:
        write(output, guard.keys.signer().public_pem().decode())
        note(f"wrote {output}: whoever holds it can verify what this project signed")
        return
    from compliance.crypto import escrow

    document = escrow.export(guard.keys, _read(recipient))
    facts = {"keys": document.count(b'"sealed"')}
    guard.trail.append(guard.event("key.exported", outcome="ok", facts=facts))
    write(output, document.decode())
    note(f"wrote {output}; it opens with the private key, and is of use beside the database only")


@app.command("import")
def import_(
    context: typer.Context,
    document: Annotated[Path, typer.Argument(help="What `keys export` wrote.")],
    identity: Annotated[Path, typer.Option("--identity", help="The private key, PEM.")],
) -> None:
    """Recover from an export where the master is lost: the domain keys come under a new one."""
    from compliance.crypto import escrow, providers
    from compliance.store import Store

    settings = options(context).settings()
    _authorise(settings, "import")
    data, secret = _read(document), _read(identity)
    store = Store.open(settings.database_url)
    try:
        here = providers.has_master(settings)
        master = (providers.open_master if here else providers.create_master)(settings)
        count = escrow.recover(store, master, data, secret, os.environ.get("COMPLIANCE_PASSPHRASE"))
    finally:
        store.close()
    guard = options(context).guard()
    facts = {"keys": count, "master": master.name}
    guard.trail.append(guard.event("key.imported", outcome="ok", facts=facts))
    note(f"{count} domain keys recovered under {master.name}")


def _guard(context: typer.Context, action: str, about: str = "named") -> Guard:
    guard = options(context).guard()
    guard.authority.require(guard.identity, f"key/{about}", action)
    return guard


def _custodian(guard: Guard) -> Custodian:
    from compliance.crypto.custody import Custodian

    return Custodian(guard.keys, guard.trail, guard.event)


def _named(what: str) -> tuple[str, str]:
    kind, separator, name = what.partition("/")
    if not separator or not name:
        raise InputError(f"{what!r}: write master, domain or KIND/NAME, such as column/people.iban")
    return kind, name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
