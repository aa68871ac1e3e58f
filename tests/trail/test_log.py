"""Appending: gapless, atomic, durable, and never under a head that was not signed here."""

import contextlib
import random
import sqlite3
import threading

import pytest
import sqlalchemy as sa

from compliance.crypto.signing import Signer
from compliance.errors import InputError, StoreError, TrailCorrupt
from compliance.store import Store
from compliance.trail import checkpoint, verify
from compliance.trail.entries import Event
from compliance.trail.log import Trail


def indices(trail):
    return [entry.index for entry in trail.read()]


def execute(trail, statement, **values):
    with trail.store.writing() as connection:
        return connection.execute(sa.text(statement), values)


# -- what an append promises --------------------------------------------------------


def test_entries_are_numbered_from_zero_without_a_gap(any_trail):
    first = any_trail.append(Event(event="one"))
    second = any_trail.append(Event(event="two"), Event(event="three"))
    assert (first, second, any_trail.size(), indices(any_trail)) == (0, 1, 3, [0, 1, 2])
    verify.check(any_trail.store, any_trail.signer).require()


def test_an_empty_trail_has_no_checkpoint_and_verifies(any_trail):
    assert (any_trail.size(), any_trail.checkpoint()) == (0, "")
    verify.check(any_trail.store, any_trail.signer).require()


def test_appending_nothing_records_nothing(any_trail):
    any_trail.append(Event(event="one"))
    assert (any_trail.append(), any_trail.size()) == (1, 1)


def test_the_checkpoint_is_signed_over_size_and_root(any_trail):
    any_trail.append(Event(event="one"), Event(event="two"))
    signed = checkpoint.open_note(any_trail.checkpoint(), any_trail.signer)
    checked = verify.check(any_trail.store, any_trail.signer)
    assert (signed.size, signed.root) == (2, checked.root)


def test_what_was_written_is_read_by_filter_and_backwards(any_trail):
    for number in range(5):
        any_trail.append(Event(event="even" if number % 2 == 0 else "odd", actor=f"a{number}"))
    found = any_trail.read(filters={"event": "even", "actor": None}, newest_first=True, start=1)
    assert [(entry.index, entry.values["actor"]) for entry in found] == [(4, "a4"), (2, "a2")]


def test_reading_spans_many_pages(trail):
    trail.append(*(Event(event="e", facts={"n": n}) for n in range(4_500)))
    assert [entry.values["facts"]["n"] for entry in trail.read()] == list(range(4_500))


def test_a_bad_event_leaves_its_good_neighbours_unrecorded(any_trail):
    with pytest.raises(InputError):
        any_trail.append(Event(event="good"), Event(event="bad", facts={"x": 0.5}))
    assert any_trail.size() == 0


# -- one transaction with the caller ----------------------------------------------------


def test_an_entry_goes_with_the_transaction_that_is_rolled_back(any_trail):
    any_trail.append(Event(event="before"))
    with contextlib.suppress(ZeroDivisionError), any_trail.store.writing() as connection:
        any_trail.append_in(connection, Event(event="lost"))
        raise ZeroDivisionError
    any_trail.append(Event(event="after"))
    assert [entry.values["event"] for entry in any_trail.read()] == ["before", "after"]
    verify.check(any_trail.store, any_trail.signer).require()


def test_two_appends_in_one_transaction_follow_each_other(any_trail):
    with any_trail.store.writing() as connection:
        assert any_trail.append_in(connection, Event(event="one")) == 0
        assert any_trail.append_in(connection, Event(event="two")) == 1
    verify.check(any_trail.store, any_trail.signer).require()


# -- many writers, and writers that die ---------------------------------------------------


