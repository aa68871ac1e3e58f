"""A project around the simulated bank: shipped norms, three people with roles, one data map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from compliance import config

ENGINEER, OFFICER, CLERK = "ada", "grace", "sam"
"""Who trains, who answers for privacy, and who receives requests."""

_MEMBERS = {"ml-engineer": [ENGINEER], "privacy-officer": [OFFICER, CLERK], "auditor": [OFFICER]}


def write(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write policies, plans and settings for a simulation into a folder.

    The people of a simulation are made up, so the policy accepts asserted identities;
    a real one asks for ``os`` or stronger.

    Args:
        folder: the project.
        overrides: top-level policy keys that replace the shipped ones.
    """
    config.initialise(folder, member=ENGINEER)
    roles = folder / "policies" / "roles.yaml"
    values = yaml.safe_load(roles.read_text("utf-8"))
    values["identity"] = {"least_method": {"default": "asserted"}}
    for name, role in values["roles"].items():
        role["members"] = _MEMBERS.get(name, [])
    roles.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    _override(folder / "policies", dict(overrides))


def _override(policies: Path, overrides: dict[str, Any]) -> None:
    for path in sorted(policies.glob("*.yaml")):
        values = yaml.safe_load(path.read_text("utf-8"))
        mine = {key: overrides.pop(key) for key in list(values) if key in overrides}
        if mine:
            path.write_text(yaml.safe_dump(values | mine, sort_keys=False), "utf-8")
    if overrides:
        text = yaml.safe_dump(overrides, sort_keys=False)
        (policies / "overrides.yaml").write_text(text, "utf-8")
