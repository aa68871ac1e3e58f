"""Connectors: one file for each kind of store, behind one small Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from compliance.rights.plan import StorePlan
from compliance.rights.subject import Search

Rows = dict[str, list[dict[str, Any]]]  # table -> rows


class Connector(Protocol):
    """A store that holds persons. Every method is one transaction of its own."""

    name: str

    def locate(self, search: Search) -> Rows:
        """Return the person's own rows: table -> columns that identify."""

    def plan(self, search: Search, retention: Mapping[str, str], kind: str) -> StorePlan:
        """Return what an erasure or an access request would touch; nothing is written."""

    def read(self, plan: StorePlan) -> Rows:
        """Return the person's rows, JSON-able, without columns about third persons."""

    def erase(
        self, plan: StorePlan, retention: Mapping[str, str], *, commit: bool, resumed: bool = False
    ) -> bool:
        """Carry the plan out in one transaction, or roll it back after counting.

        Returns:
            False when an interrupted earlier run had done it already.
        """

    def verify(self, plan: StorePlan) -> dict[str, int]:
        """Return how much is left of the person, by ``table`` or ``table.column``."""
