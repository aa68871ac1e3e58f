"""What a Parquet footer says of encryption, and what hostile footers cannot do."""

import os
import shutil
import subprocess
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from compliance import _parquet
from compliance._parquet import Encryption, algorithm, encryption
from compliance.errors import InputError

PLAINTEXT_FOOTER = "encrypt_columns_plaintext_footer.parquet.encrypted"
TABLE = pa.table(
    {
        "n": [1, 2, None],
        "s": ["a", None, "c"],
        "t": [True, False, None],
        "l": [[1], [], None],
        "r": [{"x": 1.5}] * 3,
        "m": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    }
)


def foreign(data):
    return sorted((data / "crypto/parquet/data").rglob("*.encrypted"))


def file_of(tmp_path, footer, magic=b"PAR1"):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + magic)
    return path


def footer_of(path):
    content = path.read_bytes()
    return content[-8 - int.from_bytes(content[-8:-4], "little") : -8]


# -- what is told apart ---------------------------------------------------------------


def test_every_foreign_encrypted_file_is_told_from_a_plain_one(data):
    found = {path: encryption(path) for path in foreign(data)}
    assert len(found) == 13
    for path, kind in found.items():
        plain = path.name == PLAINTEXT_FOOTER
        assert kind is (Encryption.ENCRYPTED_COLUMNS if plain else Encryption.ENCRYPTED_FOOTER)


def test_the_cipher_is_read_where_a_file_names_it(data):
    for path in foreign(data):
        assert algorithm(path) == ("AES_GCM_CTR_V1" if "_ctr" in path.name else "AES_GCM_V1")


