"""How data keys of Parquet files are wrapped: the documented way, each for its own place alone."""

import base64

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as arrow
from pyarrow.parquet import encryption as pme

from compliance.crypto import parquet, parquet_keys
from compliance.crypto.keys import Keyring
from compliance.crypto.parquet_keys import FOOTER, Session
from compliance.errors import DecryptionFailed

DATA_KEY = bytes(range(32))
TABLE = pa.table({"name": ["Ada", "Bob"], "age": [36, 41]})


def wrapped(ring, table="people", column=FOOTER):
    session = Session(ring, table)
    master = session.column(column)
    return session.wrap(DATA_KEY, master), master


def opened(ring, table="people"):
    """Return a session of a reader who has opened the footer."""
    session = Session(ring, table)
    session.unwrap(*wrapped(ring, table))
    return session


def test_a_data_key_comes_back_for_its_own_column(any_ring):
    session = opened(any_ring)
    assert session.unwrap(*wrapped(any_ring, column="name")) == DATA_KEY


def test_a_wrapped_key_holds_version_key_id_and_the_key_in_40_bytes(ring):
    text, master = wrapped(ring)
    data = base64.b64decode(text)
    assert (data[:1], int.from_bytes(data[1:5], "big"), len(data)) == (b"\x01", int(master), 45)
    assert DATA_KEY not in data


def test_a_wrapped_key_of_another_table_is_refused(ring):
    for table in ("staff", "people.name", "peopl"):
        with pytest.raises(DecryptionFailed, match="not one that we sealed"):
            Session(ring, "people").unwrap(*wrapped(ring, table))


def test_tables_and_columns_whose_names_run_together_are_told_apart(ring):
    text, master = wrapped(ring, "a.b", "c")
    with pytest.raises(DecryptionFailed):
        opened(ring, "a").unwrap(text, master)
    assert opened(ring, "a.b").unwrap(text, master) == DATA_KEY


def test_a_wrapped_key_under_another_columns_id_is_refused(ring):
    (text, _), (_, other) = wrapped(ring, column="name"), wrapped(ring, column="age")
    forged = bytearray(base64.b64decode(text))
    forged[1:5] = int(other).to_bytes(4, "big")
    for claim in (text, base64.b64encode(forged).decode()):
        with pytest.raises(DecryptionFailed):
            opened(ring).unwrap(claim, other)


def test_the_first_key_of_a_file_is_the_footers(ring):
    with pytest.raises(DecryptionFailed):
        Session(ring, "people").unwrap(*wrapped(ring, column="name"))


def test_a_wrapped_key_of_another_tenant_is_refused(ring, store, key_file):
    other = Keyring.open(store, key_file, tenant="other")
    with pytest.raises(DecryptionFailed):
        Session(ring, "people").unwrap(*wrapped(other))


@pytest.mark.parametrize("kind", ["file", "model", "index", "subject"])
def test_a_key_of_another_kind_opens_no_data_key(ring, kind):
    text, _ = wrapped(ring)
    key = ring.named(kind, f"people.{FOOTER}")
    forged = bytearray(base64.b64decode(text))
    forged[1:5] = key.id.to_bytes(4, "big")
    with pytest.raises(DecryptionFailed):
        Session(ring, "people").unwrap(base64.b64encode(forged).decode(), str(key.id))


def test_a_data_key_that_is_too_short_is_refused(ring):
    session = Session(ring, "people")
    master = session.column(FOOTER)
    with pytest.raises(DecryptionFailed):
        session.unwrap(session.wrap(bytes(16), master), master)


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda b: base64.b64encode(b).decode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_text_is_refused(ring, text):
    for master in ("1", "", "٣", "-1", "x" * 1000):
        with pytest.raises(DecryptionFailed):
            Session(ring, "people").unwrap(text, master)


def test_every_flipped_bit_of_a_wrapped_key_is_refused(ring):
    text, master = wrapped(ring)
    data = base64.b64decode(text)
    for at in range(len(data)):
        forged = bytearray(data)
        forged[at] ^= 1 << at % 8
        with pytest.raises(DecryptionFailed):
            Session(ring, "people").unwrap(base64.b64encode(forged).decode(), master)


