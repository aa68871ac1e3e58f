"""A lost master is survived: the domain keys lie with a recipient, and open nothing alone."""

import base64
import json

import pytest
from crypto.keeping import custodian
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from compliance.config import Settings
from compliance.crypto import escrow, providers
from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring
from compliance.errors import ComplianceError, ConfigurationError, InputError, KeyDestroyed
from compliance.store import Store

PLACE = Place("default", "people", "salary")


def pair(kind=X25519PrivateKey):
    private = kind.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key()
    return pem, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def new_master(tmp_path, name="new.json"):
    return providers.create_master(Settings(master=f"file:{tmp_path / name}"))


@pytest.mark.parametrize("kind", [X25519PrivateKey, MLKEM768PrivateKey])
def test_a_database_whose_master_is_lost_opens_again(any_ring, key_file, tmp_path, kind):
    private, public = pair(kind)
    cell = any_ring.seal(any_ring.column("people", "salary"), b"secret", PLACE)
    gone = any_ring.seal(any_ring.subject("person", 7), b"erased", PLACE)
    document = escrow.export(any_ring, public)
    custodian(any_ring).destroy_subject("person", 7)
    key_file.unlink()
    with pytest.raises(ConfigurationError, match="keys import"):
        Keyring.open(any_ring.store, key_file)
    assert escrow.recover(any_ring.store, lambda: new_master(tmp_path), document, private) == 1
    ring = Keyring.open(any_ring.store, tmp_path / "new.json")
    assert ring.open_sealed(cell, PLACE) == b"secret"
    with pytest.raises(KeyDestroyed):
        ring.open_sealed(gone, PLACE)


def test_an_export_shows_no_key(ring):
    document = escrow.export(ring, pair()[1])
    keys = [key for _, key in ring.keys.cache._keys.values()]
    assert ring.keys.domain() in keys
    for key in keys:
        for form in (key.material, key.material.hex().encode(), base64.b64encode(key.material)):
            assert form not in document
    assert "sealed" in json.loads(document)["keys"][0]


def test_another_private_key_recovers_nothing(ring, tmp_path):
    document = escrow.export(ring, pair()[1])
    before = ring.keys.row(1)
    with pytest.raises(ComplianceError):
        escrow.recover(ring.store, lambda: new_master(tmp_path), document, pair()[0])
    assert ring.keys.row(1) == before
    assert not (tmp_path / "new.json").exists()


def test_an_export_of_another_database_is_refused(ring, tmp_path):
    private, public = pair()
    other = Store.open(f"sqlite:///{tmp_path / 'other.db'}")
    stranger = Keyring.open(other, tmp_path / "stranger.json")
    document = escrow.export(stranger, public)
    with pytest.raises(ComplianceError):
        escrow.recover(ring.store, lambda: new_master(tmp_path), document, private)
    assert ring.subject("person", 1)
    other.close()


def test_an_export_from_before_a_rotation_is_out_of_date(ring, tmp_path):
    private, public = pair()
    document = escrow.export(ring, public)
    custodian(ring).rotate_domain()
    with pytest.raises(InputError, match="older"):
        escrow.recover(ring.store, lambda: new_master(tmp_path), document, private)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"tenant": "other"},
        lambda d: d | {"keys": [d["keys"][0] | {"id": 2}]},
        lambda d: d | {"keys": [d["keys"][0] | {"epoch": 2}]},
        lambda d: (
            d | {"keys": [d["keys"][0] | {"sealed": d["keys"][0]["sealed"][:-8] + "AAAAAAA="}]}
        ),
        lambda d: d | {"keys": [d["keys"][0] | {"sealed": "no base64"}]},
        lambda d: d | {"keys": []},
        lambda d: d | {"format": "else"},
        lambda _: [],
        lambda _: None,
    ],
    ids=["tenant", "id", "epoch", "altered", "base64", "empty", "format", "list", "null"],
)
def test_an_altered_export_is_refused(ring, tmp_path, change):
    private, public = pair()
    document = json.dumps(change(json.loads(escrow.export(ring, public)))).encode()
    with pytest.raises(ComplianceError):
        escrow.recover(ring.store, lambda: new_master(tmp_path), document, private)
    assert ring.keys.row(1).wrapper == ring.keys.master.name


@pytest.mark.parametrize(
    "pem", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_public_key_is_refused(ring, pem):
    with pytest.raises(InputError):
        escrow.export(ring, pem)
