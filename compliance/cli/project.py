"""``compliance init``: policies, plans and settings in a user's own repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compliance.cli.context import DryRun, note


def init(
    folder: Annotated[Path, typer.Argument(help="Where; default: here.")] = Path(),
    dry_run: DryRun = False,
) -> None:
    """Write policies/, audits/ and compliance.toml here; you become the first member of each role.

    A file that is there already is kept.
    """
    from compliance.access.identity import account_name
    from compliance.config import initialise

    written = initialise(folder, member=account_name(), dry_run=dry_run)
    for path in written:
        typer.echo(path)
    verb = "would write" if dry_run else "wrote"
    note(f"{verb} {len(written)} files; next: review policies/, then `compliance policy check`")
