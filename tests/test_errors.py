"""One tree of errors, as its docstring draws it, with the exit codes of the manual."""

import copy
import inspect
import pickle
import re

import pytest

from compliance import errors
from compliance.errors import ComplianceError, MissingExtra

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ComplianceError)
]


def drawn():
    """Read the tree of the docstring: name, exit code where one is written, name of the parent."""
    parents = {0: "ComplianceError"}
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:│   |    )*)(?:├──|└──) (\w+)\s+([0-4])?", line)
        if found:
            depth = len(found[1]) // 4
            parents[depth + 1] = found[2]
            yield found[2], found[3] and int(found[3]), parents[depth]


def test_the_tree_in_the_docstring_is_the_tree_in_force():
    tree = {name: parent for name, _, parent in drawn()}
    assert tree == {c.__name__: c.__base__.__name__ for c in CLASSES if c is not ComplianceError}


def test_the_exit_codes_in_the_docstring_are_those_in_force():
    codes = {name: code for name, code, _ in drawn() if code is not None}
    assert codes == {name: getattr(errors, name).exit_code for name in codes}
    unwritten = [name for name, code, _ in drawn() if code is None]
    for name in unwritten:
        error = getattr(errors, name)
        assert error.exit_code == error.__base__.exit_code


def test_no_error_of_ours_says_that_all_is_well():
    assert {error.exit_code for error in CLASSES} == {1, 2, 3, 4}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_crosses_to_another_process(error):
    made = error("pii", "presidio") if error is MissingExtra else error("what happened")
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert (type(twin), str(twin)) == (error, str(made))


def test_a_missing_extra_names_the_command_that_mends_it():
    error = MissingExtra("pii", "presidio_analyzer")
    assert (error.extra, error.package) == ("pii", "presidio_analyzer")
    assert "pip install 'compliance-toolkit[pii]'" in str(error)
