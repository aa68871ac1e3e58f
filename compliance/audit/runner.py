"""Running a plan: every check in order, one verdict, and an exit code that cannot lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compliance.audit import checks
from compliance.audit.plan import Check, FairnessCheck, ModelsCheck, PiiCheck, Plan, PolicyCheck
from compliance.errors import ConfigurationError, OperationError
from compliance.findings import Finding, Outcome, Place, Severity, Verdict
from compliance.policy import Policy
from compliance.store import Store
from compliance.trail import checkpoint

PASS, FINDINGS, INSUFFICIENT, UNFINISHED = 0, 1, 3, 4
UNREAD, UNFINISHED_CHECK = "pii.unread", "audit.unfinished"
_HOLES = frozenset({UNREAD, UNFINISHED_CHECK})


@dataclass(frozen=True, slots=True)
class World:
    """What checks need beyond their source; opened by the caller, who knows the keys.

    Attributes:
        root: what relative sources are relative to.
        policies: the folder of norms.
        policy: the norms.
        trail: opens the audit store and the key that its head is signed with.
        discrepancies: compares with the trail what it vouches for: kind and message of each
            difference.
        models: verifies every sealed model: name, version, fault or None.
    """

    root: Path
    policies: Path
    policy: Policy
    trail: Callable[[], tuple[Store, checkpoint.Verifier]]
    models: Callable[[], Iterable[tuple[str, str, str | None]]]
    discrepancies: Callable[[], Iterable[tuple[str, str]]] = field(default=tuple)
    progress: checks.Progress = field(default=checks.quiet)


def run(plan: Plan, world: World) -> list[Outcome]:
    """Run every check of a plan, in order; one that cannot finish does not end the others."""
    return [o for check in plan.checks for o in gathered(_run_one(check, world), check.check)]


def gathered(outcomes: Iterable[Outcome], what: str) -> list[Outcome]:
    """Return the outcomes; what broke off is one more, so that what was found before is kept."""
    found: list[Outcome] = []
    try:
        for outcome in outcomes:
            found.append(outcome)  # noqa: PERF402  what came before an error stays
    except OperationError as error:
        found.append(_unfinished(what, error))
    return found


def _unfinished(what: str, error: OperationError) -> Outcome:
    place, summary = Place(what), f"The check could not finish: {error}"
    kind = type(error).__name__
    finding = Finding(UNFINISHED_CHECK, Severity.MEDIUM, summary, place, kind, 1)
    title = f"Not finished: {what}"
    return Outcome(UNFINISHED_CHECK, title, Verdict.INSUFFICIENT, summary, (finding,))


def _run_one(check: Check, world: World) -> Iterator[Outcome]:
    match check:
        case PiiCheck():
            yield from checks.pii(source_of(check.source, world.root), check.rule, world.progress)
        case FairnessCheck():
            yield _fairness(check, world)
        case PolicyCheck():
            yield checks.policy(world.policies)
        case ModelsCheck():
            yield checks.models(world.models())
        case _:
            store, verifier = world.trail()
            yield checks.trail(store, verifier, world.progress, world.discrepancies())


def _fairness(check: FairnessCheck, world: World) -> Outcome:
    return checks.fairness(
        source_of(check.source, world.root),
        label=check.label,
        prediction=check.prediction,
        sensitive=check.sensitive,
        positive=check.positive,
        norms={name: world.policy.norm(name) for name in check.norms},
    )


def source_of(source: str, root: Path = Path()) -> str:
    """Return a path under the root, or a URL; ``env:NAME`` keeps a secret out of what is written.

    Raises:
        ConfigurationError: the environment has no such variable.
    """
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if not os.environ.get(name):
            raise ConfigurationError(f"{name} is to be read from the environment; it is not set")
        return os.environ[name]
    return source if "://" in source else str(root / source)


def exit_code(
    outcomes: Sequence[Outcome], fail_on: Severity, *, allow_insufficient: bool = False
) -> int:
    """Return the exit code: 0 pass, 1 findings, 3 insufficient evidence, 4 not all was read.

    What was found outweighs what could not be read; both outweigh what was too little.
    """
    found = [f for o in outcomes for f in o.at_least(fail_on) if f.check not in _HOLES]
    if found:
        return FINDINGS
    if any(f.check in _HOLES for o in outcomes for f in o.findings):
        return UNFINISHED
    verdicts = [o.verdict for o in outcomes]
    if not verdicts or Verdict.INSUFFICIENT in verdicts:
        return PASS if allow_insufficient else INSUFFICIENT
    return PASS
