"""Streams of pages: complete and in order or refused; on disk whole, sealed, or not at all."""

import gzip
import io
import os
import signal
import struct
import subprocess
import sys

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import pages
from compliance.crypto.keys import Keyring
from compliance.crypto.pagestream import LARGEST_PAGE, PageReader, PageWriter
from compliance.errors import ComplianceError, DecryptionFailed, InputError, StoreError
from compliance.store import Store

SCHEMA = pa.schema([("id", pa.int64()), ("email", pa.string())])


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """Share one keyring: no test here changes a key of another."""
    folder = tmp_path_factory.mktemp("ring")
    store = Store.open(f"sqlite:///{folder / 'keys.db'}")
    yield Keyring.open(store, folder / "master.json")
    store.close()


def rows(start, count=3):
    ids = range(start, start + count)
    return pa.table({"id": list(ids), "email": [f"p{i}@example.org" for i in ids]}, SCHEMA)


def written(ring, *tables, label="", table="people", **options):
    file = io.BytesIO()
    with PageWriter(file, ring, table=table, schema=SCHEMA, label=label, **options) as writer:
        for each in tables:
            writer.write(each)
    return file.getvalue()


def opened(data, ring, label="", table="people"):
    with PageReader(io.BytesIO(data), ring, table=table, label=label) as reader:
        return reader.read_all()


def frames_of(data):
    """Return the head of a stream and its framed pages."""
    found, at = [], 17
    while at < len(data):
        end = at + 9 + struct.unpack_from(">Q", data, at + 1)[0]
        found.append(data[at:end])
        at = end
    return data[:17], found


def refused(data, ring, **place):
    with pytest.raises(DecryptionFailed):
        opened(data, ring, **place)
    return True


# -- round trips ---------------------------------------------------------------------------


def test_what_was_written_comes_back_page_by_page(ring):
    data = written(ring, rows(0), rows(3), rows(6))
    with PageReader(io.BytesIO(data), ring, table="people") as reader:
        assert [page.to_pylist() for page in reader] == [rows(n).to_pylist() for n in (0, 3, 6)]
        assert list(reader) == []
    assert opened(data, ring).equals(rows(0, 9))


def test_a_stream_without_rows_keeps_its_columns(ring):
    assert opened(written(ring), ring).schema.equals(SCHEMA)
    assert opened(written(ring, rows(0, 0)), ring).equals(SCHEMA.empty_table())
    assert len(frames_of(written(ring, rows(0, 0)))[1]) == 1


@pytest.mark.parametrize(
    "make", [pa.record_batch, pa.table, pd.DataFrame, pl.DataFrame], ids=["rb", "pa", "pd", "pl"]
)
def test_rows_of_any_library_are_written(ring, make):
    file = io.BytesIO()
    with PageWriter(file, ring, table="t", schema=pa.schema([("id", pa.int64())])) as writer:
        writer.write(make({"id": [1, 2]}))
    assert opened(file.getvalue(), ring, table="t").to_pydict() == {"id": [1, 2]}


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), max_size=5), st.integers(1, 2_000))
def test_any_rows_in_pages_of_any_size_come_back(ring, counts, size):
    tables = [rows(10 * n, count) for n, count in enumerate(counts)]
    data = written(ring, *tables, page_bytes=size)
    assert opened(data, ring).equals(pa.concat_tables([SCHEMA.empty_table(), *tables]))


def test_a_large_table_becomes_many_pages(ring):
    data = written(ring, rows(0, 1_000), page_bytes=4_000)
    assert 7 <= len(frames_of(data)[1]) <= 40
    assert opened(data, ring).equals(rows(0, 1_000))


def test_rows_that_share_a_large_dictionary_are_not_split_to_dust(ring):
    shared = pa.array([f"value {n}" for n in range(5_000)]).dictionary_encode()
    file, table = io.BytesIO(), pa.table({"a": shared.take(pa.array([1, 2, 3, 4] * 10))})
    with PageWriter(file, ring, table="t", schema=table.schema, page_bytes=1_000) as writer:
        writer.write(table)
    assert len(frames_of(file.getvalue())[1]) == 2


def test_a_stream_passes_through_files_without_a_position(ring):
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb") as file,
        PageWriter(file, ring, table="people", schema=SCHEMA) as writer,
    ):
        writer.write(rows(0))
    packed.seek(0)
    with gzip.GzipFile(fileobj=packed) as file, PageReader(file, ring, table="people") as reader:
        assert reader.read_all().equals(rows(0))


# -- sabotage --------------------------------------------------------------------------------


