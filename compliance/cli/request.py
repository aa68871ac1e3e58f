"""``compliance request``: data-subject requests from receipt to certificate."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance.cli.context import DryRun, check_writable, note, options, rows
from compliance.errors import AccessDenied, InputError, OperationError

if TYPE_CHECKING:
    from compliance.rights.request import Requests

app = typer.Typer(help="Data-subject requests.", no_args_is_help=True)

_LEAST = 4  # an unset shell variable must not mean the only request that there is
Id = Annotated[
    str, typer.Argument(metavar="REQUEST", help="Its id, or at least four characters of it.")
]


@app.command()
def submit(
    context: typer.Context,
    subject: Annotated[
        list[str],
        typer.Option(
            help="Who: NAME=VALUE, such as email=a@example.com; may be repeated; - is stdin."
        ),
    ],
    kind: Annotated[str, typer.Option(help="erasure or access.")] = "erasure",
    regulation: Annotated[str, typer.Option(help="A regulation of the policy.")] = "gdpr",
) -> None:
    """Receive a request and print its id; the deadline starts to run."""
    from compliance.rights.request import deadline

    requests = _requests(context)
    who = _who(context)
    key = requests.submit(who, kind, _identifiers(context, subject), regulation)
    typer.echo(key)
    due = deadline(dt.datetime.now(dt.UTC).date(), _guard(context).policy.regulations[regulation])
    note(f"received; answer by {due}; {_next(context, key)}")


def _identifiers(context: typer.Context, given: list[str]) -> dict[str, object]:
    """Return identifiers by name; a bare value is taken where the data map knows one name only."""
    lines = [line for one in given for line in (_stdin() if one == "-" else [one])]
    found: dict[str, object] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        name, value = (name.strip(), value.strip()) if equals else (_only_name(context), line)
        if name in found:
            raise InputError(f"{name} is given twice; a request is about one person")
        found[name] = value
    return found


def _stdin() -> list[str]:
    return [line.strip() for line in typer.get_text_stream("stdin") if line.strip()]


def _only_name(context: typer.Context) -> str:
    stores = _guard(context).policy.stores.values()
    names = {name for store in stores for table in store.subjects for name in table.identifiers}
    if len(names) != 1:
        known = ", ".join(sorted(names)) or "none: the data map is empty"
        raise InputError(f"say which identifier it is: --subject NAME=VALUE (known: {known})")
    return str(names.pop())


def _next(context: typer.Context, key: str) -> str:
    """Say what comes next; a step that was taken is not undone by who may not look at it."""
    try:
        _guard(context).authority.require(_who(context), f"request/{key}", "read")
    except AccessDenied:
        return f"the request is {key[:8]}"
    command = _requests(context).get(_who(context), key).next
    return f"next: compliance request {command} {key[:8]}" if command else "nothing is left to do"


@app.command()
def identify(context: typer.Context, request: Id) -> None:
    """Find the person in every store of the data map."""
    requests, key = _open(context, request)
    found = requests.identify(_who(context), key)
    table = [
        (store, name, count) for store, tables in found.items() for name, count in tables.items()
    ]
    rows(table, ("store", "table", "rows"))
    note(("" if table else "nothing is held about this person; ") + _next(context, key))


@app.command()
def plan(context: typer.Context, request: Id) -> None:
    """Write down what is to be deleted, anonymised, detached and kept, and why."""
    requests, key = _open(context, request)
    made = requests.plan(_who(context), key)
    table = [
        (part.store, step.table, step.action.value, step.rows, step.reason)
        for part in made.stores
        for step in part.steps
    ]
    rows(table, ("store", "table", "action", "rows", "reason"))
    typer.echo(f"plan digest {made.digest}")
    note(f"{_next(context, key)}, by another person than the submitter")


@app.command()
def approve(context: typer.Context, request: Id) -> None:
    """Approve the plan; refused to the person who submitted the request."""
    requests, key = _open(context, request)
    requests.approve(_who(context), key)
    note(f"approved; {_next(context, key)} (--dry-run tries it first)")


@app.command()
def run(
    context: typer.Context,
    request: Id,
    dry_run: DryRun = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Access: write here.")
    ] = None,
) -> None:
    """Carry out the approved plan; a dry run does the same and rolls it back."""
    requests, key = _open(context, request)
    if output is not None:
        _require_new(output, requests.get(_who(context), key).kind)
    result = requests.run(_who(context), key, dry_run=dry_run)
    if result.data:
        _write_package(result.data, output)
    table = [
        (store, name, action, count)
        for store, tables in result.counts.items()
        for name, actions in tables.items()
        for action, count in actions.items()
    ]
    if not result.data:
        rows(table, ("store", "table", "action", "rows"))
    note(f"{'rolled back, nothing changed' if dry_run else 'done'}; {_next(context, key)}")


def _require_new(output: Path, kind: str) -> None:
    """Refuse what could not be written once the request has run."""
    if kind != "access":
        raise InputError("only an access request writes a file; leave --output out")
    if output.exists():
        raise InputError(f"{output}: is there already; name a new file")
    check_writable(output)


def _write_package(package: dict[str, Any], output: Path | None) -> None:
    """Write the person's data where only its owner may read it."""
    import os

    text = json.dumps(package, indent=2, ensure_ascii=False, default=str)
    if output is None:
        typer.echo(text)
        return
    try:
        handle = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text + "\n")
    except OSError as error:
        output.unlink()
        raise OperationError(f"{output}: cannot be written: {error.strerror}; run again") from error


