"""Blind indices: equal where they should be, different everywhere else."""

import unicodedata
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from epochs import mark, rotate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import frames
from compliance.crypto import blind
from compliance.crypto.keys import Keyring
from compliance.errors import InputError, KeyDestroyed

PLACE = {"table": "people", "column": "email"}
MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
WITH_RING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def indices(ring, values, **options):
    return [blind.index(value, ring, **PLACE | options) for value in values]


# -- normalisers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normal", "alike"),
    [
        ("casefold", ["Ana María", " ana   maría\n", "ANA MARI\u0301A", "ana\u00a0maría"]),
        ("casefold", ["Straße", "STRASSE", "strasse"]),
        ("casefold", ["ﬁle", "FILE"]),
        ("casefold", ["7", 7, 7.0, Decimal("7.0")]),
        ("email", ["Ana@Example.ORG", " ana@example.org ", "ana@example.org."]),
        ("digits", ["+49 (30) 90-18", "49309018", "49\u00a030\u20119018", "٤٩٣٠٩٠١٨", 49309018]),
        ("digits", ["4111-1111-1111-1111", "4111 1111 1111 1111", "4111.1111.1111.1111"]),
        ("code", ["DE89 3704 0044", "de8937040044", "DE89-3704-0044"]),
        ("code", ["wo-la 77", "WOLA77"]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_means_the_same_has_one_index(ring, normal, alike):
    assert len(set(indices(ring, alike, normal=normal))) == 1


@pytest.mark.parametrize(
    ("normal", "apart"),
    [
        ("exact", ["Ana", "ana", "ana ", " ana", "an\u0061\u0301", "aná"]),
        ("casefold", ["ana maria", "anamaria", "ana", "", "ana.maria"]),
        ("email", ["ana@example.org", "ana@example.com", "an.a@example.org"]),
        ("digits", ["0301", "301", "3010", ""]),
        ("code", ["DE89", "FR89", "89"]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_differs_has_indices_that_differ(ring, normal, apart):
    assert len(set(indices(ring, apart, normal=normal))) == len(apart)


@pytest.mark.parametrize("normal", ["casefold", "digits", "code"])
@given(st.text(st.characters() | st.sampled_from("09 ()-ßİıςΣǰ\u0345\u00ad"), max_size=20))
def test_to_normalise_twice_changes_nothing(normal, text):
    try:
        once = blind.NORMALS[normal](text)
    except InputError:
        assert normal == "digits"
        return
    assert blind.NORMALS[normal](once) == once


def test_the_quick_way_for_ascii_is_the_long_way():
    long = blind._folded("é " + "".join(map(chr, range(128))))[2:]
    assert blind._folded("".join(map(chr, range(128)))) == long.strip()


@given(st.text(st.characters(), max_size=8))
def test_case_and_composition_do_not_matter(text):
    for other in (text.upper().lower(), unicodedata.normalize("NFD", text)):
        if other.casefold() == text.casefold():
            assert blind._folded(other) == blind._folded(text)


def test_two_normalisers_never_give_the_same_index(ring):
    found = {blind.index("1234567", ring, **PLACE, normal=n) for n in ("exact", "digits", "code")}
    assert len(found | {blind.index("1234567", ring, **PLACE)}) == 4


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("nobody", "email"),
        ("@example.org", "email"),
        ("ana@", "email"),
        ("ana@example org", "email"),
        ("DE89 3704", "digits"),
        ("1e9", "digits"),
        ("12²x", "digits"),
        (0.5, "exact"),
        (float("inf"), "exact"),
        (float("nan"), "exact"),
        (Decimal("sNaN"), "exact"),
        (True, "casefold"),
        (None, "casefold"),
        (b"ana", "casefold"),
        (["ana"], "casefold"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_normalised_is_refused_and_not_quoted(ring, value, normal):
    for operation in (blind.index, blind.lookup):
        with pytest.raises(InputError) as caught:
            operation(value, ring, **PLACE, normal=normal)
        assert str(value) not in str(caught.value) or value is None


def test_a_number_too_long_to_write_is_refused(ring):
    with pytest.raises(InputError, match="turn the value into text"):
        blind.index(10**5_000, ring, **PLACE)
    assert blind.index(10**400, ring, **PLACE) == blind.index(f"1{'0' * 400}", ring, **PLACE)


def test_an_unknown_normaliser_is_refused_with_those_there_are(ring):
    with pytest.raises(InputError, match="exact, casefold, email, digits, code"):
        blind.index("ana", ring, **PLACE, normal="lower")


# -- place -----------------------------------------------------------------------------------


def test_equal_values_in_two_places_do_not_match(ring, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    found = {
        blind.index("ana", ring, **PLACE),
        blind.index("ana", ring, table="people", column="name"),
        blind.index("ana", ring, table="staff", column="email"),
        blind.index("ana", ring, table="people", column="email "),
        blind.index("ana", ring, **PLACE, space="people.email"),
        blind.index("ana", ring, **PLACE, space="s"),
        blind.index("ana", other, **PLACE),
    }
    assert len(found) == 7


@pytest.mark.parametrize("empty", ["table", "column", "space"])
def test_an_empty_name_is_refused(ring, empty):
    names = PLACE | {"space": "s"} | {empty: ""}
    for operation in (blind.index, blind.lookup):
        with pytest.raises(InputError, match=f"{empty} is a name"):
            operation("ana", ring, **names)


def test_two_columns_whose_names_join_alike_differ_though_they_share_a_key(ring):
    one = blind.index("ana", ring, table="a.b", column="c")
    assert blind.index("ana", ring, table="a", column="b.c") != one


def test_columns_that_name_one_space_match(ring):
    one = blind.index("ana", ring, table="people", column="email", space="mail")
    assert blind.index("Ana", ring, table="staff", column="address", space="mail") == one


def test_another_master_gives_another_index(ring, tmp_path):
    from compliance.store import Store

    store = Store.open(f"sqlite:///{tmp_path / 'other.db'}")
    other = Keyring.open(store, tmp_path / "other.json")
    assert blind.index("ana", other, **PLACE) != blind.index("ana", ring, **PLACE)
    store.close()


# -- bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 9, 12, 15, 16, 31, 64, 127, 128, 255, 256])
def test_a_shorter_index_is_the_beginning_of_a_longer_one(ring, bits):
    full = blind.index("ana", ring, **PLACE, bits=256)
    short = blind.index("ana", ring, **PLACE, bits=bits)
    assert len(short) == -(-bits // 8)
    kept = int.from_bytes(full, "big") >> (256 - bits)
    assert int.from_bytes(short, "big") == kept << (len(short) * 8 - bits)


def test_an_index_has_128_bits_unless_asked(ring):
    assert len(blind.index("ana", ring, **PLACE)) == 16


@pytest.mark.parametrize("bits", [-1, 0, 7, 257])
def test_bits_out_of_range_are_refused(ring, bits):
    with pytest.raises(InputError, match="8 to 256 bits"):
        blind.index("ana", ring, **PLACE, bits=bits)


def test_few_bits_collide_on_purpose(ring):
    """4,096 values over 256 indices: about 16 share each, and all 256 are there."""
    found = [blind.index(n, ring, **PLACE, bits=8) for n in range(4_096)]
    assert len(set(found)) == 256
    assert max(map(found.count, set(found))) < 50


# -- epochs ---------------------------------------------------------------------------------


def test_a_lookup_gives_the_index_of_every_live_epoch(any_ring):
    old = blind.index("ana", any_ring, **PLACE)
    assert blind.lookup("ana", any_ring, **PLACE) == [old]
    rotate(any_ring, "index", "people.email")
    new = blind.index("ana", any_ring, **PLACE)
    assert blind.lookup(" ANA", any_ring, **PLACE) == [new, old]
    assert new != old


def test_a_lookup_before_the_first_index_gives_what_the_index_will_be(ring):
    (expected,) = blind.lookup("ana", ring, **PLACE, bits=20)
    assert blind.index("ana", ring, **PLACE, bits=20) == expected


def test_a_destroyed_epoch_is_looked_up_no_more(ring):
    first = ring.named("index", "people.email").id
    blind.index("ana", ring, **PLACE)
    rotate(ring, "index", "people.email")
    mark(ring, first, destroyed="2026-01-01", wrapped=None)
    assert blind.lookup("ana", ring, **PLACE) == [blind.index("ana", ring, **PLACE)]


def test_a_destroyed_key_computes_nothing(ring):
    mark(ring, ring.named("index", "people.email").id, destroyed="2026-01-01", wrapped=None)
    with pytest.raises(KeyDestroyed):
        blind.index("ana", ring, **PLACE)


# -- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_column_is_indexed_beside_itself_and_missing_stays_missing(ring, make):
    values = ["Ana", None, "ben", "ana", ""]
    frame = frames.wrap(make({"email": values}))
    found = blind.index_column(frame, "email", ring, table="people")
    assert found.columns == ["email", "email_index"]
    assert frames.column(found, "email") == values
    expected = [None if v is None else blind.index(v, ring, **PLACE) for v in values]
    assert frames.column(found, "email_index") == expected
    assert type(frames.native(found)) is type(frames.native(frame))


def test_a_column_takes_every_choice_of_an_index(ring):
    frame = frames.wrap(pa.table({"tel": ["030/12", "03012"]}))
    choices = {"space": "phones", "normal": "digits", "bits": 20}
    found = blind.index_column(frame, "tel", ring, table="people", into="i", **choices)
    one = blind.index("03012", ring, table="x", column="y", **choices)
    assert frames.column(found, "i") == [one, one]


def test_whole_numbers_that_a_frame_made_into_floats_are_found(ring):
    frame = frames.wrap(pd.DataFrame({"email": [7, None, 8]}))
    found = frames.column(blind.index_column(frame, "email", ring, table="people"), "email_index")
    assert found == [blind.index("7", ring, **PLACE), None, blind.index(8, ring, **PLACE)]


@pytest.mark.parametrize("value", [True, b"1", 0.5, (1,)], ids=str)
def test_one_value_that_is_refused_refuses_the_column_even_beside_its_equal(ring, value):
    frame = frames.wrap(pd.DataFrame({"email": pd.Series([1, value], dtype=object)}))
    with pytest.raises(InputError):
        blind.index_column(frame, "email", ring, table="people")


def test_a_value_is_hashed_once_however_often_it_stands_there(ring, monkeypatch):
    asked = []
    monkeypatch.setitem(blind.NORMALS, "exact", lambda text: asked.append(text) or text)
    frame = frames.wrap(pa.table({"email": ["a", "b"] * 1_000}))
    blind.index_column(frame, "email", ring, table="people", normal="exact")
    assert asked == ["a", "b"]
