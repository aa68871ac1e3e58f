"""The vault: one token for a value in its space, whoever asks; forgotten means forgotten."""

import datetime as dt
import re
import secrets

import pytest
import sqlalchemy as sa
from epochs import mark, rotate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenrows import TABLE, change, on_disk, rows

from compliance.crypto.keys import Keyring
from compliance.crypto.tokens import Vault
from compliance.errors import (
    DecryptionFailed,
    InputError,
    KeyDestroyed,
    OperationError,
)

CARD = "4111-1111-1111-1111"
PAST = "2024-01-01T00:00:00+00:00"


@pytest.fixture
def vault(any_ring):
    return Vault(any_ring, "people")


# -- tokens ------------------------------------------------------------------------------


def test_a_value_has_one_token_and_comes_back(vault):
    values = ["ana", None, "ben", "ana", 7, "7", b"7", dt.date(2024, 2, 29), "", "\ud800"]
    tokens = vault.tokenise(values)
    assert tokens[0] == tokens[3]
    assert tokens[1] is None
    assert len(set(tokens)) == 9
    assert vault.detokenise(tokens) == values
    assert list(map(type, vault.detokenise(tokens))) == list(map(type, values))
    assert vault.tokenise(values) == tokens


def test_nothing_to_do_is_fine(vault):
    assert vault.tokenise([]) == vault.detokenise([]) == []
    assert vault.tokenise([None]) == vault.detokenise([None]) == [None]
    assert vault.forget() == 0


def test_a_token_is_128_random_bits_of_url_safe_text(vault):
    tokens = vault.tokenise(range(100))
    assert all(re.fullmatch(r"tok_[A-Za-z0-9_-]{22}", token) for token in tokens)


def test_many_values_fit_one_call(vault):
    values = [f"value {n}" for n in range(3_500)]
    tokens = vault.tokenise(values)
    assert len(set(tokens)) == 3_500
    assert vault.tokenise(values[::-1]) == tokens[::-1]
    assert vault.detokenise(tokens) == values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.none() | st.text(st.characters()) | st.integers() | st.binary(), max_size=8))
def test_any_column_comes_back(ring, values):
    vault = Vault(ring, "any")
    assert vault.detokenise(vault.tokenise(values)) == values


def test_what_the_database_holds_shows_no_value(ring, sqlite_url):
    vault = Vault(ring, "people")
    tokens = vault.tokenise(["ana@example.org"])
    (row,) = rows(ring)
    assert row.token == tokens[0]
    assert b"ana" not in bytes(row.sealed)
    assert b"tok_" in on_disk(sqlite_url)
    assert b"ana@example" not in on_disk(sqlite_url)


# -- spaces and tenants ------------------------------------------------------------------


def test_another_space_or_tenant_has_another_token_and_knows_none_of_mine(any_ring, key_file):
    other = Keyring.open(any_ring.store, key_file, tenant="other")
    mine = Vault(any_ring, "people").tokenise(["ana"])
    for stranger in (Vault(any_ring, "staff"), Vault(other, "people")):
        assert stranger.tokenise(["ana"]) != mine
        with pytest.raises(DecryptionFailed, match="not of this space"):
            stranger.detokenise(mine)
        assert stranger.detokenise(mine, forgotten="null") == [None]
        assert stranger.forget(tokens=mine) == 0
    assert Vault(any_ring, "people").detokenise(mine) == ["ana"]


def test_a_row_that_was_moved_to_another_space_or_tenant_is_refused(ring, key_file):
    tokens = Vault(ring, "people").tokenise(["ana", "ben"])
    other = Keyring.open(ring.store, key_file, tenant="other")
    change(ring, tokens[0], space="staff")
    change(ring, tokens[1], tenant="other")
    for stranger, token in ((Vault(ring, "staff"), tokens[0]), (Vault(other, "people"), tokens[1])):
        with pytest.raises(DecryptionFailed):
            stranger.detokenise([token])


# -- forgetting ----------------------------------------------------------------------------


def test_a_forgotten_token_means_nothing_and_its_value_gets_another(vault):
    tokens = vault.tokenise(["ana", "ben", "eve"])
    assert vault.forget(tokens=tokens[:1], column=["ben", "nobody"]) == 2
    assert vault.detokenise(tokens, forgotten="null") == [None, None, "eve"]
    with pytest.raises(DecryptionFailed, match="2 tokens are not of this space or were forgotten"):
        vault.detokenise(tokens)
    assert vault.tokenise(["ana"]) != tokens[:1]
    assert vault.forget(tokens=tokens[:2]) == 0


def test_what_was_forgotten_is_gone_from_the_disk(ring, sqlite_url):
    vault = Vault(ring, "people")
    (token,) = vault.tokenise(["ana"])
    assert token.encode() in on_disk(sqlite_url)
    vault.forget(column=["ana"])
    assert token.encode() not in on_disk(sqlite_url)


