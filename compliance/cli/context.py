"""What every command shares: settings, the guard, output, progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance import config
from compliance.errors import ConfigurationError
from compliance.findings import Outcome, Severity, Verdict

if TYPE_CHECKING:
    from compliance.guard import Guard

Progress = Callable[[int, int, str], None]

Format = Annotated[str, typer.Option("--format", "-f", help="text, json, sarif, junit or html.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write here, not to stdout.")]
FailOn = Annotated[
    str,
    typer.Option("--fail-on", help="Least severity that fails: note, low, medium, high, critical."),
]
AllowInsufficient = Annotated[
    bool, typer.Option("--allow-insufficient", help="Exit 0 where the evidence was insufficient.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]


@dataclass(frozen=True, slots=True)
class Options:
    """The options before the command."""

    root: str | None = None
    acting_as: str | None = None

    def settings(self) -> config.Settings:
        """Return the settings in force."""
        return config.load(self.root, overrides={"acting_as": self.acting_as})

    def guard(self) -> Guard:
        """Return the guard of the project here.

        Raises:
            ConfigurationError: no project here.
        """
        from compliance.guard import Guard

        settings = self.settings()
        if not settings.policies.is_dir():
            raise ConfigurationError(
                f"{settings.policies}: no policies here; run `compliance init`"
            )
        return Guard(self.root, acting_as=self.acting_as)

    def recorder(self) -> Guard | None:
        """Return the guard where a project is set up; None where there is none to record in."""
        settings = self.settings()
        return self.guard() if settings.home.is_dir() and settings.policies.is_dir() else None


def options(context: typer.Context) -> Options:
    """Return the options before the command."""
    found = context.find_object(Options)
    return found or Options()


def severity(name: str) -> Severity:
    """Return a severity by name; a wrong one is a usage error."""
    try:
        return Severity.parse(name)
    except KeyError:
        known = ", ".join(s.name.lower() for s in Severity)
        raise typer.BadParameter(f"unknown severity {name!r}; known: {known}") from None


def check_format(name: str) -> None:
    """Refuse an unknown format before any work is done."""
    from compliance.reports.render import FORMATS

    if name not in FORMATS:
        raise typer.BadParameter(f"unknown format {name!r}; known: {', '.join(FORMATS)}")


def emit(
    outcomes: Sequence[Outcome],
    *,
    title: str,
    output_format: str,
    output: Path | None,
    facts: dict[str, Any],
    allowed: bool = False,
) -> None:
    """Write the report to stdout or a file, and the verdict to stderr."""
    from compliance import __version__
    from compliance.reports.render import report, write

    verdict = Verdict.worst(o.verdict for o in outcomes)
    facts = {"tool_version": __version__, "generated_at": now(), **facts}
    if allowed and verdict is Verdict.INSUFFICIENT:
        facts["insufficient evidence"] = "allowed by --allow-insufficient"
    text = report(outcomes, output_format, title=title, facts=facts)
    if output is None:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    else:
        write(output, text)
    count = sum(len(o.findings) for o in outcomes)
    where = f", written to {output}" if output else ""
    note(f"{title}: {verdict.value}, {count} finding{'' if count == 1 else 's'}{where}")


def note(message: str) -> None:
    """Say something on stderr."""
    typer.echo(message, err=True)


def now() -> str:
    """Return the time for a report, in UTC."""
    import datetime as dt

    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Yield a progress callback; the bar shows on a terminal once two seconds have passed."""
    import time

    from rich.console import Console
    from rich.progress import Progress as Bar

    bar = Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task(label, total=None)
    begun, shown = time.monotonic(), False

    def advance(done: int, total: int, what: str) -> None:
        nonlocal shown
        if not shown and time.monotonic() - begun > 2:  # noqa: PLR2004  the two seconds promised
            bar.start()
            shown = True
        bar.update(task, completed=done, total=total or None, description=f"{label}: {what}"[:60])

    try:
        yield advance
    finally:
        if shown:
            bar.stop()


def rows(table: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    """Print aligned columns to stdout."""
    cells = [[str(c) for c in header], *[["" if c is None else str(c) for c in r] for r in table]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
