"""A verdict fails only what is beyond the norm and beyond chance, and says so in plain words."""

import datetime as dt
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance import fairness
from compliance.errors import InputError, PolicyError
from compliance.fairness import Tally, assess, assess_frame
from compliance.findings import Interval, Severity, Verdict
from compliance.policy import Norm


def norm(metric="demographic_parity_ratio", **limits):
    limits = limits or ({"at_least": 0.8} if metric.endswith("ratio") else {"at_most": 0.1})
    return Norm(metric=metric, basis="29 CFR 1607.4(D)", dated=dt.date(1978, 8, 25), **limits)


FOUR_FIFTHS = {"four-fifths": norm()}
PARITY = {"parity": norm("demographic_parity_difference")}


def selected(**groups):
    """Return the tally of decisions by one attribute, from ``name=(selected, of)``."""
    names = sorted(groups)
    counts = [[n - k, k, 0, 0] for k, n in (groups[name] for name in names)]
    return Tally(("g",), tuple((n,) for n in names), np.array(counts))


def verdict(tally, norms=FOUR_FIFTHS):
    return assess(tally, norms, source="decisions").verdict


# -- the rule --------------------------------------------------------------------


def test_a_gap_beyond_the_norm_and_beyond_chance_fails():
    outcome = assess(selected(a=(300, 1_000), b=(180, 1_000)), FOUR_FIFTHS, source="loans.csv")
    assert outcome.verdict is Verdict.FAIL
    (finding,) = outcome.findings
    assert (finding.check, finding.kind) == ("fairness.gap", "demographic_parity_ratio")
    assert finding.severity is Severity.HIGH
    assert str(finding.place) == "loans.csv.g"
    assert finding.count == 2_000
    assert finding.evidence["value"] == 0.6
    assert finding.evidence["p"] < 0.0001
    assert finding.evidence["basis"] == "29 CFR 1607.4(D)"


def test_the_same_gap_that_chance_may_explain_is_no_failure_and_no_pass():
    outcome = assess(selected(a=(15, 50), b=(9, 50)), FOUR_FIFTHS, source="loans.csv")
    assert outcome.verdict is Verdict.INSUFFICIENT
    (finding,) = outcome.findings
    assert finding.severity is Severity.LOW
    assert "chance may explain it" in finding.message


def test_a_gap_within_the_norm_passes_however_certain_it_is():
    outcome = assess(selected(a=(30_000, 100_000), b=(27_000, 100_000)), FOUR_FIFTHS, source="x")
    assert outcome.verdict is Verdict.PASS
    assert outcome.findings == ()


@pytest.mark.parametrize(
    ("tally", "norms"),
    [
        (selected(a=(3_000, 10_000), b=(2_400, 10_000)), FOUR_FIFTHS),
        (selected(a=(4_000, 10_000), b=(3_000, 10_000)), PARITY),
    ],
)
def test_meeting_the_norm_exactly_passes_in_spite_of_rounding(tally, norms):
    assert verdict(tally, norms) is Verdict.PASS


def test_fewer_than_two_groups_of_the_least_size_are_insufficient():
    outcome = assess(selected(a=(30, 100), b=(0, 29)), FOUR_FIFTHS, source="x")
    assert outcome.verdict is Verdict.INSUFFICIENT
    assert "1 of 2 groups have the 30 cases" in outcome.summary
    assert outcome.facts["tests"] == 0


def test_one_group_is_insufficient():
    assert verdict(selected(a=(30, 100))) is Verdict.INSUFFICIENT


def test_a_small_group_is_shown_and_not_held():
    outcome = assess(selected(a=(30, 100), b=(30, 100), c=(0, 29)), FOUR_FIFTHS, source="x")
    assert outcome.verdict is Verdict.PASS
    rows = {row[0]: row for row in outcome.tables[1].rows}
    assert rows["c"][1:3] == (29, "insufficient")
    assert rows["a"][1:3] == (100, "held")
    (note,) = outcome.findings
    assert (note.check, note.severity, note.count) == ("fairness.small_group", Severity.NOTE, 29)


