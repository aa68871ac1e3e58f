"""The lock names an exact version of everything, and nothing of the machine it was made on."""

from __future__ import annotations

import re
import subprocess
import tomllib

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.!]*)( ; python_version .+)?")


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {_key(line.partition("==")[0]) for line in LINES}


def test_every_line_is_an_exact_version():
    """No local build tag such as ``+cpu``, no path, no address, no editable install."""
    assert [line for line in LINES if not PIN.fullmatch(line)] == []


def test_the_lock_is_sorted_and_pins_torch():
    names = [line.partition("==")[0].upper() for line in LINES]  # as `sort -f` sorts
    assert names == sorted(names)
    assert "torch==2.13.0" in LINES


def test_everything_that_the_project_names_is_pinned():
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(need for needs in extras.values() for need in needs)]
    names = {_key(re.match(r"[A-Za-z0-9._-]+", need)[0]) for need in named}
    assert names - PINNED == {"compliance-toolkit"}


def test_no_file_names_a_registry_or_a_machine():
    """pip's own settings say where packages come from."""
    pattern = r"(pypi|pythonhosted|npmjs|download\.pytorch)\.(org|com)|(^|[^.a-z])/(work|root)/"
    command = ["git", "grep", "-nIE", pattern, "--", ".", ":!*.svg"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines() == []