def test_how_to_treat_the_forgotten_is_one_of_two_words(ring):
    with pytest.raises(InputError, match="'raise' or 'null'"):
        Vault(ring, "people").detokenise([], forgotten=True)


# -- subjects --------------------------------------------------------------------------------


def test_destroying_a_subjects_key_erases_that_persons_values(any_ring):
    vault = Vault(any_ring, "mail", subject="customer")
    values, whose = ["a@x.org", "b@x.org", "a@x.org"], ["1", "2", "2"]
    tokens = vault.tokenise(values, whose)
    assert len(set(tokens)) == 3
    assert vault.detokenise(tokens) == values
    assert vault.tokenise(values, whose) == tokens
    with any_ring.store.writing() as connection:
        any_ring.destroy_subject(connection, "customer", "1")
    with pytest.raises(KeyDestroyed):
        vault.detokenise(tokens)
    assert vault.detokenise(tokens, forgotten="null") == [None, "b@x.org", "a@x.org"]
    again = vault.tokenise(values, whose)
    assert again[0] != tokens[0]
    assert again[1:] == tokens[1:]


def test_a_subjects_value_is_forgotten_by_value_and_subject(ring):
    vault = Vault(ring, "mail", subject="customer")
    tokens = vault.tokenise(["a", "a"], [1, 2])
    assert vault.forget(column=["a"], subjects=[2]) == 1
    assert vault.detokenise(tokens, forgotten="null") == ["a", None]


@pytest.mark.parametrize(
    ("subject", "subjects", "message"),
    [
        (None, ["1"], "knows no subjects"),
        ("customer", None, "name one for each value"),
        ("customer", ["1", "2"], "name one for each value"),
        ("customer", [None], "a value has no subject"),
    ],
)
def test_a_subject_stands_for_each_value_or_for_none(ring, subject, subjects, message):
    vault = Vault(ring, "mail", subject=subject)
    with pytest.raises(InputError, match=message):
        vault.tokenise(["a"], subjects)
    assert rows(ring) == []


def test_a_missing_value_needs_no_subject(ring):
    assert Vault(ring, "mail", subject="customer").tokenise([None], [None]) == [None]


def test_a_vault_of_subjects_refuses_a_row_under_the_spaces_key_and_the_other_way(ring):
    (token,) = Vault(ring, "mail").tokenise(["a"])
    with pytest.raises(DecryptionFailed, match="another kind"):
        Vault(ring, "mail", subject="customer").detokenise([token])
    (token,) = Vault(ring, "mail", subject="customer").tokenise(["a"], ["1"])
    with pytest.raises(DecryptionFailed, match="another kind"):
        Vault(ring, "mail").detokenise([token])


# -- digits ----------------------------------------------------------------------------------


def test_a_token_of_digits_looks_like_its_value_and_is_not(vault, any_ring):
    digits = Vault(any_ring, "cards", form="digits")
    values = [CARD, "+49 (30) 9018-20", "000000"]
    tokens = digits.tokenise(values)
    for value, token in zip(values, tokens, strict=True):
        assert re.sub(r"\d", "9", token) == re.sub(r"\d", "9", value)
        assert token != value
    assert digits.detokenise(tokens) == values
    assert digits.tokenise(values) == tokens


@pytest.mark.parametrize("value", ["12345", "", 4111111111111111, "4111 1111x", "\u0664" * 8])
def test_what_is_not_digits_gets_no_token_of_digits(ring, value):
    with pytest.raises(InputError, match="six digits or more"):
        Vault(ring, "cards", form="digits").tokenise([value])
    assert rows(ring) == []


def test_a_token_that_is_taken_is_drawn_again(vault, any_ring, monkeypatch):
    digits = Vault(any_ring, "cards", form="digits")
    drawn = iter("111111" * 3 + "222222" + "111111" + "222222" + "333333")
    monkeypatch.setattr(secrets, "choice", lambda _: next(drawn))
    # The first is drawn for two values at once and taken by one; "222222" is a value itself.
    assert sorted(digits.tokenise(["900001", "900002"])) == ["111111", "222222"]
    assert digits.tokenise(["900003"]) == ["333333"]
    assert next(drawn, None) is None


def test_a_space_of_digits_that_is_full_says_so_and_keeps_nothing(ring, monkeypatch):
    digits = Vault(ring, "cards", form="digits")
    monkeypatch.setattr(secrets, "choice", lambda _: "1")
    with pytest.raises(OperationError, match="nearly full"):
        digits.tokenise(["900001", "900002"])
    assert rows(ring) == []


def test_an_unknown_form_is_refused_with_those_there_are(ring):
    with pytest.raises(InputError, match="random, digits"):
        Vault(ring, "people", form="uuid")


# -- epochs ----------------------------------------------------------------------------------


