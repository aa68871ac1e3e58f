"""``compliance audit``: PII and fairness audits of files and databases, and plans of checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance.cli.context import (
    AllowInsufficient,
    FailOn,
    Format,
    Output,
    check_output,
    emit,
    note,
    options,
    progress,
    vouched,
)
from compliance.findings import Outcome, Severity

if TYPE_CHECKING:
    from compliance.audit.plan import Plan
    from compliance.guard import Guard
    from compliance.policy import Norm

app = typer.Typer(help="Audit data and models.", no_args_is_help=True)


@app.command()
def pii(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="File, folder, SQLAlchemy URL, or env:NAME that holds one."
        ),
    ],
    output_format: Format = "text",
    output: Output = None,
    fail_on: FailOn = "medium",
    allow_insufficient: AllowInsufficient = False,
    least_score: Annotated[float, typer.Option(help="Least score of a match, 0 to 1.")] = 0.6,
    least_share: Annotated[float, typer.Option(help="Least share of cells that match.")] = 0.05,
    sample: Annotated[int, typer.Option(help="Distinct cells sampled from each column.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
) -> None:
    """Scan tables for personal data, column by column; no value is printed."""
    from compliance.audit import checks, runner
    from compliance.policy import PIIRule

    rule = _rule(
        PIIRule, least_score=least_score, least_share=least_share, sample=sample, seed=seed
    )
    end = _End("PII audit", "pii", output_format, output, fail_on, allow_insufficient)
    guard = _begin(context, end)
    with progress("scanning") as advance:
        found = checks.pii(runner.source_of(source), rule, advance)
        outcomes = runner.gathered(found, "pii")
    _finish(guard, end, outcomes)


@app.command()
def fairness(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="CSV, Parquet or JSONL with labels and predictions.")
    ],
    label: Annotated[str, typer.Option(help="Column of true outcomes.")],
    prediction: Annotated[str, typer.Option(help="Column of predicted outcomes.")],
    sensitive: Annotated[str, typer.Option(help="Columns of groups, separated by commas.")],
    positive: Annotated[str | None, typer.Option(help="The favourable value.")] = None,
    norm: Annotated[
        list[str] | None, typer.Option(help="Norm of the policy; four-fifths unless given.")
    ] = None,
    output_format: Format = "text",
    output: Output = None,
    fail_on: FailOn = "medium",
    allow_insufficient: AllowInsufficient = False,
) -> None:
    """Audit predictions by group against dated norms; a gap that chance explains does not fail."""
    from compliance.audit import checks

    end = _End("Fairness audit", "fairness", output_format, output, fail_on, allow_insufficient)
    guard = _begin(context, end)
    with progress("counting"):
        outcome = checks.fairness(
            file,
            label=label,
            prediction=prediction,
            sensitive=[name.strip() for name in sensitive.split(",") if name.strip()],
            norms=_norms(guard, norm or ["four-fifths"]),
            positive=positive,
        )
    _finish(guard, end, [outcome])


def _norms(guard: Guard | None, names: Sequence[str]) -> dict[str, Norm]:
    """Return norms of the project here; where there is none, of those that we ship."""
    from compliance.config import shipped
    from compliance.policy import Policy

    policy = guard.policy if guard else Policy.load(shipped("policies"))
    return {name: policy.norm(name) for name in names}


@app.command()
def run(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(help="Name of a plan in audits/, or a path.")],
    output_format: Format = "text",
    output: Output = None,
    fail_on: Annotated[str, typer.Option("--fail-on", help="Default: what the plan says.")] = "",
    allow_insufficient: AllowInsufficient = False,
) -> None:
    """Run a plan of checks: one verdict, one report, one exit code."""
    from compliance.audit import runner
    from compliance.audit.plan import Plan
    from compliance.cli.model import verified

    guard = vouched(options(context).guard())
    loaded = Plan.load(plan, guard.settings.audits)
    threshold = fail_on or loaded.fail_on
    end = _End(loaded.title, "plan", output_format, output, threshold, allow_insufficient)
    check_output(output_format, output, threshold)
    _authorise(guard, loaded)
    with progress(loaded.title) as advance:
        world = runner.World(
            root=guard.settings.root,
            policies=guard.settings.policies,
            policy=guard.policy,
            trail=lambda: (guard.store, guard.keys.signer()),
            models=lambda: verified(guard),
            discrepancies=guard.discrepancies,
            progress=advance,
        )
        outcomes = runner.run(loaded, world)
    _finish(guard, end, outcomes)


def _authorise(guard: Guard, plan: Plan) -> None:
    """Ask for what the checks of a plan read of the project itself, before the first one runs."""
    needs = {"trail": ("trail/entries", "read"), "models": ("model/all", "verify")}
    for name in {check.check for check in plan.checks} & needs.keys():
        guard.authority.require(guard.identity, *needs[name])


def _rule(model: Any, **values: Any) -> Any:
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"--{name}: {error.errors()[0]['msg']}") from None


# -- how an audit begins and ends ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    """How an audit ends: under which title, where its report goes, and what fails it."""

    title: str
    kind: str
    output_format: str
    output: Path | None
    fail_on: str
    allowed: bool


def _begin(context: typer.Context, end: _End) -> Guard | None:
    """Open what the audit will be recorded in: where that fails, no audit is made."""
    check_output(end.output_format, end.output, end.fail_on)
    guard = options(context).recorder()
    if guard is None:
        note("not recorded: no project here (`compliance init` makes one)")
    return guard


def _finish(guard: Guard | None, end: _End, outcomes: Sequence[Outcome]) -> None:
    """Record that the audit was made, write the report, and exit with the verdict's code."""
    from compliance.audit.runner import UNFINISHED_CHECK, exit_code

    code = exit_code(outcomes, Severity.parse(end.fail_on), allow_insufficient=end.allowed)
    facts = {} if guard is None else _record(guard, end.kind, outcomes, code)
    emit(
        outcomes,
        title=end.title,
        output_format=end.output_format,
        output=end.output,
        facts=facts,
        allowed=end.allowed,
    )
    for outcome in (o for o in outcomes if o.check == UNFINISHED_CHECK):
        note(f"error: {outcome.summary}")
    raise typer.Exit(code)


def _record(guard: Guard, kind: str, outcomes: Sequence[Outcome], code: int) -> dict[str, Any]:
    from compliance.audit.runner import UNFINISHED

    verdicts = {f"verdict_{i}_{o.check}": o.verdict.value for i, o in enumerate(outcomes[:50])}
    counts = {"outcomes": len(outcomes), "findings": sum(len(o.findings) for o in outcomes)}
    facts = {**counts, "exit_code": code, **verdicts}
    outcome = "failed" if code == UNFINISHED else "ok"
    index = guard.trail.append(guard.event(f"audit.{kind}", outcome=outcome, facts=facts))
    return {"policy_digest": guard.policy.digest, "trail_entry": index}
