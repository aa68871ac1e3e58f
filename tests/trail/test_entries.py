"""The bytes of an entry: canonical, bounded, and of types that every reader reads alike."""

import datetime as dt
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError, TrailCorrupt
from compliance.policy import Method
from compliance.trail import entries
from compliance.trail.entries import MAX_BYTES, Event

NOW = dt.datetime(2024, 2, 29, 23, 59, 59, 7, tzinfo=dt.UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FACTS = st.dictionaries(
    st.text(st.characters(max_codepoint=127)),
    TEXT | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none(),
)


@given(TEXT, FACTS)
def test_the_bytes_are_those_of_another_implementation_of_rfc_8785(actor, facts):
    body = Event(event="test", actor=actor, facts=facts).body(NOW)
    assert body == rfc8785.dumps(json.loads(body))


def test_the_bytes_are_these():
    """Written by hand from RFC 8785 section 3.2: escapes, sorting, no spaces, UTF-8."""
    facts = {"b": 1, "a": '"\\/\b\f\n\r\t\x00\x1f\x7f\u2028€𝄞'}
    body = Event(event="e", facts=facts).body(NOW)
    a = r'"\"\\/\b\f\n\r\t\u0000\u001f' + "\x7f\u2028€𝄞" + '"'
    assert f'"facts":{{"a":{a},"b":1}}'.encode() in body


def test_the_same_event_has_the_same_bytes_whatever_the_order_of_its_facts():
    first = Event(event="e", facts={"a": 1, "b": 2}).body(NOW)
    assert first == Event(event="e", facts={"b": 2, "a": 1}).body(NOW)


@given(TEXT, FACTS)
def test_what_was_written_is_read_back(actor, facts):
    values = entries.parse(Event(event="e", actor=actor, facts=facts).body(NOW))
    assert (values["event"], values["actor"], values["facts"]) == ("e", actor, facts)


def test_a_time_is_written_in_utc_with_microseconds():
    east = dt.timezone(dt.timedelta(hours=2))
    assert entries.stamp(NOW) == "2024-02-29T23:59:59.000007Z"
    assert entries.stamp(NOW.astimezone(east)) == "2024-02-29T23:59:59.000007Z"


@pytest.mark.parametrize(
    "facts",
    [
        {"x": 0.5},
        {"x": float("nan")},
        {"x": 2**53},
        {"x": -(2**53)},
        {"x": "\ud800"},
        {"x": b"bytes"},
        {"x": ["list"]},
        {"x": {"nested": 1}},
        {"x": NOW},
        {"ä": 1},
        {1: 1},
        {"x": "y" * MAX_BYTES},
    ],
)
def test_a_fact_that_readers_would_read_differently_is_refused(facts):
    with pytest.raises(InputError):
        Event(event="test", facts=facts).body(NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"event": None},
        {"event": "e", "actor": None},
        {"event": "e", "actor": 5},
        {"event": "e", "dataset": 5},
        {"event": "e", "subject": b"x"},
        {"event": "e", "purpose": True},
    ],
)
def test_a_field_that_is_no_text_is_refused(fields):
    """A query column would give it back as another type, and accuse an untouched trail."""
    with pytest.raises(InputError, match="of an event is a"):
        Event(**fields).body(NOW)


def test_a_refusal_does_not_quote_the_value():
    with pytest.raises(InputError) as caught:
        Event(event="e", facts={"x": 12345.678}).body(NOW)
    assert "12345" not in str(caught.value)


def test_an_entry_may_be_as_large_as_a_tile_entry():
    room = MAX_BYTES - len(Event(event="e", facts={"x": ""}).body(NOW))
    assert len(Event(event="e", facts={"x": "y" * room}).body(NOW)) == MAX_BYTES
    with pytest.raises(InputError, match="at most 65535 bytes"):
        Event(event="e", facts={"x": "y" * (room + 1)}).body(NOW)


def test_words_of_an_enumeration_are_plain_text():
    assert entries.parse(Event(event="e", method=Method.OS).body(NOW))["method"] == "os"


@given(st.floats(allow_nan=False))
def test_a_figure_travels_as_the_decimal_that_reads_back_the_same(value):
    assert float(entries.decimal(value)) == value


def test_a_missing_figure_stays_missing():
    assert entries.decimal(None) is None


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"event":5}', b"null", b"[" * 100_000, b'{"event":']
)
def test_bytes_that_are_no_event_are_corruption(body):
    with pytest.raises(TrailCorrupt):
        entries.parse(body)
