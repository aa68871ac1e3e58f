"""The scan as a control: block, mask or allow, and what of it the trail is told."""

import pandas as pd
import pytest

from compliance import frames
from compliance.controls import Call, Opening
from compliance.errors import PIIFound
from compliance.pii.control import Scan
from compliance.policy import Activity, Column, Dataset, PIIRule, Policy

MAIL = [f"user{i}@example.com" for i in range(40)]


def scanned(frame, *, action="block", declared=(), dataset="d", held=None):
    columns = {"note": Column(pii=declared), "n": Column()}
    policy = Policy(
        datasets={"d": Dataset(columns=columns)},
        activities={
            "a": Activity(
                purpose="p", datasets=("d",), pii=PIIRule(action=action, seed=3, sample=30)
            )
        },
    )
    call = Call("training", "a", policy, None)
    opening = Opening(dataset, frames.wrap(frame), held=None if held is None else frames.wrap(held))
    call.fresh = [opening]
    Scan()(call)
    return call, opening


@pytest.fixture
def leaky():
    return pd.DataFrame({"note": MAIL, "n": range(40)})


def test_a_blocked_column_is_named_with_its_kind_and_without_a_value(leaky):
    with pytest.raises(PIIFound, match=r"d: .*note \(EMAIL_ADDRESS\)") as caught:
        scanned(leaky)
    assert "@" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_sample_seed_and_counts_are_facts(leaky):
    _, opening = scanned(leaky, action="allow")
    assert (opening.facts["pii_sample"], opening.facts["pii_seed"]) == (30, 3)
    assert opening.facts["pii_action"] == "allow"
    assert opening.facts["note:EMAIL_ADDRESS"] > 0
    assert not [v for v in opening.facts.values() if "@" in str(v)]


def test_masking_changes_the_column_found_and_no_other(leaky):
    _, opening = scanned(leaky, action="mask")
    frame = frames.native(opening.frame)
    assert not frame["note"].str.contains("@").any()
    assert frame["n"].tolist() == list(range(40))


def test_rows_held_for_the_audit_are_masked_like_those_of_the_body(leaky):
    _, opening = scanned(leaky, action="mask", held=leaky.assign(label=1))
    held = frames.native(opening.held)
    assert not held["note"].str.contains("@").any()
    assert held["label"].tolist() == [1] * 40


def test_a_declared_kind_passes(leaky):
    call, opening = scanned(leaky, declared=("EMAIL_ADDRESS", "URL"))
    assert opening.facts["pii_findings"] == 0
    assert len(call.outcomes) == 1


def test_unregistered_data_declare_nothing(leaky):
    with pytest.raises(PIIFound, match=r"\(unregistered\)"):
        scanned(leaky, declared=("EMAIL_ADDRESS", "URL"), dataset="")
