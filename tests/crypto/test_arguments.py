"""Arguments: an empty name and a text in the place of a list are refused by what they are called."""

import pytest

from compliance.crypto.arguments import require_list, require_names
from compliance.errors import InputError


@pytest.mark.parametrize("name", ["", None, 7, b"people"], ids=repr)
def test_what_is_no_name_is_refused_and_the_argument_named(name):
    with pytest.raises(InputError, match=r"^column is a name"):
        require_names(table="people", column=name)


def test_any_text_is_a_name():
    require_names(table="people", column=" ", space="\ud800")


@pytest.mark.parametrize("value", ["ada", b"ada", bytearray(b"ada"), memoryview(b"ada")], ids=type)
def test_one_text_is_no_list_and_is_not_quoted(value):
    with pytest.raises(InputError, match=r"^tokens is one .*give a list") as caught:
        require_list(column=["ada"], tokens=value)
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize("value", [[], ("a",), {"a"}, {"a": 1}, range(2), None], ids=repr)
def test_lists_and_whatever_else_holds_many_pass(value):
    require_list(column=value)
