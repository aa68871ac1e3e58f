"""What every command shares: settings, the guard, output, progress."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write here; - is stdout.")]
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
    at_end: Callable[[Callable[[], object]], object] = lambda _close: None

    def settings(self) -> config.Settings:
        """Return the settings in force.

        Raises:
            ConfigurationError: the root is no directory.
        """
        if self.root is not None and not Path(self.root).is_dir():
            raise ConfigurationError(f"{self.root}: no such directory")
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
        guard = Guard(self.root, acting_as=self.acting_as)
        self.at_end(guard.store.close)
        return guard

    def has_project(self) -> bool:
        """Say whether a project is set up here; a folder that is only called policies is none."""
        settings = self.settings()
        named = settings.policies != settings.root / "policies"
        return config.configured(self.root) or settings.home.is_dir() or named

    def recorder(self) -> Guard | None:
        """Return the guard where a project is set up; None where there is none to record in.

        Raises:
            AccessDenied: on behalf of another, without the right to.
        """
        if not self.has_project():
            return None
        return vouched(self.guard())


def vouched(guard: Guard) -> Guard:
    """Return a guard whose identity may act for whom it names: an entry is no place for a claim.

    Raises:
        AccessDenied: on behalf of another, without the right to.
    """
    who = guard.identity
    if who.on_behalf_of is not None:
        itself = replace(who, on_behalf_of=None)
        guard.authority.require(itself, f"identity/{who.on_behalf_of}", "impersonate")
    return guard


def options(context: typer.Context) -> Options:
    """Return the options before the command."""
    found = context.find_object(Options)
    return found or Options()


def check_output(output_format: str, output: Path | None, fail_on: str = "note") -> None:
    """Refuse an unknown format or severity, or a place that cannot be written, before any work."""
    from compliance.reports.render import FORMATS

    Severity.parse(fail_on)
    if output_format not in FORMATS:
        raise typer.BadParameter(f"unknown format {output_format!r}; known: {', '.join(FORMATS)}")
    if output is not None and str(output) != "-":
        check_writable(output)


def check_writable(output: Path) -> None:
    """Refuse a file that cannot be written, before any work."""
    folder = output.resolve().parent
    if output.is_dir() or not folder.is_dir():
        raise typer.BadParameter(f"{output}: name a file in a folder that is there")
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{output}: the folder may not be written")


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
    if allowed and Verdict.INSUFFICIENT in {verdict, *(o.verdict for o in outcomes)}:
        facts["insufficient evidence"] = "allowed by --allow-insufficient"
    text = report(outcomes, output_format, title=title, facts=facts)
    if output is None or str(output) == "-":
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
    if not sys.stderr.isatty():
        yield lambda _done, _total, _what: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar

    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=None)
    wait = threading.Timer(_PATIENCE, bar.start)  # also where the work never calls back
    wait.daemon = True

    def advance(done: int, total: int, what: str) -> None:
        text = escape(plain(f"{label}: {what}"[:60]))
        bar.update(task, completed=done, total=total or None, description=text)

    wait.start()
    try:
        yield advance
    finally:
        wait.cancel()
        wait.join()
        if bar.live.is_started:
            bar.stop()


_PATIENCE = 2.0  # seconds without a bar


def plain(text: object) -> str:
    """Return a text without control characters: a name must not command the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def rows(table: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    """Print aligned columns to stdout."""
    cells = [list(header), *[["" if c is None else plain(c) for c in row] for row in table]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
