"""Whatever a hand changes in the tables is found and named; what nobody touched is never accused."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.signing import Signer
from compliance.errors import TrailCorrupt
from compliance.store import Store
from compliance.trail import checkpoint, merkle, verify
from compliance.trail.entries import Event
from compliance.trail.log import Trail

ROW = "compliance_trail_entry"
HEAD = "compliance_trail_head"
EDITED = "CAST(replace(CAST(body AS TEXT), 'actor3', 'actorX') AS BLOB)"
COLUMNS = '"index", body, leaf_hash, root, time, event, actor, activity, subject, outcome'


@pytest.fixture
def file(trail, sqlite_url):
    """Return the file of a trail of ten entries, some appended together."""
    for number in range(4):
        trail.append(event(number))
    trail.append(*(event(number) for number in range(4, 8)))
    trail.append(event(8))
    trail.append(event(9))
    return sqlite_url.removeprefix("sqlite:///")


def event(number):
    return Event(event="test", actor=f"actor{number}", activity="scoring", facts={"n": number})


def tamper(file, *statements):
    """Run statements as a hand with the sqlite3 shell would; say that they changed something."""
    connection = sqlite3.connect(file)
    connection.create_function("leaf", 1, merkle.leaf_hash)
    with connection:
        changed = sum(connection.execute(statement).rowcount for statement in statements)
    connection.close()
    assert changed != 0


def faults(trail):
    return verify.check(trail.store, trail.signer).faults


def kinds(trail):
    return {fault.kind for fault in faults(trail)}


def test_an_untouched_trail_is_not_accused(trail, file):
    checked = verify.check(trail.store, trail.signer)
    assert (checked.size, checked.faults, checked.require()) == (10, (), None)


def test_a_copy_of_the_file_is_not_accused(trail, file, tmp_path):
    source, target = sqlite3.connect(file), sqlite3.connect(tmp_path / "copy.db")
    source.backup(target)
    source.close()
    target.close()
    copy = Store.open(f"sqlite:///{tmp_path / 'copy.db'}")
    assert verify.check(copy, trail.signer).faults == ()
    copy.close()


@pytest.mark.parametrize(
    ("statement", "kind", "index"),
    [
        (f'UPDATE {ROW} SET body = {EDITED} WHERE "index" = 3', "payload", 3),
        (f"UPDATE {ROW} SET body = CAST('{{}}' AS BLOB) WHERE \"index\" = 3", "payload", 3),
        (f"UPDATE {ROW} SET body = 'text' WHERE \"index\" = 3", "payload", 3),
        (f'UPDATE {ROW} SET body = 7 WHERE "index" = 3', "payload", 3),
        (f'UPDATE {ROW} SET leaf_hash = zeroblob(32) WHERE "index" = 3', "payload", 3),
        (f'UPDATE {ROW} SET leaf_hash = 1000000000000 WHERE "index" = 3', "payload", 3),
        (f'UPDATE {ROW} SET leaf_hash = zeroblob(0) WHERE "index" = 3', "payload", 3),
        (f"UPDATE {ROW} SET actor = 'somebody' WHERE \"index\" = 3", "column", 3),
        (f"UPDATE {ROW} SET actor = x'00ff' WHERE \"index\" = 3", "column", 3),
        (f'UPDATE {ROW} SET activity = NULL WHERE "index" = 3', "column", 3),
        (f"UPDATE {ROW} SET subject = 'x' WHERE \"index\" = 3", "column", 3),
        (f"UPDATE {ROW} SET outcome = 'ok' WHERE \"index\" = 3", "column", 3),
        (f"UPDATE {ROW} SET event = 'other' WHERE \"index\" = 3", "column", 3),
        (f"UPDATE {ROW} SET time = '1999' WHERE \"index\" = 3", "column", 3),
        (f'UPDATE {ROW} SET root = zeroblob(32) WHERE "index" = 3', "leaf", 3),
        (f'DELETE FROM {ROW} WHERE "index" = 3', "gap", 3),
        (f'DELETE FROM {ROW} WHERE "index" = 0', "gap", 0),
        (f'UPDATE {ROW} SET "index" = 30 WHERE "index" = 3', "gap", 3),
        (f'UPDATE {ROW} SET "index" = -1 WHERE "index" = 0', "gap", 0),
        (f"UPDATE {ROW} SET \"index\" = 'three' WHERE \"index\" = 3", "gap", 3),
    ],
)  # fmt: skip
def test_a_changed_entry_is_named(trail, file, statement, kind, index):
    tamper(file, statement)
    assert (kind, index) in {(fault.kind, fault.index) for fault in faults(trail)}
    with pytest.raises(TrailCorrupt):
        verify.check(trail.store, trail.signer).require()


@pytest.mark.parametrize("index", range(10))
def test_an_entry_rewritten_together_with_its_leaf_is_located(trail, file, index):
    """Entries 4 to 7 came in one append: there the log says which append, not which entry."""
    body = f"CAST(replace(CAST(body AS TEXT), 'actor{index}', 'actorX') AS BLOB)"
    tamper(
        file,
        f"UPDATE {ROW} SET body = {body}, leaf_hash = leaf({body}), actor = 'actorX'"
        f' WHERE "index" = {index}',
    )
    found = {fault.kind: fault for fault in faults(trail)}
    assert set(found) == {"leaf", "head"}
    assert found["leaf"].index == (4 if 4 <= index < 8 else index)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 8), (4, 7), (8, 9)])
def test_two_entries_that_changed_places_are_found(trail, file, first, second):
    tamper(
        file,
        f'UPDATE {ROW} SET "index" = 99 WHERE "index" = {first}',
        f'UPDATE {ROW} SET "index" = {first} WHERE "index" = {second}',
        f'UPDATE {ROW} SET "index" = {second} WHERE "index" = 99',
    )
    assert kinds(trail) >= {"head"}


def test_a_gap_that_was_closed_by_renumbering_is_found(trail, file):
    tamper(
        file,
        f'DELETE FROM {ROW} WHERE "index" = 3',
        f'UPDATE {ROW} SET "index" = -"index" WHERE "index" > 3',
        f'UPDATE {ROW} SET "index" = -"index" - 1 WHERE "index" < 0',
    )
    assert kinds(trail) == {"leaf", "head"}


@pytest.mark.parametrize("count", [1, 9, 10])
def test_a_cut_off_end_is_found(trail, file, count):
    tamper(file, f'DELETE FROM {ROW} WHERE "index" >= {10 - count}')
    assert kinds(trail) == {"head"}


def test_an_appended_row_is_found(trail, file):
    tamper(
        file,
        f"INSERT INTO {ROW} SELECT 10, body, leaf_hash, NULL, time, event, actor, activity,"
        f' subject, outcome FROM {ROW} WHERE "index" = 9',
    )
    assert kinds(trail) == {"head"}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("size = 9", "head"),
        ("size = 11", "head"),
        ("size = 0", "head"),
        ("size = 'x'", "head"),
        ("root = zeroblob(32)", "head"),
        ("root = 'x'", "head"),
        ("frontier = zeroblob(64)", "head"),
        ("frontier = zeroblob(0)", "head"),
        ("frontier = 1", "head"),
        ("note = ''", "signature"),
        ("note = x'00'", "signature"),
        ("note = 12", "signature"),
        ("note = replace(note, 'compliance/test', 'compliance/other')", "signature"),
        (
            "note = replace(note, char(10) || '10' || char(10), char(10) || '11' || char(10))",
            "signature",
        ),
    ],
)
def test_a_changed_head_is_found(trail, file, statement, kind):
    tamper(file, f"UPDATE {HEAD} SET {statement}")
    assert kind in kinds(trail)


def test_a_missing_head_is_found(trail, file):
    tamper(file, f"DELETE FROM {HEAD}")
    assert kinds(trail) == {"head"}


def test_a_head_rolled_back_to_an_earlier_signed_one_is_found(trail, file):
    old = sqlite3.connect(file)
    before = old.execute(f"SELECT size, root, frontier, note FROM {HEAD}").fetchone()
    trail.append(event(10))
    with old:
        old.execute(f"UPDATE {HEAD} SET size = ?, root = ?, frontier = ?, note = ?", before)
    old.close()
    assert kinds(trail) == {"head"}


def test_a_head_signed_anew_by_another_key_is_found(trail, file):
    thief = Signer(trail.signer.name, bytes([5] * 32))
    signed = checkpoint.open_note(trail.checkpoint(), trail.signer)
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(f"UPDATE {HEAD} SET note = ?", (checkpoint.sign(signed, thief),))
    connection.close()
    assert kinds(trail) == {"signature"}


def test_a_note_of_the_same_key_for_another_log_is_found(trail, file):
    signed = checkpoint.open_note(trail.checkpoint(), trail.signer)
    other = checkpoint.Checkpoint("another log", signed.size, signed.root)
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(f"UPDATE {HEAD} SET note = ?", (checkpoint.sign(other, trail.signer),))
    connection.close()
    assert kinds(trail) == {"signature"}


def test_what_is_recorded_after_the_change_does_not_hide_it(trail, file):
    """The writer knows the head only; the reader knows every byte."""
    tamper(file, f"UPDATE {ROW} SET actor = 'somebody' WHERE \"index\" = 3")
    trail.append(event(10))
    assert [(fault.kind, fault.index) for fault in faults(trail)] == [("column", 3)]


def test_a_rewritten_trail_is_reported_in_a_hundred_faults_and_its_head(trail):
    trail.append(*(event(number) for number in range(250)))
    with trail.store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {ROW} SET actor = 'x', leaf_hash = zeroblob(32)")
        connection.exec_driver_sql(f"UPDATE {HEAD} SET note = ''")
    found = faults(trail)
    assert len(found) == 101
    assert found[-1].kind == "signature"


def test_a_message_names_the_place_and_quotes_no_value(trail, file):
    tamper(file, f"UPDATE {ROW} SET actor = 'Jane Doe' WHERE \"index\" = 3")
    with pytest.raises(TrailCorrupt, match="column: entry 3") as caught:
        verify.check(trail.store, trail.signer).require()
    assert "Jane" not in str(caught.value)


def test_progress_ends_at_the_whole(trail):
    seen = []
    trail.append(*(event(number) for number in range(4_100)))
    verify.check(trail.store, trail.signer, lambda done, whole: seen.append((done, whole)))
    assert seen == [(2_000, 4_100), (4_000, 4_100), (4_100, 4_100)]


@given(st.data())
def test_any_flipped_bit_of_a_stored_blob_is_found(draw):
    store = Store.open("sqlite://")
    trail = Trail(store, Signer("compliance/test", bytes(32)))
    for number in range(3):
        trail.append(event(number))
    with store.writing() as connection:
        rows = connection.exec_driver_sql(f"SELECT {COLUMNS} FROM {ROW}").mappings().all()
        index = draw.draw(st.integers(0, 2))
        column = draw.draw(st.sampled_from(["body", "leaf_hash", "root"]))
        blob = bytearray(rows[index][column])
        bit = draw.draw(st.integers(0, len(blob) * 8 - 1))
        blob[bit // 8] ^= 1 << bit % 8
        change = f'UPDATE {ROW} SET {column} = ? WHERE "index" = ?'
        connection.exec_driver_sql(change, (bytes(blob), index))
    with pytest.raises(TrailCorrupt):
        verify.check(store, trail.signer).require()
    store.close()


def test_postgresql_is_verified_like_sqlite(any_trail):
    for number in range(5):
        any_trail.append(event(number))
    verify.check(any_trail.store, any_trail.signer).require()
    with any_trail.store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {ROW} SET actor = 'x' WHERE \"index\" = 2")
    assert [(f.kind, f.index) for f in faults(any_trail)] == [("column", 2)]
