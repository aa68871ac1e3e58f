"""Sealed pages: every Arrow type comes back as it was, through every library, in one place only."""

import datetime as dt
import hmac
import os
from decimal import Decimal

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import pages
from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed, MissingExtra
from compliance.store import Store

UTC = dt.UTC
DAY = dt.date(2024, 2, 29)
VALUES = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    "int8": pa.array([-128, None, 127], pa.int8()),
    "uint64": pa.array([0, None, 2**64 - 1], pa.uint64()),
    "half": pa.array([1.5, None, -2.0], pa.float16()),
    "float": pa.array([float("nan"), None, float("-inf")]),
    "decimal": pa.array([Decimal("1.5"), None, Decimal("-2.25")], pa.decimal128(20, 3)),
    "decimal256": pa.array([Decimal("1.5"), None], pa.decimal256(70, 3)),
    "text": pa.array(["Zoë", None, "", "\U0001f511"]),
    "large_text": pa.array(["Zoë", None, ""], pa.large_string()),
    "text_view": pa.array(["short", None, "longer than twelve bytes"], pa.string_view()),
    "bytes": pa.array([b"\0\xff", None, b""]),
    "fixed_bytes": pa.array([b"ab", None], pa.binary(2)),
    "date": pa.array([DAY, None]),
    "time": pa.array([dt.time(1, 2, 3, 4), None]),
    "moment": pa.array([dt.datetime(2024, 2, 29, tzinfo=UTC), None], pa.timestamp("ns", "UTC")),
    "duration": pa.array([dt.timedelta(days=-1), None]),
    "interval": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "list": pa.array([[1, None], None, []]),
    "large_list": pa.array([["a"], None, []], pa.large_list(pa.string())),
    "list_view": pa.array([[1, 2], None, []], pa.list_view(pa.int64())),
    "fixed_list": pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]
    ),
    "run_ends": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), ["a", "b"]),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "nested_dictionary": pa.array([["a"], None]).cast(
        pa.list_(pa.dictionary(pa.int32(), pa.string()))
    ),
    "uuid": pa.array([b"0123456789abcdef", None], pa.uuid()),
    "empty": pa.array([], pa.string()),
}


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """Share one keyring: no test here changes a key of another."""
    folder = tmp_path_factory.mktemp("ring")
    store = Store.open(f"sqlite:///{folder / 'keys.db'}")
    yield Keyring.open(store, folder / "master.json")
    store.close()


def there_and_back(values, ring, **place):
    place = {"table": "people", "column": "email"} | place
    return pages.open_column(pages.seal_column(values, ring, **place), ring, **place)


# -- types -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_a_column_of_every_type_comes_back_as_it_was(ring, name):
    values = VALUES[name]
    opened = there_and_back(values, ring)
    assert opened.type == values.type
    assert repr(opened.to_pylist()) == repr(values.to_pylist())  # as text: NaN is not itself


@pytest.mark.parametrize("name", [n for n in VALUES if n != "empty"])
def test_a_slice_comes_back_as_the_slice_alone(ring, name):
    sliced = VALUES[name].slice(1, 1)
    assert there_and_back(sliced, ring).to_pylist() == sliced.to_pylist()


def test_a_slice_of_a_long_text_column_seals_only_its_own_rows(ring):
    whole = pa.array(["x" * 100] * 10_000)
    page = pages.seal_column(whole.slice(5_000, 3), ring, table="t", column="c")
    assert len(page) < 2_000


def test_chunks_and_dictionaries_that_differ_between_them_come_back(ring):
    one, other = pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()
    chunked = pa.chunked_array([one, other, one.slice(1)])
    assert there_and_back(chunked, ring).to_pylist() == ["a", "b", "c", "b"]
    assert there_and_back(pa.chunked_array([], pa.int8()), ring).type == pa.int8()


def test_a_table_keeps_its_schema_with_metadata_and_its_rows(ring):
    fields = [pa.field("a", pa.int8(), nullable=False, metadata={"unit": "years"}), ("b", "string")]
    schema = pa.schema(fields, metadata={"source": "register"})
    table = pa.table({"a": [1, 2], "b": ["x", None]}, schema)
    opened = pages.open_batch(pages.seal_batch(table, ring, table="people"), ring, table="people")
    assert opened.schema.equals(schema, check_metadata=True)
    assert opened.equals(table)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": pa.array([], pa.int64())}),
        pa.table({}),
        pa.table({"a": [1, 2]}).select([]),
        pa.table([[1], [2]], names=["twice", "twice"]),
        pa.record_batch({"a": [1]}),
    ],
    ids=["no-rows", "no-columns", "rows-without-columns", "one-name-twice", "record-batch"],
)
def test_odd_tables_come_back(ring, table):
    opened = pages.open_batch(pages.seal_batch(table, ring, table="t"), ring, table="t")
    assert (opened.num_rows, opened.to_pydict()) == (table.num_rows, table.to_pydict())


