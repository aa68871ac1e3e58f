"""Sampling and weighing the cells of one column."""

import datetime as dt
import decimal
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.pii.columns import LONGEST, WINDOW, gather, hits_in
from compliance.pii.detect import Detector


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


cells = st.lists(st.text(max_size=8) | st.integers() | st.none() | st.booleans(), max_size=60)


@given(cells, st.integers(1, 20), st.integers(-5, 5), st.randoms(use_true_random=False))
def test_the_sample_does_not_depend_on_order_or_repetition(values, size, seed, rng):
    shuffled = values + values[: len(values) // 2]
    rng.shuffle(shuffled)
    one, two = gather(values, size, seed), gather(shuffled, size, seed)
    assert sorted(one.sampled) == sorted(two.sampled)
    assert one.distinct == two.distinct
    assert len(one.sampled) == min(size, one.distinct)


@given(st.lists(st.text(min_size=1, max_size=8)), st.lists(st.text(min_size=1, max_size=8)))
def test_samples_of_parts_merge_into_the_sample_of_the_whole(left, right):
    whole = gather(left + right, 5, 1)
    parts = gather(left, 5, 1).sampled + gather(right, 5, 1).sampled
    assert set(gather(parts, 5, 1).sampled) == set(whole.sampled)


def test_another_seed_draws_another_sample():
    values = [f"cell {i}" for i in range(1000)]
    assert set(gather(values, 50, 0).sampled) != set(gather(values, 50, 1).sampled)


def test_every_cell_can_be_drawn_with_the_same_chance():
    drawn = [len([t for t in gather([f"c{i}" for i in range(100)], 10, seed).sampled if t < "c5"])
             for seed in range(400)]  # fmt: skip
    share = sum(drawn) / 4000
    expected = sum(f"c{i}" < "c5" for i in range(100)) / 100
    assert share == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" a ", "a"),
        (7.0, "7"),
        (np.int64(123456789), "123456789"),
        (decimal.Decimal(536221234), "536221234"),
        (dt.date(1990, 1, 2), "1990-01-02"),
        (["a@b.co", 1], "a@b.co, 1"),
        ({"mail": "a@b.co", "more": [{"x": 12}]}, "mail a@b.co, more x 12"),
        (np.array(["a", "b"]), "a, b"),
    ],
)
def test_cells_of_any_type_become_text(value, text):
    assert gather([value], 5, 0).sampled == (text,)


@pytest.mark.parametrize(
    "value",
    [None, True, np.bool_(1), 0.5, float("nan"), float("inf"), "", "  ", dt.timedelta(1),
     decimal.Decimal("NaN"), [], {}],
)  # fmt: skip
def test_cells_that_hold_no_text_are_left_out(value):
    assert gather([value], 5, 0).distinct == 0


def test_bytes_are_counted_and_not_read():
    found = gather([b"ada@example.org", memoryview(b"x"), "text"], 5, 0)
    assert (found.sampled, found.binary) == (("text",), 2)


def test_the_sample_shows_no_cell_in_its_repr():
    assert "ada" not in repr(gather(["ada@example.org"], 5, 0))


@given(position=st.integers(0, 3 * WINDOW))
def test_a_long_text_hides_nothing_at_the_edge_of_a_window(detector, position):
    filler = "lorem ipsum " * (4 * WINDOW // 12)
    text = filler[:position] + " ada@example.org " + filler[position:]
    assert "EMAIL_ADDRESS" in hits_in(text, detector)


def test_positions_in_a_long_text_are_those_of_the_text(detector):
    text = "x " * WINDOW + "ada@example.org" + " x" * WINDOW
    match = hits_in(text, detector)["EMAIL_ADDRESS"].match
    assert text[match.start : match.end] == "ada@example.org"


def test_a_cell_too_long_to_be_read_to_its_end_is_counted():
    assert gather(["x" * (LONGEST + 1), "x" * LONGEST], 5, 0).cut == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ada@example.org today", "EMAIL_ADDRESS"),
        ("my number is 212-555-0199.", "PHONE_NUMBER"),
        ("Call 2125550199 at noon", "PHONE_NUMBER"),
        ("tel:+44 20 7946 0958", "PHONE_NUMBER"),
        ("(212) 555-0199", "PHONE_NUMBER"),
        ("paid with 4111 1111 1111 1111", "CREDIT_CARD"),
        ("to DE89 3704 0044 0532 0130 00 please", "IBAN_CODE"),
        ("her number 536-22-1234", "US_SSN"),
        ("SSN 536221234", "US_SSN"),
        ("from 203.0.113.7 at night", "IP_ADDRESS"),
        ("2001:db8::8a2e:370:7334", "IP_ADDRESS"),
        ("driver license A1234567", "US_DRIVER_LICENSE"),
        ("passport 912345678", "US_PASSPORT"),
        ("device 00:1A:2B:3C:4D:5E", "MAC_ADDRESS"),
        ("send to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO"),
    ],
)
def test_a_text_holds_a_kind(detector, text, kind):
    assert set(hits_in(text, detector)) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "A1234567",
        "duplicate A1234567",  # Presidio reads `lic` in `duplicate` as a licence
        "driver license A1",
        "order number 4155552671",  # Presidio takes `number` for a telephone's
        "customer 123456789",
        "zip 94105-1234",
        "2024-01-15 10:22:33.415555+00:00",
        "INV-2024-415-555-2671",
        "ISBN 978-3-16-148410-0",
        "see https://example.org/a",
        "from 12/05/2024 to 13/06/2024",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "room ::1 of std::vector",
        "1,234,567.89",
    ],
)
def test_a_text_that_only_resembles_one_holds_none(detector, text):
    assert hits_in(text, detector) == {}


def test_of_overlapping_matches_the_surest_stays(detector):
    found = hits_in("ada@example.org", detector)
    assert list(found) == ["EMAIL_ADDRESS"]
    assert found["EMAIL_ADDRESS"].score == 1.0


def test_presidios_public_regressions(detector):
    """Threads 1063, 888, 71, 957: licence A1, card beside URL, GUID as phone, a long string."""
    assert hits_in("driver licence A1", detector) == {}
    card = hits_in("https://example.org/pay 4111111111111111", detector)
    assert set(card) == {"CREDIT_CARD"}
    rng = random.Random(71)
    for _ in range(200):
        guid = f"{rng.getrandbits(128):032x}"
        text = "-".join((guid[:8], guid[8:12], guid[12:16], guid[16:20], guid[20:]))
        assert hits_in(text, detector) == {}, "a GUID is no telephone"
    assert hits_in(json.dumps({"k": "v" * 10_000_000}), detector) == {}
