"""Consent by purpose and lawful basis: the latest word counts, and the store knows no names."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.access.consent import AUTOMATED, Consents
from compliance.crypto.keys import Keyring
from compliance.errors import InputError, StoreError
from compliance.policy import Policy, Purpose
from compliance.store import Store
from compliance.trail import verify
from compliance.trail.entries import Event
from compliance.trail.log import Trail

WHO = Event(event="", actor="olga", method="os", account="svc", policy="d" * 64)
PEOPLE = ["ana", "ben", "eve", None]


@pytest.fixture
def say(consents):
    def record(state, *people, purpose="lending", subject_type="person"):
        return consents.record(WHO, people, purpose=purpose, state=state, subject_type=subject_type)

    return record


def in_(consents, purpose="lending", subject_type="person"):
    return consents.permits(purpose, subject_type, PEOPLE)


# -- lawful basis ------------------------------------------------------------------------


def test_under_consent_only_those_are_in_who_gave_it(consents, say):
    assert in_(consents) == [False, False, False, False]
    assert say("given", "ana", "ben") == 2
    assert in_(consents) == [True, True, False, False]
    say("withdrawn", "ana")
    say("opted-out", "ben")
    assert in_(consents) == [False, False, False, False]


def test_under_another_basis_those_are_in_who_did_not_object(consents, say):
    assert in_(consents, "support") == [True, True, True, False]
    say("withdrawn", "ana", purpose="support")
    say("opted-out", "ben", purpose="support")
    assert in_(consents, "support") == [False, False, True, False]
    say("given", "ana", purpose="support")
    assert in_(consents, "support") == [True, False, True, False]


def test_a_row_without_a_subject_is_never_in(consents, say):
    assert in_(consents, "support")[-1] is False
    with pytest.raises(InputError, match="none that is empty"):
        say("given", None)


def test_consent_to_one_purpose_is_none_to_another(consents, say):
    say("given", "ana", purpose="support")
    assert in_(consents, "lending") == [False, False, False, False]


def test_another_kind_of_subject_with_the_same_identifier_is_another_subject(consents, say):
    say("given", "ana", subject_type="company")
    assert in_(consents) == [False, False, False, False]
    assert in_(consents, subject_type="company") == [True, False, False, False]


def test_an_identifier_counts_however_it_is_typed(consents, say):
    say("given", 7)
    assert consents.permits("lending", "person", [7.0, "7", " 7", 8]) == [True, True, True, False]


def test_an_objection_to_automated_decisions_is_a_word_of_its_own(consents, say):
    say("opted-out", "ana", purpose=AUTOMATED)
    say("withdrawn", "ben", purpose=AUTOMATED)
    assert consents.decidable("person", PEOPLE[:3]) == [False, False, True]
    assert in_(consents, "support") == [True, True, True, False]
    say("given", "ana", purpose=AUTOMATED)
    assert consents.decidable("person", PEOPLE[:3]) == [True, False, True]


# -- order ----------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PEOPLE[:3]), st.sampled_from(["given", "withdrawn", "opted-out"])
        ),
        max_size=12,
    )
)
def test_the_latest_word_of_each_subject_is_in_force(tmp_path_factory, policy, words):
    store = Store.open("sqlite://")
    ring = Keyring.open(store, tmp_path_factory.mktemp("keys") / "master.json")
    consents = Consents(store, Trail(store, ring.signer()), ring, policy)
    for person, state in words:
        consents.record(WHO, [person], purpose="lending", state=state)
    latest = dict(words)
    assert in_(consents) == [latest.get(person) == "given" for person in PEOPLE]
    store.close()


def test_many_subjects_in_one_word_are_as_good_as_one_word_each(consents, say):
    say("given", *PEOPLE[:3], "ana")
    assert in_(consents) == [True, True, True, False]


# -- what is written ---------------------------------------------------------------------------


def test_entries_count_subjects_and_name_none_not_even_by_pseudonym(say, trail):
    say("given", "ana")
    say("withdrawn", "ana", "ben")
    one, many = (entry.values for entry in trail.read())
    assert [(e["event"], e["subject"], e["facts"]["subjects"]) for e in (one, many)] == [
        ("consent.given", None, 1),
        ("consent.withdrawn", None, 2),
    ]
    assert (one["actor"], one["purpose"], one["policy"]) == ("olga", "lending", "d" * 64)
    verify.check(trail.store, trail.signer).require()


def test_neither_table_nor_trail_holds_an_identifier(say, store, trail, tmp_path):
    say("given", "jane.doe@example.com")
    say("given", "jane.doe@example.com", "john.roe@example.com")
    for file in tmp_path.glob("access.db*"):
        assert b"example.com" not in file.read_bytes()


def test_the_word_and_its_trail_entry_stand_or_fall_together(consents, say, trail, store):
    say("given", "ana")
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE compliance_trail_head SET note = 'x'")
    with pytest.raises(Exception, match="trail"):
        say("withdrawn", "ana")
    assert in_(consents) == [True, False, False, False]


# -- misuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "state", "people", "match"),
    [
        ("landing", "given", ["ana"], "unknown purpose 'landing'; known: lending"),
        ("lending", "gave", ["ana"], "unknown state 'gave'; known: given"),
        ("lending", "given", [], "at least one subject"),
        ("lending", "given", ["ana", ""], "none that is empty"),
        ("lending", "given", ["ana", " "], "none that is empty"),
        ("lending", "given", ["ana", float("nan")], "none that is empty"),
    ],
)
def test_a_word_that_means_nothing_is_refused_whole(consents, trail, purpose, state, people, match):
    with pytest.raises(InputError, match=match):
        consents.record(WHO, people, purpose=purpose, state=state)
    assert trail.size() == 0
    assert in_(consents) == [False, False, False, False]


def test_nobody_is_in_for_a_purpose_that_is_not_known(consents):
    with pytest.raises(InputError, match="unknown purpose"):
        consents.permits("landing", "person", PEOPLE)


def test_a_data_set_of_32561_subjects_is_recorded_and_asked_in_seconds(consents, say):
    started = time.monotonic()
    assert say("given", *range(32_561)) == 32_561
    say("withdrawn", *range(0, 32_561, 50))
    permitted = consents.permits("lending", "person", list(range(32_561)))
    assert permitted.count(False) == 652
    assert time.monotonic() - started < 10


def test_a_store_that_cannot_be_written_is_an_error_and_not_a_silence(consents, say, store):
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE compliance_consent_event")
    with pytest.raises(StoreError):
        say("given", "ana")
    with pytest.raises(StoreError):
        in_(consents)


# -- rows that a hand changed --------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def spoken(request, tmp_path, policy):
    """Return consents of five people in three batches, and a function that runs SQL on them."""
    url = f"sqlite:///{tmp_path / 'spoken.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    store = Store.open(url)
    ring = Keyring.open(store, tmp_path / "spoken.json")
    consents = Consents(store, Trail(store, ring.signer()), ring, policy)
    consents.record(WHO, ["ana", "ben", "eve"], purpose="lending", state="given")
    consents.record(WHO, ["ana", "eve"], purpose="lending", state="withdrawn")
    consents.record(WHO, ["eve"], purpose="support", state="opted-out")

    def sql(statement):
        with store.writing() as connection:
            connection.exec_driver_sql(statement)

    yield consents, sql, verify.check(store, ring.signer())
    store.close()


_TABLE = "compliance_consent_event"
_COPY = f"INSERT INTO {_TABLE} (reference, purpose, state, time, actor, entry) SELECT"
HANDS = {
    "a row deleted": (f"DELETE FROM {_TABLE} WHERE id = 4", "of entry 1 are not"),
    "a batch deleted": (f"DELETE FROM {_TABLE} WHERE entry = 1", "of entry 1 are gone"),
    "the last batch deleted": (f"DELETE FROM {_TABLE} WHERE entry = 2", "of entry 2 are gone"),
    "the state changed": (f"UPDATE {_TABLE} SET state = 'given' WHERE entry = 1", "of entry 1"),
    "the purpose changed": (f"UPDATE {_TABLE} SET purpose = 'lending' WHERE id = 6", "of entry 2"),
    "the time changed": (f"UPDATE {_TABLE} SET time = '2001' WHERE id = 1", "of entry 0 are not"),
    "the actor changed": (f"UPDATE {_TABLE} SET actor = 'tom' WHERE entry = 0", "of entry 0"),
    "the subject changed": (f"UPDATE {_TABLE} SET reference = 'x' WHERE id = 6", "of entry 2"),
    "batches exchanged": (f"UPDATE {_TABLE} SET entry = 1 - entry WHERE entry < 2", "of entry 0"),
    "a row added to a batch": (
        f"{_COPY} reference, purpose, state, time, actor, 0 FROM {_TABLE} WHERE id = 1",
        "of entry 0 are not",
    ),
    "a batch added": (
        f"{_COPY} reference, purpose, 'given', time, actor, 7 FROM {_TABLE} WHERE id = 4",
        "cite entry 7, which records no consent",
    ),
    "a batch put before all": (
        f"UPDATE {_TABLE} SET entry = -1 WHERE entry = 1",
        "cite entry -1, which records no consent",
    ),
    "two rows made one": (
        (
            f"UPDATE {_TABLE} SET reference = (SELECT MIN(reference) FROM {_TABLE} WHERE entry = 1)"
            f" || '\n' || (SELECT MAX(reference) FROM {_TABLE} WHERE entry = 1) WHERE id = 4;"
            f"DELETE FROM {_TABLE} WHERE id = 5"
        ),
        "of entry 1 are not",
    ),
}


@pytest.mark.parametrize(("statements", "message"), HANDS.values(), ids=HANDS)
def test_what_a_hand_did_to_the_rows_is_found(spoken, statements, message):
    consents, sql, trail = spoken
    assert consents.discrepancies() == ()
    for statement in statements.split(";"):
        sql(statement)
    found = consents.discrepancies()
    assert message in found[0]
    assert not any("ana" in text or "eve" in text for text in found)
    trail.require()  # the trail itself has nothing to say about it


def test_an_entry_that_is_no_number_is_found(consents, say, store):
    say("given", "ana")
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {_TABLE} SET entry = 'zero'")
    assert "consent rows cite no entry of the trail" in consents.discrepancies()


def test_the_order_of_the_rows_is_that_of_the_trail_and_not_of_their_ids(consents, say, store):
    say("given", "ana")
    say("withdrawn", "ana")
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {_TABLE} SET id = 9 WHERE id = 1")
    assert in_(consents)[0] is False
    assert consents.discrepancies() == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["given", "withdrawn", "opted-out"]),
            st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=9),
        ),
        max_size=6,
    )
)
def test_nobody_is_accused_for_what_was_said_in_the_regular_way(said):
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/c.db")
        ring = Keyring.open(store, Path(folder) / "master.json")
        policy = Policy(purposes={"lending": Purpose(description="", basis="consent")})
        consents = Consents(store, Trail(store, ring.signer()), ring, policy)
        for state, people in said:
            consents.record(WHO, people, purpose="lending", state=state)
        assert consents.discrepancies() == ()
        store.close()


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_compared_in_seconds(consents, store):
    people = [f"p{i}" for i in range(100_000)]
    consents.record(WHO, people, purpose="support", state="opted-out")
    begun = time.monotonic()
    assert consents.discrepancies() == ()
    assert time.monotonic() - begun < 10
    with store.writing() as connection:
        connection.exec_driver_sql(f"DELETE FROM {_TABLE} WHERE id = 54321")
    assert len(consents.discrepancies()) == 1
