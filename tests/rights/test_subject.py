"""Who a request is about: names, normal forms, and what counts as a mention."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.policy import Store, SubjectTable
from compliance.rights.subject import Needle, Subject, fold, learned_search, needles, searches

STORE = Store(
    url="sqlite://",
    subjects=(
        SubjectTable(table="Customer", key="CustomerId", identifiers=("E_Mail", "phone")),
        SubjectTable(table="Staff", key="id", identifiers=("email",)),
    ),
)


def test_identifiers_meet_columns_by_their_names():
    assert searches(STORE, {"email": "x"}) == {
        "Customer": {"E_Mail": ("x",)},
        "Staff": {"email": ("x",)},
    }
    assert searches(STORE, {"customer_id": "7"}) == {"Customer": {"CustomerId": ("7",)}}
    assert searches(STORE, {"Staff.email": "x"}) == {"Staff": {"email": ("x",)}}
    assert searches(STORE, {"Nobody.email": "x"}) == {}


def test_one_learned_identifier_is_enough_and_e_mail_comes_first():
    learned = {"email": {"a", "b"}, "phone": {"1"}}
    assert learned_search(STORE.subjects[0], learned) == {"E_Mail": ("a", "b")}
    assert learned_search(STORE.subjects[0], {"phone": {"1"}}) == {"phone": ("1",)}
    assert learned_search(SubjectTable(table="t", key="id", identifiers=("id",)), {"id": {1}}) == {}


def test_a_request_is_filed_under_the_same_name_however_it_is_written():
    one = Subject.parse({"phone": "1", "E-Mail": " A@X.example "})
    assert (
        one.primary == Subject.parse({"email": "a@x.EXAMPLE"}).primary == ("email", "a@x.example")
    )
    assert Subject.parse({"Staff.id": 7}).primary == ("Staff.id", "7")
    assert "A@X" not in repr(one)


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("a.b@x.example", "mail: A.B@X.EXAMPLE!", True),
        ("a.b@x.example", "ca.b@x.example", False),
        ("José Núñez", "jose nunez called", True),
        ("Jose Nunez", "José Núñez called", True),
        ("Ann Lee", "Joann Lee", False),
        ("+55 (12) 3923-5555", "tel +551239235555", True),
        ("551239235555", "tel +55 (12) 3923-5555.", True),
        ("+55 (12) 3923-5555", "order 5555", False),
        ("AB-1234", "case ab 1234", True),
    ],
)
def test_mentions(value, text, found):
    assert Needle(value).found_in(text) is found
    if found:
        assert Needle(value).prefilter in text.lower()


def test_a_lone_word_and_a_short_number_are_nobodys():
    assert [n.value for n in needles(["Ann", "42", 7, None, "ann@x.example", "Ann Lee"])] == [
        "Ann Lee",
        "ann@x.example",
    ]


@given(st.text(min_size=1))
def test_a_form_is_its_own_form(text):
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.example", fullmatch=True), st.text())
def test_an_address_between_blanks_is_always_found(before, address, after):
    assert Needle(address).found_in(f"{before} {address.upper()} {after}")
