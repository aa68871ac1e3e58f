"""The sabotages: which promise of the design, which edit, which test must turn red."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sabotage:
    """One edit of one file, and the test that must notice it."""

    promise: int
    name: str
    file: str
    old: str
    new: str
    test: str


SABOTAGES = ()
