"""Format-preserving columns: the format stays, the value does not, and small domains are refused."""

import string

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from epochs import mark, rotate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import frames
from compliance.crypto import fpe
from compliance.crypto.fpe import ALPHANUMERIC, DIGITS, Format
from compliance.crypto.hierarchy import KEY
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, InputError

CARD = "4111-1111-1111-1111"
PLACE = {"table": "cards", "column": "number"}
MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
WITH_RING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def shape(text, alphabet=DIGITS.alphabet):
    return [None if c in alphabet else c for c in text]


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (CARD, DIGITS),
        ("+49 (30) 901820-0", DIGITS),
        ("078-05-1120", DIGITS),
        ("000000", DIGITS),
        ("9" * 19, DIGITS),
        ("1" * 45, DIGITS),
        ("de89 3704 0044 0532 0130 00", ALPHANUMERIC),
        ("WOLA-77-b", Format(string.ascii_letters + string.digits)),
        ("MÜLLERÄÖ", Format(string.ascii_uppercase + "ÄÖÜ")),
        ("00:1b:63:84:45:e6", Format("0123456789abcdef")),
        ("\U0001f600\U0001f601" * 10, Format("\U0001f600\U0001f601")),
        ("12-34-56-78", Format("0123456789-", " ")),
        ("1" * 9_001, DIGITS),
        ("z" * 9_001, ALPHANUMERIC),
    ],
    ids=lambda v: "form" if isinstance(v, Format) else v[:12],
)
def test_a_value_keeps_its_format_and_comes_back(ring, value, form):
    hidden = fpe.encrypt(value, ring, **PLACE, form=form)
    assert hidden != value
    assert shape(hidden, form.alphabet) == shape(value, form.alphabet)
    assert fpe.decrypt(hidden, ring, **PLACE, form=form) == value


@WITH_RING
@given(st.text("0123456789 -./()+:", min_size=6))
def test_any_text_of_six_digits_or_more_comes_back(ring, value):
    if sum(c.isdigit() for c in value) < 6:
        with pytest.raises(InputError, match="can be guessed"):
            fpe.encrypt(value, ring, **PLACE)
    else:
        hidden = fpe.encrypt(value, ring, **PLACE)
        assert shape(hidden) == shape(value)
        assert fpe.decrypt(hidden, ring, **PLACE) == value


@WITH_RING
@given(st.sets(st.characters(), min_size=2, max_size=50), st.data())
def test_any_alphabet_will_do(ring, letters, draw):
    form = Format("".join(sorted(letters)), separators="")
    value = draw.draw(st.text(form.alphabet, min_size=20, max_size=40))
    hidden = fpe.encrypt(value, ring, **PLACE, form=form)
    assert fpe.decrypt(hidden, ring, **PLACE, form=form) == value


# -- place -------------------------------------------------------------------------------------


