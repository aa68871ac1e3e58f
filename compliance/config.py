"""Settings: ``[tool.compliance]`` or ``compliance.toml``, ``COMPLIANCE_*`` and flags.

Later sources win: defaults, file, environment, arguments. The result is one
frozen object; nothing else in the package reads the environment for settings.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from compliance.errors import ConfigurationError

PREFIX = "COMPLIANCE_"
_NOT_SETTINGS = frozenset({"DEBUG", "PASSPHRASE", "REQUIRE", "TEST_DATA"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is; paths are absolute once loaded.

    Attributes:
        root: the directory that holds the settings file (or the working directory).
        policies: the folder of norms.
        audits: the folder of plans.
        home: our own files: keys, models, reports; made with mode 0700.
        database: SQLAlchemy URL of the audit store; empty means SQLite in ``home``.
        master: which master key wraps the domain keys: ``file``, ``file:PATH``, ``keyring:NAME``,
            ``hpke:PATH``, ``vault:MOUNT/KEYNAME``, ``aws-kms:KEY`` or ``gcp-kms:projects/...``.
        tenant: a name bound into keys, ciphertexts and the trail; one database holds one tenant.
        identity: who acts: ``os``, or ``asserted:NAME`` where a scheduler vouches for NAME.
        acting_as: on whose behalf; needs the role ``impersonate``.
    """

    root: Path = Path()
    policies: Path = Path("policies")
    audits: Path = Path("audits")
    home: Path = Path(".compliance")
    database: str = field(default="", repr=False)  # it may hold a password
    master: str = "file"
    tenant: str = "default"
    identity: str = "os"
    acting_as: str = ""

    @property
    def database_url(self) -> str:
        """Return the URL of the audit store."""
        return self.database or f"sqlite:///{self.home / 'compliance.db'}"

    @property
    def key_file(self) -> Path:
        """Return the path of the master key file."""
        return self.home / "keys" / "master.json"

    @property
    def models(self) -> Path:
        """Return the folder of sealed models."""
        return self.home / "models"


def configured(start: Path | str | None = None) -> bool:
    """Say whether a settings file is found in a directory or above it.

    Raises:
        ConfigurationError: it is there and wrong.
    """
    root, _values = _from_file(Path(start or ".").resolve())
    return any(_read(root / name, table) is not None for name, table in _FILES)


_FILES = (("compliance.toml", ()), ("pyproject.toml", ("tool", "compliance")))
_PATHS = ("policies", "audits", "home")
_NAMES = tuple(f.name for f in fields(Settings))


def load(
    start: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str | Path | None] | None = None,
) -> Settings:
    """Read the settings in force for a directory.

    Args:
        start: where to look for a settings file, upwards; default: the working directory.
        environ: the environment to read; default: the process's own.
        overrides: settings given by flags or arguments; None is ignored.

    Raises:
        ConfigurationError: a file is not TOML or holds an unknown setting.
    """
    environ = os.environ if environ is None else environ
    start = Path(start or ".").resolve()
    root, values = _from_file(start)
    values |= _from_environment(environ)
    values |= {_known(k, "argument"): str(v) for k, v in (overrides or {}).items() if v is not None}
    settings = replace(Settings(root=root), **values)  # type: ignore[arg-type]  # all fields below root are str
    return replace(settings, **{name: root / getattr(settings, name) for name in _PATHS})


def _from_file(start: Path) -> tuple[Path, dict[str, str]]:
    for folder in (start, *start.parents):
        for name, table in _FILES:
            values = _read(folder / name, table)
            if values is not None:
                return folder, values
    return start, {}


def _read(path: Path, table: tuple[str, ...]) -> dict[str, str] | None:
    """Return the settings in a file; None where there is no file or no such table."""
    if not path.is_file():
        return None
    try:
        data: object = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: cannot be read as TOML: {error}") from error
    for key in table:
        data = data.get(key) if isinstance(data, dict) else None
    if data is None:
        return None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: [tool.compliance] must be a table")
    return {_known(key, str(path)): _text(key, value, path) for key, value in data.items()}


def _text(key: str, value: object, path: Path) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{path}: {key} must be a string")
    return value


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found = {k.removeprefix(PREFIX): v for k, v in environ.items() if k.startswith(PREFIX)}
    return {
        _known(name.lower(), f"environment variable {PREFIX}{name}"): value
        for name, value in found.items()
        if name not in _NOT_SETTINGS
    }


def _known(name: str, source: str) -> str:
    if name in _NAMES and name != "root":
        return name
    near = difflib.get_close_matches(name, _NAMES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_NAMES[1:])}"
    raise ConfigurationError(f"{source}: unknown setting {name!r}{hint}")


def shipped(kind: str) -> Path:
    """Return our own ``policies`` or ``audits`` folder, in a wheel or in a checkout.

    Raises:
        ConfigurationError: the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_shipped" / kind, package.parent / kind):
        if candidate.is_dir():
            return candidate
    raise ConfigurationError(
        f"the folder of shipped {kind} is missing; reinstall compliance-toolkit"
    )


def initialise(folder: Path, *, member: str, dry_run: bool = False) -> list[Path]:
    """Copy the shipped norms and plans into a project, and enter its first member.

    Args:
        folder: the project; made if it is not there.
        member: who becomes a member of every role but ``impersonate``.
        dry_run: return what would be written, and write nothing.

    Returns:
        The files written; a file that is there is never replaced.
    """
    texts = {folder / "compliance.toml": _SETTINGS, folder / ".gitignore": ".compliance/\n"}
    for kind in ("policies", "audits"):
        for path in sorted(shipped(kind).glob("*.yaml")):
            texts[folder / kind / path.name] = path.read_text("utf-8")
    roles = folder / "policies" / "roles.yaml"
    texts[roles] = _enter(texts[roles], member)
    fresh = {path: text for path, text in texts.items() if not path.exists()}
    if not dry_run:
        _write(fresh)
    return list(fresh)


_SETTINGS = """# Settings of compliance-toolkit; each can be overridden by COMPLIANCE_NAME.
policies = "policies"
audits = "audits"
home = ".compliance"
"""


def _enter(roles: str, member: str) -> str:
    """Fill the empty member lists, save that of ``impersonate``, which nobody has by default."""
    head, mark, tail = roles.partition("  impersonate:")
    quoted = "'" + member.replace("'", "''") + "'"
    return head.replace("members: []", f"members: [{quoted}]") + mark + tail


def _write(texts: Mapping[Path, str]) -> None:
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename}: cannot be written: {error.strerror}"
        ) from error