class Email(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.string(), "test.email")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, data):
        return cls()


def test_an_extension_type_comes_back_where_it_is_known_and_as_its_storage_elsewhere(ring):
    values = pa.ExtensionArray.from_storage(Email(), pa.array(["a@b", None]))
    page = pages.seal_column(values, ring, table="t", column="c")
    assert pages.open_column(page, ring, table="t", column="c").type == pa.string()
    pa.register_extension_type(Email())
    try:
        assert pages.open_column(page, ring, table="t", column="c").type == Email()
    finally:
        pa.unregister_extension_type("test.email")


cells = st.one_of(
    st.lists(st.none() | st.text(max_size=20)),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.none() | st.floats(allow_nan=False)),
    st.lists(st.none() | st.binary(max_size=20)),
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3)),
)


@given(st.lists(cells, max_size=4), st.data())
def test_any_table_sliced_anywhere_comes_back(ring, columns, draw):
    rows = min(map(len, columns), default=0)
    table = pa.table({str(i): pa.array(cells[:rows]) for i, cells in enumerate(columns)})
    start = draw.draw(st.integers(0, rows))
    part = table.slice(start, draw.draw(st.integers(0, rows - start)))
    opened = pages.open_batch(pages.seal_batch(part, ring, table="t"), ring, table="t")
    assert opened.equals(part)


# -- what goes in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [["x", None], pa.array(["x", None]), pd.Series(["x", None]), pl.Series(["x", None])],
    ids=["list", "arrow", "pandas", "polars"],
)
def test_a_column_may_come_from_any_library(ring, values):
    assert there_and_back(values, ring).to_pylist() == ["x", None]


@pytest.mark.parametrize("values", [["secret", 1], [2**70], "secret", b"secret", [object()]])
def test_what_is_no_column_is_refused_without_its_values(ring, values):
    with pytest.raises(InputError) as caught:
        pages.seal_column(values, ring, table="t", column="c")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_values_that_break_their_type_are_refused_before_they_are_sealed(ring):
    """They would be refused when the page is opened, when the source may be gone."""
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    )
    with pytest.raises(InputError, match="cast or clean"):
        pages.seal_column(broken, ring, table="t", column="c")


def test_a_page_beyond_the_cipher_is_refused(ring, monkeypatch):
    monkeypatch.setattr(pages, "_LARGEST", 1_000)
    with pytest.raises(InputError, match="stream of pages"):
        pages.seal_column(["x" * 1_000], ring, table="t", column="c")


def test_buffers_longer_than_one_call_of_the_library_are_sealed_in_steps(ring, monkeypatch):
    monkeypatch.setattr(pages, "_STEP", 7)
    page = pages.seal_column(["x" * 1_000, "y"], ring, table="t", column="c")
    monkeypatch.setattr(pages, "_STEP", 1_001)
    assert pages.open_column(page, ring, table="t", column="c").to_pylist() == ["x" * 1_000, "y"]


# -- frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame, pl.DataFrame], ids=["pa", "pd", "pl"])
@pytest.mark.parametrize("backend", ["pyarrow", "pandas", "polars"])
def test_columns_of_a_frame_go_through_any_library(ring, make, backend):
    frame = make({"id": [1, 2], "email": ["a@b", None], "age": [40, 50]})
    sealed = pages.seal_columns(frame, ["age", "email"], ring, table="people")
    assert list(sealed) == ["age", "email"]
    opened = pages.open_columns(sealed, ring, table="people", backend=backend)
    rows = nw.from_native(opened)
    assert rows.implementation.name.lower() == backend
    assert rows.to_arrow().to_pydict() == {"age": [40, 50], "email": ["a@b", None]}


def test_each_column_of_a_frame_has_its_own_key(ring):
    sealed = pages.seal_columns(pa.table({"a": [1], "b": [1]}), ["a", "b"], ring, table="t")
    names = [ring.by_id(pages.key_id_of(page)).name for page in sealed.values()]
    assert names == ["t.a", "t.b"]
    with pytest.raises(DecryptionFailed):
        pages.open_columns({"a": sealed["b"], "b": sealed["a"]}, ring, table="t")


def test_columns_of_two_frames_do_not_pass_for_one(ring):
    one = pages.seal_columns(pa.table({"a": [1, 2]}), ["a"], ring, table="t")
    other = pages.seal_columns(pa.table({"b": [1]}), ["b"], ring, table="t")
    with pytest.raises(DecryptionFailed, match="different numbers of rows"):
        pages.open_columns(one | other, ring, table="t")