def test_groups_of_a_few_people_are_shown_as_one_line_without_rates():
    outcome = assess(
        selected(a=(30, 100), b=(30, 100), c=(1, 1), d=(0, 2)), FOUR_FIFTHS, source="x"
    )
    last = outcome.tables[1].rows[-1]
    assert last == ("(2 group(s) of fewer than 5)", 3, "insufficient", Interval(None))
    assert {row[0] for row in outcome.tables[1].rows[:-1]} == {"a", "b"}


def test_cases_behind_the_rate_count_and_not_rows():
    """Of group b only ten were truly positive: its true positive rate cannot be held."""
    counts = np.array([[500, 0, 100, 400], [990, 0, 10, 0]])
    tally = Tally(("g",), (("a",), ("b",)), counts)
    norms = {"opportunity": norm("equal_opportunity_difference"), **FOUR_FIFTHS}
    outcome = assess(tally, norms, source="x")
    assert outcome.tables[0].rows[0][7] == "1 of 2"
    assert {row[2] for row in outcome.tables[1].rows} == {"held", "held to 1 of 2 norms"}


def test_nobody_selected_is_undefined_and_no_pass():
    outcome = assess(selected(a=(0, 100), b=(0, 100)), FOUR_FIFTHS, source="x")
    assert outcome.verdict is Verdict.INSUFFICIENT
    assert "zero in every group" in outcome.summary


def test_leaving_the_attribute_out_does_not_hide_a_gap():
    sex = ["m"] * 200 + [None] * 200
    chosen = [1, 0] * 100 + [0] * 190 + [1] * 10
    outcome = assess(Tally.from_values(chosen, chosen, {"sex": sex}, 1), FOUR_FIFTHS, source="x")
    assert outcome.verdict is Verdict.FAIL
    assert [f.count for f in outcome.findings if f.check == "fairness.unknown"] == [200]


def test_equalised_odds_looks_at_both_rates():
    counts = np.array([[400, 100, 100, 400], [250, 250, 100, 400]])
    tally = Tally(("g",), (("a",), ("b",)), counts)
    norms = {"odds": norm("equalized_odds_difference")}
    assert verdict(tally, norms) is Verdict.FAIL
    assert verdict(tally, {"chance": norm("equal_opportunity_difference")}) is Verdict.PASS


def test_each_attribute_and_each_pair_is_held_to_each_norm():
    """Every attribute alone is even; the pairs are not."""
    sex, race = ["f", "f", "m", "m"] * 200, ["x", "y", "x", "y"] * 200
    chosen = [int((s == "f") == (r == "x")) for s, r in zip(sex, race, strict=True)]
    tally = Tally.from_values(chosen, chosen, {"sex": sex, "race": race}, 1)
    outcome = assess(tally, FOUR_FIFTHS | PARITY, source="x")
    assert outcome.facts["tests"] == 6
    assert {f.place.column for f in outcome.findings} == {"sex x race"}
    assert outcome.verdict is Verdict.FAIL
    assert assess(tally, FOUR_FIFTHS, source="x", intersections=False).verdict is Verdict.PASS


def test_more_tests_ask_for_more_evidence():
    once = selected(a=(60, 200), b=(41, 200))
    alone = assess(once, FOUR_FIFTHS, source="x").findings[0].evidence
    among = assess(once, FOUR_FIFTHS | PARITY, source="x").findings[0].evidence
    assert alone["p"] == alone["p_adjusted"] < 0.05
    assert among["p"] == alone["p"]
    assert among["p_adjusted"] == 2 * alone["p"] > 0.05


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 80)), min_size=1, max_size=5))
@settings(max_examples=50)
def test_a_failure_always_has_both_reasons(groups):
    tally = selected(**{f"g{i}": (k, k + rest) for i, (k, rest) in enumerate(groups)})
    outcome = assess(tally, FOUR_FIFTHS | PARITY, source="x")
    for finding in outcome.findings:
        facts = finding.evidence
        if finding.severity is Severity.HIGH:
            assert facts["p_adjusted"] < facts["alpha"]
            assert facts["value"] < 0.8 if finding.kind.endswith("ratio") else facts["value"] > 0.1
    assert outcome.verdict is Verdict.worst(Verdict(row[8]) for row in outcome.tables[0].rows)


