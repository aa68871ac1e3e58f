import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance.findings import Interval, Table
from compliance.reports import svg

FLOATS = st.floats() | st.none()


def _table(*intervals, reference=None):
    rows = tuple((f"group {i}", v) for i, v in enumerate(intervals))
    return Table("Rates", ("Group", "Rate"), rows, plot="Rate", reference=reference)


def _of_class(plot, tag, name):
    return [e for e in plot.iter(tag) if e.get("class") == name]


def _percent(text):
    assert text.endswith("%")
    return float(text[:-1])


def test_no_plot_where_none_is_asked_for():
    assert svg.dot_plot(Table("t", ("a",), ((1,),)), "p") is None
    assert svg.dot_plot(_table(), "p") is None


def test_each_defined_group_is_a_dot_with_a_bar_and_an_undefined_one_says_so():
    plot = svg.dot_plot(_table(Interval(0.5, 0.4, 0.6), Interval(0.7), Interval(None)), "p")
    assert len(_of_class(plot, "circle", "dot")) == 2
    assert len(_of_class(plot, "line", "bar")) == 3  # a bar and its two end strokes
    assert [e.find("text").text for e in _of_class(plot, "g", "undefined")] == ["undefined"]


def test_dots_lie_in_the_order_of_their_values_and_within_their_bars():
    plot = svg.dot_plot(_table(Interval(0.2, 0.1, 0.3), Interval(0.5, 0.4, 0.9)), "p")
    low, high = (_percent(e.get("cx")) for e in _of_class(plot, "circle", "dot"))
    bars = [(_percent(e.get("x1")), _percent(e.get("x2"))) for e in _of_class(plot, "line", "bar")]
    assert low < high
    assert bars[0][0] < low < bars[0][1]
    assert bars[3][0] < high < bars[3][1]


def test_the_reference_line_is_drawn_where_its_value_is():
    plot = svg.dot_plot(_table(Interval(0.5), Interval(0.8), reference=0.8), "p")
    (line,) = _of_class(plot, "line", "reference")
    assert line.get("x1") == _of_class(plot, "circle", "dot")[1].get("cx")
    assert "reference 0.8" in "".join(plot.itertext())


def test_the_plot_tells_a_screen_reader_what_it_shows():
    plot = svg.dot_plot(_table(Interval(0.5), Interval(0.25), Interval(None), reference=0.8), "p7")
    assert plot.get("role") == "img"
    assert plot.get("aria-labelledby") == "p7-title p7-desc"
    assert plot.find("title").text == "Rates: Rate by Group"
    assert plot.find("desc").text == (
        "2 of 3 groups are drawn as dots with confidence bars. Lowest: group 1, 0.25. "
        "Highest: group 0, 0.5. A reference line stands at 0.8."
    )


def test_both_axes_are_named():
    texts = [e.text for e in svg.dot_plot(_table(Interval(0.5)), "p").iter("text")]
    assert {"Group", "Rate"} <= set(texts)


def test_plain_numbers_are_plotted_as_dots_without_bars():
    plot = svg.dot_plot(_table(0.5, 1, None), "p")
    assert len(_of_class(plot, "circle", "dot")) == 2
    assert not _of_class(plot, "line", "bar")


def test_an_infinite_limit_runs_to_the_end_of_the_axis_without_an_end_stroke():
    plot = svg.dot_plot(_table(Interval(2.0, 1.0, math.inf)), "p")
    bar, stroke = _of_class(plot, "line", "bar")
    assert bar.get("x2") == "100.00%"
    assert stroke.get("x1") == bar.get("x1")


def test_a_plot_of_very_many_groups_stops():
    plot = svg.dot_plot(_table(*[0.5] * 500), "p")
    assert len(_of_class(plot, "circle", "dot")) == svg.MOST_ROWS


def test_a_long_group_name_is_cut_to_its_room_and_says_how_long_it_is():
    table = Table("t", ("g", "r"), (("x" * 9000, Interval(0.5)),), plot="r")
    (label,) = _of_class(svg.dot_plot(table, "p"), "text", "group")
    assert len(label.text) <= 40
    assert "(9000 characters)" in label.text


def test_no_style_attribute_that_the_content_policy_would_refuse():
    assert "style=" not in ET.tostring(
        svg.dot_plot(_table(Interval(0.5, 0.4, 0.6)), "p"), "unicode"
    )


@given(st.lists(FLOATS, max_size=20))
@example([1e300, -1e300])
@example([5e-324])
@example([1.0, 1.0 + 2**-52])
@example([1e16, 1e16 + 2])
def test_every_axis_holds_its_values_and_has_rising_ticks_within(values):
    scale = svg.Scale.over(v for v in values if v is not None)
    plotted = [v for v in values if v is not None and abs(v) <= 1e300]
    assert scale.low < scale.high
    assert all(scale.low <= v <= scale.high for v in plotted)
    assert all(a < b for a, b in itertools.pairwise(scale.ticks))
    assert len(scale.ticks) <= 12


@given(st.lists(st.builds(Interval, FLOATS, FLOATS, FLOATS), max_size=8), FLOATS)
def test_every_plot_stays_on_the_page(intervals, reference):
    plot = svg.dot_plot(_table(*intervals, reference=reference), "p")
    if not intervals:
        assert plot is None
        return
    places = [e.get(k) for e in plot.iter() for k in ("x", "cx", "x1", "x2") if e.get(k)]
    assert all(0 <= _percent(p) <= 100 for p in places if p.endswith("%"))
    assert all(math.isfinite(float(p)) for p in places if not p.endswith("%"))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)), (0.11, 0.29, (0.15, 0.2, 0.25)), (-3, 3, (-2, 0, 2))],
)
def test_ticks_are_round(low, high, ticks):
    assert svg._ticks(low, high) == pytest.approx(ticks)