def test_a_token_survives_new_epochs_and_is_sealed_anew_on_request(any_ring):
    vault = Vault(any_ring, "people")
    values = [f"value {n}" for n in range(1_200)]
    tokens = vault.tokenise(values)
    old = {kind: any_ring.named(kind, name).id for kind, name in KEYS}
    for kind, name in KEYS:
        rotate(any_ring, kind, name)
    assert vault.tokenise(values) == tokens
    fresh = vault.tokenise(["new"])
    assert vault.reseal() == 1_200
    assert vault.reseal() == 0
    for key_id in old.values():
        mark(any_ring, key_id, destroyed="2026-01-01", wrapped=None)
    assert vault.detokenise(tokens + fresh) == [*values, "new"]
    assert vault.tokenise(values) == tokens


KEYS = (("index", "token:people"), ("token", "people"))


def test_a_row_that_was_altered_stops_the_resealing(ring):
    vault = Vault(ring, "people")
    (token,) = vault.tokenise(["ana"])
    change(ring, token, digest="0" * 64)
    with pytest.raises(DecryptionFailed):
        vault.reseal()


def test_rows_of_subjects_are_not_sealed_anew(ring):
    with pytest.raises(InputError, match="not sealed again"):
        Vault(ring, "mail", subject="customer").reseal()


def test_a_rotation_between_the_look_and_the_write_starts_over(ring, monkeypatch):
    vault = Vault(ring, "people")
    vault.tokenise(["first"])
    entries, rotated = vault._entries, []

    def late(column, whose):
        found = entries(column, whose)
        if not rotated:
            rotated.append(rotate(ring, "index", "token:people"))
        return found

    monkeypatch.setattr(vault, "_entries", late)
    tokens = vault.tokenise(["ana"])
    row = next(row for row in rows(ring) if row.token == tokens[0])
    monkeypatch.undo()
    newest = vault._entries(["ana"], [])[0][0].digests[0]
    assert row.digest == newest


# -- misuse --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Ana", b"Ana"], ids=["text", "bytes"])
def test_one_text_in_the_place_of_a_list_is_refused(ring, text):
    vault, owned = Vault(ring, "people"), Vault(ring, "owned", subject="person")
    for work in (
        lambda: vault.tokenise(text),
        lambda: vault.detokenise(text),
        lambda: vault.forget(tokens=text),
        lambda: vault.forget(column=text),
        lambda: owned.tokenise(["a", "b", "c"], subjects=text),
    ):
        with pytest.raises(InputError, match="give a list"):
            work()
    assert rows(ring) == []


def test_an_empty_space_is_refused(ring):
    with pytest.raises(InputError, match="space is a name"):
        Vault(ring, "")


# -- an index key whose epoch is over -----------------------------------------------------------


def over(ring, key_id, state):
    """Age every row and key, give the space's index key a new epoch, and end the old one."""
    with ring.store.writing() as connection:
        connection.execute(sa.update(TABLE).values(created=PAST))
    rotate(ring, "index", "token:people")
    mark(ring, key_id, **{state: PAST})


@pytest.mark.parametrize("state", ["retired", "destroyed"])
def test_no_value_gets_a_second_token_because_an_index_key_is_over(any_ring, state):
    vault, old = Vault(any_ring, "people"), any_ring.named("index", "token:people").id
    tokens = vault.tokenise(["ana", "ben"])
    over(any_ring, old, state)
    for work in (lambda: vault.tokenise(["ana"]), lambda: vault.forget(column=["ana"])):
        with pytest.raises(OperationError, match="reseal` first"):
            work()
    assert vault.detokenise(tokens) == ["ana", "ben"]
    assert vault.reseal() == 2
    assert vault.tokenise(["ben", "ana"]) == tokens[::-1]
    assert vault.forget(column=["ana"]) == 1


def test_a_space_that_was_half_sealed_again_counts_as_not(ring, monkeypatch):
    vault, old = Vault(ring, "people"), ring.named("index", "token:people").id
    vault.tokenise(["ana", "ben"])
    over(ring, old, "retired")
    monkeypatch.setattr("compliance.crypto.tokens._CHUNK", 1)
    after = vault._after
    monkeypatch.setattr(vault, "_after", lambda c, token: [] if token else after(c, token))
    assert vault.reseal() == 1
    with pytest.raises(OperationError, match="reseal"):
        vault.tokenise(["ana"])
    monkeypatch.undo()
    assert vault.reseal() == 1
    assert vault.tokenise(["ana", "ben"])


def test_a_space_whose_values_were_destroyed_takes_new_ones(ring):
    vault, old = Vault(ring, "people"), ring.named("index", "token:people").id
    gone = vault.tokenise(["ana"])
    over(ring, old, "destroyed")
    mark(ring, ring.named("token", "people").id, destroyed=PAST, wrapped=None)
    rotate(ring, "token", "people")
    assert vault.tokenise(["ana"]) != gone
