"""Who may import whom, and which test belongs to which module."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "compliance"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = {c["name"]: c for c in PROJECT["tool"]["importlinter"]["contracts"]}
LAYERS = next(c for c in CONTRACTS.values() if c["type"] == "layers")["layers"]

# Modules that stand in no layer, and why.
UNLAYERED = {
    "__main__": "runs the command line, imported by nobody",
    "migrations": "run by Alembic, imported by nobody",
    "_shipped": "data",
}

# Modules without a test file of their own, and why.
UNMIRRORED = {
    "__init__.py": "late loading; tests/house/test_exports.py",
    "access/tables.py": "declarations; tests of consent write and read them",
    "crypto/tables.py": "declarations; tests of keys write and read them",
    "fairness/tables.py": "figures of an assessment; test_fairness_assessment.py reads them",
    "rights/connectors/__init__.py": "a Protocol",
    "rights/connectors/planning.py": "a part of the SQL connector; test_sql.py, test_closure.py",
    "rights/connectors/proof.py": "a part of the SQL connector; test_sql.py, test_rights_verify.py",
    "rights/connectors/session.py": "a part of the SQL connector; test_sql.py",
    "rights/desk.py": "what the steps share; test_request.py, test_erase.py",
    "rights/tables.py": "declarations; tests of requests write and read them",
    "trail/tables.py": "declarations; tests of the log write and read them",
}


def _members(line: str) -> list[str]:
    return [part.strip().removeprefix("compliance.") for part in line.split("|")]


def test_every_module_stands_in_a_layer():
    there = {
        p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    layered = {name for line in LAYERS for name in _members(line)}
    assert there - layered - UNLAYERED.keys() - {"__init__"} == set()


def test_contributing_draws_the_layers_that_are_held():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    drawn = re.search(r"## Layers.*?```\n(.*?)```", text, re.DOTALL)[1]
    assert [_members(line) for line in drawn.splitlines()] == [_members(line) for line in LAYERS]


def test_nobody_imports_the_migrations():
    imports = re.compile(r"^\s*(?:from|import) compliance\.migrations", re.MULTILINE)
    assert [p for p in PACKAGE.rglob("*.py") if imports.search(p.read_text("utf-8"))] == []


@pytest.mark.parametrize("folder", ["policies", "audits"])
def test_norms_and_plans_are_data(folder):
    kinds = {p.suffix for p in (ROOT / folder).rglob("*") if p.is_file()}
    assert kinds == {".yaml"}


def _modules() -> list[Path]:
    """Return every module that holds code: a package's docstring and re-exports are none."""
    paths = (p.relative_to(PACKAGE) for p in sorted(PACKAGE.rglob("*.py")))
    return [p for p in paths if p.parts[0] != "migrations" and _has_code(PACKAGE / p)]


def _has_code(path: Path) -> bool:
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(node, definitions) for node in ast.parse(path.read_text("utf-8")).body)


def _has_test(module: Path) -> bool:
    """Look for ``test_MODULE.py``, with the room before it and the part of it after it."""
    room = module.parent
    name = room.name if module.stem == "__init__" else module.stem.lstrip("_")
    folders = [ROOT / "tests" / room, *([ROOT / "tests" / room.parts[0]] if room.parts else [])]
    names = (f"test_{name}.py", f"test_*_{name}.py", f"test_{name}_*.py", f"test_*_{name}_*.py")
    return any(any(folder.glob(name)) for folder in folders for name in names)


def test_every_module_has_its_test():
    assert {str(m) for m in _modules() if not _has_test(m)} == UNMIRRORED.keys()
