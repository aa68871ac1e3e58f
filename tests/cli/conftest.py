"""A stranger at the command line: a project, a bank's exports, and what a command answered."""

import io
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from compliance import cli as front
from compliance.simulate import project as simulated
from compliance.simulate.bank import Bank


@dataclass
class Answer:
    """What a command returned and said."""

    code: int
    out: str
    err: str

    @property
    def all(self):
        return self.out + self.err


@pytest.fixture
def cli(capsys):
    """Return a function that runs a command in this process."""

    def run(*arguments):
        capsys.readouterr()
        code = front.run([str(a) for a in arguments])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def shell():
    """Return a function that runs a command in a process of its own."""

    def run(*arguments, **options):
        command = [sys.executable, "-m", "compliance", *map(str, arguments)]
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        done = subprocess.run(command, check=False, **options)
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def _bank(tmp_path_factory):
    return Bank.create(tmp_path_factory.mktemp("bank"), customers=400)


@pytest.fixture
def exports(_bank):
    """Return the folder of applications.csv, contacts.csv and clean.csv, for reading only."""
    return _bank.folder / "exports"


@pytest.fixture
def project(tmp_path, monkeypatch, cli):
    """Make a project, become its first member, and stand in it."""
    folder = tmp_path / "project"
    assert cli("init", folder).code == 0
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Stand in a folder that is no project."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def office(tmp_path, monkeypatch, _bank):
    """Stand in a project with a bank of its own, and three people who are believed by name."""
    folder = tmp_path / "office"
    shutil.copytree(_bank.folder, folder / "bank")
    bank = Bank.open(folder / "bank")
    simulated.write(folder, bank.policy_overrides())
    monkeypatch.chdir(folder)
    return bank


@pytest.fixture
def become(monkeypatch):
    """Return a function that has the scheduler vouch for somebody."""
    return lambda name: monkeypatch.setenv("COMPLIANCE_IDENTITY", f"asserted:{name}")


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that puts bytes on standard input."""

    def feed(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))

    return feed


@pytest.fixture
def scored(tmp_path):
    """Return a maker of files of labels and predictions: (sex, label, prediction, times)."""

    def write(*rows, name="scored.csv", header="sex,label,prediction"):
        path = Path(tmp_path) / name
        lines = [",".join(map(str, row[:-1])) for row in rows for _ in range(row[-1])]
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write
