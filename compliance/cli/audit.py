"""``compliance audit``: PII and fairness audits of files and databases, and plans of checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from compliance.cli.context import (
    AllowInsufficient,
    FailOn,
    Format,
    Options,
    Output,
    check_format,
    emit,
    note,
    options,
    progress,
    severity,
)
from compliance.findings import Outcome

app = typer.Typer(help="Audit data and models.", no_args_is_help=True)


@app.command()
def pii(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="File, folder or SQLAlchemy URL.")],
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
    from compliance.audit import checks
    from compliance.policy import PIIRule

    check_format(output_format)
    severity(fail_on)
    rule = _rule(
        PIIRule, least_score=least_score, least_share=least_share, sample=sample, seed=seed
    )
    with progress("scanning") as advance:
        outcomes = list(checks.pii(source, rule, advance))
    _finish(
        context, "PII audit", "pii", outcomes, output_format, output, fail_on, allow_insufficient
    )


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
    from compliance.config import shipped
    from compliance.policy import Policy

    check_format(output_format)
    severity(fail_on)
    settings = options(context).settings()
    folder = settings.policies if settings.policies.is_dir() else shipped("policies")
    policy = Policy.load(folder)
    outcome = checks.fairness(
        file,
        label=label,
        prediction=prediction,
        sensitive=[name.strip() for name in sensitive.split(",") if name.strip()],
        norms={name: policy.norm(name) for name in norm or ["four-fifths"]},
        positive=positive,
    )
    _finish(
        context,
        "Fairness audit",
        "fairness",
        [outcome],
        output_format,
        output,
        fail_on,
        allow_insufficient,
    )


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

    check_format(output_format)
    opts = options(context)
    settings = opts.settings()
    loaded = Plan.load(plan, settings.audits)
    threshold = fail_on or loaded.fail_on
    severity(threshold)
    guard = opts.guard()
    guard.authority.require(guard.identity, "trail/verify", "read")
    with progress(loaded.title) as advance:
        world = runner.World(
            root=settings.root,
            policies=settings.policies,
            policy=guard.policy,
            trail=lambda: (guard.store, guard.keys.signer()),
            models=lambda: verified(guard),
            progress=advance,
        )
        outcomes = runner.run(loaded, world)
    _finish(
        context,
        loaded.title,
        "plan",
        outcomes,
        output_format,
        output,
        threshold,
        allow_insufficient,
    )


def _rule(model: Any, **values: Any) -> Any:
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"--{name}: {error.errors()[0]['msg']}") from None


def _finish(
    context: typer.Context,
    title: str,
    kind: str,
    outcomes: Sequence[Outcome],
    output_format: str,
    output: Path | None,
    fail_on: str,
    allowed: bool,  # noqa: FBT001  handed through
) -> None:
    """Record that the audit was made, write the report, and exit with the verdict's code."""
    from compliance.audit.runner import exit_code

    code = exit_code(outcomes, severity(fail_on), allow_insufficient=allowed)
    facts = _record(options(context), kind, outcomes, code)
    emit(
        outcomes,
        title=title,
        output_format=output_format,
        output=output,
        facts=facts,
        allowed=allowed,
    )
    raise typer.Exit(code)


def _record(opts: Options, kind: str, outcomes: Sequence[Outcome], code: int) -> dict[str, Any]:
    """Write the audit to the trail of the project here; say so where there is none."""
    guard = opts.recorder()
    if guard is None:
        note("not recorded: no project here (`compliance init` makes one)")
        return {}
    verdicts = {f"verdict_{i}_{o.check}": o.verdict.value for i, o in enumerate(outcomes[:50])}
    counts = {"outcomes": len(outcomes), "findings": sum(len(o.findings) for o in outcomes)}
    facts = {**counts, "exit_code": code, **verdicts}
    index = guard.trail.append(guard.event(f"audit.{kind}", outcome="ok", facts=facts))
    return {"policy_digest": guard.policy.digest, "trail_entry": index}
