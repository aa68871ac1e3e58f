"""Unsealing as a control: encrypted columns are opened for the activity that may see them."""

from __future__ import annotations

from compliance import frames
from compliance.controls import Call, Opening, Phase
from compliance.crypto import columns
from compliance.crypto.keys import Keyring
from compliance.errors import ConsentMissing, DecryptionFailed
from compliance.policy import Dataset


class Unseal:
    """Open the encrypted columns that are left after minimisation, and no others.

    A row whose subject's key was destroyed belongs to somebody who was erased: the row is
    dropped and counted, and the others are delivered. A column's destroyed key refuses the call.
    """

    phase = Phase.UNSEAL

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def __call__(self, call: Call) -> None:
        """Replace sealed cells by their plaintext; a cell that does not open refuses the call."""
        for opening in call.fresh:
            if opening.dataset:
                self._open(opening, call.policy.dataset(opening.dataset))

    def _open(self, opening: Opening, dataset: Dataset) -> None:
        try:
            self._open_all(opening, dataset)
        except DecryptionFailed as error:
            raise DecryptionFailed(
                f"data set {opening.dataset!r}: {error}; a column that the policy calls encrypted "
                "and that was never sealed is sealed once with guard.encrypt"
            ) from None

    def _open_all(self, opening: Opening, dataset: Dataset) -> None:
        """Open the columns of people first: their erased rows need not open anywhere else."""
        modes = {name: dataset.columns[name].encrypted for name in opening.frame.columns}
        own = [name for name, mode in modes.items() if mode == "subject"]
        shared = [name for name, mode in modes.items() if mode is True]
        if own:
            self._open_own(opening, own, dataset.subject_type)
        opening.frame = columns.decrypt(
            opening.frame, shared, self._ring, table=opening.dataset, rows=opening.subjects
        )
        opening.facts["columns_opened"] = len(own) + len(shared)

    def _open_own(self, opening: Opening, names: list[str], subject_type: str) -> None:
        who = opening.subjects or []
        opened = columns.open_columns(
            opening.frame,
            names,
            self._ring,
            table=opening.dataset,
            rows=who,
            subjects=(subject_type, who),
            destroyed="null",
        )
        erased = set(opened.erased)
        opening.facts["rows_erased"] = len(erased)
        opening.frame = frames.keep_rows(opened.frame, [i not in erased for i in range(len(who))])
        opening.subjects = [subject for i, subject in enumerate(who) if i not in erased]
        if not opening.subjects:
            raise ConsentMissing(
                f"every person in {opening.dataset!r} who permits this was erased; there is "
                "nobody left to process"
            )