# -- what people read ------------------------------------------------------------


def test_the_summary_is_a_sentence_for_a_compliance_officer():
    failed = assess(selected(a=(300, 1_000), b=(180, 1_000)), FOUR_FIFTHS, source="x")
    assert failed.summary == (
        "In 1 comparison over 2,000 decisions, groups are treated differently: by g, the lowest "
        "selection rate is 60.0% of the highest, where the norm four-fifths asks for at least 80% "
        "(p < 0.0001, p < 0.0001 after correction: chance does not explain it)."
    )
    passed = assess(selected(a=(300, 1_000), b=(290, 1_000)), FOUR_FIFTHS | PARITY, source="x")
    assert passed.summary == (
        "In 2 comparisons over 2,000 decisions, every gap between groups is within its norm."
    )
    unsure = assess(
        selected(a=(60, 200), b=(42, 200)),
        {"p": norm("demographic_parity_difference", at_most=0.05)},
        source="x",
    )
    assert unsure.summary.startswith("In 1 comparison over 400 decisions")
    assert "differs by 9.0 percentage points, where the norm p allows 5" in unsure.summary


def test_both_gap_and_p_are_in_the_table():
    table = assess(selected(a=(300, 1_000), b=(180, 1_000)), FOUR_FIFTHS, source="x").tables[0]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["value"], row["limit"], row["verdict"]) == (0.6, 0.8, "fail")
    assert 0 < row["p"] < 0.0001
    assert row["basis"] == "29 CFR 1607.4(D) (1978-08-25)"


def test_rates_by_group_can_be_drawn_with_the_line_where_the_norm_begins():
    table = assess(selected(a=(300, 1_000), b=(180, 1_000)), FOUR_FIFTHS, source="x").tables[1]
    assert table.plot == "selection_rate"
    assert table.reference == pytest.approx(0.24)
    by_name = {row[0]: row[table.columns.index(table.plot)] for row in table.rows}
    assert by_name["b"].low < 0.18 < by_name["b"].high
    line = assess(selected(a=(300, 1_000), b=(180, 1_000)), PARITY, source="x").tables[1].reference
    assert line == pytest.approx(0.2)


def test_no_line_is_drawn_where_the_norm_asks_for_nothing():
    tally = selected(a=(5, 100), b=(4, 100))
    assert assess(tally, PARITY, source="x").tables[1].reference is None


def test_findings_and_summary_name_no_group():
    outcome = assess(selected(secret=(300, 1_000), hidden=(180, 1_000)), FOUR_FIFTHS, source="x")
    told = outcome.summary + "".join(f.message + str(f.evidence) for f in outcome.findings)
    assert "secret" not in told
    assert "hidden" not in told


def test_facts_of_the_cross_check_join_the_outcome():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"y": rng.integers(0, 2, 500), "d": rng.integers(0, 2, 500), "s": ["f", "m"] * 250}
    )
    where = {"label": "y", "prediction": "d", "sensitive": ["s"], "positive": 1, "source": "x"}
    outcome = assess_frame(frame, FOUR_FIFTHS, **where)
    assert outcome.facts["fairlearn_rows"] == 500
    assert outcome.facts["n"] == 500
    assert outcome.facts["alpha"] == 0.05
    assert assess_frame(frame, FOUR_FIFTHS, **where, verify=False).facts["fairlearn"] is None


