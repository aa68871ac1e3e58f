import errno
import json
import os
import re
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError, OperationError
from compliance.findings import Finding, Interval, Outcome, Place, Severity, Table, Verdict
from compliance.reports import render

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
FLOATS = st.none() | st.floats()
INTERVALS = st.builds(Interval, FLOATS, FLOATS, FLOATS)
FACTS = st.dictionaries(ANY_TEXT, SCALARS, max_size=3)
PLACES = st.builds(Place, ANY_TEXT, st.none() | ANY_TEXT, st.none() | ANY_TEXT)
FINDINGS = st.builds(
    Finding, ANY_TEXT, st.sampled_from(Severity), ANY_TEXT, PLACES, ANY_TEXT, st.integers(0), FACTS
)
TABLES = st.builds(
    lambda title, names, rows, reference: Table(
        title, names, tuple(rows), plot=names[1], reference=reference
    ),
    ANY_TEXT,
    st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.lists(st.tuples(SCALARS, INTERVALS, SCALARS), max_size=4),
    FLOATS,
)
OUTCOMES = st.lists(
    st.builds(
        Outcome,
        ANY_TEXT,
        ANY_TEXT,
        st.sampled_from(Verdict),
        ANY_TEXT,
        st.lists(FINDINGS, max_size=3).map(tuple),
        st.lists(TABLES, max_size=2).map(tuple),
        FACTS,
    ),
    max_size=3,
)
TAGS = re.compile(
    "html|head|meta|title|style|body|main|header|section|div|p|h[123]|b|bdi|span|strong|code|a|d[ltd]|"
    "table|thead|tbody|t[rhd]|figure|figcaption|svg|path|desc|text|line|circle|g"
)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)


def _render(outcomes, kind, facts=None):
    return render.report(outcomes, kind, title="Nightly audit", facts=facts or {})


# -- every format -------------------------------------------------------------------


def test_the_formats_are_those_of_the_command_line():
    assert render.FORMATS == ("text", "json", "sarif", "junit", "html")


@pytest.mark.parametrize("kind", render.FORMATS)
def test_the_same_outcomes_give_the_same_characters(outcomes, facts, kind, monkeypatch):
    first = _render(outcomes, kind, facts)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert _render(outcomes, kind, facts) == first


@pytest.mark.parametrize("kind", render.FORMATS)
def test_another_process_gives_the_same_characters(outcomes, kind):
    script = (
        "from compliance.findings import Outcome, Verdict\n"
        "from compliance.reports import render\n"
        "o = Outcome('c', 't', Verdict.PASS, 's', facts={'b': 1, 'a': None})\n"
        f"print(render.report([o], {kind!r}, title='x', facts={{'z': 1.5}}), end='')"
    )
    run = [sys.executable, "-c", script]
    runs = {
        subprocess.run(
            run, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": s}
        ).stdout
        for s in ("1", "2")
    }
    assert len(runs) == 1


@pytest.mark.parametrize("kind", render.FORMATS)
def test_every_format_names_every_finding_and_the_facts(outcomes, facts, kind):
    text = " ".join(_render(outcomes, kind, facts).split())
    for finding in (f for o in outcomes for f in o.findings):
        assert finding.message in text
        assert finding.kind in text
    assert facts["policy_digest"] in text


@pytest.mark.parametrize("kind", render.FORMATS)
def test_every_format_ends_with_one_newline(outcomes, kind):
    text = _render(outcomes, kind)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@given(OUTCOMES, FACTS, ANY_TEXT)
def test_any_name_and_figure_can_be_rendered_and_read_back(outcomes, facts, title):
    made = {k: render.report(outcomes, k, title=title, facts=facts) for k in render.FORMATS}
    verdict = Verdict.worst(o.verdict for o in outcomes)
    assert json.loads(made["json"])["verdict"] == verdict
    assert json.loads(made["sarif"])["runs"][0]["properties"]["verdict"] == verdict
    assert ET.fromstring(made["junit"].encode()).tag == "testsuites"
    assert all(TAGS.fullmatch(tag) for tag in Tags(made["html"]).found)
    for text in made.values():
        assert not set(text) & set("\x00\x1b\x85\u202e\u2066\u200f\ufeff\ud800")


