"""Signed tree heads: C2SP tlog-checkpoint inside a C2SP signed-note.

Signing is handed in (`Signer`): the trail knows no keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from compliance.errors import TrailCorrupt

_ED25519 = b"\x01"
_MAX_NOTE = 1_000_000
_FORBIDDEN = re.compile(
    r"[\x00-\x09\x0b-\x1f\ud800-\udfff]"
)  # signed-note: no ASCII control but newline
_SIGNATURE = re.compile(r"— (\S+) ([A-Za-z0-9+/]+={0,2})")


class Verifier(Protocol):
    """Checks a signature of the key whose vkey it was made from."""

    @property
    def name(self) -> str:
        """Return the key's name: the log's origin."""

    @property
    def public_key(self) -> bytes:
        """Return the 32 bytes of the public key (RFC 8032)."""

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return, or raise IntegrityError."""


class Signer(Verifier, Protocol):
    """An Ed25519 key with a name, which also checks its own signatures."""

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of a signature."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's origin, size and root hash."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text, ending in a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text.

        Raises:
            TrailCorrupt: not three or more non-empty lines, or a malformed size or hash.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not all(lines[:-1]) or lines[-1]:  # noqa: PLR2004  three lines and an end
            raise TrailCorrupt("the checkpoint has not the three lines it needs")
        size, root = lines[1], _decode(lines[2])
        if (
            not re.fullmatch(r"0|[1-9][0-9]{0,18}", size)
            or len(root) != hashlib.sha256().digest_size
        ):
            raise TrailCorrupt("the checkpoint's size or root is malformed")
        return cls(lines[0], int(size), root)


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the four bytes that name an Ed25519 key in a signed note."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def vkey(name: str, public_key: bytes) -> str:
    """Return the verifier key: name, id and public key, as signed-note writes them."""
    material = base64.b64encode(_ED25519 + public_key).decode()
    return f"{name}+{key_id(name, public_key).hex()}+{material}"


def parse_vkey(text: str) -> tuple[str, bytes]:
    """Return name and public key of a verifier key.

    Raises:
        TrailCorrupt: malformed, of another algorithm, or the id does not match the key.
    """
    name, _, rest = text.strip().partition("+")
    identity, _, material = rest.partition("+")
    data = _decode(material)
    is_key = name and data[:1] == _ED25519 and len(data) == 33  # noqa: PLR2004  type byte and key
    if not is_key or key_id(name, data[1:]).hex() != identity:
        raise TrailCorrupt("not an Ed25519 verifier key")
    return name, data[1:]


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the signed note of a checkpoint."""
    text = checkpoint.text()
    signature = key_id(signer.name, signer.public_key) + signer.sign(text.encode())
    return f"{text}\n— {signer.name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint of a note after its signature was verified.

    Raises:
        TrailCorrupt: malformed, or not signed by this key.
    """
    if not isinstance(note, str) or len(note) > _MAX_NOTE:
        raise TrailCorrupt("the note is too large, or no text")
    if _FORBIDDEN.search(note):
        raise TrailCorrupt("the note holds a control character or a lone surrogate")
    text, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise TrailCorrupt("the note has no signature")
    text += "\n"
    wanted = key_id(verifier.name, verifier.public_key)
    for line in tail[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        if match is None:
            raise TrailCorrupt("the note has a malformed signature line")
        signature = _decode(match[2])
        if match[1] == verifier.name and signature[:4] == wanted:
            verifier.verify(signature[4:], text.encode())
            return Checkpoint.parse(text)
    raise TrailCorrupt("the note is not signed by the expected key")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TrailCorrupt("malformed base64 in a note") from error
