"""The manifest of a sealed model: canonical JSON that is signed and cites the trail."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from compliance.errors import InputError, ModelRejected

SCHEMA = 1
MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a model came from.

    Attributes:
        activity: the processing activity it was trained for.
        actor: who trained it, as the trail names them.
        data_digest: digest of the data that the body saw.
        policy_digest: digest of the policy in force.
        epsilon: the privacy loss that was spent, or None without differential privacy.
        delta: its delta, or None.
        rows: how many rows the body saw.
        intent: index of the training's intent in the trail.
    """

    activity: str
    actor: str
    data_digest: str
    policy_digest: str
    epsilon: float | None = None
    delta: float | None = None
    rows: int
    intent: int

    def __post_init__(self) -> None:
        _check_origin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is signed: the model, its ciphertext and its origin.

    Attributes:
        name: the model's name.
        version: six digits, counted up.
        format: as in `formats.FORMATS`.
        sha256: of the ciphertext, in hex.
        size: of the ciphertext, in bytes.
        created: RFC 3339 time in UTC.
        key_id: the key that seals the model.
        origin: where it came from.
    """

    name: str
    version: str
    format: str
    sha256: str
    size: int
    created: str
    key_id: str
    origin: Origin

    def encode(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            InputError: more than `MAX_BYTES`.
        """
        values = dataclasses.asdict(self) | {"schema": SCHEMA}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text) > MAX_BYTES:
            raise InputError(f"a manifest holds at most {MAX_BYTES} bytes, this one {len(text)}")
        return text.encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read canonical bytes.

        Raises:
            ModelRejected: another schema, missing or further fields, or bytes that
                `encode` would not write.
        """
        try:
            values = json.loads(data)
            schema = values.pop("schema")
            manifest = cls(**values | {"origin": Origin(**values["origin"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError):
            raise ModelRejected("the manifest is not one that this version can read") from None
        if schema != SCHEMA or type(manifest.size) is not int or manifest.encode() != data:
            raise ModelRejected(f"the manifest is not a canonical manifest of schema {SCHEMA}")
        return manifest

    @property
    def context(self) -> dict[str, str]:
        """Return what the ciphertext is bound to."""
        return context_of(self.name, self.version, self.format)


def context_of(name: str, version: str, kind: str) -> dict[str, str]:
    """Return what the ciphertext of a model is bound to."""
    return {"name": name, "version": version, "format": kind}


def _check_origin(origin: Origin) -> None:
    """Hold the fields to their types and ranges, whether from a caller or from a manifest.

    Raises:
        InputError: a field is of another type, not finite, or negative.
    """
    texts = (origin.activity, origin.actor, origin.data_digest, origin.policy_digest)
    counts = (origin.rows, origin.intent)
    losses = [loss for loss in (origin.epsilon, origin.delta) if loss is not None]
    if not all(isinstance(text, str) for text in texts):
        raise InputError("activity, actor and digests are text")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise InputError("rows and intent are whole numbers, zero or more")
    if not all(_is_number(loss) and 0 <= loss < math.inf for loss in losses):
        raise InputError("epsilon and delta are finite numbers, zero or more, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
