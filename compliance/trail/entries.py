"""The event envelope and its canonical bytes.

What is hashed is what is stored: the body of an entry is written once, as JSON
canonicalised by RFC 8785 (JCS), and never built again from columns. Only strings,
integers, booleans and null occur, for which sorted keys and minimal separators are
JCS. Figures with a fraction travel as decimal strings.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compliance.errors import InputError, TrailCorrupt

VERSION = 1
MAX_BYTES = 65_535  # a tlog-tiles entry carries its length in two bytes
_MAX_INTEGER = 2**53 - 1  # beyond it, JSON readers disagree (RFC 8785 section 3.2.2.3)

Fact = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, without personal data.

    Attributes:
        event: what: ``training.intent``, ``request.approved``, ``consent.withdrawn``.
        actor: who acts; the principal the policy knows.
        method: how the identity was established: ``os``, ``asserted``, ``token``.
        account: the operating-system account of the process.
        on_behalf_of: whom the actor impersonates.
        activity: the processing activity.
        purpose: its purpose.
        dataset: the data set or data sets touched.
        subject: a keyed pseudonym, never an identifier.
        call: an id shared by the intent and the outcome of one call.
        policy: the digest of the policy in force.
        outcome: ``ok``, ``refused`` or ``failed``; None for an intent.
        facts: counts and settings.
    """

    event: str
    actor: str = ""
    method: str = ""
    account: str = ""
    on_behalf_of: str | None = None
    activity: str | None = None
    purpose: str | None = None
    dataset: str | None = None
    subject: str | None = None
    call: str | None = None
    policy: str | None = None
    outcome: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def body(self, time: dt.datetime) -> bytes:
        """Return the canonical bytes.

        Raises:
            InputError: a fact of another type, an integer beyond 2^53, or too many bytes.
        """
        values = {name: getattr(self, name) for name in _NAMES}
        _check_names(values)
        _check_facts(self.facts)
        values |= {"v": VERSION, "time": stamp(time), "facts": dict(self.facts)}
        body = canonical(values)
        if len(body) > MAX_BYTES:
            raise InputError(f"a trail entry holds at most {MAX_BYTES} bytes, this one {len(body)}")
        return body


_NAMES = (
    "event", "actor", "method", "account", "on_behalf_of", "activity", "purpose",
    "dataset", "subject", "call", "policy", "outcome",
)  # fmt: skip
_REQUIRED = frozenset({"event", "actor", "method", "account"})


def canonical(values: Mapping[str, Any]) -> bytes:
    """Return RFC 8785 bytes of strings, integers, booleans, null and mappings of them."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError("a lone surrogate cannot be written to the trail") from error


def _check_names(values: Mapping[str, object]) -> None:
    """What a query column repeats is text: a number would come back from it as a text."""
    for name, value in values.items():
        optional = value is None and name not in _REQUIRED
        if not optional and not isinstance(value, str):
            raise InputError(f"{name} of an event is a {type(value).__name__}; use str")


def _check_facts(facts: Mapping[Any, object]) -> None:
    for name, value in facts.items():
        if not isinstance(name, str) or not name.isascii():
            # JCS sorts by UTF-16 units, Python by code points: equal in ASCII
            raise InputError("fact names are ASCII text")
        if not (value is None or isinstance(value, (str, bool, int))):
            raise InputError(f"fact {name!r} is a {type(value).__name__}; use str, int, bool, None")
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            raise InputError(f"fact {name!r} is beyond 2^53; write it as a string")


def stamp(time: dt.datetime) -> str:
    """Return an RFC 3339 time in UTC with microseconds."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def decimal(value: float | None) -> str | None:
    """Return a float as the shortest decimal that reads back the same."""
    return None if value is None else repr(float(value))


def parse(body: bytes) -> dict[str, Any]:
    """Read the bytes of an entry.

    Raises:
        TrailCorrupt: not the JSON object that `Event.body` writes.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TrailCorrupt("the entry is not JSON") from error
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        raise TrailCorrupt("the entry is no event")
    return values
