"""``compliance request``: data-subject requests from receipt to certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance.cli.context import DryRun, note, options, rows
from compliance.errors import InputError

if TYPE_CHECKING:
    from compliance.rights.request import Requests

app = typer.Typer(help="Data-subject requests.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The request's id; a unique beginning is enough.")]


@app.command()
def submit(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Option(help="Who: an identifier such as an e-mail address; - reads it from stdin."),
    ] = "-",
    kind: Annotated[str, typer.Option(help="erasure or access.")] = "erasure",
    regulation: Annotated[str, typer.Option(help="A regulation of the policy.")] = "gdpr",
) -> None:
    """Receive a request and print its id; the deadline starts to run."""
    if subject == "-":
        subject = typer.get_text_stream("stdin").readline().strip()
    requests = _requests(context)
    key = requests.submit(_who(context), kind=kind, subject=subject, regulation=regulation)
    typer.echo(key)
    note(
        f"received; answer by {requests.get(key).due}; next: compliance request identify {key[:8]}"
    )


@app.command()
def identify(context: typer.Context, request: Id) -> None:
    """Find the person in every store of the data map."""
    requests, key = _open(context, request)
    for store, count in requests.identify(_who(context), key).items():
        typer.echo(f"{store}: {count} row{'' if count == 1 else 's'} of the person")
    note(f"next: compliance request plan {key[:8]}")


@app.command()
def plan(context: typer.Context, request: Id) -> None:
    """Write down what is to be deleted, anonymised, detached and kept, and why."""
    requests, key = _open(context, request)
    made = requests.plan(_who(context), key)
    _show_plan(made)
    note(f"next, by another person: compliance request approve {key[:8]}")


def _show_plan(made: Any) -> None:
    table = [(s.store, s.table, s.action, s.expected, s.reason) for s in made.steps]
    rows(table, ("store", "table", "action", "rows", "reason"))
    typer.echo(f"plan digest {made.digest}")


@app.command()
def approve(context: typer.Context, request: Id) -> None:
    """Approve the plan; refused to the person who submitted the request."""
    requests, key = _open(context, request)
    requests.approve(_who(context), key)
    note(f"approved; try it: compliance request run {key[:8]} --dry-run")


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
    result = requests.run(_who(context), key, dry_run=dry_run)
    if result.package is not None:
        _write_package(result.package, output)
    rows(
        [(c.store, c.table, c.action, c.rows) for c in result.counts],
        ("store", "table", "action", "rows"),
    )
    done = "rolled back, nothing changed" if dry_run else "done"
    note(f"{done}; next: compliance request {'run' if dry_run else 'verify'} {key[:8]}")


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
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")


@app.command()
def verify(context: typer.Context, request: Id) -> None:
    """Ask every store again; the request closes only when nothing of the person is left."""
    requests, key = _open(context, request)
    requests.verify(_who(context), key)
    note(f"verified and closed; next: compliance request certificate {key[:8]} -o FILE")


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
    requests.refuse(_who(context), key, ground=ground)
    note("refused; tell the person, and how to complain (GDPR Art. 12(4))")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List requests with state and deadline; no person is named."""
    requests = _requests(context)
    table = [
        (r.id[:8], r.kind, r.regulation, r.state, r.submitted, r.due, r.submitted_by)
        for r in requests.listing(_who(context))
    ]
    rows(table, ("id", "kind", "regulation", "state", "submitted", "due", "by"))


def _requests(context: typer.Context) -> Requests:
    from compliance.rights.request import Requests

    guard = _guard(context)
    return Requests(guard.store, guard.trail, guard.keys, guard.policy, guard.authority)


def _open(context: typer.Context, prefix: str) -> tuple[Requests, str]:
    """Return the requests and the one id that begins so."""
    requests = _requests(context)
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
