"""Encrypted Parquet files: what is in them, who opens them, and that nothing ends the process."""

import datetime as dt
import os
import subprocess
import sys
import threading

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as arrow

from compliance._parquet import Encryption, encryption
from compliance.crypto import parquet
from compliance.crypto.hierarchy import KEY
from compliance.crypto.keys import Keyring
from compliance.crypto.parquet_keys import FOOTER
from compliance.errors import (
    DecryptionFailed,
    InputError,
    KeyDestroyed,
    OperationError,
)

ROWS = 3000
TABLE = pa.table(
    {
        "name": [f"Ada Lovelace {i}" for i in range(ROWS)],
        "city": ["Konstanz", None, "Zürich"] * (ROWS // 3),
        "age": pa.array([i % 90 for i in range(ROWS)], pa.int8()),
        "born": [dt.date(1900, 1, 1) + dt.timedelta(days=i) for i in range(ROWS)],
        "nested": [{"iban": f"DE{i:020}", "tags": ["Vorsicht"]} for i in range(ROWS)],
        "map": pa.array(
            [[("schluessel", i)] for i in range(ROWS)], pa.map_(pa.string(), pa.int64())
        ),
        "kind": pa.array(["Kundin", "Kunde", None] * (ROWS // 3)).dictionary_encode(),
        "a.b": [1.5] * ROWS,
    }
)
SECRETS = [
    b"Lovelace",
    b"Konstanz",
    "Zürich".encode(),
    b"DE000",
    b"Vorsicht",
    b"schluessel",
    b"Kundin",
]
CODECS = ["zstd", "none", "snappy"]


@pytest.fixture
def path(tmp_path, ring):
    parquet.write(TABLE, tmp_path / "x.parquet", ring, table="people")
    return tmp_path / "x.parquet"


def destroy(store, key_file, *columns, table="people"):
    """Destroy keys of columns; return the ring that did it."""
    ring = Keyring.open(store, key_file)
    with store.writing() as connection:
        for column in columns:
            assert ring.keys.destroy(connection, KEY.c.name == f"{table}.{column}")
    return ring


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize("plaintext_footer", [False, True], ids=["sealed footer", "signed footer"])
@pytest.mark.parametrize("columns", [None, ["name"], []], ids=["each its own", "one", "none"])
def test_what_was_written_is_read(tmp_path, any_ring, plaintext_footer, columns):
    path = tmp_path / "x.parquet"
    parquet.write(
        TABLE, path, any_ring, table="people", columns=columns, plaintext_footer=plaintext_footer
    )
    expected = Encryption.ENCRYPTED_COLUMNS if plaintext_footer else Encryption.ENCRYPTED_FOOTER
    assert encryption(path) is expected
    assert parquet.read(path, any_ring, table="people").equals(TABLE)
    assert parquet.schema(path, any_ring, table="people").names == TABLE.column_names


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"]
)
def test_a_table_of_any_library_is_written(tmp_path, ring, make):
    parquet.write(make({"a": [1, 2], "b": ["x", None]}), tmp_path / "x", ring, table="t")
    read = parquet.read(tmp_path / "x", ring, table="t")
    assert read.select(["a", "b"]).to_pydict() == {"a": [1, 2], "b": ["x", None]}


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_with_hardly_a_row_comes_back(tmp_path, ring, rows):
    parquet.write(TABLE.slice(0, rows), tmp_path / "x", ring, table="people")
    assert parquet.read(tmp_path / "x", ring, table="people").equals(TABLE.slice(0, rows))
    found = parquet.read(
        tmp_path / "x", ring, table="people", columns=["age"], filters=[("age", ">", 5)]
    )
    assert found.schema.names == ["age"]


def test_columns_and_filters_choose(path, ring):
    read = parquet.read(
        path, ring, table="people", columns=["city", "age"], filters=[("age", "<", 2)]
    )
    assert read.column_names == ["city", "age"]
    assert set(read["age"].to_pylist()) == {0, 1}
    either = [[("age", "=", 7)], [("name", "in", ["Ada Lovelace 1"])]]
    assert parquet.read(path, ring, table="people", columns=[], filters=either).num_rows == 35


@pytest.mark.parametrize(
    ("columns", "filters", "message"),
    [
        (["nobody"], None, "no column 'nobody'; there are: 'name'"),
        (None, [("nobody", "=", 1)], "no column 'nobody'"),
        (None, [("age", "~", 1)], "a filter is"),
        (None, ["age"], "a filter is"),
        (None, [("age", "=", "Jane")], "does not fit"),
    ],
)
def test_a_column_or_filter_that_does_not_fit_is_an_input_error(
    path, ring, columns, filters, message
):
    with pytest.raises(InputError, match=message) as caught:
        parquet.read(path, ring, table="people", columns=columns, filters=filters)
    assert "Jane" not in str(caught.value)


# -- nothing in plaintext -----------------------------------------------------------------


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("plaintext_footer", [False, True], ids=["sealed footer", "signed footer"])
@pytest.mark.parametrize("columns", [None, ["age"]], ids=["each its own", "one"])
def test_no_value_stands_in_the_file(tmp_path, ring, compression, plaintext_footer, columns):
    options = {"columns": columns, "plaintext_footer": plaintext_footer, "compression": compression}
    parquet.write(TABLE, tmp_path / "x", ring, table="people", **options)
    content = (tmp_path / "x").read_bytes()
    assert [secret for secret in SECRETS if secret in content] == []
    assert (b"nested" in content) == plaintext_footer
    plain = tmp_path / "plain"
    arrow.write_table(TABLE, plain, compression="none")
    assert all(secret in plain.read_bytes() for secret in SECRETS)


_NAMES = st.lists(
    st.text(min_size=1, max_size=8) | st.sampled_from(["a", "a.b", ".a", "é", ":"]),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(_NAMES, st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_column_of_any_name_is_sealed_or_refused(tmp_path, ring, names, plaintext_footer):
    rows = pa.table({name: ["Ada Lovelace"] for name in names})
    try:
        parquet.write(
            rows,
            tmp_path / "x",
            ring,
            table="t",
            compression="none",
            plaintext_footer=plaintext_footer,
        )
    except InputError:
        return
    assert b"Lovelace" not in (tmp_path / "x").read_bytes()
    assert parquet.read(tmp_path / "x", ring, table="t").equals(rows)


@pytest.mark.parametrize("name", ["a,b", "a:b", "a;b", " a", "a ", "", FOOTER])
def test_a_name_that_would_be_misread_is_refused(tmp_path, ring, name):
    with pytest.raises(InputError, match="rename it"):
        parquet.write(pa.table({name: [1]}), tmp_path / "x", ring, table="t")
    assert list(tmp_path.glob("x*")) == []


def test_a_column_that_looks_like_a_part_of_another_is_refused(tmp_path, ring):
    rows = pa.table({"a": [{"b": 1}], "a.b": [2]})
    with pytest.raises(InputError, match="looks like a part"):
        parquet.write(rows, tmp_path / "x", ring, table="t")


# -- other places, other files -----------------------------------------------------------


def test_a_file_of_another_table_or_tenant_does_not_open(path, ring, store, key_file):
    ring.column("staff", "name")
    with pytest.raises(DecryptionFailed, match="sealed for this table"):
        parquet.read(path, ring, table="staff")
    with pytest.raises(DecryptionFailed):
        parquet.read(path, Keyring.open(store, key_file, tenant="other"), table="people")


def test_a_plain_file_in_the_place_of_a_sealed_one_is_refused(path, ring):
    arrow.write_table(TABLE, path)
    with pytest.raises(DecryptionFailed, match="is not encrypted"):
        parquet.read(path, ring, table="people")


def test_a_file_whose_pages_nothing_authenticates_is_refused(path, ring, data):
    ctr = data / "crypto/parquet/data/encrypt_columns_and_footer_ctr.parquet.encrypted"
    with pytest.raises(DecryptionFailed, match="not under AES_GCM_V1"):
        parquet.read(ctr, ring, table="people")
    content = path.read_bytes()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert content[at : at + 2] == b"\x1c\x1c"  # FileCryptoMetaData: algorithm: AES_GCM_V1
    path.write_bytes(content[: at + 1] + b"\x2c" + content[at + 2 :])
    with pytest.raises(DecryptionFailed, match="not under AES_GCM_V1"):
        parquet.read(path, ring, table="people")


def test_foreign_encrypted_files_are_refused_and_named(ring, data):
    for path in sorted((data / "crypto/parquet/data").rglob("*.encrypted")):
        with pytest.raises(DecryptionFailed):
            parquet.read(path, ring, table="people")


# -- destroyed keys and failing stores ---------------------------------------------------


def test_a_destroyed_column_leaves_the_others(path, store, key_file):
    ring = destroy(store, key_file, "name")
    rest = [name for name in TABLE.column_names if name != "name"]
    assert parquet.read(path, ring, table="people", columns=rest).equals(TABLE.select(rest))
    assert "name" in parquet.schema(path, ring, table="people").names
    for options in (
        {},
        {"columns": ["name"]},
        {"columns": ["age"], "filters": [("name", "=", "x")]},
    ):
        with pytest.raises(KeyDestroyed):
            parquet.read(path, ring, table="people", **options)
    with pytest.raises(KeyDestroyed):
        parquet.write(TABLE, path, ring, table="people")
    assert parquet.read(path, ring, table="people", columns=["age"]).num_rows == ROWS


def test_a_destroyed_footer_closes_the_file(path, store, key_file):
    ring = destroy(store, key_file, FOOTER)
    for call in (parquet.read, parquet.schema):
        with pytest.raises(KeyDestroyed):
            call(path, ring, table="people")


def test_destruction_reaches_the_next_read_of_every_ring_here(path, ring, store, key_file):
    assert parquet.read(path, ring, table="people", columns=["name"]).num_rows == ROWS
    destroy(store, key_file, "name")
    with pytest.raises(KeyDestroyed):
        parquet.read(path, ring, table="people", columns=["name"])


def test_a_store_that_fails_in_the_middle_is_its_own_error(path, store, key_file, monkeypatch):
    ring = Keyring.open(store, key_file)
    parquet.schema(path, ring, table="people")  # the footer's key is known

    def down():
        raise OperationError("the database does not answer")

    monkeypatch.setattr(ring.store, "reading", down)
    with pytest.raises(OperationError, match="does not answer"):
        parquet.read(path, ring, table="people")


def test_many_threads_read_one_file(path, store, key_file):
    ring, results = destroy(store, key_file, "name"), []

    def reads(column):
        for _ in range(5):
            try:
                results.append(parquet.read(path, ring, table="people", columns=[column]).num_rows)
            except KeyDestroyed:
                results.append(None)

    threads = [
        threading.Thread(target=reads, args=(name,)) for name in ("name", "age", "city", "born")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["3000"] * 15 + ["None"] * 5


# Every changed file is read in one child process: an abort would end it before the last line.
_READ_ALL = """
import pathlib, sys
from compliance.crypto import parquet
from compliance.crypto.hierarchy import KEY
from compliance.crypto.keys import Keyring
from compliance.errors import ComplianceError
from compliance.store import Store
from pyarrow import parquet as arrow
folder, url, key_file, original = map(str, sys.argv[1:])
rows, label = arrow.read_table(original), []
ring = Keyring.open(Store.open(url), pathlib.Path(key_file))
for path in sorted(pathlib.Path(folder).iterdir()):
    print(path.name, flush=True)
    for filters in (None, [("age", ">=", 0)]):
        try:
            read = parquet.read(path, ring, table="people", filters=filters)
        except ComplianceError:
            continue
        assert read.equals(rows), path
        label.append(path.name)
print("opened unchanged:", len(label))
"""


@pytest.mark.parametrize("plaintext_footer", [False, True], ids=["sealed footer", "signed footer"])
def test_altered_and_cut_files_are_refused_and_end_nothing(
    tmp_path, ring, sqlite_url, key_file, plaintext_footer
):
    rows = TABLE.select(["name", "age"]).slice(0, 20)
    path, folder = tmp_path / "x", tmp_path / "altered"
    parquet.write(rows, path, ring, table="people", plaintext_footer=plaintext_footer)
    content = path.read_bytes()
    folder.mkdir()
    for at in range(4, len(content), 3):  # the leading magic is read by nobody
        altered = bytearray(content)
        altered[at] ^= 1 << at % 8
        (folder / f"{at:06}-flipped").write_bytes(altered)
        (folder / f"{at:06}-cut").write_bytes(content[:at])
    arrow.write_table(rows, tmp_path / "rows")
    arguments = [folder, sqlite_url, key_file, tmp_path / "rows"]
    command = [sys.executable, "-c", _READ_ALL, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    unchanged = int(done.stdout.splitlines()[-1].partition("opened unchanged: ")[2])
    assert unchanged <= 20  # labels beside the wrapped key of a sealed footer, which say nothing


# -- files ---------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone_and_takes_the_old_ones_place_whole(path, ring, monkeypatch):
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OperationError, match="No space left"):
        parquet.write(TABLE, path, ring, table="people")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir() if "part" in entry.name] == []
    parquet.write(TABLE.slice(0, 1), path, ring, table="people")
    assert parquet.read(path, ring, table="people").num_rows == 1


def _full(_descriptor):
    raise OSError(28, "No space left on device")


def test_a_table_that_parquet_cannot_hold_is_an_input_error(tmp_path, ring):
    rows = pa.table({"a": pa.array([pa.MonthDayNano([1, 2, 3])])})
    with pytest.raises(InputError, match="cannot be written as Parquet"):
        parquet.write(rows, tmp_path / "x", ring, table="t")
    with pytest.raises(InputError, match="without columns"):
        parquet.write(pa.table({}), tmp_path / "x", ring, table="t")
    assert list(tmp_path.glob("x*")) == []


@pytest.mark.parametrize("codec", ["foo", "", "bz2", None])
def test_a_codec_that_is_none_is_refused_by_name_before_a_key_is_made(tmp_path, ring, codec):
    before = ring.listing()
    with pytest.raises(InputError, match="there are: zstd, snappy, gzip, brotli, lz4, none"):
        parquet.write(TABLE, tmp_path / "x", ring, table="people", compression=codec)
    assert ring.listing() == before


@pytest.mark.parametrize("codec", ["gzip", "brotli", "lz4", "NONE", "Zstd"])
def test_every_codec_that_is_named_writes(tmp_path, ring, codec):
    parquet.write(TABLE, tmp_path / "x", ring, table="people", compression=codec)
    assert parquet.read(tmp_path / "x", ring, table="people").equals(TABLE)


def test_empty_names_and_one_text_for_columns_are_refused(path, tmp_path, ring):
    for work in (
        lambda: parquet.write(TABLE, tmp_path / "y", ring, table=""),
        lambda: parquet.read(path, ring, table=""),
        lambda: parquet.schema(path, ring, table=""),
    ):
        with pytest.raises(InputError, match="table is a name"):
            work()
    for work in (
        lambda: parquet.write(TABLE, tmp_path / "y", ring, table="people", columns="city"),
        lambda: parquet.read(path, ring, table="people", columns="city"),
    ):
        with pytest.raises(InputError, match="columns is one str: give a list"):
            work()
    assert not (tmp_path / "y").exists()