def test_eight_processes_append_at_once_without_gap_or_fork(url, signer, writer):
    """Each opens the empty store itself, so that they also race for the schema and the head."""
    each = 15
    processes = [writer(url, f"w{number}", each) for number in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split("\n")[:-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8

    store = Store.open(url)
    there = {
        (entry.index, entry.values["actor"], entry.values["facts"]["number"])
        for entry in Trail(store, signer).read()
    }
    acknowledged = {
        (int(line.split()[0]), f"w{who}", int(line.split()[1]))
        for who, lines in enumerate(said)
        for line in lines
    }
    assert there == acknowledged
    assert sorted(index for index, _, _ in there) == list(range(8 * each))
    verify.check(store, signer).require()
    store.close()


def test_nothing_acknowledged_is_lost_when_writers_are_killed(url, signer, writer):
    chance = random.Random(7)
    acknowledged = 0
    for round_ in range(6):
        process = writer(url, f"round{round_}", 10_000)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(chance.randrange(1, 40)):
            acknowledged = int(process.stdout.readline().split()[0]) + 1
        process.kill()
        left = process.stdout.read()  # communicate() would pass over what readline() had buffered
        process.wait()
        rest = [line for line in left.split("\n") if line.count(" ") == 1]
        acknowledged = max([acknowledged, *(int(line.split()[0]) + 1 for line in rest)])

        store = Store.open(url)
        assert verify.check(store, signer).require() is None
        assert acknowledged <= Trail(store, signer).size() <= acknowledged + 1
        store.close()
    assert acknowledged > 6


def test_a_verification_beside_a_writer_accuses_nobody(any_trail):
    done = threading.Event()

    def write():
        while not done.is_set():
            any_trail.append(Event(event="busy"))

    any_trail.append(*(Event(event="old") for _ in range(500)))
    thread = threading.Thread(target=write)
    thread.start()
    try:
        faults = [verify.check(any_trail.store, any_trail.signer).faults for _ in range(15)]
    finally:
        done.set()
        thread.join()
    assert faults == [()] * 15
    assert any_trail.size() > 500


# -- nothing is signed that was not signed before -------------------------------------------


def rewritten(url):
    """Rewrite the last entry and carry the lie through to the head, as a patient hand would."""
    from compliance.trail import merkle

    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        rows = connection.execute(
            'SELECT "index", body FROM compliance_trail_entry ORDER BY "index"'
        ).fetchall()
        bodies = [row[1].replace(b"mallory", b"alice..") for row in rows]
        frontier = merkle.Frontier()
        for (index, _), body in zip(rows, bodies, strict=True):
            frontier.append(merkle.leaf_hash(body))
            connection.execute(
                "UPDATE compliance_trail_entry SET body = ?, leaf_hash = ?, root = ?,"
                " actor = replace(actor, 'mallory', 'alice..') WHERE \"index\" = ?",
                (body, merkle.leaf_hash(body), frontier.root(), index),
            )
        connection.execute(
            "UPDATE compliance_trail_head SET root = ?, frontier = ?",
            (frontier.root(), frontier.encode()),
        )
    connection.close()


def test_an_append_does_not_put_a_signature_under_a_rewritten_past(trail, sqlite_url):
    for actor in ("ana", "mallory", "ben"):
        trail.append(Event(event="e", actor=actor))
    rewritten(sqlite_url)
    with pytest.raises(TrailCorrupt, match="not the one that was signed"):
        trail.append(Event(event="next"))
    assert trail.size() == 3
    with pytest.raises(TrailCorrupt, match="not the one that was signed"):
        verify.check(trail.store, trail.signer).require()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE compliance_trail_head SET size = size + 1",
        "UPDATE compliance_trail_head SET size = 0",
        "UPDATE compliance_trail_head SET size = 'many'",
        "UPDATE compliance_trail_head SET root = zeroblob(32)",
        "UPDATE compliance_trail_head SET root = 'text'",
        "UPDATE compliance_trail_head SET frontier = zeroblob(length(frontier))",
        "UPDATE compliance_trail_head SET frontier = zeroblob(7)",
        "UPDATE compliance_trail_head SET frontier = 5",
        "UPDATE compliance_trail_head SET note = ''",
        "UPDATE compliance_trail_head SET note = x'00'",
        "UPDATE compliance_trail_head SET note = replace(note, '— ', '— x')",
        "DELETE FROM compliance_trail_head",
    ],
)
def test_an_append_refuses_a_head_that_was_touched(trail, statement):
    for _ in range(3):
        trail.append(Event(event="e"))
    execute(trail, statement)
    with pytest.raises(TrailCorrupt):
        trail.append(Event(event="next"))
    assert len(indices(trail)) == 3


def test_a_trail_of_another_tenant_is_refused_in_words(trail, store):
    trail.append(Event(event="e"))
    other = Trail(store, Signer("compliance/other", bytes([9] * 32)))
    with pytest.raises(TrailCorrupt, match="give each tenant a database of its own"):
        other.append(Event(event="e"))


def test_an_entry_that_stands_where_the_next_belongs_stops_the_writer(trail):
    trail.append(Event(event="e"))
    execute(
        trail,
        'INSERT INTO compliance_trail_entry SELECT "index" + 1, body, leaf_hash, root, time, event,'
        " actor, activity, subject, outcome FROM compliance_trail_entry",
    )
    with pytest.raises(StoreError):
        trail.append(Event(event="next"))


def test_reading_a_destroyed_body_says_that_it_is_corrupt(trail):
    trail.append(Event(event="e"))
    execute(trail, "UPDATE compliance_trail_entry SET body = 'text'")
    with pytest.raises(TrailCorrupt):
        list(trail.read())
