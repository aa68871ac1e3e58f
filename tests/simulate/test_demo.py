"""The demonstration tells three stories, each step of which really happened."""

import json
import os
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa

from compliance import Guard
from compliance import cli as front
from compliance.audit import checks
from compliance.errors import InputError, MissingExtra
from compliance.findings import Verdict
from compliance.rights.certificate import verify_certificate
from compliance.simulate import demo
from compliance.store import Store, connect


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Run it once in a process of its own, as a newcomer does; return folder, text and stderr."""
    folder = tmp_path_factory.mktemp("demo") / "bank-of-nobody"
    command = [sys.executable, "-m", "compliance", "demo", str(folder), "--customers", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


@pytest.fixture
def officer(told):
    guard = Guard(told[0], identity="asserted:grace")
    yield guard
    guard.store.close()


STEPS = [
    r"A simulated bank with 2000 customers in .*bank-of-nobody\. Nobody in it exists\.",
    r"credit-scoring: \d+ customers agreed, \d+ did not",
    r"1\. DECORATORS: ",
    r"stays closed: <closed data set 'applicants', policy [0-9a-f]{12}>",
    r"refused: a frame from nowhere: ",
    r"refused: training without privacy: ",
    r"refused: a stranger: 'mallory' has no role",
    r"trained on \d+ of 2000 rows: \d+ without consent dropped, \d+ held back for the audit; ",
    r"2 columns outside the purpose dropped, 1 decrypted; PII found: 0",
    r"epsilon [01]\.\d{3} at delta 1e-05, fairness audit: \w.*, sealed as version 000001",
    r"decided \d+ applications with the sealed model, \d+ favourable",
    r"scored 256 applicants encrypted: the server saw no value; largest error \d\.\de-\d\d",
    r"2\. AUDITS: ",
    r"applications\.csv: pass\.",
    r"clean\.csv: pass\.",
    r"contacts\.csv: fail\. 3 of 4 columns hold personal data",
    r"3 of 3 files were scanned",
    r"Fairness of decisions by sex, age_group: ",
    r"the report for the officer: .*report\.html",
    r"3\. A DELETION REQUEST: ",
    r"plan: delete 1 in customer: ",
    r"refused: approval by the submitter: ",
    r"verified by asking every store again; signed certificate: .*certificate\.json",
    r"4\. THE TRAIL: ",
    r"Audit store: pass\. All \d+ entries lead to the signed head\.",
    r"now somebody edits entry 3 of a copy:",
    r"Audit store: fail\. The audit store was changed: entry 3: ",
    r"COMPLIANCE_IDENTITY=asserted:grace compliance -C .*bank-of-nobody trail list",
]


def test_every_step_is_told_in_order(told):
    rest = told[1]
    for step in STEPS:
        found = re.search(step, rest)
        assert found, f"{step!r} is not told after the step before it"
        rest = rest[found.end() :]


def test_nothing_else_is_said(told):
    assert told[2] == ""


def test_nobody_of_the_bank_is_named(told):
    engine = connect(f"sqlite:///{told[0]}/bank/bank.db")
    with engine.connect() as connection:
        people = connection.execute(sa.text("SELECT name, email FROM customer")).all()
    engine.dispose()
    assert len(people) == 1999  # the person who asked for it is gone
    said = told[1] + "".join(p.read_text() for p in told[0].glob("*.json"))
    said += (told[0] / "report.html").read_text()
    assert [value for person in people for value in person if value in said] == []


def test_the_certificate_holds(told, officer):
    envelope = json.loads((told[0] / "certificate.json").read_text())
    verify_certificate(envelope, officer.keys.signer())


def test_the_trail_is_whole_and_its_copy_is_not(told, officer):
    assert checks.trail(officer.store, officer.keys.signer()).verdict is Verdict.PASS
    copy = Store.open(f"sqlite:///{told[0]}/tampered.db")
    outcome = checks.trail(copy, officer.keys.signer())
    copy.close()
    assert [f.place.column for f in outcome.findings] == ["3", None]  # and so the head does not fit


def test_the_privacy_budget_was_spent_on_every_run_that_began(told, officer):
    spent = officer.ledger.spending("applicants", officer.policy.budgets["applicants"])
    assert spent.runs == 2  # the careless one pays too
    assert spent.remaining < spent.epsilon_total


def test_the_last_line_works_as_it_stands(told, monkeypatch, capsys):
    command = re.search(r"COMPLIANCE_IDENTITY=(\S+) compliance (.*)$", told[1].strip())
    monkeypatch.setenv("COMPLIANCE_IDENTITY", command[1])
    assert front.run(command[2].split()) == 0
    assert "request.closed" in capsys.readouterr().out


def test_a_second_run_in_the_same_folder_is_refused(told):
    before = {p: p.stat().st_mtime_ns for p in told[0].rglob("*")}
    said = []
    with pytest.raises(InputError, match="not empty; name a new folder"):
        demo.run(told[0], customers=2_000, say=said.append)
    assert said == []
    assert {p: p.stat().st_mtime_ns for p in told[0].rglob("*")} == before


@pytest.mark.parametrize("module", ["torch", "tenseal", "presidio_analyzer", "fairlearn"])
def test_a_missing_extra_is_told_before_anything_is_made(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'compliance-toolkit\[demo\]'"):
        demo.run(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_refused_is_not_told_as_refused():
    with pytest.raises(AssertionError, match="was not refused"):
        demo._refused(print, "something", InputError, lambda: None)
