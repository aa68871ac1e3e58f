"""``compliance init``: policies, plans and settings in a user's own repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compliance.cli.context import DryRun, note, options


def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Where; default: --root, or here.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Write policies/, audits/ and compliance.toml here; you become the first member of each role.

    A file that is there already is kept.
    """
    from compliance.access.identity import account_name
    from compliance.config import initialise

    folder = folder or Path(options(context).root or ".")
    unlisted = not _ignored(folder)
    written = initialise(folder, member=account_name(), dry_run=dry_run)
    for path in written:
        typer.echo(path)
    verb = "would write" if dry_run else "wrote"
    note(f"{verb} {len(written)} files; next: review policies/, then `compliance policy check`")
    if unlisted:
        note(f"add .compliance/ to {folder / '.gitignore'}: it holds the keys")


def _ignored(folder: Path) -> bool:
    """Say whether git is told to leave out our own files, or will be by the file that we write."""
    path = folder / ".gitignore"
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else [".compliance/"]
    return any(line.strip().strip("/") == ".compliance" for line in lines)
