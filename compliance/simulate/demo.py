"""The demonstration: the three user stories on the simulated bank, told as they happen."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from compliance import frames
from compliance.audit import checks
from compliance.errors import (
    AccessDenied,
    InputError,
    MissingExtra,
    NotPrivate,
    UnregisteredData,
)
from compliance.findings import Outcome
from compliance.guard import Guard, Run
from compliance.policy import PIIRule, Policy
from compliance.reports.render import report, write
from compliance.rights.request import Requests
from compliance.simulate import project
from compliance.simulate.bank import BOUNDS, Bank
from compliance.store import Store
from compliance.trail.checkpoint import Verifier

Say = Callable[[str], object]
Become = Callable[[str], Guard]
FEATURES = tuple(BOUNDS)
ACTIVITY = "credit-scoring"


def run(folder: Path | None = None, *, customers: int = 5_000, say: Say = print) -> Path:
    """Run the demonstration and return the folder that holds what it made.

    Args:
        folder: where; default: a new temporary folder.
        customers: the size of the bank.
        say: what to do with each line of the story.

    Raises:
        InputError: the folder is not empty.
        MissingExtra: an extra of ``compliance-toolkit[demo]`` is not installed.
    """
    _require_libraries()
    folder = Path(folder or tempfile.mkdtemp(prefix="compliance-demo-")).resolve()
    _require_empty(folder)
    say(f"A simulated bank with {customers} customers in {folder}. Nobody in it exists.\n")
    bank = Bank.create(folder / "bank", customers=customers)
    project.write(folder, bank.policy_overrides() | _encrypted(folder))
    with contextlib.ExitStack() as opened:

        def become(person: str) -> Guard:
            guard = Guard(folder, identity=f"asserted:{person}")
            opened.callback(guard.store.close)
            return guard

        _consent(bank, become, say)
        _decorators(bank, become, say)
        _audits(bank, folder, say)
        _request(bank, folder, become, say)
        _tampering(folder, become, say)
    say(f"\nAll of it is in {folder}. Look around, as one of its people:")
    say(f"  COMPLIANCE_IDENTITY=asserted:{project.OFFICER} compliance -C {folder} trail list")
    return folder


def _require_libraries() -> None:
    """Say what is missing before the story begins, not in the middle of it."""
    modules = {
        "pandas": "pandas", "sklearn": "scikit-learn", "fairlearn": "fairlearn",
        "presidio_analyzer": "presidio-analyzer", "spacy": "spacy", "torch": "torch",
        "opacus": "opacus", "dp_accounting": "dp-accounting", "safetensors": "safetensors",
        "tenseal": "tenseal",
    }  # fmt: skip
    for module, package in modules.items():
        if find_spec(module) is None:
            raise MissingExtra("demo", package)


def _require_empty(folder: Path) -> None:
    """A demonstration writes members into a policy: never into that of a real project."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty; name a new folder for the demonstration")


def _encrypted(folder: Path) -> dict[str, Any]:
    """Return the shipped data sets with one column that is stored sealed."""
    import yaml

    project.write(folder, {})
    values = yaml.safe_load((folder / "policies" / "datasets.yaml").read_text("utf-8"))
    values["datasets"]["applicants"]["columns"]["debt"]["encrypted"] = True
    return {"datasets": values["datasets"]}


def _consent(bank: Bank, become: Become, say: Say) -> None:
    guard = become(project.OFFICER)
    records = list(bank.consents())
    for purpose in sorted({purpose for _, purpose, _ in records}):
        given = [who for who, p, yes in records if p == purpose and yes]
        refused = [who for who, p, yes in records if p == purpose and not yes]
        if given:
            guard.consent("given", given, purpose=purpose, subject_type="customer")
        if refused:
            guard.consent("withdrawn", refused, purpose=purpose, subject_type="customer")
        say(f"  {purpose}: {len(given)} customers agreed, {len(refused)} did not")


# -- story 1 ---------------------------------------------------------------------------