def test_a_session_shows_neither_keys_nor_data_keys(ring):
    session = opened(ring)
    assert repr(session) == "Session(table='people')"


# -- with pyarrow ------------------------------------------------------------------------


class Recorded(pme.KmsClient):
    """A key service of pyarrow alone, after the documented wrapping."""

    def __init__(self, keys, tenant, table):
        super().__init__()
        self.keys, self.place, self.asked = keys, (tenant, table), []

    def unwrap_key(self, text, master):
        data = base64.b64decode(text)
        material, column = self.keys[int(master)]
        parts = [part.encode() for part in (*self.place, column)]
        place = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        info = b"compliance parquet v1" + place
        self.asked.append(data)
        wrapping = HKDFExpand(hashes.SHA256(), 32, info).derive(material)
        return aes_key_unwrap_with_padding(wrapping, data[5:])


@pytest.fixture
def path(tmp_path, ring):
    parquet.write(TABLE, tmp_path / "x.parquet", ring, table="people")
    return tmp_path / "x.parquet"


def with_pyarrow_alone(path, ring):
    named = {column: ring.named("column", f"people.{column}") for column in (FOOTER, "name", "age")}
    keys = {key.id: (key.material, column) for column, key in named.items()}
    service = Recorded(keys, ring.tenant, "people")
    factory = pme.CryptoFactory(lambda _: service)
    properties = factory.file_decryption_properties(pme.KmsConnectionConfig())
    return arrow.ParquetFile(path, decryption_properties=properties).read(), service.asked


def test_our_file_opens_in_pyarrow_by_the_documented_wrapping(path, ring):
    assert with_pyarrow_alone(path, ring)[0].equals(TABLE)


def test_no_two_files_or_columns_share_a_data_key(path, ring):
    first = set(with_pyarrow_alone(path, ring)[1])
    parquet.write(TABLE, path, ring, table="people")
    second = set(with_pyarrow_alone(path, ring)[1])
    assert (len(first), len(second), first & second) == (3, 3, set())


def test_a_key_service_is_used_again_and_holds_nothing_between(path, ring):
    parquet.read(path, ring, table="people")
    idle = list(parquet_keys._IDLE)
    for _ in range(5):
        parquet.read(path, ring, table="people")
    assert idle == parquet_keys._IDLE
    assert all(service.session is None for service in idle)
    with pytest.raises(DecryptionFailed, match="was closed"):
        idle[0].unwrap_key("", "1")


# -- files of other implementations, by pyarrow with their published test keys ----------------

_KEYS = {"kf": b"0123456789012345", "kc1": b"1234567890123450", "kc2": b"1234567890123451"}


class Published(pme.KmsClient):
    """The mock key service of parquet-java: AES-GCM under the master key, its name bound in."""

    def unwrap_key(self, text, master):
        data = base64.b64decode(text)
        return AESGCM(_KEYS[master]).decrypt(data[:12], data[12:], master.encode())


def test_a_file_of_parquet_java_with_external_key_material_is_read(data):
    path = data / "crypto/parquet/data/external_key_material_java.parquet.encrypted"
    factory = pme.CryptoFactory(lambda _: Published())
    keys = factory.file_decryption_properties(pme.KmsConnectionConfig(), None, str(path))
    read = arrow.ParquetFile(path, decryption_properties=keys).read()
    assert read.num_rows == 100
    assert read.slice(0, 2).to_pydict() == {"integers": [0, 1], "strings": ["a0", "b1"]}


@pytest.mark.parametrize("folder", ["", "aes256"], ids=["128 bits", "256 bits"])
def test_a_uniform_file_of_another_implementation_is_read(data, folder):
    path = data / "crypto/parquet/data" / folder / "uniform_encryption.parquet.encrypted"
    key = b"0123456789012345" if not folder else b"01234567890123456789012345678901"
    keys = pme.create_decryption_properties(key)
    assert arrow.ParquetFile(path, decryption_properties=keys).read().num_rows == 50