def test_an_unknown_format_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"'htm'; did you mean 'html'\? \(known: text, json"):
        render.report([], "htm", title="x", facts={})


@pytest.mark.parametrize("kind", render.FORMATS)
def test_a_ragged_table_is_refused_in_every_format(kind):
    outcome = Outcome("c", "t", Verdict.PASS, "s", tables=(Table("x", ("a", "b"), ((1,),)),))
    with pytest.raises(InputError, match="every row needs 2 cells"):
        _render([outcome], kind)


# -- JSON ----------------------------------------------------------------------------


def test_json_keeps_the_documented_schema(outcomes, facts):
    document = json.loads(_render(outcomes, "json", facts))
    assert list(document) == ["schema_version", "title", "verdict", "facts", "outcomes"]
    assert (document["schema_version"], document["verdict"]) == (1, "fail")
    assert document["facts"] == facts
    scan, gap = document["outcomes"][:2]
    assert list(scan) == ["check", "title", "verdict", "summary", "facts", "findings", "tables"]
    assert scan["findings"][1] == {
        "check": "pii.column",
        "severity": "critical",
        "message": "Column holds e-mail addresses.",
        "kind": "EMAIL_ADDRESS",
        "count": 31998,
        "evidence": {"share": 0.982, "sampled": 500},
        "fingerprint": outcomes[0].findings[1].fingerprint,
        "place": {"source": "sqlite:///bank.db", "table": "customers", "column": "contact"},
    }
    assert list(gap["tables"][0]) == ["title", "caption", "columns", "plot", "reference", "rows"]
    assert gap["tables"][0]["rows"][1] == [
        "Black",
        1561,
        {"value": 0.498, "low": 0.42, "high": 0.58},
    ]


@given(OUTCOMES)
def test_json_shortens_and_alters_no_name(outcomes):
    read = json.loads(_render(outcomes, "json"))["outcomes"]
    assert [o["title"] for o in read] == [o.title for o in outcomes]
    assert [[f["place"]["source"] for f in o["findings"]] for o in read] == [
        [f.place.source for f in o.findings] for o in outcomes
    ]


def test_json_tells_undefined_from_infinite():
    facts = {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": None}
    read = json.loads(_render([], "json", facts))["facts"]
    assert read == {"a": None, "b": "inf", "c": "-inf", "d": None}


def test_json_of_nothing_is_insufficient():
    assert json.loads(_render([], "json"))["verdict"] == "insufficient evidence"


# -- files ---------------------------------------------------------------------------


def test_a_written_report_is_readable_by_all_and_leaves_nothing_beside_it(tmp_path):
    previous = os.umask(0o077)
    try:
        render.write(tmp_path / "r.html", "ü\n")
    finally:
        os.umask(previous)
    assert (tmp_path / "r.html").read_bytes() == "ü\n".encode()
    assert stat.S_IMODE((tmp_path / "r.html").stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_writing_replaces_an_older_report_through_a_link(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")
    render.write(tmp_path / "link", "new")
    assert (tmp_path / "old").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(OperationError, match=r"No such file or directory.*folder that exists"):
        render.write(tmp_path / "none" / "r.html", "x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_keeps_the_old_report_and_leaves_no_rest(tmp_path, monkeypatch, code):
    (tmp_path / "r.html").write_text("old")

    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OperationError, match=os.strerror(code)):
        render.write(tmp_path / "r.html", "new")
    assert (tmp_path / "r.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_device_or_any_other_is_never_replaced_by_a_file():
    with pytest.raises(OperationError, match="no regular file"):
        render.write("/dev/full", "x")
    assert Path("/dev/full").is_char_device()


def test_a_folder_is_no_place_for_a_report(tmp_path):
    with pytest.raises(OperationError, match="no regular file"):
        render.write(tmp_path, "x")


def test_a_read_only_folder_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # root writes into read-only folders
    with pytest.raises(OperationError, match="Permission denied"):
        render.write(tmp_path / "r.html", "x")