def _decorators(bank: Bank, become: Become, say: Say) -> None:
    say("\n1. DECORATORS: train a model that is private, fair, sealed, and on the record")
    guard = become(project.ENGINEER)

    @guard.dataset("applicants")
    def applicants() -> Any:
        return guard.encrypt("applicants", bank.applicants())

    @guard.training(ACTIVITY)
    def careless(_run: Run, data: Any) -> Any:
        return _linear(data)[0]

    say(f"  outside an activity the data stays closed: {applicants()!r}")
    _refused(say, "a frame from nowhere", UnregisteredData, partial(careless, bank.applicants()))
    _refused(say, "training without privacy", NotPrivate, partial(careless, applicants()))
    stranger = become("mallory")
    _refused(say, "a stranger", AccessDenied, partial(stranger.training(ACTIVITY)(_train), None))
    model = guard.training(ACTIVITY)(_train)(applicants())
    _facts(guard, say)
    _decide(guard, applicants, say)
    _blindly(model, bank, say)


def _train(run: Run, data: Any) -> Any:
    """Train a logistic regression with differential privacy; the whole of the user's code."""
    import torch

    model, rows, labels = _linear(data)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(rows, labels), batch_size=128
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model, optimizer, loader = run.private(model, optimizer, loader, epochs=8)
    for _ in range(8):
        for x, y in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x).flatten(), y)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not say
            optimizer.step()
    run.predictor(lambda frame: (model(_tensor(frame)).flatten() > 0).int())
    return model


def _linear(data: Any) -> tuple[Any, Any, Any]:
    import torch

    torch.manual_seed(0)  # the start is public; the noise has its own generator
    frame = frames.wrap(data)
    labels = torch.tensor(frames.column(frame, "repaid"), dtype=torch.float32)
    return torch.nn.Linear(len(FEATURES), 1), _tensor(data), labels


def _tensor(data: Any) -> Any:
    """Scale by public bounds: nothing is learned from the rows, so nothing leaks."""
    import torch

    frame = frames.wrap(data)
    columns = []
    for name in FEATURES:
        low, high = BOUNDS[name]
        values = [low if v is None else float(v) for v in frames.column(frame, name)]
        columns.append([2 * (v - low) / (high - low) - 1 for v in values])
    return torch.tensor(columns, dtype=torch.float32).T.contiguous()