def test_the_same_value_differs_by_table_column_and_tenant(ring, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    hidden = {
        fpe.encrypt(CARD, ring, **PLACE),
        fpe.encrypt(CARD, ring, table="cards", column="old"),
        fpe.encrypt(CARD, ring, table="accounts", column="number"),
        fpe.encrypt(CARD, ring, table="cards", column="number "),
        fpe.encrypt(CARD, other, **PLACE),
    }
    assert len(hidden) == 5


def test_two_columns_whose_names_join_alike_differ_though_they_share_a_key(ring):
    one = fpe.encrypt(CARD, ring, table="a.b", column="c")
    assert fpe.encrypt(CARD, ring, table="a", column="b.c") != one


def test_equal_values_are_equal_whatever_their_separators(ring):
    """What it leaks, by design."""
    one, other = (fpe.encrypt(v, ring, **PLACE) for v in (CARD, CARD.replace("-", " ")))
    assert one.replace("-", " ") == other


# -- epochs ----------------------------------------------------------------------------------


def test_after_a_rotation_the_old_key_is_named_by_its_id(ring):
    old = fpe.current(ring, **PLACE)
    hidden = fpe.encrypt(CARD, ring, **PLACE)
    new = rotate(ring, "format", "cards.number")
    assert fpe.current(ring, **PLACE) == new != old
    assert fpe.decrypt(hidden, ring, **PLACE, key_id=old) == CARD
    assert fpe.decrypt(hidden, ring, **PLACE, key_id=new) != CARD
    assert fpe.encrypt(CARD, ring, **PLACE, key_id=old) == hidden
    assert fpe.encrypt(CARD, ring, **PLACE) != hidden


@pytest.mark.parametrize("state", ["live", "retired", "destroyed"])
def test_once_a_key_was_rotated_nothing_is_decrypted_without_a_key_id(ring, state):
    old = fpe.current(ring, **PLACE)
    hidden = fpe.encrypt(CARD, ring, **PLACE)
    assert fpe.decrypt(hidden, ring, **PLACE) == CARD
    new = rotate(ring, "format", "cards.number")
    if state != "live":
        mark(ring, old, **{state: "2024-01-01T00:00:00+00:00"})
    frame = frames.wrap(pa.table({"number": [hidden]}))
    with pytest.raises(InputError, match="say key_id="):
        fpe.decrypt(hidden, ring, **PLACE)
    with pytest.raises(InputError, match="say key_id="):
        fpe.decrypt_column(frame, "number", ring, table="cards")
    assert fpe.decrypt(fpe.encrypt(CARD, ring, **PLACE), ring, **PLACE, key_id=new) == CARD


def test_a_rotation_by_another_process_is_noticed_at_once(ring, key_file):
    """This ring still holds the first epoch as the current one, for a minute."""
    hidden = fpe.encrypt(CARD, ring, **PLACE)
    held = ring.named("format", "cards.number")
    with ring.store.writing() as connection:
        columns = [c for c in KEY.c if c.name not in {"id", "epoch"}]
        source = sa.select(*columns, sa.literal(2)).where(KEY.c.id == held.id)
        connection.execute(
            sa.insert(KEY).from_select([*[c.name for c in columns], "epoch"], source)
        )
    assert ring.named("format", "cards.number") == held
    with pytest.raises(InputError, match="was rotated"):
        fpe.decrypt(hidden, ring, **PLACE)


def test_what_was_never_encrypted_is_not_decrypted_and_makes_no_key(ring):
    before = ring.listing()
    with pytest.raises(DecryptionFailed, match="nothing was encrypted for this table and column"):
        fpe.decrypt(CARD, ring, **PLACE)
    assert ring.listing() == before


@pytest.mark.parametrize("value", ["12345", "4111x1111", 7], ids=repr)
def test_what_is_refused_makes_no_key(ring, value):
    before = ring.listing()
    frame = frames.wrap(pa.table({"number": [value]}))
    with pytest.raises(InputError):
        fpe.encrypt(value, ring, **PLACE)
    with pytest.raises(InputError):
        fpe.encrypt_column(frame, "number", ring, table="cards")
    assert ring.listing() == before


@pytest.mark.parametrize("empty", ["table", "column"])
def test_an_empty_name_is_refused(ring, empty):
    for operation in (fpe.encrypt, fpe.decrypt):
        with pytest.raises(InputError, match=f"{empty} is a name"):
            operation(CARD, ring, **PLACE | {empty: ""})
    with pytest.raises(InputError, match=f"{empty} is a name"):
        fpe.current(ring, **PLACE | {empty: ""})


def test_a_key_of_another_kind_or_column_is_refused(ring):
    for key in (
        ring.column("cards", "number"),
        ring.named("format", "cards.old"),
        ring.named("token", "cards.number"),
    ):
        for operation in (fpe.encrypt, fpe.decrypt):
            with pytest.raises(DecryptionFailed, match="not of this column"):
                operation(CARD, ring, **PLACE, key_id=key.id)


@pytest.mark.parametrize("key_id", [0, 999_999, 2**63 - 1])
def test_a_key_that_is_not_here_is_refused(ring, key_id):
    with pytest.raises(DecryptionFailed):
        fpe.decrypt(CARD, ring, **PLACE, key_id=key_id)


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "12345",
        "",
        "-",
        "1-2-3-4-5",
        "4111x1111",
        "4111_1111",
        "\uff14" + "\uff11" * 7,
        "\u0664" + "\u0661" * 7,
        "1234567\n",
    ],
    ids=[
        "five",
        "empty",
        "separator",
        "five apart",
        "letter",
        "underscore",
        "wide",
        "arabic",
        "line",
    ],
)
def test_what_is_too_small_or_of_no_format_is_refused_and_not_quoted(ring, value):
    for operation in (fpe.encrypt, fpe.decrypt):
        with pytest.raises(InputError) as caught:
            operation(value, ring, **PLACE)
        assert value not in str(caught.value) or len(value) < 2


@pytest.mark.parametrize("value", [4111111111111111, 1.5, b"4111111111111111", None, ["1"]])
def test_what_is_no_text_is_refused(ring, value):
    with pytest.raises(InputError, match="takes text"):
        fpe.encrypt(value, ring, **PLACE)


@pytest.mark.parametrize("alphabet", ["", "0", "0120", "digits"])
def test_an_alphabet_that_is_none_is_refused(alphabet):
    with pytest.raises(InputError, match="each of them once"):
        Format(alphabet)


# -- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_column_comes_back_and_missing_stays_missing(ring, make):
    values = [CARD, None, "5500000000000004", "(030) 901820", CARD, "5500-0000-0000-0004"]
    frame = frames.wrap(make({"number": values, "id": range(6)}))
    hidden = fpe.encrypt_column(frame, "number", ring, table="cards")
    cells = frames.column(hidden, "number")
    alone = [v and fpe.encrypt(v, ring, **PLACE) for v in values]
    assert cells == alone
    assert cells[0] == cells[4]
    assert type(frames.native(hidden)) is type(frames.native(frame))
    back = fpe.decrypt_column(hidden, "number", ring, table="cards")
    assert frames.column(back, "number") == values


def test_a_column_is_decrypted_with_the_key_that_is_named(ring):
    frame = frames.wrap(pa.table({"number": [CARD]}))
    old = fpe.current(ring, **PLACE)
    hidden = fpe.encrypt_column(frame, "number", ring, table="cards")
    rotate(ring, "format", "cards.number")
    back = fpe.decrypt_column(hidden, "number", ring, table="cards", key_id=old)
    assert frames.column(back, "number") == [CARD]


def test_one_value_that_is_refused_refuses_the_column(ring):
    frame = frames.wrap(pa.table({"number": [CARD, "12-34"]}))
    with pytest.raises(InputError, match="4 characters of 10 kinds"):
        fpe.encrypt_column(frame, "number", ring, table="cards")


def test_an_empty_column_and_one_of_missing_values_are_fine(ring):
    for values in ([], [None, None]):
        frame = frames.wrap(pa.table({"number": pa.array(values, pa.string())}))
        hidden = fpe.encrypt_column(frame, "number", ring, table="cards")
        assert frames.column(hidden, "number") == values
