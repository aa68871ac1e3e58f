import textwrap

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from compliance.findings import Interval, Outcome, Table, Verdict
from compliance.reports.text import WIDTH, to_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_text_begins_with_the_verdict_and_ranks_findings(outcomes, facts):
    text = to_text(outcomes, title="Nightly audit", facts=facts)
    assert text.startswith(
        "FAIL: Nightly audit\n2 of 4 checks failed, and 1 could not be decided.\n"
    )
    order = [
        text.index(w)
        for w in ("\nCHECKS", "\nFINDINGS", "  CRITICAL", "  HIGH", "  LOW", "\nFACTS")
    ]
    assert order == sorted(order)


def test_text_aligns_the_columns_of_a_table(outcomes):
    lines = to_text(outcomes, title="Nightly audit", facts={}).splitlines()
    rows = [
        line for line in lines if line.lstrip().startswith(("White", "Black", "Asian", "Other"))
    ]
    assert [" ".join(r.split()) for r in rows] == [
        "White 13946 1.000",
        "Black 1561 0.498 [0.420, 0.580]",
        "Asian 480 1.017 [0.860, 1.190]",
        "Other 12 undefined",
    ]
    assert len({len(r) for r in rows}) == 1


@given(ANY_TEXT, ANY_TEXT, st.lists(st.tuples(ANY_TEXT, st.floats()), max_size=3).map(tuple))
@example("姓" * 300, "名 " * 200, (("e\u0301" * 90, 1.0),))
def test_text_fits_the_terminal(title, summary, rows):
    outcome = Outcome(title, title, Verdict.PASS, summary, tables=(Table(title, ("a", "b"), rows),))
    lines = to_text([outcome], title=title, facts={title: summary}).splitlines()
    assert all(cell_len(line) <= WIDTH and line == line.rstrip() for line in lines)


def test_a_table_too_wide_for_the_terminal_keeps_every_figure_whole():
    names = tuple(f"figure {i}" for i in range(20))
    table = Table("Wide", names, (tuple(1234567.0 + i for i in range(20)),))
    text = to_text(
        [Outcome("c", "t", Verdict.PASS, "s", tables=(table,))], title="Nightly audit", facts={}
    )
    words = " ".join(text.split())
    assert all(f"figure {i}: {1234567 + i}" in words for i in range(20))


def test_text_of_nothing_is_insufficient_and_says_so():
    text = to_text([], title="Nightly audit", facts={})
    assert text.startswith("INSUFFICIENT EVIDENCE: Nightly audit\nNothing was audited")
    assert "FINDINGS: none" in text


def test_a_table_reads_as_a_table():
    rows = (("姓名", 3, Interval(0.5, 0.25, 0.75)), ("no name", 1561, Interval(None)))
    table = Table("People", ("Column", "Rows", "Rate"), rows, "A caption.")
    text = to_text([Outcome("c", "T", Verdict.PASS, "s", tables=(table,))], title="x", facts={})
    assert text.endswith(
        textwrap.dedent("""
            T: People
              Column    Rows                Rate
              -------   ----   -----------------
              姓名         3   0.50 [0.25, 0.75]
              no name   1561           undefined
              A caption.
            """)
    )