def _refused(say: Say, what: str, kind: type[Exception], attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except kind as error:
        say(f"  refused: {what}: {str(error).partition(';')[0]}")
    else:
        raise AssertionError(f"{what} was not refused")


def _facts(guard: Guard, say: Say) -> None:
    """Tell what the trail says of the training that succeeded."""
    outcome = next(
        guard.trail.read(newest_first=True, filters={"event": "training.outcome", "outcome": "ok"})
    )
    opened = next(guard.trail.read(newest_first=True, filters={"event": "training.opened"}))
    rows, facts = opened.values["facts"], outcome.values["facts"]
    say(
        f"  trained on {rows['rows_for_body']} of {rows['rows']} rows: "
        f"{rows['rows_without_consent']} without consent dropped, "
        f"{rows['rows_held_for_audit']} held back for the audit; "
        f"{rows['columns_dropped']} columns outside the purpose dropped, "
        f"{rows['columns_opened']} decrypted; PII found: {rows['pii_findings']}"
    )
    say(
        f"  epsilon {float(facts['epsilon']):.3f} at delta {facts['delta']}, "
        f"fairness audit: {facts['fairness']}, sealed as version {facts['model_version']}"
    )


def _decide(guard: Guard, applicants: Callable[[], Any], say: Say) -> None:
    import torch

    @guard.decision(ACTIVITY)
    def decide(run: Run, rows: Any) -> Any:
        model = run.model(into=torch.nn.Linear(len(FEATURES), 1))
        with torch.no_grad():
            return (model(_tensor(rows)).flatten() > 0).int()

    decisions = decide(applicants())
    count, yes = len(decisions), int(sum(decisions))
    say(f"  decided {count} applications with the sealed model, {yes} favourable")


def _blindly(model: Any, bank: Bank, say: Say) -> None:
    """Score a batch on ciphertexts and compare with the scores in clear."""
    import torch

    from compliance.encrypted.inference import Client, Server
    from compliance.encrypted.linear import LinearModel

    plain = getattr(model, "_module", model)
    batch = _tensor(bank.applicants())[:256]
    client = Client(features=len(FEATURES))
    server = Server(LinearModel.of(plain), client.public_context())
    scores = client.scores(server.score(client.encrypt(batch.tolist())))
    with torch.no_grad():
        expected = plain(batch).flatten().tolist()
    worst = max(abs(a - b) for a, b in zip(scores, expected, strict=True))
    count = len(scores)
    say(
        f"  scored {count} applicants encrypted: the server saw no value; largest error {worst:.1e}"
    )


# -- story 2 ---------------------------------------------------------------------------


def _audits(bank: Bank, folder: Path, say: Say) -> None:
    say("\n2. AUDITS: what `compliance audit` says about the bank's exports")
    policy = Policy.load(folder / "policies")
    exports = bank.folder / "exports"
    outcomes = list(checks.pii(str(exports), PIIRule()))
    outcomes.append(
        checks.fairness(
            exports / "applications.csv",
            label="repaid",
            prediction="predicted",
            sensitive=["sex", "age_group"],
            norms={"four-fifths": policy.norm("four-fifths")},
        )
    )
    for outcome in outcomes:
        _tell(outcome, say)
    page = folder / "report.html"
    facts = {"policy_digest": policy.digest}
    write(page, report(outcomes, "html", title="Audit of the bank's exports", facts=facts))
    say(f"  the report for the officer: {page}")


def _tell(outcome: Outcome, say: Say) -> None:
    say(f"  {outcome.title}: {outcome.verdict.value}. {outcome.summary}")


# -- story 3 ---------------------------------------------------------------------------


def _request(bank: Bank, folder: Path, become: Become, say: Say) -> None:
    say("\n3. A DELETION REQUEST: planned, approved by another person, carried out, proved")
    clerk, officer = become(project.CLERK), become(project.OFFICER)
    email = frames.column(frames.wrap(bank.applicants()), "email")[41]
    requests = Requests(
        officer.store, officer.trail, officer.keys, officer.policy, officer.authority
    )
    key = requests.submit(clerk.identity, "erasure", {"email": email})
    requests.identify(clerk.identity, key)
    plan = requests.plan(clerk.identity, key)
    for step in plan.stores[0].steps:
        say(f"  plan: {step.action.value} {step.rows} in {step.table}: {step.reason}")
    _refused(
        say,
        "approval by the submitter",
        AccessDenied,
        partial(requests.approve, clerk.identity, key),
    )
    requests.approve(officer.identity, key)
    requests.run(officer.identity, key, dry_run=True)
    requests.run(officer.identity, key)
    requests.verify(officer.identity, key)
    certificate = folder / "certificate.json"
    write(certificate, _json(requests.certificate(officer.identity, key)))
    say(f"  verified by asking every store again; signed certificate: {certificate}")


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2) + "\n"


# -- the end -----------------------------------------------------------------------------


def _tampering(folder: Path, become: Become, say: Say) -> None:
    """Change one entry of a copy of the audit store, and let verification find it."""
    say("\n4. THE TRAIL: every step above is on record, and a change shows")
    guard = become(project.OFFICER)
    signer = guard.keys.signer()
    _tell(checks.trail(guard.store, signer, discrepancies=guard.discrepancies()), say)
    broken = folder / "tampered.db"
    with guard.store.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")  # VACUUM copies a whole, consistent database
        connection.exec_driver_sql("VACUUM INTO ?", (str(broken),))
    say("  now somebody edits entry 3 of a copy:")
    _tell(_tampered(broken, signer), say)


def _tampered(path: Path, verifier: Verifier) -> Outcome:
    store = Store.open(f"sqlite:///{path}")
    with store.writing() as connection:
        connection.execute(
            sa.text(
                "UPDATE compliance_trail_entry SET body = CAST(replace(CAST(body AS TEXT), "
                '\'"ada"\', \'"eve"\') AS BLOB) WHERE "index" = 3'
            )
        )
    outcome = checks.trail(store, verifier)
    store.close()
    return outcome