@app.command()
def verify(context: typer.Context, request: Id) -> None:
    """Ask every store again; the request closes only when nothing of the person is left."""
    requests, key = _open(context, request)
    requests.verify(_who(context), key)
    note(f"verified and closed; {_next(context, key)} -o FILE")


@app.command()
def certificate(
    context: typer.Context,
    request: Id,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here.")] = None,
) -> None:
    """Print the signed certificate (DSSE, in-toto statement); it holds no personal data."""
    from compliance.reports.render import write

    requests, key = _open(context, request)
    text = json.dumps(requests.certificate(_who(context), key), indent=2)
    if output is None:
        typer.echo(text)
    else:
        write(output, text + "\n")


@app.command()
def refuse(
    context: typer.Context,
    request: Id,
    ground: Annotated[str, typer.Option(help="The legal ground, such as GDPR Art. 17(3)(b).")],
) -> None:
    """Refuse a request, with the legal ground."""
    requests, key = _open(context, request)
    requests.refuse(_who(context), key, ground)
    note("refused; tell the person, and how to complain (GDPR Art. 12(4))")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List requests with state and deadline; no person is named."""
    requests = _requests(context)
    table = [
        (
            r.id[:8],
            r.kind,
            r.regulation,
            r.state,
            r.received,
            r.due,
            r.submitter,
            r.approver,
            r.next,
        )
        for r in requests.listing(_who(context))
    ]
    rows(table, ("id", "kind", "law", "state", "received", "due", "submitter", "approver", "next"))


def _requests(context: typer.Context) -> Requests:
    from compliance.rights.request import Requests

    guard = _guard(context)
    return Requests(guard.store, guard.trail, guard.keys, guard.policy, guard.authority)


def _open(context: typer.Context, prefix: str) -> tuple[Requests, str]:
    """Return the requests and the one id that begins so."""
    requests = _requests(context)
    if len(prefix) < _LEAST:
        raise InputError(f"give at least {_LEAST} characters of the request's id")
    found = [r.id for r in requests.listing(_who(context)) if r.id.startswith(prefix.lower())]
    if len(found) == 1:
        return requests, found[0]
    raise InputError(f"{len(found)} requests begin with {prefix!r}; see `compliance request list`")


def _who(context: typer.Context) -> Any:
    return _guard(context).identity


def _guard(context: typer.Context) -> Any:
    """Open the guard once a command."""
    if "guard" not in context.meta:
        context.meta["guard"] = options(context).guard()
    return context.meta["guard"]
