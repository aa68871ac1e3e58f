"""The style that CONTRIBUTING promises, counted."""

from __future__ import annotations

import ast
import statistics
import subprocess
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

SOURCES = sorted((ROOT / "compliance").rglob("*.py"))
WRITTEN = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "breakpoint",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the physical lines of the body, its docstring left out."""
    body = (
        function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    )
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def _lengths() -> dict[str, int]:
    """Return the length of every function that has a body; a Protocol's methods have none."""
    nodes = ((path, node) for path in SOURCES for node in ast.walk(_tree(path)))
    found = {f"{_where(p, n)} {n.name}": _length(n) for p, n in nodes if isinstance(n, FUNCTIONS)}
    return {name: length for name, length in found.items() if length}


def test_half_of_the_functions_have_at_most_8_lines():
    assert statistics.median(_lengths().values()) <= 8


def test_nine_in_ten_functions_have_at_most_30_lines():
    lengths = _lengths()
    long = sorted((n for n in lengths if lengths[n] > 30), key=lengths.get, reverse=True)
    assert len(long) <= len(lengths) / 10, long


def test_a_file_has_at_most_400_lines():
    lines = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in WRITTEN}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def test_the_root_has_at_most_20_entries():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = {line.partition("/")[0] for line in listed.splitlines()}
    assert len({entry for entry in entries if not entry.startswith(".")}) <= 20, sorted(entries)


def test_no_function_has_the_name_of_its_module():
    shared = [
        _where(path, node)
        for path in SOURCES
        for node in _tree(path).body
        if isinstance(node, FUNCTIONS) and node.name in _module_names(path)
    ]
    assert shared == []


def _module_names(path: Path) -> set[str]:
    """Return the names that a function of this module would be mistaken for."""
    if path.name != "__init__.py":
        return {path.stem}
    return {child.stem for child in path.parent.iterdir() if child.suffix in {".py", ""}}


def _unsafe(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(n.name.partition(".")[0] in UNSAFE_MODULES for n in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in UNSAFE_MODULES
        case ast.Call(func=func, keywords=keywords):
            shell = any(k.arg == "shell" and getattr(k.value, "value", 1) for k in keywords)
            return shell or ast.unparse(func) in UNSAFE_CALLS or _loads_freely(func, keywords)
    return False


def _loads_freely(func: ast.expr, keywords: list[ast.keyword]) -> bool:
    """``torch.load`` runs code from the file unless it is told not to."""
    if ast.unparse(func) != "torch.load":
        return False
    return not any(k.arg == "weights_only" and getattr(k.value, "value", False) for k in keywords)


def test_no_code_runs_from_data():
    assert [_where(p, n) for p in SOURCES for n in ast.walk(_tree(p)) if _unsafe(n)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(text)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_search_finds_what_it_looks_for(line):
    assert any(_unsafe(node) for node in ast.walk(ast.parse(line)))


def test_every_ignore_has_its_reason():
    """A bare ``noqa`` or ``type: ignore`` says nothing; neither does one with a code alone."""
    bare = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for mark in ("# noqa", "# type: ignore"):
                _, found, rest = line.partition(mark)
                words = rest.replace(",", " ").split()
                if found and not any(word.rstrip(".;:").isalpha() for word in words):
                    bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert bare == []