def test_an_unknown_column_or_library_is_named(ring):
    with pytest.raises(InputError, match="no column 'c'; there are: 'a'"):
        pages.seal_columns(pa.table({"a": [1]}), ["c"], ring, table="t")
    sealed = pages.seal_columns(pa.table({"a": [1]}), ["a"], ring, table="t")
    with pytest.raises(MissingExtra):
        pages.open_columns(sealed, ring, table="t", backend="modin")


# -- layout --------------------------------------------------------------------------------


def expand(key, info, length):
    """HKDF-Expand with SHA-512 (RFC 5869, section 2.3), written out."""
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 64 + 1]), "sha512")
        out += block
    return out[:length]


def test_a_page_has_the_documented_layout(ring):
    page = bytes(pages.seal_column(["secret"], ring, table="t", column="c", label="May"))
    key = ring.column("t", "c")
    header, salt, commitment, rest = page[:61], page[5:29], page[29:61], page[61:]
    assert page[:5] == b"\x02" + key.id.to_bytes(4, "big")
    place = Place(ring.tenant, "t", "c").encode() + b"\0\0\0\6column\0\0\0\3May"
    prk = expand(key.material, b"compliance page key v1", 32)
    derived = expand(prk, b"compliance page v1\0" + salt + place, 76)
    assert derived[44:] == commitment
    stream = AESGCM(derived[:32]).decrypt(derived[32:44], rest, header + place)
    assert len(page) == len(stream) + pages.OVERHEAD
    assert pa.ipc.open_stream(stream).read_all().to_pydict() == {"c": ["secret"]}


def test_an_opened_page_is_the_decrypted_memory_itself(ring):
    page = pages.seal_column(["x" * 50] * 20_000, ring, table="t", column="c")
    before = pa.total_allocated_bytes()
    opened = pages.open_column(page, ring, table="t", column="c")
    assert pa.total_allocated_bytes() - before < 1.1 * len(page)
    assert len(opened) == 20_000


def test_ten_thousand_pages_share_no_salt_also_across_a_fork(ring):
    seal = lambda: bytes(pages.seal_column([1], ring, table="t", column="c"))[5:29]  # noqa: E731
    salts = [seal() for _ in range(10_000)]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"".join(seal() for _ in range(50)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 50 * 24)
    os.close(read)
    os.close(write)
    salts += [theirs[i : i + 24] for i in range(0, len(theirs), 24)] + [seal() for _ in range(50)]
    assert len(set(salts)) == len(salts) == 10_100


# -- erasure -------------------------------------------------------------------------------


def test_cells_of_an_erased_subject_stay_shut_in_an_archived_page(store, key_file):
    ring = Keyring.open(store, key_file)
    place = Place(ring.tenant, "people", "email")
    sealed = [ring.seal(ring.subject("person", n), b"mail %d" % n, place) for n in (1, 2)]
    archive = pages.seal_column(sealed, ring, table="people", column="email")
    with store.writing() as connection:
        ring.destroy_subject(connection, "person", 1)
    gone, kept = pages.open_column(archive, ring, table="people", column="email").to_pylist()
    assert ring.open_sealed(kept, place) == b"mail 2"
    with pytest.raises(KeyDestroyed):
        ring.open_sealed(gone, place)


def test_a_page_under_a_destroyed_key_is_refused(store, key_file):
    page = pages.seal_column(["x"], Keyring.open(store, key_file), table="t", column="c")
    gone = "UPDATE compliance_key SET wrapped = NULL, destroyed = '2026-01-01' WHERE id = :id"
    with store.writing() as connection:
        connection.execute(sa.text(gone), {"id": pages.key_id_of(page)})
    with pytest.raises(KeyDestroyed):
        pages.open_column(page, Keyring.open(store, key_file), table="t", column="c")


def test_one_text_in_the_place_of_names_and_empty_names_are_refused(ring):
    frame, page, before = pa.table({"a": [1]}), bytes(200), ring.listing()
    with pytest.raises(InputError, match="names is one str: give a list"):
        pages.seal_columns(frame, "a", ring, table="people")
    for work in (
        lambda: pages.seal_columns(frame, ["a"], ring, table=""),
        lambda: pages.seal_column([1], ring, table="", column="a"),
        lambda: pages.seal_column([1], ring, table="people", column=""),
        lambda: pages.seal_batch(frame, ring, table=""),
        lambda: pages.open_column(page, ring, table="people", column=""),
        lambda: pages.open_batch(page, ring, table=""),
    ):
        with pytest.raises(InputError, match="is a name: give text that is not empty"):
            work()
    assert ring.listing() == before
