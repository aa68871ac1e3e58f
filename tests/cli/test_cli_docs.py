"""docs/cli.md and the command line's own help say the same."""

import re

import pytest
from conftest import ROOT
from typer.main import get_command

from compliance.cli import app

PAGE = (ROOT / "docs/cli.md").read_text("utf-8")
SECTIONS = dict(
    re.findall(r"^## (compliance[a-z -]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
)


def _commands(command, *path):
    children = getattr(command, "commands", None)
    if children is None or path == ("compliance",):
        yield " ".join(path), command
    for name, child in (children or {}).items():
        yield from _commands(child, *path, name)


COMMANDS = dict(_commands(get_command(app), "compliance"))


def _parameters(command):
    """Return the table's rows: how each argument and option is written, and its help."""
    rows = []
    for one in command.params:
        written = one.opts if one.param_type_name == "option" else [one.name.rstrip("_").upper()]
        names = ", ".join(f"`{name}`" for name in sorted(written, key=len, reverse=True))
        if one.name != "help":
            rows.append((names, one.help))
    return rows


def test_every_command_has_its_section_and_every_section_its_command():
    assert list(SECTIONS) == ["compliance", *sorted(set(COMMANDS) - {"compliance"})]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_argument_and_option_is_told_in_the_words_of_the_help(name):
    table = re.findall(r"^\| (`.+?) \| (.+) \|$", SECTIONS.get(name, ""), re.MULTILINE)
    assert table == _parameters(COMMANDS[name])


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"compliance"}))
def test_every_section_begins_with_what_the_help_says(name):
    assert SECTIONS[name].lstrip().startswith(COMMANDS[name].help.partition("\n")[0])


def _examples():
    for name, text in SECTIONS.items():
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            yield from ((name, line) for line in block.splitlines() if line.startswith("$ "))


@pytest.mark.parametrize(("name", "line"), list(_examples()), ids=lambda v: v)
def test_every_example_is_of_its_command_and_has_only_its_options(name, line):
    """An example may begin with the options of `compliance` itself."""
    call = re.sub(r"^\$ (?:[A-Z_]+=\S+ )*", "", line).partition(" | ")[0].partition(" && ")[0]
    shared = re.sub(r"^compliance((?: (?:-C|--root|--as) \S+)+)", "compliance", call)
    assert shared == name or shared.startswith(f"{name} ")
    known = {"--help"} | {o for p in COMMANDS[name].params for o in p.opts}
    assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", shared.partition("#")[0])) <= known


def test_there_is_an_example_of_every_command():
    assert {name for name, _ in _examples()} == set(COMMANDS)