def test_a_stream_cut_anywhere_is_refused(ring):
    data = written(ring, rows(0), rows(3))
    head, found = frames_of(data)
    ends = {17, len(head + found[0]), len(head + found[0] + found[1])}
    for end in {*range(0, len(data), 37), *range(30), len(data) - 1, *ends}:
        assert refused(data[:end], ring), end


def test_pages_reordered_repeated_left_out_or_added_are_refused(ring):
    head, (one, two, last) = frames_of(written(ring, rows(0), rows(3)))
    for forged in ([two, one, last], [one, one, two, last], [one, last], [two, last], [last],
                   [one, two, last, last], [one, last, two]):  # fmt: skip
        assert refused(head + b"".join(forged), ring)
    assert refused(head + one + two + last + b"x", ring)
    assert opened(head + one + two + last, ring).equals(rows(0, 6))


def test_pages_of_two_streams_do_not_mix(ring):
    head, (one, _, last) = frames_of(written(ring, rows(0), rows(3)))
    other, (_, two, end) = frames_of(written(ring, rows(0), rows(3)))
    assert refused(head + one + two + last, ring)
    assert refused(other + one + two + end, ring)


def test_a_page_marked_last_or_not_last_by_another_hand_is_refused(ring):
    head, (one, last) = frames_of(written(ring, rows(0)))
    assert refused(head + b"\1" + one[1:], ring)
    assert refused(head + one + b"\0" + last[1:], ring)
    assert refused(head + one + b"\2" + last[1:], ring)


def test_a_stream_opens_at_its_place_alone(ring):
    data = written(ring, rows(0), label="May")
    assert opened(data, ring, label="May").equals(rows(0))
    assert refused(data, ring)
    assert refused(data, ring, label="May", table="staff")


def test_pages_of_a_stream_and_single_pages_do_not_pass_for_one_another(ring):
    head, (one, last) = frames_of(written(ring, rows(0)))
    with pytest.raises(DecryptionFailed):
        pages.open_batch(one[9:], ring, table="people")
    single = bytes(pages.seal_batch(rows(0), ring, table="people"))
    assert refused(head + b"\0" + len(single).to_bytes(8, "big") + single + last, ring)


def test_any_flipped_bit_is_noticed(ring):
    data = written(ring, rows(0, 1))
    for bit in [*range(17 * 8), *range(17 * 8, len(data) * 8, 29)]:
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(altered), ring), bit


@pytest.mark.parametrize("length", [0, 76, LARGEST_PAGE, LARGEST_PAGE + 1, 2**63, 2**64 - 1])
def test_a_length_that_lies_takes_no_memory(ring, length):
    head, (one, last) = frames_of(written(ring, rows(0)))
    before = pa.total_allocated_bytes()
    assert refused(head + b"\0" + length.to_bytes(8, "big") + one[9:] + last, ring)
    assert pa.total_allocated_bytes() == before


def test_after_an_error_no_further_page_is_read(ring):
    head, (one, two, last) = frames_of(written(ring, rows(0), rows(3)))
    with PageReader(io.BytesIO(head + two + one + two + last), ring, table="people") as reader:
        with pytest.raises(DecryptionFailed):
            next(reader)
        with pytest.raises(InputError, match="not after an error"):
            next(reader)


@pytest.mark.parametrize("data", [b"", b"\3", b"\3" * 17, b"\2" + bytes(99), bytes(99)], ids=repr)
def test_what_is_no_stream_is_refused(ring, data):
    assert refused(data, ring)


# -- misuse ----------------------------------------------------------------------------------


def test_a_stream_is_used_inside_with_and_once(ring):
    writer = PageWriter(io.BytesIO(), ring, table="t", schema=SCHEMA)
    with pytest.raises(InputError, match="inside `with`"):
        writer.write(rows(0))
    with writer:
        writer.write(rows(0))
    with pytest.raises(InputError, match="inside `with`"):
        writer.write(rows(0))
    with pytest.raises(InputError, match="make another"), writer:
        raise AssertionError
    with pytest.raises(InputError, match="inside `with`"):
        next(PageReader(io.BytesIO(), ring, table="t"))


def test_reading_all_after_some_is_refused(ring):
    with PageReader(io.BytesIO(written(ring, rows(0))), ring, table="people") as reader:
        next(reader)
        with pytest.raises(InputError, match="read already"):
            reader.read_all()


def test_rows_of_another_schema_are_refused_and_the_stream_goes_on(ring):
    file = io.BytesIO()
    with PageWriter(file, ring, table="people", schema=SCHEMA) as writer:
        with pytest.raises(InputError, match="other columns or types"):
            writer.write(pa.table({"id": [1]}))
        writer.write(rows(0))
    assert opened(file.getvalue(), ring).equals(rows(0))


# -- files -----------------------------------------------------------------------------------


