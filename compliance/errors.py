"""Every error this package raises, in one tree.

Each message says what happened and what to do next, and holds no key and no
personal value. ``exit_code`` is what the command line returns for the error
(docs/exit-codes.md).

::

    ComplianceError
    ├── ConfigurationError            2  settings or environment are wrong
    │   ├── PolicyError               2  a file under policies/ or audits/ is wrong
    │   ├── MissingExtra              2  an optional dependency is not installed
    │   └── InputError                2  the caller's data or arguments are wrong
    ├── Refused                       4  a control said no; the function did not run
    │   ├── AccessDenied                 role or identity does not permit it
    │   ├── PurposeError                 data set or column outside the purpose
    │   ├── ConsentMissing               no row is left that the purpose may use
    │   ├── UnregisteredData             a frame came from no registered data set
    │   ├── PIIFound                  1  the scan found personal data the policy blocks
    │   ├── NotPrivate                   privacy is demanded and was not delivered
    │   ├── BudgetExhausted              the privacy budget does not cover the request
    │   └── AuditFailed               1  the fairness audit withheld the model
    ├── InsufficientEvidence          3  nothing was audited, or too little to decide
    ├── IntegrityError                1  something is not what was signed or sealed
    │   ├── TrailCorrupt                 the audit store was changed
    │   ├── DecryptionFailed             wrong key, wrong place or altered ciphertext
    │   ├── KeyDestroyed                 the key was destroyed on purpose
    │   ├── KeyRetired                   the key's epoch is over; its ciphertexts are out of date
    │   ├── ModelRejected                a model file failed verification
    │   └── VerificationFailed           an erasure left something behind
    └── OperationError                4  could not finish
        ├── StoreError                   database unreachable, locked, full or read-only
        ├── RequestStateError            the request is not in the state the step needs
        └── StalePlanError               the data changed since the plan was approved
"""

from __future__ import annotations


class ComplianceError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_code = 4


class ConfigurationError(ComplianceError):
    """Settings, environment or files are wrong; nothing was done."""

    exit_code = 2


class PolicyError(ConfigurationError):
    """A policy or plan is wrong; the message names file, line and the nearest valid key."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed; the message names the install command."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"{package} is not installed. "
            f"Install it with: pip install 'compliance-toolkit[{extra}]'"
        )
        self.extra = extra
        self.package = package

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.extra, self.package)


class InputError(ConfigurationError):
    """The data or arguments given cannot be used as they are."""


class Refused(ComplianceError):
    """A control said no; the wrapped function did not run, or its result was withheld."""


class AccessDenied(Refused):
    """The identity lacks the role, or proved itself by too weak a method."""


class PurposeError(Refused):
    """A data set or column lies outside the purpose of the activity."""


class ConsentMissing(Refused):
    """No row is left that the purpose may use."""


class UnregisteredData(Refused):
    """A frame reached an activity without coming from a registered data set."""


class PIIFound(Refused):
    """The scan found personal data that the policy blocks."""

    exit_code = 1


class NotPrivate(Refused):
    """The policy demands differential privacy and the body did not deliver it."""


class BudgetExhausted(Refused):
    """The privacy budget does not cover the request."""


class AuditFailed(Refused):
    """The fairness audit did not pass; no model was released."""

    exit_code = 1


class InsufficientEvidence(ComplianceError):
    """Nothing was audited, or too little to decide."""

    exit_code = 3


class IntegrityError(ComplianceError):
    """Something is not what was signed, sealed or recorded."""

    exit_code = 1


class TrailCorrupt(IntegrityError):
    """The audit store was changed outside this package."""


class DecryptionFailed(IntegrityError):
    """Wrong key, wrong place, or altered ciphertext; which one is not told apart."""


class KeyDestroyed(IntegrityError):
    """The key was destroyed on purpose; what it sealed is gone."""


class KeyRetired(IntegrityError):
    """The key's epoch is over: a ciphertext under it is an old one that was put back."""


class ModelRejected(IntegrityError):
    """A model artefact failed verification before a byte of it was parsed."""


class VerificationFailed(IntegrityError):
    """An erasure was re-queried and something of the subject is still there."""


class OperationError(ComplianceError):
    """The work could not be finished; what was done is recorded."""


class StoreError(OperationError):
    """The database is unreachable, locked, full or read-only."""


class RequestStateError(OperationError):
    """The request is not in the state that the step needs."""


class StalePlanError(OperationError):
    """The data are no longer those that the plan was approved for; nothing was written."""
