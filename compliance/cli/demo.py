"""``compliance demo``: the three stories on a simulated bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demonstrate(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to put the bank; default: a temporary folder.")
    ] = None,
    customers: Annotated[
        int, typer.Option(min=2_000, max=100_000, help="Size of the bank.")
    ] = 5_000,
) -> None:
    """Train with privacy, audit, erase a person, and break the trail on purpose."""
    from compliance.simulate.demo import run

    run(folder, customers=customers, say=typer.echo)