def write_file(path, ring, *tables):
    with PageWriter(path, ring, table="people", schema=SCHEMA) as writer:
        for table in tables:
            writer.write(table)


def read_file(path, ring):
    with PageReader(path, ring, table="people") as reader:
        return reader.read_all()


def test_a_file_is_replaced_whole_and_holds_no_plaintext(ring, tmp_path):
    path = tmp_path / "people.pages"
    write_file(path, ring, rows(0))
    write_file(str(path), ring, rows(0), rows(3))
    assert read_file(str(path), ring).equals(rows(0, 6))
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"example.org" not in path.read_bytes()
    assert b"email" not in path.read_bytes()


def test_a_block_that_raises_leaves_what_was_there(ring, tmp_path):
    path = tmp_path / "people.pages"
    write_file(path, ring, rows(0))
    before = path.read_bytes()
    broken = [rows(3), None]  # the second one raises inside the block
    with pytest.raises(InputError, match="expected a data frame"):
        write_file(path, ring, *broken)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.pages")) == [path]
    assert not list(tmp_path.glob(".*.part"))


def test_an_error_of_the_callers_own_stays_what_it_is(ring, tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        PageWriter(tmp_path / "a.pages", ring, table="people", schema=SCHEMA),
    ):
        (tmp_path / "absent").read_bytes()
    assert not list(tmp_path.glob("*.pages"))


def test_a_disk_that_fills_up_is_said_and_ends_the_stream(ring):
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def go_on():
        with (
            PageWriter(Full(), ring, table="people", schema=SCHEMA) as writer,
            pytest.raises(StoreError, match="No space left on device"),
        ):
            writer.write(rows(0))

    with pytest.raises(InputError, match="not after an error"):
        go_on()  # the end of the block must not make a half page look complete


def test_a_folder_that_is_not_there_is_named_as_the_cause(ring, tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        write_file(tmp_path / "absent" / "a.pages", ring)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_file(tmp_path / "a.pages", ring)


KILLED = """
import os, signal, sys
import pyarrow as pa
from pathlib import Path
from compliance.crypto.keys import Keyring
from compliance.crypto.pagestream import PageWriter
from compliance.store import Store

url, key, path = sys.argv[1:]
table = pa.table({"id": [1], "email": ["new@example.org"]})
with PageWriter(path, Keyring.open(Store.open(url), Path(key)), table="people",
                schema=table.schema) as writer:
    for _ in range(20):
        writer.write(table)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_that_is_killed_leaves_what_was_there(store, sqlite_url, key_file, tmp_path):
    ring, path = Keyring.open(store, key_file), tmp_path / "people.pages"
    write_file(path, ring, rows(0))
    command = [sys.executable, "-c", KILLED, sqlite_url, str(key_file), str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert read_file(path, ring).equals(rows(0))
    left = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.is_file())
    assert b"new@example.org" not in left


def test_memory_is_that_of_a_page_whatever_the_length(ring, tmp_path):
    batch = pa.table({"email": ["x" * 100] * 20_000})  # 2 MB, fifty times over
    path, most, start = tmp_path / "long.pages", 0, pa.total_allocated_bytes()
    with PageWriter(path, ring, table="t", schema=batch.schema, page_bytes=2**20) as writer:
        for _ in range(50):
            writer.write(batch)
            most = max(most, pa.total_allocated_bytes() - start)
    count = 0
    with PageReader(path, ring, table="t") as reader:
        for page in reader:
            count += len(page)
            most = max(most, pa.total_allocated_bytes() - start)
    assert count == 1_000_000
    assert most < 8 * 2**20


def test_a_stream_is_read_from_a_pipe_in_short_reads(ring):
    data = written(ring, rows(0, 500))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for at in range(0, len(data), 999):
            os.write(write, data[at : at + 999])
        os._exit(0)
    os.close(write)
    with (
        os.fdopen(read, "rb", buffering=0) as file,
        PageReader(file, ring, table="people") as reader,
    ):
        assert reader.read_all().equals(rows(0, 500))
    os.waitpid(child, 0)


def test_no_error_of_a_stream_is_anything_but_ours(ring):
    data = written(ring, rows(0))
    for at in range(0, len(data), 11):
        with pytest.raises(ComplianceError):
            opened(data[:at] + b"\xff" * 9 + data[at + 9 :], ring)


def test_an_empty_table_is_refused_before_a_file_is_made(ring, tmp_path):
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(InputError, match="table is a name"):
        PageWriter(tmp_path / "x", ring, table="", schema=schema)
    with pytest.raises(InputError, match="table is a name"):
        PageReader(tmp_path / "x", ring, table="")
    assert not (tmp_path / "x").exists()
