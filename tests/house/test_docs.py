"""The manual, the code and the command line say the same."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pydantic import BaseModel
from typer.main import get_command

from compliance import errors
from compliance.audit import plan
from compliance.cli import app
from compliance.config import Settings
from compliance.policy import Norms, Policy

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MANUAL = [*PAGES, *sorted(ROOT.glob("*.md"))]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _text(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


# -- pages ----------------------------------------------------------------------


def _pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _pages(item)


def test_every_page_is_in_the_navigation_and_there():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(_pages(nav)) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize("page", MANUAL, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text("utf-8"))]
    local = [t for t in targets if t and "://" not in t and not t.startswith("mailto:")]
    assert [t for t in local if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", MANUAL, ids=lambda p: p.name)
def test_every_python_example_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        ast.parse(block)


# -- reference ------------------------------------------------------------------


def _models(module_names: set[str]) -> list[type[BaseModel]]:
    """Return every model of the policy or of a plan."""
    todo, found = [Norms], []
    while todo:
        todo.extend(found_now := todo.pop().__subclasses__())
        found.extend(m for m in found_now if m.__module__ in module_names)
    return found


@pytest.mark.parametrize("model", _models({"compliance.policy"}), ids=lambda m: m.__name__)
def test_every_policy_key_is_explained(model):
    page = _text("policies.md")
    missing = [n for n in model.model_fields if f"`{n}`" not in page and f"## {n}\n" not in page]
    assert missing == (["digest"] if model is Policy else [])


@pytest.mark.parametrize("model", _models({plan.__name__}), ids=lambda m: m.__name__)
def test_every_plan_key_is_explained(model):
    page = _text("checks.md").partition("## Plans")[2]
    assert [n for n in model.model_fields if f"`{n}`" not in page and f"`{n}:" not in page] == []


def test_every_setting_is_explained():
    page = _text("index.md")
    names = [f.name for f in fields(Settings) if f.name != "root"]
    assert [n for n in names if f"| `{n}` | `COMPLIANCE_{n.upper()}` |" not in page] == []


def test_every_error_has_its_exit_code_in_the_manual():
    rows = re.findall(r"^\| (`.+`) \| (\d) \|$", _text("exit-codes.md"), re.MULTILINE)
    written = {name: int(code) for names, code in rows for name in re.findall(r"`(\w+)`", names)}
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    assert written == {c.__name__: c.exit_code for c in classes if c is not errors.ComplianceError}


def _check_ids() -> set[str]:
    """Return every check id that stands in the code of the checks."""
    name = re.compile(r"(audit|pii|fairness|policy|trail|model)\.[a-z_]+")
    files = (
        p
        for room in ("audit", "fairness", "pii")
        for p in (ROOT / "compliance" / room).rglob("*.py")
    )
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    constants = (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {value for value in constants if name.fullmatch(value)}


def test_every_check_is_explained():
    headings = set(re.findall(r"^## ([a-z]+\.[a-z_]+)$", _text("checks.md"), re.MULTILINE))
    assert headings == _check_ids()


def _commands(command: object, *path: str) -> Iterator[tuple[str, str]]:
    """Yield every command with the first line of its help."""
    groups = getattr(command, "commands", None)
    if groups is None:
        yield " ".join(path), (command.help or "").partition("\n")[0]
    for name, child in (groups or {}).items():
        yield from _commands(child, *path, name)


def test_every_command_is_listed_with_the_first_line_of_its_help():
    rows = re.findall(r"^\| `(compliance .+)` \| (.+) \|$", _text("commands.md"), re.MULTILINE)
    assert rows == sorted(_commands(get_command(app), "compliance"))


@pytest.mark.parametrize("page", MANUAL, ids=lambda p: p.name)
def test_every_command_that_a_page_names_is_there(page):
    known = dict(_commands(get_command(app), "compliance")).keys()
    groups = {name.rpartition(" ")[0] for name in known}
    named = re.findall(
        r"(?:^|`)(compliance [a-z]+(?: [a-z][a-z-]+)?)", page.read_text("utf-8"), re.MULTILINE
    )
    unknown = {n for n in named if n not in known | groups and n.rpartition(" ")[0] not in known}
    assert unknown == set()


# -- project documents -------------------------------------------------------------


def test_the_changelog_keeps_its_format():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^(##+) (.+)$", text, re.MULTILINE)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    versions = [title for level, title in headings if level == "##"]
    assert text.startswith("# Changelog\n")
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", v) for v in versions[1:])
    assert {title for level, title in headings if level == "###"} <= kinds


def test_the_version_is_the_same_everywhere():
    import compliance

    series = VERSION.rpartition(".")[0]
    assert compliance.__version__ == VERSION
    assert f"| {series}.x | yes |" in (ROOT / "SECURITY.md").read_text("utf-8")


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text("utf-8").strip()
    assert text.startswith("Apache License\n                           Version 2.0, January 2004")
    assert text.endswith("limitations under the License.")


def test_every_decision_is_numbered_dated_and_accepted_or_not():
    for number, path in enumerate(sorted((DOCS / "adr").glob("*.md")), 1):
        assert path.name.startswith(f"{number:04}-")
        text = path.read_text("utf-8")
        assert re.search(
            r"^Date: \d{4}-\d\d-\d\d\. Status: (accepted|superseded by .+)\.$", text, re.MULTILINE
        )
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]


def test_the_checkout_command_is_three_lines():
    tree = ast.parse(Path(ROOT / "cli.py").read_text("utf-8"))
    assert [type(node).__name__ for node in tree.body] == ["Expr", "ImportFrom", "Expr"]
