"""Unsealing as a control: encrypted columns are opened for the activity that may see them."""

from __future__ import annotations

from compliance.controls import Call, Phase
from compliance.crypto import columns
from compliance.crypto.keys import Keyring


class Unseal:
    """Open the encrypted columns that are left after minimisation, and no others."""

    phase = Phase.UNSEAL

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def __call__(self, call: Call) -> None:
        """Replace sealed cells by their plaintext; a cell that does not open refuses the call."""
        for opening in call.fresh:
            if not opening.dataset:
                continue
            dataset = call.policy.dataset(opening.dataset)
            names = [c for c in opening.frame.columns if dataset.columns[c].encrypted]
            opening.frame = columns.decrypt(
                opening.frame, names, self._ring, table=opening.dataset, rows=opening.subjects
            )
            opening.facts["columns_opened"] = len(names)
