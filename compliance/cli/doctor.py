"""``compliance doctor``: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.cli.context import Options, options, rows
from compliance.errors import ComplianceError, MissingExtra

if TYPE_CHECKING:
    import sqlalchemy as sa

    from compliance.config import Settings
    from compliance.crypto.providers import MasterKey

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
    if output_format not in {"text", "json"}:
        raise typer.BadParameter("unknown format; known: text, json")
    items = [*_python(), *_packages(), *_clashes(), *_project(options(context)), *_disk()]
    if output_format == "json":
        typer.echo(json.dumps([asdict(item) for item in items], indent=2))
    else:
        rows(
            [(i.state, i.what, i.detail, i.mend) for i in items],
            ("state", "what", "detail", "mend"),
        )
    raise typer.Exit(1 if any(item.state == "broken" for item in items) else 0)


def _python() -> Iterator[Item]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Item(
        "python", "ok" if good else "broken", version, "" if good else "use Python 3.11 or later"
    )


def _packages() -> Iterator[Item]:
    """Look at what the core and each extra ask for."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        yield Item("core", "broken", f"{DISTRIBUTION} is not installed", "pip install -e .")
        return
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        label = extra[1] if extra else "core"
        if name == DISTRIBUTION or label in {"dev", "all", "demo"}:
            continue
        least = re.search(r">=\s*([\d.]+)", requirement)
        yield _package(name, label, least[1] if least else "0")


def _package(name: str, extra: str, least: str) -> Item:
    what = f"{extra}: {name}"
    mend = f"pip install --upgrade {DISTRIBUTION}"
    if extra != "core":
        mend = f"pip install --upgrade '{DISTRIBUTION}[{extra}]'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Item(what, "broken" if extra == "core" else "missing", "not installed", mend)
    if _release(version) < _release(least):
        return Item(what, "broken", f"{version} is older than {least}", mend)
    return Item(what, "ok", version)


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a release (PEP 440), without what follows them."""
    numbers = re.match(r"(?:\d+!)?v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, numbers[1].split("."))) if numbers else ()


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
    yield _keys(settings)
    yield _database(settings.database_url)
    yield _models(settings)


def _policy(folder: Path) -> Item:
    from compliance.policy import Policy

    try:
        return Item("policy", "ok", Policy.load(folder).digest[:12])
    except ComplianceError as error:
        return Item("policy", "broken", str(error).partition("\n")[0], "compliance policy check")


def _keys(settings: Settings) -> Item:
    """Look at the master key; without one, a database that holds keys already is locked.

    A key on a server is not asked for: `compliance keys init` tries it.
    """
    from compliance.crypto import providers

    try:
        if not providers.has_master(settings):
            return _no_keys(settings)
        key = providers.open_master(settings)
        _opens(settings, key)
        return Item("keys", "ok", str(providers.master_path(settings) or key.name))
    except MissingExtra as error:
        mend = f"pip install '{DISTRIBUTION}[{error.extra}]'"
        return Item("keys", "broken", f"{error.package} is not installed", mend)
    except ComplianceError as error:
        return Item("keys", "broken", str(error), _mend_keys(settings, str(error)))


def _opens(settings: Settings, master: MasterKey) -> None:
    """Have a master that is here unwrap the domain key of a database that is there.

    Nothing is written: a database without keys, or with another tenant's, is not asked for one.
    """
    from compliance.crypto.hierarchy import Hierarchy, require_own
    from compliance.store import Store, connect

    if settings.master.partition(":")[0] in {"file", "keyring", "hpke"}:
        with contextlib.closing(Store(connect(settings.database_url))) as store:
            if not _unmade(store.engine.url) and _holds_keys(settings.database_url):
                require_own(store, settings.tenant)
                Hierarchy(store, master, settings.tenant).domain()


def _no_keys(settings: Settings) -> Item:
    from compliance.crypto.providers import master_path

    where = master_path(settings) or settings.master
    if _holds_keys(settings.database_url):
        return Item("keys", "broken", f"no {where}", f"restore {where} from its copy")
    return Item("keys", "missing", f"no {where}", "compliance keys init")


def _holds_keys(url: str) -> bool:
    from compliance.crypto.hierarchy import has_keys
    from compliance.store import Store, connect

    try:
        with contextlib.closing(Store(connect(url))) as store:
            return not _unmade(store.engine.url) and has_keys(store)
    except ComplianceError:  # it has an item of its own
        return False


def _mend_keys(settings: Settings, problem: str) -> str:
    from compliance.crypto.providers import master_path

    path = None
    with contextlib.suppress(ComplianceError, OSError):
        path = master_path(settings)
        if path and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return f"chmod 600 {path}"
    if "passphrase" in problem:
        return "export COMPLIANCE_PASSPHRASE=..."
    return f"restore {path} from its copy" if path else "correct COMPLIANCE_MASTER"


def _database(url: str) -> Item:
    """Ask the audit store for its tables; nothing is written to it."""
    import sqlalchemy as sa

    from compliance.store import connect, describe, translated

    try:
        engine = connect(url)
        shown = describe(engine.url)
        if _unmade(engine.url):
            return Item("audit store", "missing", f"no {shown}", "made on first use")
        with translated(engine.url), engine.connect() as connection:
            sa.inspect(connection).get_table_names()
        engine.dispose()
    except MissingExtra as error:
        mend = f"pip install '{DISTRIBUTION}[{error.extra}]'"
        return Item("audit store", "broken", f"{error.package} is not installed", mend)
    except ComplianceError as error:
        mend = "start its server, or correct COMPLIANCE_DATABASE"
        if "sqlite" in url:
            mend = "restore it from a backup"
        return Item("audit store", "broken", str(error), mend)
    return Item("audit store", "ok", shown)


def _unmade(url: sa.URL) -> bool:
    name = str(url.database or "")
    return (
        url.get_backend_name() == "sqlite"
        and not name.startswith("file:")
        and not Path(name).exists()
    )


def _models(settings: Settings) -> Item:
    """Count the sealed models; `compliance model verify` looks into them."""
    count = sum(1 for path in settings.models.glob("*/*") if path.is_dir())
    return Item("sealed models", "ok", f"{count} in {settings.models}")


def _disk() -> Iterator[Item]:
    free = shutil.disk_usage(Path.cwd()).free
    good = free >= _LEAST_DISK
    detail = f"{free / 2**30:.1f} GiB free"
    yield Item("disk", "ok" if good else "broken", detail, "" if good else "free at least 1 GiB")
