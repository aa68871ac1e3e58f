"""``compliance keys destroy|export|import``: keys that go, or go elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import DryRun, check_writable, note, options
from compliance.cli.keys import authorise, content, custodian, make, opened
from compliance.errors import InputError

if TYPE_CHECKING:
    from compliance.crypto.custody import Destroyed

_UNASKED = "nothing was destroyed; say so with --yes where nobody can be asked"
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


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
    keeper = custodian(opened(context, "destroy"))
    identifier = "" if subject is None else _from_stdin(subject)
    if subject is None:
        what = f"keys {', '.join(map(str, keeper.live(keys or ())))}"
    else:
        what = f"the key of one {subject}"
        keeper.require_subject(subject, identifier)
    if dry_run:
        note(f"would destroy {what}; nothing was changed")
        return
    _ask(what, yes=yes)
    done = keeper.destroy_subject(subject, identifier) if subject else keeper.destroy(keys or ())
    _tell(done)


def _ask(what: str, *, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise InputError(_UNASKED)
    if not yes and not typer.confirm(f"Destroy {what} for ever?", err=True):
        raise InputError(_UNASKED)


def _tell(gone: Destroyed) -> None:
    when = gone.effective.isoformat(timespec="seconds")
    ids = ", ".join(map(str, gone.keys[:20])) + (" and more" if len(gone.keys) > 20 else "")  # noqa: PLR2004  a line's worth
    note(f"destroyed: {ids}; effective in every process from {when}")


def _from_stdin(subject: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Identifier of the {subject}", hide_input=True, err=True))
    identifier, *more = sys.stdin.read(_LONGEST).splitlines() or [""]
    if not identifier.strip() or any(line.strip() for line in more):
        raise InputError("write one identifier to standard input, on one line")
    return identifier


_LONGEST = 100_000  # characters of an identifier


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
    check_writable(output)
    from compliance.reports.render import write

    guard = opened(context, "export", about="public" if public else "domain")
    if recipient is None:
        write(output, guard.keys.signer().public_pem().decode())
        note(f"wrote {output}: whoever holds it can verify what this project signed")
        return
    from compliance.crypto import escrow

    document = escrow.export(guard.keys, content(recipient))
    facts = {"keys": document.count(b'"sealed"')}
    guard.trail.append(guard.event("key.exported", outcome="ok", facts=facts))
    write(output, document.decode())
    note(f"wrote {output}; it opens with the private key, and is of use beside the database only")


def import_(
    context: typer.Context,
    document: Annotated[Path, typer.Argument(help="What `keys export` wrote.")],
    identity: Annotated[Path, typer.Option("--identity", help="The private key, PEM.")],
) -> None:
    """Recover from an export where the master is lost: the domain keys come under a new one."""
    from compliance.crypto import escrow, providers
    from compliance.store import Store

    settings = options(context).settings()
    authorise(settings, "import")
    here = providers.has_master(settings)
    store = Store.open(settings.database_url)
    try:
        count = escrow.recover(
            store,
            lambda: providers.open_master(settings) if here else make(settings),
            content(document),
            content(identity),
            os.environ.get("COMPLIANCE_PASSPHRASE"),
        )
    finally:
        store.close()
    guard = options(context).guard()
    facts = {"keys": count, "master": guard.keys.keys.master.name}
    guard.trail.append(guard.event("key.imported", outcome="ok", facts=facts))
    note(f"domain keys recovered: {count}, under {guard.keys.keys.master.name}")
