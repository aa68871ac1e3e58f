"""Our encrypted Parquet in the hands of pyarrow and pandas: unlocked for a block, and no longer."""

import os
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet as arrow

from compliance.crypto import parquet
from compliance.crypto.hierarchy import KEY
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed

TABLE = pa.table(
    {
        "name": [f"Ada {i}" for i in range(3000)],
        "age": [i % 90 for i in range(3000)],
        "nested": [{"iban": f"DE{i:020}", "tags": ["a"]} for i in range(3000)],
    }
)


@pytest.fixture
def path(tmp_path, ring):
    parquet.write(TABLE, tmp_path / "x.parquet", ring, table="people")
    return tmp_path / "x.parquet"


def destroy(ring, name):
    with ring.store.writing() as connection:
        assert ring.keys.destroy(connection, KEY.c.name == name)


@pytest.mark.parametrize("plaintext_footer", [False, True], ids=["sealed", "plaintext"])
@pytest.mark.parametrize("own", [None, ["age"], []], ids=["all", "one", "none"])
def test_pyarrow_and_pandas_read_with_their_own_readers(tmp_path, ring, own, plaintext_footer):
    path = tmp_path / "x.parquet"
    options = {"columns": own, "plaintext_footer": plaintext_footer}
    parquet.write(TABLE, path, ring, table="people", **options)
    with parquet.unlocked(path, ring, table="people") as properties:
        key = {"decryption_properties": properties}
        assert arrow.read_table(path, **key).equals(TABLE)
        filtered = arrow.read_table(path, columns=["name"], filters=[("age", ">", 88)], **key)
        assert filtered.num_rows == 33
        frame = pd.read_parquet(path, columns=["name", "age"], **key)
        assert frame.equals(TABLE.select(["name", "age"]).to_pandas())
        with arrow.ParquetFile(path, **key) as file:
            assert sum(map(len, file.iter_batches(batch_size=700))) == 3000


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_with_hardly_a_row_is_unlocked(tmp_path, ring, rows):
    path, table = tmp_path / "x.parquet", TABLE.slice(0, rows)
    parquet.write(table, path, ring, table="people")
    with parquet.unlocked(path, ring, table="people") as properties:
        assert arrow.read_table(path, decryption_properties=properties).equals(table)


def test_a_destroyed_column_is_told_before_pyarrow_starts(path, ring):
    destroy(ring, "people.name")
    with pytest.raises(KeyDestroyed), parquet.unlocked(path, ring, table="people"):
        pytest.fail("the block has started")
    with parquet.unlocked(path, ring, table="people", columns=["age"]) as properties:
        key = {"decryption_properties": properties}
        rows = arrow.read_table(path, columns=["age"], filters=[("age", ">", 88)], **key)
        assert rows.num_rows == 33


def test_a_destruction_within_the_block_ends_no_reader(path, ring):
    with parquet.unlocked(path, ring, table="people") as properties:
        destroy(ring, "people.name")
        rows = arrow.read_table(
            path, filters=[("name", "==", "Ada 7")], decryption_properties=properties
        )
        assert rows.num_rows == 1
    with pytest.raises(KeyDestroyed), parquet.unlocked(path, ring, table="people"):
        pytest.fail("the block has started")


def test_another_table_or_an_altered_file_is_refused_before_pyarrow_starts(path, ring):
    with pytest.raises(DecryptionFailed), parquet.unlocked(path, ring, table="staff"):
        pytest.fail("the block has started")
    arrow.write_table(TABLE, path)
    with pytest.raises(DecryptionFailed, match="is not encrypted"):
        parquet.unlocked(path, ring, table="people").__enter__()


def test_a_column_that_is_not_there_or_no_list_is_an_input_error(path, ring):
    for columns, why in ((["gone"], "no column"), ("age", "give a list")):
        with pytest.raises(InputError, match=why):
            parquet.unlocked(path, ring, table="people", columns=columns).__enter__()


def test_what_the_body_raises_is_its_own(path, ring):
    with pytest.raises(OSError, match="mine"), parquet.unlocked(path, ring, table="people"):
        raise OSError("mine")


LATE = """
import sys
from pathlib import Path
from pyarrow import parquet as arrow
from compliance.crypto import parquet
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed
from compliance.store import Store
ring = Keyring.open(Store.open(sys.argv[1]), Path(sys.argv[2]))
with parquet.unlocked(sys.argv[3], ring, table="people") as properties:
    pass
for filters in (None, [("age", ">", 3)]):
    try:
        arrow.read_table(sys.argv[3], filters=filters, decryption_properties=properties)
    except DecryptionFailed as error:
        print(error)
"""


def test_after_the_block_the_properties_open_nothing_and_end_nothing(
    path, ring, sqlite_url, key_file
):
    command = [sys.executable, "-c", LATE, sqlite_url, str(key_file), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("block of `unlocked` left") == 2


def test_a_plain_file_put_there_after_the_look_is_not_read(tmp_path, ring, monkeypatch):
    """What was looked at is what is read, whatever file the name is of by then."""

    sealed, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    parquet.write(pa.table({"x": [1]}), sealed, ring, table="t")
    arrow.write_table(pa.table({"x": [2]}), other)
    look = parquet._require_ours

    def swapped(file, path):
        look(file, path)
        other.replace(sealed)

    monkeypatch.setattr(parquet, "_require_ours", swapped)
    assert parquet.read(sealed, ring, table="t")["x"].to_pylist() == [1]
    with pytest.raises(DecryptionFailed, match="not encrypted"):
        parquet.read(sealed, ring, table="t")


def test_a_pipe_is_refused_before_it_blocks(tmp_path, ring):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        parquet.read(tmp_path / "pipe", ring, table="t")
