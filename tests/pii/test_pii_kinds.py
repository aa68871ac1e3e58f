"""The table of evidence: headers, what follows chance, where a number begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.pii.detect import Detector
from compliance.pii.kinds import (
    KINDS,
    SUPPRESSORS,
    beyond_chance,
    bounded,
    spoken,
    words_of,
)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("customerEmail", ("customer", "email")),
        ("customer_email", ("customer", "email")),
        ("Customer-Email 2", ("customer", "email", "2")),
        ("SSNumber", ("ss", "number")),
        ("IPAddress", ("ip", "address")),
        ("prénom", ("prénom",)),
        ("", ()),
    ],
)
def test_headers_are_split_into_words(header, words):
    assert words_of(header) == words


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("email", "EMAIL_ADDRESS"),
        ("contactPhone", "PHONE_NUMBER"),
        ("MOBILE_NO", "PHONE_NUMBER"),
        ("ssn", "US_SSN"),
        ("social_security_number", "US_SSN"),
        ("iban", "IBAN_CODE"),
        ("card_number", "CREDIT_CARD"),
        ("driversLicense", "US_DRIVER_LICENSE"),
        ("passport_no", "US_PASSPORT"),
        ("tax_id", "US_ITIN"),
        ("account_number", "US_BANK_NUMBER"),
        ("first_name", "PERSON"),
        ("surname", "PERSON"),
        ("customerName", "PERSON"),
        ("date_of_birth", "DATE_OF_BIRTH"),
        ("billing_address", "LOCATION"),
        ("user_password", "CREDENTIAL"),
    ],
)
def test_a_header_names_a_kind(header, kind):
    assert kind in spoken(header)


@pytest.mark.parametrize(
    "header",
    ["fnlwgt", "education-num", "native-country", "capital-gain", "race", "product_name",
     "file_name", "hostname", "column_name", "phone_model", "email_verified", "zip", "amount",
     "social_media", "cell_id", "license_type", "ssn_hash", "shipping", "duplicate", "rename"],
)  # fmt: skip
def test_a_header_that_only_resembles_one_names_nothing(header):
    assert spoken(header) == {}


@pytest.mark.parametrize("header", ["email_address", "ip_address", "MACAddress", "wallet address"])
def test_an_address_that_is_no_street_is_no_location(header):
    assert "LOCATION" not in spoken(header)


def test_a_bare_name_asks_for_full_names_unless_the_table_is_one_of_people():
    assert spoken("name")["PERSON"].least > spoken("name", "customers")["PERSON"].least
    assert spoken("name")["PERSON"].pattern.fullmatch("Ada Lovelace")
    assert not spoken("name")["PERSON"].pattern.fullmatch("Widget")
    assert spoken("name", "staff_members")["PERSON"].pattern.fullmatch("Ada")


def test_every_kind_that_presidio_finds_is_weighed_or_suppressed():
    detected = {name for name, kind in KINDS.items() if kind.detected}
    assert detected | SUPPRESSORS == set(Detector.load().kinds)


@given(st.integers(1, 2000), st.data())
def test_passing_more_often_is_never_weaker_evidence(tried, data):
    passed = data.draw(st.integers(0, tried - 1))
    chance = data.draw(st.sampled_from([0.1, 0.15]))
    assert beyond_chance(passed, tried, chance) <= beyond_chance(passed + 1, tried, chance)


@pytest.mark.parametrize(
    ("passed", "tried", "expected"),
    [(50, 500, False), (75, 500, False), (500, 500, True), (1, 1, True), (1, 10, False),
     (2, 10, False), (180, 500, True), (0, 0, True)],
)  # fmt: skip
def test_a_tenth_of_random_numbers_passes_luhn_and_counts_for_nothing(passed, tried, expected):
    assert beyond_chance(passed, tried, 0.1) is expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [("", True), ("call ", True), ("tel:", True), ("(", True), ("INV-", False), ("7f-", False),
     ("10:22:", False), ("v1.", False), ("abc", False), ("+", False)],
)  # fmt: skip
def test_a_number_begins_where_no_code_precedes_it(before, expected):
    assert bounded(before + "212-555-0199", len(before)) is expected
