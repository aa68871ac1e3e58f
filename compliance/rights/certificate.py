"""The certificate: an in-toto statement in a DSSE envelope, signed with Ed25519.

It names counts, digests, times and the place in the trail; it holds no personal data
and no pseudonym. What was not proved it says.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from compliance.errors import IntegrityError
from compliance.trail import checkpoint
from compliance.trail.entries import canonical

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
PREDICATE = "urn:compliance-toolkit:rights-certificate:v1"


def statement(request: str, plan_digest: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return an in-toto Statement v1 about a request's plan."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"request/{request}", "digest": {"sha256": plan_digest}}],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b" ".join((b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload))


def sign(content: Mapping[str, Any], signer: checkpoint.Signer) -> dict[str, Any]:
    """Return a DSSE envelope (secure-systems-lab/dsse, v1.0) around a statement."""
    payload = canonical(content)
    keyid = checkpoint.key_id(signer.name, signer.public_key).hex()
    signature = base64.b64encode(signer.sign(pae(PAYLOAD, payload))).decode()
    return {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": keyid, "sig": signature}],
    }


def verify_certificate(
    envelope: Mapping[str, Any], verifier: checkpoint.Verifier
) -> dict[str, Any]:
    """Return the statement of a certificate whose signatures hold, its checkpoint's included.

    Raises:
        IntegrityError: malformed, altered, of another kind, or signed by another key.
    """
    try:
        payload, signatures = _open(envelope)
        keyid = checkpoint.key_id(verifier.name, verifier.public_key).hex()
        mine = [s["sig"] for s in signatures if s["keyid"] == keyid]
        if not mine:
            raise IntegrityError("the certificate is not signed by the expected key")
        verifier.verify(base64.b64decode(mine[0], validate=True), pae(PAYLOAD, payload))
        content: dict[str, Any] = json.loads(payload)
        _require_kind(content)
        trail = content["predicate"]["trail"]
        head = checkpoint.open_note(trail["checkpoint"], verifier)
        if not 0 <= trail["index"] < head.size:
            raise IntegrityError("the certificate's trail entry is beyond its checkpoint")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise IntegrityError("the certificate is malformed") from error
    return content


def _open(envelope: Mapping[str, Any]) -> tuple[bytes, list[Mapping[str, str]]]:
    if envelope["payloadType"] != PAYLOAD:
        raise IntegrityError("the envelope holds no in-toto statement")
    return base64.b64decode(envelope["payload"], validate=True), list(envelope["signatures"])


def _require_kind(content: Mapping[str, Any]) -> None:
    if (content["_type"], content["predicateType"]) != (STATEMENT, PREDICATE):
        raise IntegrityError("the statement is of another kind")
