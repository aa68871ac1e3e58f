"""A certificate that can be checked by others, and says nothing about anybody."""

import base64
import copy
import json

import pytest
from rights.office import ANNA

from compliance.crypto.signing import Signer, Verifier
from compliance.errors import IntegrityError
from compliance.rights.certificate import PAYLOAD, pae, sign, statement, verify_certificate
from compliance.trail import checkpoint

LUIS = {"email": "luisg@embraer.com.br"}


@pytest.fixture
def closed(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, LUIS)
    here.request = here.requests.get(ANNA, request)
    here.envelope = here.requests.certificate(ANNA, request)
    signer = here.ring.signer()
    here.verifier = Verifier(signer.name, signer.public_key)
    return here


def test_it_states_what_was_done_and_what_was_not_proved(closed):
    content = verify_certificate(closed.envelope, closed.verifier)
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["subject"][0]["digest"] == {"sha256": closed.request.digest}
    said = content["predicate"]
    [store] = said["stores"]
    assert store["counts"] == {
        "Customer": {"delete": 1}, "Invoice": {"delete": 7}, "InvoiceLine": {"delete": 38},
    }  # fmt: skip
    assert said["verification"]["other_rows_unchanged"] == "not proved"
    assert (said["nothing_found"], said["due"]) == (False, closed.request.due.isoformat())


def test_its_place_in_the_trail_is_that_of_the_closing(closed):
    trail = verify_certificate(closed.envelope, closed.verifier)["predicate"]["trail"]
    [entry] = closed.trail.read(filters={"event": "request.closed"})
    assert trail["index"] == entry.index
    assert checkpoint.open_note(trail["checkpoint"], closed.verifier).size == entry.index + 1


def test_it_names_nobody(closed):
    payload = base64.b64decode(closed.envelope["payload"]).decode()
    pseudonyms = {e.values["subject"] for e in closed.trail.read()} - {None}
    assert pseudonyms
    for word in ("luisg", "embraer", "Gonçalves", *pseudonyms):
        assert word not in payload


def test_it_can_be_checked_without_this_package(closed):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    payload = base64.b64decode(closed.envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    key = Ed25519PublicKey.from_public_bytes(closed.verifier.public_key)
    key.verify(base64.b64decode(closed.envelope["signatures"][0]["sig"]), signed)
    assert json.loads(payload)["predicate"]["kind"] == "erasure"


def test_pae_is_that_of_the_dsse_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def _altered(envelope):
    payload = base64.b64decode(envelope["payload"]).replace(b'"delete":7', b'"delete":8')
    return {**envelope, "payload": base64.b64encode(payload).decode()}


@pytest.mark.parametrize(
    "change",
    [
        _altered,
        lambda e: {**e, "payloadType": "text/plain"},
        lambda e: {**e, "signatures": []},
        lambda e: {**e, "payload": "%%%"},
        lambda e: {k: v for k, v in e.items() if k != "payload"},
        lambda e: {**e, "signatures": [{**e["signatures"][0], "sig": "AAAA"}]},
        lambda e: {**e, "signatures": None},
    ],
)
def test_any_change_raises(closed, change):
    with pytest.raises(IntegrityError):
        verify_certificate(change(copy.deepcopy(closed.envelope)), closed.verifier)


def test_another_key_and_another_kind_raise(closed):
    other = Signer("compliance/default", b"\1" * 32)
    with pytest.raises(IntegrityError, match="not signed by the expected key"):
        verify_certificate(closed.envelope, other)
    content = statement("x", "00", {}) | {"predicateType": "urn:other"}
    with pytest.raises(IntegrityError, match="another kind"):
        verify_certificate(sign(content, other), other)
    empty = sign(statement("x", "00", {}), other)
    assert empty["payloadType"] == PAYLOAD
    with pytest.raises(IntegrityError, match="malformed"):
        verify_certificate(empty, other)


def test_somebody_unknown_gets_a_certificate_that_nothing_was_found(sqlite_chinook, office, go):
    here = office(chinook=sqlite_chinook)
    request = go(here, {"email": "nobody@nowhere.example"})
    content = verify_certificate(here.requests.certificate(ANNA, request), here.ring.signer())
    assert content["predicate"]["nothing_found"] is True
