"""Access as controls: role check, rows without consent, columns outside the purpose."""

from __future__ import annotations

from compliance import frames
from compliance.access.consent import Consents
from compliance.access.identity import Identity
from compliance.access.rbac import Authority
from compliance.controls import Call, Opening, Phase
from compliance.errors import ConsentMissing, InputError, PurposeError
from compliance.policy import Column, Dataset


class Authorise:
    """The identity must be permitted to run the activity, or to read the data set."""

    phase = Phase.AUTHORISE

    def __init__(self, authority: Authority, identity: Identity) -> None:
        self._authority = authority
        self._identity = identity

    def __call__(self, call: Call) -> None:
        """Raise AccessDenied unless a role permits it."""
        if call.kind == "dataset":
            self._authority.require(self._identity, f"dataset/{call.name}", "read")
        else:
            self._authority.require(self._identity, f"activity/{call.name}", "run")


class ConsentRows:
    """Rows of subjects who did not agree to the purpose are dropped."""

    phase = Phase.CONSENT

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    def __call__(self, call: Call) -> None:
        """Drop the rows; refuse when none is left."""
        for opening in call.fresh:
            if opening.dataset:
                self._narrow(call, opening, call.policy.dataset(opening.dataset))

    def _narrow(self, call: Call, opening: Opening, dataset: Dataset) -> None:
        rows = len(opening.frame)
        opening.facts["rows"] = rows
        if rows == 0:
            raise InputError(f"data set {opening.dataset!r} has no rows")
        if dataset.subject is None:
            return
        permitted = self._permitted(call, opening, dataset)
        opening.frame = frames.keep_rows(opening.frame, permitted)
        opening.subjects = [
            s for s, ok in zip(opening.subjects or [], permitted, strict=True) if ok
        ]
        opening.facts["rows_without_consent"] = rows - sum(permitted)
        if not any(permitted):
            raise ConsentMissing(
                f"no subject in {opening.dataset!r} permits the purpose {call.purpose!r}; "
                "record consent with `compliance consent record`"
            )

    def _permitted(self, call: Call, opening: Opening, dataset: Dataset) -> list[bool]:
        subjects = frames.column(opening.frame, dataset.subject or "")
        opening.subjects = subjects
        kind = dataset.subject_type
        permitted = self._consents.permits(call.purpose or "", kind, subjects)
        if call.kind == "decision":
            decidable = self._consents.decidable(kind, subjects)
            opening.facts["rows_opted_out"] = sum(not d for d in decidable)
            permitted = [p and d for p, d in zip(permitted, decidable, strict=True)]
        return permitted


class Minimise:
    """Columns that the policy does not list for the purpose reach nobody (GDPR Art. 5(1)(c))."""

    phase = Phase.MINIMISE

    def __call__(self, call: Call) -> None:
        """Drop the columns; refuse a data set that the activity does not name."""
        for opening in call.fresh:
            if opening.dataset:
                self._narrow(call, opening)

    def _narrow(self, call: Call, opening: Opening) -> None:
        activity, purpose = call.activity, call.purpose or ""
        if opening.dataset not in activity.datasets and not opening.audits:
            raise PurposeError(
                f"activity {call.name!r} may not use data set {opening.dataset!r}; "
                f"it names: {', '.join(activity.datasets)}"
            )
        listed = call.policy.dataset(opening.dataset).columns
        keep = [c for c in opening.frame.columns if serves(listed.get(c), purpose)]
        if not keep:
            raise PurposeError(
                f"no column of {opening.dataset!r} serves the purpose {purpose!r}; "
                f"see datasets.{opening.dataset}.columns in the policy"
            )
        opening.facts["columns_dropped"] = len(opening.frame.columns) - len(keep)
        opening.frame = opening.frame.select(keep)


def serves(column: Column | None, purpose: str) -> bool:
    """Say whether a column is listed for a purpose; an unlisted column serves none."""
    return column is not None and purpose in column.purposes
