"""Rows and columns held back, and decisions counted."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given

from compliance import frames
from compliance.controls import Call, Opening
from compliance.errors import InputError, PurposeError
from compliance.fairness.control import HoldBack, TallyDecisions, _draw, listed
from compliance.policy import Activity, AuditRows, Column, Dataset, FairnessRule, Policy

COLUMNS = {
    "who": Column(purposes=("p",)),
    "x": Column(purposes=("p",)),
    "sex": Column(purposes=("p",), audit_only=True),
    "y": Column(purposes=("p",)),
}


class Ring:
    """References that tell subjects apart and nothing else."""

    def references(self, subject_type, identifiers):
        return [f"{subject_type}/{i}" for i in identifiers]


def rule(**rows):
    return FairnessRule(
        label="y",
        sensitive=("sex",),
        positive=1,
        norms=("n",),
        rows=AuditRows(**rows or {"share": 0.5, "seed": 1}),
    )


def call(kind="training", fairness=None, **rows):
    fairness = rule(**rows) if fairness is None else fairness
    policy = Policy(
        datasets={"d": Dataset(subject="who", columns=COLUMNS), "test": Dataset(columns=COLUMNS)},
        activities={"a": Activity(purpose="p", datasets=("d",), fairness=fairness or None)},
    )
    return Call(kind, "a", policy, None)


def frame(subjects):
    n = len(subjects)
    return pd.DataFrame(
        {
            "who": subjects,
            "x": range(n),
            "sex": ["f", "m"] * (n // 2) + ["f"] * (n % 2),
            "y": [1] * n,
        }
    )


def held_back(subjects, a_call=None, dataset="d", *, audits=False, subject=True):
    a_call = a_call or call()
    opening = Opening(
        dataset, frames.wrap(frame(subjects)), list(subjects) if subject else None, audits=audits
    )
    a_call.fresh = [opening]
    HoldBack(Ring())(a_call)
    return opening


@given(st.lists(st.integers(0, 30), min_size=60, max_size=120))
def test_no_subject_stands_on_both_sides_and_none_is_lost(subjects):
    assume(len({_draw(1, f"person/{s}") < 0.5 for s in subjects}) == 2)
    opening = held_back(subjects)
    body, held = frames.column(opening.frame, "who"), frames.column(opening.held, "who")
    assert not set(body) & set(held)
    assert sorted(body + held) == sorted(subjects)
    assert opening.subjects == body
    assert len(opening.held_keys) == len(held)
    assert opening.facts == {"rows_for_body": len(body), "rows_held_for_audit": len(held)}


def test_the_body_never_sees_an_audit_only_column_and_the_audit_does():
    opening = held_back(range(100))
    assert opening.frame.columns == ["who", "x", "y"]
    assert opening.held.columns == ["who", "x", "sex", "y"]


def test_another_seed_holds_back_others():
    one = held_back(range(200), call(share=0.5, seed=1))
    two = held_back(range(200), call(share=0.5, seed=2))
    assert set(frames.column(one.held, "who")) != set(frames.column(two.held, "who"))


@given(st.integers(), st.text())
def test_a_draw_is_a_share_and_always_the_same(seed, key):
    assert 0 <= _draw(seed, key) < 1
    assert _draw(seed, key) == _draw(seed, key)


def test_draws_are_even():
    draws = sorted(_draw(5, str(i)) for i in range(20_000))
    assert max(abs(d - i / 20_000) for i, d in enumerate(draws)) < 0.02


def test_rows_without_a_subject_are_held_back_by_their_content():
    one = held_back(range(100), subject=False)
    two = held_back(range(99, -1, -1), subject=False)
    assert len(one.held) + len(one.frame) == 100
    alike = {tuple(r.values()) for r in frames.records(one.held)} & {
        tuple(r.values()) for r in frames.records(two.frame)
    }
    assert alike == set()


def test_the_data_set_of_the_audit_is_held_whole_and_kept_from_the_body():
    opening = held_back(range(10), call(dataset="test"), "test", audits=True)
    assert len(opening.held) == 10
    assert opening.facts["rows_for_body"] == 0
    with pytest.raises(PurposeError, match="its body may not see it"):
        held_back(range(10), call(dataset="test"), "test")
    assert held_back(range(10), call(dataset="test")).held is None


def test_a_decision_keeps_its_rows_and_hides_the_label():
    opening = held_back(range(10), call("decision"))
    assert opening.frame.columns == ["who", "x"]
    assert len(opening.frame) == len(opening.held) == 10


def test_an_activity_without_a_rule_holds_nothing_back():
    opening = held_back(range(10), call(fairness=False))
    assert opening.held is None
    assert opening.frame.columns == ["who", "x", "y"]


# -- decisions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, 1],
        (1, 0, 1),
        np.array([1, 0, 1]),
        np.array([[1], [0], [1]]),
        pd.Series([1, 0, 1], index=[5, 6, 7]),
        pl.Series([1, 0, 1]),
        pa.array([1, 0, 1]),
        pa.chunked_array([[1, 0], [1]]),
        torch.tensor([1, 0, 1]),
        torch.tensor([[1.0], [0.0], [1.0]], requires_grad=True),
    ],
    ids=lambda v: type(v).__module__ + "." + type(v).__name__,
)
def test_decisions_of_any_library_become_one_list(values):
    assert listed(values) == [1, 0, 1]


@pytest.mark.parametrize(
    "values",
    [None, 1, 1.5, "101", {"a": 1}, np.ones((3, 2)), np.array(1), [[1, 2]], [{1}], [(1, 2)]],
)
def test_what_is_not_one_value_for_each_row_is_an_error(values):
    with pytest.raises(InputError, match="one value for each row"):
        listed(values)


def tallied(decisions, sexes, fairness=None):
    a_call = call("decision", fairness)
    held = frames.wrap(pd.DataFrame({"sex": sexes}))
    a_call.openings = [Opening("d", held, held=held)]
    a_call.result = decisions
    TallyDecisions()(a_call)
    return a_call.facts


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from(["f", "m", "x", None])),
        min_size=1,
        max_size=60,
    )
)
def test_the_groups_add_up_to_all_and_none_below_five_is_named(rows):
    decisions, sexes = [d for d, _ in rows], [s for _, s in rows]
    facts = tallied(decisions, sexes)
    assert (facts["decisions"], facts["positive"]) == (len(rows), sum(decisions))
    counts = {n: tuple(map(int, v.split("/"))) for n, v in facts.items() if n.startswith("sex=")}
    assert sum(yes for yes, _ in counts.values()) == sum(decisions)
    assert sum(n for _, n in counts.values()) == len(rows)
    assert all(n >= 5 for name, (_, n) in counts.items() if name != "sex=(groups below 5)")


def test_many_distinct_values_are_no_groups():
    facts = tallied([1] * 600, [f"name {i % 60}" for i in range(600)])
    assert facts == {"decisions": 600, "positive": 600, "sex_groups": 60}


@pytest.mark.parametrize(
    "decisions",
    [[1, 0, 2], [0.1, 0.7, 1], ["yes", "no", "no"], [1, None, 0], [float("nan")] * 3, [1, "1", 0]],
)
def test_scores_words_and_gaps_are_no_decisions(decisions):
    with pytest.raises(InputError):
        tallied(decisions, ["f", "f", "m"])
