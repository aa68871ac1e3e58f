"""Cells that somebody touched: all refused, by one message, before or without a plaintext."""

import struct

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import frames
from compliance.crypto import aead, cells, columns
from compliance.crypto.aead import Place
from compliance.crypto.keys import Key
from compliance.errors import DecryptionFailed, InputError

SECRET = "hunter2"


def wrap(cells, name="x"):
    return frames.wrap(pd.DataFrame({name: pd.Series(cells, dtype=object)}))


def sealed(ring, value=SECRET, column="x", **options):
    frame = columns.encrypt(wrap([value], column), [column], ring, table="people", **options)
    return frames.column(frame, column)[0]


def refusal(ring, cell, column="x", **options):
    with pytest.raises(DecryptionFailed) as caught:
        columns.decrypt(wrap([cell], column), [column], ring, table="people", **options)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_every_flipped_bit_and_every_length_is_refused_alike(ring):
    cell = sealed(ring, rows=[1])
    flipped = [
        bytes([*cell[: i // 8], cell[i // 8] ^ 1 << i % 8, *cell[i // 8 + 1 :]])
        for i in range(8 * len(cell))
    ]
    cut = [cell[:length] for length in range(len(cell))]
    longer = [cell + b"\0", cell * 2, b"\x01" + cell]
    said = {refusal(ring, altered, rows=[1]) for altered in (*flipped, *cut, *longer)}
    assert said == {aead.REFUSED}


def test_wrong_keys_of_every_sort_are_refused_alike_before_decryption(ring, monkeypatch):
    """A cell under any other key of the ring is made well: only the key's kind and name betray it."""
    place = Place(ring.tenant, "people", "x")
    own = ring.column("people", "x")
    others = [
        ring.column("people", "y"),
        ring.column("staff", "x"),
        ring.subject("person", 1),
        ring.model("x"),
        ring.named("lookup", "subjects"),
        ring.named("signing", "trail"),
        ring.named("model", "people.x"),
    ]
    forged = [ring.seal(key, b"s" + SECRET.encode(), place) for key in others]
    good = sealed(ring)
    forged += [good[:1] + struct.pack(">I", n) + good[5:] for n in (0, 999_999, 2**31, 2**32 - 1)]
    monkeypatch.setattr(cells, "open_all", lambda *_: pytest.fail("decrypted"))
    assert {refusal(ring, cell) for cell in forged} == {aead.REFUSED}
    assert own.id == aead.key_id_of(good)


def test_one_foreign_cell_among_good_ones_is_refused(ring):
    frame = columns.encrypt(wrap(["a"] * 50), ["x"], ring, table="people")
    cells = frames.column(frame, "x")
    cells[25] = ring.seal(ring.model("x"), b"sa", Place(ring.tenant, "people", "x"))
    with pytest.raises(DecryptionFailed, match="does not open"):
        columns.decrypt(wrap(cells), ["x"], ring, table="people")


@pytest.mark.parametrize("cell", ["plain text", "", "AAAA", 7, 0.5, b"", object(), ["a"]])
def test_what_is_no_cell_is_refused_alike_and_not_quoted(ring, cell):
    assert refusal(ring, cell) == aead.REFUSED


def epochs(ring):
    """Rotate the column's key; return the old key and the new one."""
    old = ring.column("people", "x")
    return old, ring.keys.advance("column", "people.x")


def test_cells_of_an_old_epoch_open_beside_new_ones(ring):
    before = sealed(ring)
    old, new = epochs(ring)
    after = sealed(ring, "second")
    assert [aead.key_id_of(cell) for cell in (before, after)] == [old.id, new.id]
    frame = columns.decrypt(wrap([before, None, after]), ["x"], ring, table="people")
    assert frames.column(frame, "x") == [SECRET, None, "second"]


def test_a_cell_relabelled_to_another_epoch_is_refused(ring):
    cell = sealed(ring)
    _, new = epochs(ring)
    assert refusal(ring, aead.header(new.id) + cell[5:]) == aead.REFUSED


def test_nonces_are_reserved_once_for_all_cells_that_are_sealed(ring, monkeypatch):
    asked = []
    monkeypatch.setattr(ring, "reserve", lambda key, count: asked.append(count) or key)
    columns.encrypt(wrap(["a", None, "b"]), ["x"], ring, table="people")
    columns.encrypt(wrap(["a", None, "b"]), ["x"], ring, table="people", nulls="seal")
    columns.encrypt(wrap([None]), ["x"], ring, table="people")
    assert asked == [2, 3]


def test_keys_are_asked_for_once_a_column_and_not_kept(ring, monkeypatch):
    frame = columns.encrypt(wrap(["a"] * 100), ["x"], ring, table="people")
    asked, by_ids = [], ring.by_ids
    monkeypatch.setattr(ring, "by_ids", lambda ids: asked.extend(ids) or by_ids(ids))
    for _ in range(2):
        columns.decrypt(frame, ["x"], ring, table="people")
    assert asked == [ring.column("people", "x").id] * 2


NAMES = st.text(st.characters(exclude_categories=()), min_size=1, max_size=4)


@given(
    NAMES,
    st.text(min_size=1, max_size=4),
    st.lists(NAMES, min_size=2, max_size=2, unique_by=str.strip),
)
def test_rows_with_hostile_names_do_not_change_places(table, column, rows):
    ring = Ring()
    frame = columns.encrypt(wrap(["a", "b"], column), [column], ring, table=table, rows=rows)
    opened = columns.decrypt(frame, [column], ring, table=table, rows=rows)
    assert frames.column(opened, column) == ["a", "b"]
    for wrong in (rows[::-1], None):
        with pytest.raises(DecryptionFailed):
            columns.decrypt(frame, [column], ring, table=table, rows=wrong)


class Ring:
    """One key for every column, so that the place alone keeps cells apart."""

    tenant = "acme"

    def column(self, table, column):
        self.key = Key(1, bytes(32), "column", f"{table}.{column}")
        return self.key

    def reserve(self, key, count):
        return key

    def by_ids(self, key_ids):
        return dict.fromkeys(key_ids, self.key)


def test_a_refusal_and_its_traceback_hold_no_bytes_of_the_cell(ring):
    cell = sealed(ring)
    said = refusal(ring, cell[:-1])
    assert not {SECRET, cell[5:17].hex(), repr(cell[5:17])} & set(said.split())


@pytest.mark.parametrize("others", [["7 ", "7"], ["7\xa0", "7"], [" 7", "7"]])
def test_rows_whose_keys_differ_by_spaces_do_not_change_places(ring, others):
    frame = columns.encrypt(wrap(["a", "b"]), ["x"], ring, table="people", rows=others)
    with pytest.raises(DecryptionFailed):
        columns.decrypt(frame, ["x"], ring, table="people", rows=others[::-1])
    opened = columns.decrypt(frame, ["x"], ring, table="people", rows=others)
    assert frames.column(opened, "x") == ["a", "b"]


def test_a_frame_of_any_library_comes_back_as_it_was_given(ring):
    import pandas as pd

    sealed = columns.encrypt(pd.DataFrame({"x": ["a"]}), ["x"], ring, table="people")
    assert isinstance(sealed, pd.DataFrame)
    assert columns.decrypt(sealed, ["x"], ring, table="people")["x"].to_list() == ["a"]


def test_one_name_is_not_a_list_of_letters_and_no_name_is_none(ring):
    with pytest.raises(InputError, match="give a list"):
        columns.encrypt(wrap(["a"]), "x", ring, table="people")
    with pytest.raises(InputError, match="table"):
        columns.decrypt(wrap(["a"]), ["x"], ring, table="")
