"""The command line: ``compliance``. Findings and data go to stdout, the rest to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from compliance.cli import (
    audit,
    consent,
    custody,
    datamap,
    demo,
    doctor,
    file,
    keys,
    model,
    policy,
    project,
    request,
    trail,
)
from compliance.cli.context import Options
from compliance.errors import ComplianceError

UNFINISHED = 4

app = typer.Typer(
    name="compliance",
    help="Prove that personal data is handled lawfully: audits, requests, trail, keys.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(audit.app, name="audit")
app.add_typer(request.app, name="request")
app.add_typer(datamap.app, name="datamap")
app.add_typer(trail.app, name="trail")
app.add_typer(policy.app, name="policy")
keys.app.command()(custody.destroy)
keys.app.command()(custody.export)
keys.app.command("import")(custody.import_)
app.add_typer(keys.app, name="keys")
app.add_typer(file.app, name="file")
app.add_typer(consent.app, name="consent")
app.add_typer(model.app, name="model")
app.add_typer(model.budget, name="budget")
app.command("init")(project.init)
app.command("doctor")(doctor.examine)
app.command("demo")(demo.demonstrate)


def _version(value: bool) -> None:  # noqa: FBT001  typer's callback signature
    if value:
        from compliance import __version__

        typer.echo(f"compliance-toolkit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    root: Annotated[
        str | None, typer.Option("--root", "-C", help="Directory whose settings are used.")
    ] = None,
    acting_as: Annotated[
        str | None, typer.Option("--as", help="Act on behalf of; needs the role impersonate.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Collect what every command shares."""
    context.obj = Options(root, acting_as, context.call_on_close)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 pass, 1 findings, 2 usage, 3 insufficient, 4 unfinished."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be text
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(arguments))


# Typer brings a click of its own from some version on; these are the classes of either.
_USAGE: Any = typer.BadParameter.__base__
_SHOWN: Any = _USAGE.__base__


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a crash is 4, never 1."""
    try:
        code = _invoke(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()  # a reader that went away, or a full disk, shows here and not at exit
    except ComplianceError as error:
        return _fail(f"error: {error}", error.exit_code)
    except _SHOWN as error:
        error.show()
        return int(_USAGE.exit_code) if isinstance(error, _USAGE) else UNFINISHED
    except (typer.Abort, KeyboardInterrupt, EOFError):
        return _fail("interrupted; what was finished is recorded", UNFINISHED)
    except OSError as error:  # one without a file name is of an output stream
        return _crash(error) if error.filename else _cut_off(error)
    except Exception as error:  # noqa: BLE001  a crash has an exit code of its own
        return _crash(error)
    return code


def _invoke(arguments: list[str]) -> int:
    """Run the command without click's own ends: 1 on a closed pipe and 130 on Ctrl-C."""
    try:
        with get_command(app).make_context("compliance", arguments) as context:
            context.command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    return 0


def _cut_off(error: OSError) -> int:
    """Say that the output has no end, and keep the interpreter from trying it again at its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no file: under a test, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return UNFINISHED  # the reader went away and knows it
    return _fail(f"error: could not finish: {error.strerror or type(error).__name__}", UNFINISHED)


def _crash(error: Exception) -> int:
    """Say what crashed and where, without the error's text: it may quote data."""
    if os.environ.get("COMPLIANCE_DEBUG"):
        traceback.print_exc()
    if isinstance(error, PermissionError) and error.filename:
        return _fail(
            f"error: {error.filename}: permission denied; ask its owner, or name folders of your "
            "own with COMPLIANCE_HOME and COMPLIANCE_DATABASE (docs/python.md)",
            UNFINISHED,
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119  a name, not a path
    return _fail(
        f"internal error: {type(error).__name__} at {where}; please report it "
        "(COMPLIANCE_DEBUG=1 shows the traceback, which may quote your data)",
        UNFINISHED,
    )


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201  the command line's own error
    return code
