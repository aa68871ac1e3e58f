"""The sample of the README works as written."""

import re

import pytest
from conftest import ROOT

from compliance import Guard, config
from compliance.access.identity import account_name
from compliance.simulate.bank import Bank
from compliance.trail.verify import check


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder as a newcomer's is: `compliance init`, a CSV file, consent recorded."""
    bank = Bank.create(tmp_path / "bank", customers=2_000)
    home = tmp_path / "project"
    config.initialise(home, member=account_name())
    bank.applicants().to_csv(home / "applicants.csv", index=False)
    agreed = [who for who, purpose, yes in bank.consents() if purpose == "credit-scoring" and yes]
    monkeypatch.chdir(home)
    guard = Guard()
    guard.consent("given", agreed, purpose="credit-scoring", subject_type="customer")
    return home


def samples():
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_sample_of_the_readme_trains_a_private_audited_and_sealed_model(project):
    [sample] = samples()
    names = {}
    exec(compile(sample, "README.md", "exec"), names)
    guard = names["guard"]
    assert sum(p.numel() for p in names["model"].parameters()) == 3
    assert repr(names["applicants"]()).startswith("<closed data set 'applicants'")
    versions = [(version, manifest.origin) for _, version, manifest in guard.vault.listing()]
    assert [version for version, _ in versions] == ["000001"]
    assert 0 < versions[0][1].epsilon <= 1
    events = [entry.values["event"] for entry in guard.trail.read()]
    assert events[:8] == [
        "consent.given",
        "dataset.intent",
        "dataset.outcome",
        "training.intent",
        "training.opened",
        "training.reserved",
        "training.settled",
        "training.sealed",
    ]
    assert check(guard.store, guard.keys.signer()).faults == ()
