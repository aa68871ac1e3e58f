"""Forms of tokens: what each draws, and what can be a token at all."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.tokenforms import FORMS, possible
from compliance.errors import InputError


def test_a_random_token_says_nothing_of_its_value():
    drawn = [FORMS["random"](value) for value in ("ana", "ana", None, 7)]
    assert len(set(drawn)) == 4
    assert all(re.fullmatch(r"tok_[A-Za-z0-9_-]{22}", token) for token in drawn)


@given(st.text("0123456789 -./()+:", min_size=6).filter(lambda t: sum(map(str.isdigit, t)) >= 6))
def test_a_token_of_digits_keeps_separators_and_is_never_the_value(value):
    token = FORMS["digits"](value)
    assert token != value
    assert [c.isdigit() or c for c in token] == [c.isdigit() or c for c in value]


@pytest.mark.parametrize("value", ["12345", "1234567a", "", 1234567, None, b"1234567"], ids=repr)
def test_what_has_no_form_of_digits_is_refused_and_not_quoted(value):
    with pytest.raises(InputError, match="six digits or more") as caught:
        FORMS["digits"](value)
    assert not value or str(value) not in str(caught.value)


def test_what_no_database_would_understand_is_no_token():
    assert possible(["tok_a", "4111-1", "\ud800", "a\0b", 7, None, "\u00e4"]) == ["tok_a", "4111-1"]
