"""One self-contained page that a person can read, print, sign and keep.

Nothing is fetched: the content policy forbids every request and allows one
style sheet, by its hash. All text passes through `markup.node`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources

from compliance.findings import Finding, Outcome, Place, Scalar, Table, Verdict
from compliance.reports import wording
from compliance.reports.markup import Node, node, to_html_page, verbatim
from compliance.reports.svg import MOST_ROWS, dot_plot

_CLASS = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.INSUFFICIENT: "open"}
_LONG = 32  # a fact of more characters, such as a digest, has a line of its own
_SHAPES = {  # told apart by outline as well as by colour
    Verdict.PASS: ("M24 3a21 21 0 1 1 0 42a21 21 0 1 1 0-42z", "M14 25l7 7 13-15"),
    Verdict.FAIL: (
        "M15.3 3h17.4L45 15.3v17.4L32.7 45H15.3L3 32.7V15.3z",
        "M16 16l16 16M32 16L16 32",
    ),
    Verdict.INSUFFICIENT: ("M24 4l21 39H3z", "M24 18v12M24 35v3"),
}


def to_html(outcomes: Sequence[Outcome], *, title: str, facts: Mapping[str, Scalar]) -> str:
    """Return the page."""
    verdict = Verdict.worst(o.verdict for o in outcomes)
    body = node(
        "main",
        _masthead(title, facts),
        _banner(verdict, wording.headline(outcomes)),
        _overview(outcomes),
        *(_section(o, f"check-{i}") for i, o in enumerate(outcomes, 1)),
        _legend(),
        _signature(),
    )
    return to_html_page(node("html", _head(title, verdict), node("body", body), lang="en"))


def _head(title: str, verdict: Verdict) -> Node:
    css = resources.files("compliance.reports").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    meta = {"viewport": "width=device-width, initial-scale=1", "referrer": "no-referrer"}
    return node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=policy),
        *(node("meta", name=k, content=v) for k, v in meta.items()),
        node("title", f"{_word(verdict)}: {wording.name(title)}"),
        verbatim("style", css),
    )


def _word(verdict: Verdict) -> str:
    return verdict.value.capitalize()


# -- the front ---------------------------------------------------------------------


def _masthead(title: str, facts: Mapping[str, Scalar]) -> Node:
    kicker = node("p", "Compliance report", class_="kicker")
    heading = node("h1", _name(title, wording.PROSE_LIMIT))
    return node("header", kicker, heading, _facts(facts))


def _facts(facts: Mapping[str, Scalar]) -> Node | None:
    if not facts:
        return None
    return node("dl", *(_fact(wording.label(k), v) for k, v in facts.items()), class_="facts")


def _fact(key: str, value: Scalar) -> Node:
    text = wording.scalar(value)
    width = "long" if len(text) > _LONG else "short"
    return node("div", node("dt", key), node("dd", _name(text)), class_=width)


def _banner(verdict: Verdict, headline: str) -> Node:
    words = node("div", node("strong", _word(verdict)), node("p", headline))
    kind = f"banner {_CLASS[verdict]}"
    return node("section", _icon(verdict), words, class_=kind, aria_label="Verdict")


def _icon(verdict: Verdict) -> Node:
    outline, sign = _SHAPES[verdict]
    paths = (node("path", d=outline, class_="outline"), node("path", d=sign, class_="sign"))
    return node("svg", *paths, class_="icon", viewBox="0 0 48 48", aria_hidden="true")


def _badge(verdict: Verdict) -> Node:
    return node("span", _icon(verdict), _word(verdict), class_=f"badge {_CLASS[verdict]}")


def _overview(outcomes: Sequence[Outcome]) -> Node | None:
    if not outcomes:
        return None
    rows = [_overview_row(o, f"#check-{i}") for i, o in enumerate(outcomes, 1)]
    heads = (("Check", ""), ("Verdict", ""), ("Worst finding", ""), ("Findings", "figure"))
    return node("section", node("h2", "Checks"), _grid(heads, rows, "Checks and verdicts"))


def _overview_row(outcome: Outcome, target: str) -> Node:
    worst = max((f.severity for f in outcome.findings), default=None)
    link = node("a", _name(outcome.title), href=target)
    return node(
        "tr",
        node("td", link),
        node("td", _badge(outcome.verdict)),
        node("td", "none" if worst is None else worst.name.capitalize()),
        node("td", f"{len(outcome.findings):,}", class_="figure"),
    )


# -- one check ----------------------------------------------------------------------


def _section(outcome: Outcome, ident: str) -> Node:
    heading = node("div", node("h2", _name(outcome.title)), _badge(outcome.verdict), class_="head")
    meaning = node("p", node("b", "What this means. "), outcome.summary, class_="meaning")
    figures = (_figures(t, f"{ident}-figure-{i}") for i, t in enumerate(outcome.tables, 1))
    return node(
        "section",
        node("p", "Check ", node("code", wording.name(outcome.check)), class_="kicker"),
        heading,
        meaning,
        _findings(outcome),
        *figures,
        _facts(outcome.facts),
        class_="check",
        id=ident,
    )


def _findings(outcome: Outcome) -> Node:
    found = wording.ranked([outcome])
    if not found:
        return node("p", "No findings.", class_="quiet")
    heads = (("Severity", ""), ("Finding", ""), ("Where", ""), ("Count", "figure"))
    title = f"Findings: {outcome.title}"
    grid = _grid(heads, map(_finding, found), title)
    return node("div", node("h3", "Findings"), grid, class_="findings")


def _finding(finding: Finding) -> Node:
    level = finding.severity.name
    return node(
        "tr",
        node(
            "td",
            node("span", level.capitalize(), class_=f"severity {level.lower()}"),
            class_="level",
        ),
        node("td", node("p", finding.message), _evidence(finding)),
        node("td", _place(finding.place)),
        node("td", f"{finding.count:,}", class_="figure"),
    )


def _evidence(finding: Finding) -> Node:
    parts = [f"{wording.label(k)}: {wording.scalar(v)}" for k, v in finding.evidence.items()]
    kind = node("code", wording.name(finding.kind or finding.check))
    return node("p", kind, *(f" · {part}" for part in parts), class_="quiet")


def _place(place: Place) -> Node:
    """Return the parts one under the other; each is isolated, so that scripts cannot mix."""
    parts = (p for p in (place.source, place.table, place.column) if p)
    return node("div", *(node("div", _name(p)) for p in parts), class_="place")


def _name(text: str, limit: int = wording.NAME_LIMIT) -> Node:
    return node("bdi", wording.plain(text, limit))


# -- figures ------------------------------------------------------------------------


def _figures(table: Table, ident: str) -> Node:
    plot = dot_plot(table, ident)
    caption = [table.caption] if table.caption else []
    if plot is not None and len(table.rows) > MOST_ROWS:
        caption.append(f"The plot shows the first {MOST_ROWS} of {len(table.rows)} rows.")
    columns = wording.columns_of(table)
    kinds = ["figure" if wording.is_numeric(column) else "" for column in columns]
    rows = (_row(row, kinds) for row in wording.text_rows(table))
    return node(
        "figure",
        node("h3", _name(table.title)),
        plot,
        _grid(tuple(zip(table.columns, kinds, strict=True)), rows, table.title),
        node("figcaption", " ".join(caption)) if caption else None,
    )


def _row(row: Sequence[str], kinds: Sequence[str]) -> Node:
    return node("tr", *(_cell("td", v, k) for v, k in zip(row, kinds, strict=True)))


def _cell(tag: str, text: str, kind: str) -> Node:
    return node(tag, _name(text), **({"class_": kind} if kind else {}))


def _grid(heads: Iterable[tuple[str, str]], rows: Iterable[Node], name: str) -> Node:
    """Return a table that scrolls within itself on a narrow screen, by keyboard too."""
    head = node("thead", node("tr", *_heads(heads)))
    table = node("table", head, node("tbody", *rows))
    label = wording.name(name)
    return node("div", table, class_="scroll", role="region", tabindex=0, aria_label=label)


def _heads(heads: Iterable[tuple[str, str]]) -> Iterator[Node]:
    for text, kind in heads:
        cell = _cell("th", text, kind)
        cell.set("scope", "col")
        yield cell


# -- the end ------------------------------------------------------------------------


def _legend() -> Node:
    items = (
        node("div", node("dt", _badge(v)), node("dd", words))
        for v, words in wording.VERDICT_MEANING.items()
    )
    note = (
        "Findings name places, kinds and counts; they do not quote the data. Figures in "
        "brackets are confidence limits. An undefined figure could not be computed."
    )
    legend = node("dl", *items, class_="legend")
    return node("section", node("h2", "How to read this report"), legend, node("p", note))


def _signature() -> Node:
    lines = (node("div", label) for label in ("Name and role", "Date", "Signature"))
    sheet = node("div", *lines, class_="lines")
    return node("section", node("h2", "Reviewed by"), sheet, class_="signature")