WRITERS = {
    "pyarrow": lambda path: parquet.write_table(TABLE, path, row_group_size=1),
    "page index": lambda path: parquet.write_table(TABLE, path, write_page_index=True),
    "no rows": lambda path: parquet.write_table(TABLE.slice(0, 0), path),
    "no columns": lambda path: parquet.write_table(pa.table({}), path),
    "polars": lambda path: pl.from_arrow(TABLE.drop_columns("m")).write_parquet(path),
    "duckdb": lambda path: duckdb.from_arrow(TABLE).write_parquet(str(path)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_plain_file_of_any_writer_is_plain(tmp_path, writer):
    WRITERS[writer](tmp_path / "x.parquet")
    assert encryption(tmp_path / "x.parquet") is Encryption.PLAIN
    assert algorithm(tmp_path / "x.parquet") == ""


# FileMetaData { 4: [RowGroup { 1: [ColumnChunk { 8: ColumnCryptoMetaData {} }] }] }
_MARKED = bytes.fromhex("49 1c 19 1c 8c 00 00 00 00")


def test_a_marked_column_counts_though_the_footer_names_no_algorithm(tmp_path):
    path = file_of(tmp_path, _MARKED)
    assert encryption(path) is Encryption.ENCRYPTED_COLUMNS
    assert algorithm(path) == ""


# -- hostile and damaged bytes ----------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "ends in a field": b"\x15",
    "unknown type": b"\x1d\x00\x00",
    "endless number": b"\x15" + b"\xff" * 11 + b"\x00",
    "size that wraps": b"\x18\xff\xff\xff\xff\xff\x01\x00",
    "longer than the file": b"\x18\xff\xff\x03\x00",
    "field number that wraps": b"\x0c\x90\x80\x08\x00\x00",
    "row groups that are numbers": b"\x49\x15\x02\x00",
    "two ciphers": bytes.fromhex("8c 1c 00 1c 00 00 00"),
    "nested too deeply": b"\x1c" * 100 + b"\x00" * 101,
    "lists too deep": b"\x19" + b"\x19" * 100 + b"\x00",
    "list without end": b"\x19\xf3\xff\xff\xff\xff\x07\x00",
    "map without end": b"\x1b\xff\xff\xff\xff\x07\x33\x00",
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("magic", [b"PAR1", b"PARE"], ids=["plain", "encrypted"])
def test_a_hostile_footer_is_an_error_that_quotes_nothing(tmp_path, case, magic):
    path = file_of(tmp_path, HOSTILE[case], magic)
    sealed_and_skipped = magic == b"PARE" and case in {"row groups that are numbers", "two ciphers"}
    if sealed_and_skipped:
        assert encryption(path) is Encryption.ENCRYPTED_FOOTER
        return
    with pytest.raises(InputError, match="get it again from its source") as caught:
        encryption(path)
    assert caught.value.__cause__ is None


def test_a_footer_of_more_than_64_mib_is_refused_unread(tmp_path):
    path = tmp_path / "x.parquet"
    with path.open("wb") as file:
        file.truncate(_parquet.MAX_FOOTER + 2**20)
        file.seek(0, os.SEEK_END)
        file.write((_parquet.MAX_FOOTER + 1).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match="more than 64 MiB"):
        encryption(path)


@pytest.mark.parametrize("name", ["absent.parquet", "."])
def test_a_path_that_cannot_be_read_is_an_input_error(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        encryption(tmp_path / name)


def test_no_cut_of_an_encrypted_file_passes_as_plain(tmp_path, data):
    content = (data / "crypto/parquet/data" / PLAINTEXT_FOOTER).read_bytes()
    footer = footer_of(data / "crypto/parquet/data" / PLAINTEXT_FOOTER)
    cuts = [file_of(tmp_path, footer[:end]) and end for end in range(len(footer))]
    for end in cuts:
        try:
            assert encryption(file_of(tmp_path, footer[:end])) is Encryption.ENCRYPTED_COLUMNS
        except InputError:
            continue
    for end in range(0, len(content), 7):
        (tmp_path / "cut.parquet").write_bytes(content[:end])
        with pytest.raises(InputError):
            encryption(tmp_path / "cut.parquet")


@given(st.binary(max_size=300), st.sampled_from([b"PAR1", b"PARE"]))
@example(_MARKED, b"PARE")
def test_any_bytes_are_classified_or_refused(tmp_path_factory, footer, magic):
    path = file_of(tmp_path_factory.mktemp("fuzz"), footer, magic)
    try:
        found = encryption(path)
    except InputError:
        return
    assert (found is Encryption.ENCRYPTED_FOOTER) == (magic == b"PARE")


# What passes here as plain must not end the process that opens it: each changed footer is
# opened in the way that ends it for an encrypted file, in one process for all.
_OPEN_ALL = """
import pathlib, sys
from pyarrow import parquet
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.parquet")):
    print(path.name, flush=True)
    try:
        found = parquet.read_metadata(path)
        for group in range(found.num_row_groups):
            for column in range(found.row_group(group).num_columns):
                found.row_group(group).column(column).file_offset
    except (OSError, ValueError, UnicodeError):
        continue
"""


def test_what_passes_as_plain_after_a_flipped_bit_does_not_end_pyarrow(tmp_path, data):
    content = (data / "crypto/parquet/data" / PLAINTEXT_FOOTER).read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    passed = 0
    for at in range(start, len(content)):
        for bit in (1, 2, 4, 8, 16, 128):
            changed = bytearray(content)
            changed[at] ^= bit
            path = tmp_path / f"{at:06}-{bit}.parquet"
            path.write_bytes(changed)
            try:
                plain = encryption(path) is Encryption.PLAIN
            except InputError:
                plain = False
            passed += plain
            if not plain:
                path.unlink()
    command = [sys.executable, "-c", _OPEN_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]
    assert len(done.stdout.splitlines()) == passed


# -- through frames.read -------------------------------------------------------------------

# pyarrow ends the process on some of these: each is read in a child that lives to the end.
_READ_EACH = """
import sys
from compliance import frames
from compliance.errors import InputError
for path in sys.argv[1:]:
    try:
        frames.read(path)
    except InputError as error:
        print(error, flush=True)
"""


def test_an_encrypted_parquet_file_is_refused_with_what_to_do(tmp_path, data):
    copies = []
    for path in sorted((data / "crypto/parquet/data").rglob("*.encrypted")):
        copies.append(tmp_path / f"{len(copies)}.parquet")
        shutil.copyfile(path, copies[-1])
    command = [sys.executable, "-c", _READ_EACH, *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(copies) == 13
    for path, line in zip(copies, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{path}: an encrypted Parquet file (")
        assert "another's with the tool that wrote it" in line