# -- bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (norm("parity_ratio"), "norm n: 'parity_ratio' compares no groups"),
        (norm("selection_rate", at_least=0.1), "compares no groups"),
        (norm("demographic_parity_ratio", at_most=0.8), "demographic_parity_ratio takes at_least"),
        (norm("demographic_parity_difference", at_least=0.8), "takes at_most"),
    ],
)
def test_a_norm_that_cannot_be_held_to_is_a_policy_error(wrong, message):
    with pytest.raises(PolicyError, match=message):
        assess(selected(a=(1, 2)), {"n": wrong}, source="x")


def test_no_norm_and_no_rows_are_refused():
    with pytest.raises(InputError, match="at least one norm"):
        assess(selected(a=(1, 2)), {}, source="x")
    with pytest.raises(InputError, match="nothing to assess"):
        assess(selected(a=(0, 0)), FOUR_FIFTHS, source="x")


# -- false alarms and power ------------------------------------------------------


def simulated(rng, sizes, rates):
    hits = rng.binomial(sizes, rates)
    counts = np.stack([sizes - hits, hits, 0 * hits, 0 * hits], axis=1)
    return Tally(("g",), tuple((f"{i:02}",) for i in range(len(sizes))), counts)


def alarms(seeds, rows, shares, base, norms):
    """Return how often a fair process fails, and how often it breaks the bare norm."""
    failed = broken = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        tally = simulated(rng, rng.multinomial(rows, shares), base)
        failed += verdict(tally, norms) is Verdict.FAIL
        value = fairness.METRICS["demographic_parity_ratio"](tally)
        broken += value is None or value < 0.8
    return failed / seeds, broken / seeds


def bound(seeds, alpha=0.05):
    return alpha + 3 * np.sqrt(alpha * (1 - alpha) / seeds)


def test_a_fair_process_of_14_groups_rarely_fails_where_the_bare_norm_nearly_always_does():
    failed, broken = alarms(2_000, 1_000, np.full(14, 1 / 14), 0.3, FOUR_FIFTHS)
    assert broken > 0.99
    assert failed <= bound(2_000)


@pytest.mark.parametrize("base", [0.1, 0.48])
@pytest.mark.parametrize("rows", [300, 10_000])
def test_a_fair_process_rarely_fails_at_other_sizes_and_rates(base, rows):
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01])
    failed, _ = alarms(500, rows, shares, base, FOUR_FIFTHS | PARITY)
    assert failed <= bound(500)


def test_two_attributes_and_their_pairs_together_rarely_fail():
    failed = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        chosen = rng.binomial(1, 0.3, 1_000)
        groups = {
            "sex": rng.integers(0, 2, 1_000),
            "race": rng.choice(5, 1_000, p=[0.6, 0.2, 0.1, 0.06, 0.04]),
        }
        tally = Tally.from_values(rng.binomial(1, 0.4, 1_000), chosen, groups, 1)
        norms = FOUR_FIFTHS | {"odds": norm("equalized_odds_difference")}
        failed += verdict(tally, norms) is Verdict.FAIL
    assert failed / 500 <= bound(500)


def test_an_impact_ratio_of_three_fifths_is_found():
    """Two groups, 30/70, base rate .3, 3,000 decisions: power of 90 % and more."""
    found = sum(
        verdict(simulated(np.random.default_rng(seed), np.array([900, 2_100]), [0.18, 0.3]))
        is Verdict.FAIL
        for seed in range(200)
    )
    assert found >= 180


# -- start-up --------------------------------------------------------------------


def test_the_package_loads_its_names_on_first_use():
    code = (
        "import sys; from compliance import fairness; assert 'numpy' not in sys.modules; "
        "fairness.Tally; assert 'numpy' in sys.modules; assert 'fairlearn' not in sys.modules; "
        "assert 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_no_other():
    assert all(getattr(fairness, name) is not None for name in fairness.__all__)
    assert dir(fairness) == fairness.__all__
    with pytest.raises(AttributeError, match="nope"):
        _ = fairness.nope


def test_without_numpy_the_error_names_the_command():
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from compliance import errors, fairness\n"
        "try: fairness.Tally\n"
        "except errors.MissingExtra as error: assert 'fairness' in str(error)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
