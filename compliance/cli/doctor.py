"""``compliance doctor``: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from compliance.cli.context import Options, options, rows
from compliance.errors import ComplianceError

DISTRIBUTION = "compliance-toolkit"
_CLASHES = {"casbin": "pycasbin"}  # both install the module `casbin`; we depend on the second
_LEAST_DISK = 2**30


@dataclass(frozen=True, slots=True)
class Item:
    """One thing looked at: ``ok``, ``missing`` (optional) or ``broken``, and what mends it."""

    what: str
    state: str
    detail: str
    mend: str = ""


def examine(
    context: typer.Context,
    output_format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Check versions, extras, clashing distributions, servers, keys and disk; exit 1 if broken."""
    items = [*_python(), *_packages(), *_clashes(), *_project(options(context)), *_disk()]
    if output_format == "json":
        typer.echo(json.dumps([asdict(item) for item in items], indent=2))
    elif output_format == "text":
        rows(
            [(i.state, i.what, i.detail, i.mend) for i in items],
            ("state", "what", "detail", "mend"),
        )
    else:
        raise typer.BadParameter("unknown format; known: text, json")
    raise typer.Exit(1 if any(item.state == "broken" for item in items) else 0)


def _python() -> Iterator[Item]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Item(
        "python", "ok" if good else "broken", version, "" if good else "use Python 3.11 or later"
    )


def _packages() -> Iterator[Item]:
    """Look at what the core and each extra ask for."""
    for requirement in metadata.requires(DISTRIBUTION) or []:
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        label = extra[1] if extra else "core"
        if name == DISTRIBUTION or label in {"dev", "all", "demo"}:
            continue
        yield _package(name, label)


def _package(name: str, extra: str) -> Item:
    try:
        return Item(f"{extra}: {name}", "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        if extra == "core":
            return Item(f"core: {name}", "broken", "not installed", f"pip install {DISTRIBUTION}")
        mend = f"pip install '{DISTRIBUTION}[{extra}]'"
        return Item(f"{extra}: {name}", "missing", "not installed", mend)


def _clashes() -> Iterator[Item]:
    for other, ours in _CLASHES.items():
        try:
            version = metadata.version(other)
        except metadata.PackageNotFoundError:
            continue
        mend = f"pip uninstall -y {other} {ours} && pip install {ours}"
        yield Item(f"clash: {other}", "broken", f"{version} overwrites {ours}", mend)


def _project(opts: Options) -> Iterator[Item]:
    """Look at settings, policy, keys and audit store of the project here, if there is one."""
    try:
        settings = opts.settings()
    except ComplianceError as error:
        yield Item("settings", "broken", str(error), "correct the settings")
        return
    if not settings.policies.is_dir():
        yield Item("project", "missing", f"no {settings.policies}", "compliance init")
        return
    yield _policy(settings.policies)
    yield _keys(settings.key_file)
    yield _database(settings.database_url)


def _policy(folder: Path) -> Item:
    from compliance.policy import Policy

    try:
        return Item("policy", "ok", Policy.load(folder).digest[:12])
    except ComplianceError as error:
        return Item("policy", "broken", str(error).partition("\n")[0], "compliance policy check")


def _keys(path: Path) -> Item:
    import os

    from compliance.crypto import master

    if not path.exists():
        return Item("keys", "missing", f"no {path}", "compliance keys init")
    try:
        secret = os.environ.get("COMPLIANCE_PASSPHRASE")
        master.load(path, (lambda: secret) if secret else None)
    except ComplianceError as error:
        return Item("keys", "broken", str(error), "see the message")
    return Item("keys", "ok", str(path))


def _database(url: str) -> Item:
    import sqlalchemy as sa

    from compliance.store import connect, describe, translated

    try:
        engine = connect(url)
        shown = describe(engine.url)
        if (
            engine.url.get_backend_name() == "sqlite"
            and not Path(engine.url.database or "").exists()
        ):
            return Item("audit store", "missing", f"no {shown}", "made on first use")
        with translated(engine.url), engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except ComplianceError as error:
        return Item("audit store", "broken", str(error), "see the message")
    return Item("audit store", "ok", shown)


def _disk() -> Iterator[Item]:
    free = shutil.disk_usage(Path.cwd()).free
    good = free >= _LEAST_DISK
    detail = f"{free / 2**30:.1f} GiB free"
    yield Item("disk", "ok" if good else "broken", detail, "" if good else "free at least 1 GiB")
