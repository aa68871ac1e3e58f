"""Plans: ``audits/*.yaml`` as frozen models; which checks run, on what, held to which norms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from compliance import _yaml as yaml
from compliance.errors import PolicyError
from compliance.policy import Norms, PIIRule


class PiiCheck(Norms):
    """Scan a file, a folder or a database URL (``env:NAME`` reads it from the environment)."""

    check: Literal["pii"]
    source: str
    rule: PIIRule = PIIRule()


class FairnessCheck(Norms):
    """Audit the predictions in a file."""

    check: Literal["fairness"]
    source: str
    label: str
    prediction: str
    sensitive: Annotated[tuple[str, ...], Field(min_length=1, max_length=5)]
    positive: str | int | bool | None = None
    norms: tuple[str, ...] = ("four-fifths",)


class PolicyCheck(Norms):
    """The policy loads and every name in it refers to something."""

    check: Literal["policy"]


class TrailCheck(Norms):
    """The audit store is whole."""

    check: Literal["trail"]


class ModelsCheck(Norms):
    """Every sealed model verifies."""

    check: Literal["models"]


Check = Annotated[
    PiiCheck | FairnessCheck | PolicyCheck | TrailCheck | ModelsCheck, Field(discriminator="check")
]


class Plan(Norms):
    """A named list of checks, and the severity from which a finding fails the plan."""

    title: str
    when: str = ""
    fail_on: Literal["note", "low", "medium", "high", "critical"] = "medium"
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    def norms(self) -> list[str]:
        """Return the norms that its checks name."""
        return [n for c in self.checks if isinstance(c, FairnessCheck) for n in c.norms]

    @classmethod
    def load(cls, name: str, folder: Path) -> Plan:
        """Read a plan by name from a folder, or by path.

        Raises:
            PolicyError: no such plan (the message lists those there are), or a wrong one.
        """
        path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in folder.glob("*.yaml"))
            raise PolicyError(f"no plan {name!r} in {folder}{yaml.nearest(name, known)}")
        return yaml.validate(cls, [yaml.Source.read(path)])
