"""What a scan says of columns that it cannot read: never a plain pass, and sealed where they are."""

import sqlite3

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from compliance import frames
from compliance.crypto import aead
from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring
from compliance.findings import Severity, Verdict
from compliance.pii import columns
from compliance.pii.outcomes import severity_of
from compliance.pii.scan import DATABASE, scan_database, scan_frame
from compliance.policy import PIIRule
from compliance.store import Store

MAIL = [f"u{i}@example.org" for i in range(30)]
NUMBERS = list(range(30))
PHOTOS = [bytes([255, n]) * 40 for n in range(30)]


def sealed(count=30):
    """Return cells of the shape that ours have."""
    return [b"\x01" + n.to_bytes(4, "big") + bytes(28 + n) for n in range(count)]


def scan(frame, make=pd.DataFrame, **more):
    return scan_frame(frames.wrap(make(frame)), source="test", rule=PIIRule(), **more)


def statuses(result):
    (table,) = result.outcome.tables
    return {row[0]: row[-1] for row in table.rows}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])  # fmt: skip
def test_a_table_with_bytes_that_nobody_read_is_no_pass(make):
    result = scan({"id": NUMBERS, "photo": PHOTOS, "scan": PHOTOS}, make)
    assert result.outcome.verdict is Verdict.INSUFFICIENT
    assert result.outcome.findings == ()
    assert result.outcome.summary == (
        "None of 1 columns that were read holds undeclared personal data of the kinds looked for. "
        "Binary cells were not read in 2 columns: photo, scan."
    )
    assert statuses(result)["photo"] == "binary, not read"
    assert (result.outcome.facts["columns_unread"], result.outcome.facts["columns_sealed"]) == (
        2,
        0,
    )


def test_what_was_found_is_a_fail_and_what_was_not_read_is_still_said():
    result = scan({"mail": MAIL, "photo": PHOTOS})
    assert result.outcome.verdict is Verdict.FAIL
    assert result.outcome.summary.endswith("Binary cells were not read in 1 column: photo.")
    assert [f.place.column for f in result.outcome.findings] == ["mail"]


def test_sealed_cells_are_told_and_pass():
    result = scan({"id": NUMBERS, "mail": [*sealed(29), None]})
    assert result.outcome.verdict is Verdict.PASS
    assert result.outcome.summary.endswith("hide what they hold, are in 1 column: mail.")
    assert statuses(result) == {"id": "nothing found", "mail": "sealed"}
    assert (result.outcome.facts["columns_unread"], result.outcome.facts["columns_sealed"]) == (
        0,
        1,
    )


@pytest.mark.parametrize(
    "odd",
    [b"\x01" * 32, b"\x02" * 80, b"", bytearray(80), memoryview(b"\xff" * 80), "text", True],
    ids=["short", "page", "empty", "bytearray", "memoryview", "text", "truth"],
)
def test_one_cell_that_is_not_sealed_makes_the_column_unread(odd):
    cells = columns.gather([*sealed(), odd], 500, 0)
    assert cells.state == "unread"
    assert columns.gather([*sealed(), bytearray(sealed()[0])], 500, 0).state == "sealed"


def test_the_shape_is_that_of_cells_that_we_seal(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'keys.db'}")
    ring = Keyring.open(store, tmp_path / "master.json")
    cell = ring.seal(ring.column("t", "c"), b"", Place("default", "t", "c"))
    store.close()
    assert (len(cell), cell[0]) == (aead.OVERHEAD, aead.VERSION)
    assert columns.gather([cell], 500, 0).state == "sealed"


def test_where_nothing_but_sealed_cells_is_there_nothing_was_audited():
    result = scan({"mail": sealed()})
    assert result.outcome.verdict is Verdict.INSUFFICIENT
    assert "There is no cell to scan" in result.outcome.summary


def test_a_column_of_text_and_bytes_is_read_and_unread():
    result = scan({"mixed": [*MAIL, *PHOTOS]})
    assert result.outcome.verdict is Verdict.FAIL
    assert "1 of 1 columns" in result.outcome.summary
    assert "not read in 1 column: mixed." in result.outcome.summary


def test_columns_are_named_as_reports_name_them_and_a_long_list_is_cut():
    result = scan({"ada@example.org": PHOTOS} | {f"b{n}": PHOTOS for n in range(11)})
    assert "12 columns: column 1, b0, b1, " in result.outcome.summary
    assert result.outcome.summary.endswith("b8 and 2 more.")
    assert "ada" not in repr(result)


def test_a_database_of_sealed_cells_and_photos_is_told_table_by_table(tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, mail BLOB, iban BLOB)")
        connection.execute("CREATE TABLE faces (id INTEGER PRIMARY KEY, photo BLOB)")
        rows = [(n, cell, cell) for n, cell in enumerate(sealed())]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", rows)
        connection.executemany("INSERT INTO faces VALUES (?, ?)", enumerate(PHOTOS))
    connection.close()
    outcomes = {
        o.title.rpartition(".")[2]: o for o in scan_database(f"sqlite:///{tmp_path / 'shop.db'}")
    }
    assert outcomes["people"].verdict is Verdict.PASS
    assert "are in 2 columns: mail, iban." in outcomes["people"].summary
    assert outcomes["faces"].verdict is Verdict.INSUFFICIENT
    assert [o.check for o in outcomes.values()][-1] == DATABASE


def test_a_kind_that_nobody_rated_is_medium():
    assert severity_of("US_SSN") is Severity.CRITICAL
    assert severity_of("GALACTIC_ID") is Severity.MEDIUM
