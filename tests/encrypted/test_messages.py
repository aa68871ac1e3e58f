"""The frames: what is packed is unpacked, and sizes are believed only after they add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.encrypted import messages
from compliance.errors import InputError

PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@given(kind=st.integers(1, 3), parts=PARTS)
def test_a_message_reads_back(kind, parts):
    assert messages.unpack(messages.pack(kind, parts), kind) == parts


@given(parts=PARTS, data=st.data())
def test_every_proper_prefix_is_refused(parts, data):
    message = messages.pack(messages.QUERY, parts)
    with pytest.raises(InputError):
        messages.unpack(message[: data.draw(st.integers(0, len(message) - 1))], messages.QUERY)


@given(parts=PARTS, tail=st.binary(min_size=1, max_size=9))
def test_trailing_bytes_are_refused(parts, tail):
    with pytest.raises(InputError, match="too long"):
        messages.unpack(messages.pack(messages.QUERY, parts) + tail, messages.QUERY)


@given(data=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_input_errors(data):
    for message in (data, b"CTHE\x01\x02" + data):
        try:
            parts = messages.unpack(message, messages.QUERY)
        except InputError:
            continue
        assert messages.pack(messages.QUERY, parts) == message


def test_another_kind_version_or_count_is_refused():
    message = messages.pack(messages.QUERY, [b"a", b"b"])
    with pytest.raises(InputError, match="kind"):
        messages.unpack(message, messages.ANSWER)
    with pytest.raises(InputError, match="version"):
        messages.unpack(message[:4] + b"\x02" + message[5:], messages.QUERY)
    with pytest.raises(InputError, match="number of parts"):
        messages.unpack(message, messages.QUERY, parts=1)


@pytest.mark.parametrize("value", ["text", None, 7, bytearray(99)])
def test_only_bytes_are_messages(value):
    with pytest.raises(InputError, match="not a message"):
        messages.unpack(value, messages.QUERY)


def test_a_count_of_four_thousand_million_parts_reserves_nothing():
    with pytest.raises(InputError, match="truncated"):
        messages.unpack(b"CTHE\x01\x02\xff\xff\xff\xff" + bytes(100), messages.QUERY)


def test_a_message_over_the_limit_is_not_built(monkeypatch):
    monkeypatch.setattr(messages, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="send fewer rows"):
        messages.pack(messages.QUERY, [bytes(101)])


def test_facts_of_another_length_are_refused():
    with pytest.raises(InputError, match="wrong length"):
        messages.unpack_facts(messages.ANSWER_FACTS, b"short")
