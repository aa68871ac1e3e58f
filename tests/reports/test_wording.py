import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance.errors import InputError
from compliance.findings import Finding, Interval, Outcome, Place, Severity, Table, Verdict
from compliance.reports import wording

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
@example("\ud800\x00\ufffe\U0001ffff\ufdd0\u2028\r\n\x1b[2J\u202e\u2066\x85\u200b\ufeff")
def test_plain_text_holds_nothing_invisible_and_is_fit_for_xml(text):
    shown = wording.plain(text)
    assert not set(shown) & set("\x00\x1b\r\n\t\x85\u202e\u2066\u200e\u2028\u200b\ufeff\ufffe")
    assert ET.fromstring(f"<a>{shown.replace('&', '&amp;').replace('<', '&lt;')}</a>").text == (
        shown or None
    )


@pytest.mark.parametrize("text", ["naïve café", "نام‌خانوادگی", "姓名", "👩‍👧", "a\u00a0b", ""])
def test_plain_text_leaves_honest_names_of_every_script_alone(text):
    assert wording.plain(text) == text


def test_plain_text_writes_out_what_it_removes():
    assert wording.plain("pay\u202egnp.exe\x1b[31m") == r"pay\u202egnp.exe\x1b[31m"


@given(ANY_TEXT, st.integers(40, 200))
def test_shortened_text_keeps_its_start_and_end_and_says_how_long_it_was(text, limit):
    long = f"S{text * 50}E"
    short = wording.shorten(long, limit)
    assert len(short) <= limit
    assert (short[0], short[-1]) == ("S", "E")
    assert short == long or f"({len(long)} characters)" in short


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "undefined"),
        (math.nan, "undefined"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (48842, "48842"),
        (0.0, "0"),
        (0.7996, "0.7996"),
        (0.8, "0.8"),
        (0.852, "0.852"),
        (1e-5, "1e-05"),
        (48842.0, "48842"),
        (1e300, "1e+300"),
        ("sex", "sex"),
    ],
)
def test_scalars_are_shown_to_four_digits_and_never_as_a_false_zero(value, shown):
    assert wording.scalar(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Interval(0.31, 0.28, 0.34), "0.31 [0.28, 0.34]"),
        (Interval(0.3149, 0.28, 0.34), "0.315 [0.280, 0.340]"),
        (Interval(0.798, 0.75, 1.04), "0.798 [0.750, 1.040]"),
        (Interval(None, 0.1, 0.2), "undefined"),
        (Interval(math.nan), "undefined"),
        (Interval(0.5), "0.5"),
        (Interval(0.5, None, 0.7), "0.5 [undefined, 0.7]"),
        (Interval(2.0, 1.0, math.inf), "2 [1, ∞]"),
    ],
)
def test_intervals_are_shown_with_their_limits(value, shown):
    assert wording.interval(value) == shown


def test_fractions_of_a_column_share_their_decimals():
    assert wording.cells([0.5, 0.125, None, 3]) == ["0.500", "0.125", "undefined", "3"]


@given(st.floats() | st.none(), st.floats() | st.none(), st.floats() | st.none())
def test_every_interval_can_be_worded(value, low, high):
    shown = wording.interval(Interval(value, low, high))
    assert "nan" not in shown
    assert "inf" not in shown


@given(st.floats(0.001, 1e6))
def test_a_worded_number_is_within_half_a_thousandth_of_itself(value):
    assert float(wording.scalar(value)) == pytest.approx(value, rel=5e-4, abs=5e-5)


def _outcome(verdict):
    return Outcome("c", "t", verdict, "s")


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ("", "Nothing was audited, so nothing can be said. This is not a pass."),
        ("p", "1 of 1 check passed."),
        ("pp", "2 of 2 checks passed."),
        ("pf", "1 of 2 checks failed."),
        ("pi", "1 of 2 checks could not be decided. This is not a pass."),
        ("ffi", "2 of 3 checks failed, and 1 could not be decided."),
    ],
)
def test_the_headline_never_takes_the_undecided_for_a_pass(verdicts, words):
    kinds = {"p": Verdict.PASS, "f": Verdict.FAIL, "i": Verdict.INSUFFICIENT}
    assert wording.headline([_outcome(kinds[v]) for v in verdicts]) == words


def test_every_verdict_has_a_meaning():
    assert set(wording.VERDICT_MEANING) == set(Verdict)


def test_findings_are_ranked_across_outcomes_worst_first(outcomes):
    ranked = [f.severity for f in wording.ranked(outcomes)]
    assert ranked == [Severity.CRITICAL, Severity.HIGH, Severity.LOW]


def test_the_rank_does_not_depend_on_the_order_of_outcomes(outcomes):
    assert wording.ranked(outcomes) == wording.ranked(outcomes[::-1])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table("t", ("a", "b"), ((1,),)), "every row needs 2 cells"),
        (Table("t", ("a",), ((1,),), plot="z"), "plot names no column"),
    ],
)
def test_a_ragged_table_is_refused(table, words):
    with pytest.raises(InputError, match=words):
        wording.text_rows(table)


def test_a_value_that_is_no_scalar_is_refused_and_not_quoted():
    with pytest.raises(InputError, match="not dict") as error:
        wording.json_scalar({"name": "Ada"})
    assert "Ada" not in str(error.value)


def test_a_lone_surrogate_in_a_place_has_a_fingerprint():
    assert len(Finding("c", Severity.LOW, "m", Place("\udcff.csv")).fingerprint) == 32
