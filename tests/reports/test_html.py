import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from compliance.findings import Finding, Interval, Outcome, Place, Severity, Table, Verdict
from compliance.reports.html import to_html

VOID = {"meta"}


class Page(HTMLParser):
    """What a browser would see: text, tags, and whether they are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def _page(outcomes, facts=None, title="Nightly audit"):
    return Page(to_html(outcomes, title=title, facts=facts or {}))


def _hostile(name):
    table = Table(name, (name, "Rate"), ((name, Interval(0.5, 0.4, 0.6)),), name, plot="Rate")
    finding = Finding(name, Severity.HIGH, name, Place(name, name, name), name, 1, {name: name})
    return Outcome(name, name, Verdict.FAIL, name, (finding,), (table,), {name: name})


def test_the_page_says_verdict_title_and_what_each_check_means(outcomes, facts):
    text = _page(outcomes, facts).text
    assert "Nightly audit" in text
    assert "2 of 4 checks failed, and 1 could not be decided." in text
    for outcome in outcomes:
        assert outcome.title in text
        assert f"What this means. {outcome.summary}" in text


def test_the_page_holds_every_finding_with_place_kind_and_count(outcomes):
    text = _page(outcomes).text
    for finding in (f for o in outcomes for f in o.findings):
        assert finding.message in text
        assert finding.kind in text
        assert f"{finding.count:,}" in text
        assert finding.place.column in text


def test_the_page_holds_every_figure_and_fact(outcomes, facts):
    text = _page(outcomes, facts).text
    assert "0.498 [0.420, 0.580]" in text
    assert "undefined" in text
    assert "Policy digest " + facts["policy_digest"] in text
    assert facts["tool_version"] in text


@pytest.mark.parametrize(
    ("verdict", "word", "kind"),
    [
        (Verdict.PASS, "Pass", "pass"),
        (Verdict.FAIL, "Fail", "fail"),
        (Verdict.INSUFFICIENT, "Insufficient evidence", "open"),
    ],
)
def test_the_banner_gives_the_verdict_in_a_word_and_a_shape_and_not_by_colour_alone(
    verdict, word, kind
):
    page = to_html([Outcome("c", "t", verdict, "s")], title="x", facts={})
    banner = re.search(rf'<section class="banner {kind}".*?</section>', page, re.DOTALL).group()
    assert f"<strong>{word}</strong>" in banner
    assert "<svg" in banner
    assert f"<title>{word}: x</title>" in page


def test_an_empty_report_is_no_pass():
    text = _page([]).text
    assert "Insufficient evidence: Nightly audit" in text
    assert "Nothing was audited" in text


def test_the_content_policy_allows_this_style_sheet_and_nothing_else(outcomes):
    text = to_html(outcomes, title="x", facts={})
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style
    assert "@import" not in style


def test_nothing_refers_outside_the_page(outcomes, facts):
    page = _page(outcomes, facts)
    assert not page.values("src") + page.values("style") + page.values("onclick")
    assert all(link.startswith("#check-") for link in page.values("href"))
    assert {link[1:] for link in page.values("href")} <= set(page.values("id"))


def test_ids_are_unique(outcomes):
    ids = _page([*outcomes, *outcomes]).values("id")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'; } body { display: none } </style><style>",
        "&lt;b&gt; &amp; <!-- ]]> -->",
        "\u202egnp.exe\u2066",
        "\x00\x08\x1b[31m\ud800",
        "x" * 10_000,
    ],
)
def test_a_hostile_name_adds_no_tag_and_no_attribute(name):
    harmless = _page([_hostile("harmless")], {"harmless": "harmless"}, "harmless")
    page = _page([_hostile(name)], {name: name}, name)
    assert page.tags == harmless.tags
    assert [a[:2] for a in page.attributes] == [a[:2] for a in harmless.attributes]
    assert not set(page.text) & set("\u202e\u2066\x00\x1b\ud800")


def test_a_long_name_is_shortened_and_says_so():
    page = to_html([_hostile("x" * 10_000)], title="t", facts={})
    assert "(10000 characters)" in page
    assert "x" * 2001 not in page


def test_each_plot_is_there_and_a_cut_one_says_so():
    rows = tuple((i, Interval(i / 100)) for i in range(100))
    table = Table("Many", ("Group", "Rate"), rows, plot="Rate")
    page = _page([Outcome("c", "t", Verdict.PASS, "s", tables=(table,))])
    assert page.tags.count("circle") == 60
    assert page.tags.count("tr") == 2 + 101
    assert "The plot shows the first 60 of 100 rows." in page.text


# -- in a browser ------------------------------------------------------------------


@pytest.fixture
def browser(chromium):
    """Give each test a browser of its own: while one is open, its event loop runs in this thread."""
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as api:
        window = api.chromium.launch(executable_path=chromium, args=flags)
        yield window
        window.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens a page and gives it back with its complaints and requests."""
    contexts = []

    def visit(text, **options):
        file = tmp_path / "report.html"
        file.write_text(text, "utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        seen = {"complaints": [], "requests": []}
        page.on("console", lambda message: seen["complaints"].append(message.text))
        page.on("pageerror", lambda error: seen["complaints"].append(str(error)))
        page.on("request", lambda request: seen["requests"].append(request.url))
        page.goto(file.as_uri())
        page.wait_for_load_state("networkidle")
        assert seen == {"complaints": [], "requests": [file.as_uri()]}
        return page

    yield visit
    for context in contexts:
        context.close()


def test_a_browser_shows_verdict_and_plot_without_complaint_or_request(opened, outcomes, facts):
    page = opened(to_html(outcomes, title="Nightly audit", facts=facts))
    assert page.get_by_label("Verdict", exact=True).get_by_text("Fail", exact=True).is_visible()
    assert page.locator("svg.plot").count() == 1
    assert page.locator("svg.plot circle.dot").count() == 3
    assert page.get_by_role("img", name="Impact ratio by race").is_visible()


def test_the_style_sheet_is_applied_under_the_content_policy(opened, outcomes):
    page = opened(to_html(outcomes, title="x", facts={}))
    style = "e => getComputedStyle(e).borderLeftWidth"
    assert page.locator(".banner").evaluate(style) == "7px"


@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_makes_the_page_scroll_sideways(opened, outcomes, facts, width):
    hostile = [
        _hostile(n) for n in ("x" * 10_000, "<script>", "\u0627\u0644\u0627\u0633\u0645" * 40)
    ]
    text = to_html([*outcomes, *hostile], title="y" * 300, facts=facts)
    page = opened(text, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_every_dot_lies_on_the_screen_of_a_telephone(opened, outcomes):
    page = opened(to_html(outcomes, title="x", facts={}), viewport={"width": 390, "height": 844})
    boxes = [dot.bounding_box() for dot in page.locator("circle.dot").all()]
    assert all(box["x"] > 0 and box["x"] + box["width"] < 390 for box in boxes)


def _contrast(page, selector):
    """Return the WCAG 2.2 contrast of an element's text against the paper."""
    script = "e => getComputedStyle(e).%s"
    ink = page.locator(selector).first.evaluate(script % "color")
    paper = page.locator("main").evaluate(script % "backgroundColor")
    dark, light = sorted(map(_luminance, (ink, paper)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour):
    parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_in_dark(opened, outcomes, facts, scheme):
    page = opened(to_html(outcomes, title="x", facts=facts), color_scheme=scheme)
    for selector in (
        "h1",
        ".meaning",
        ".kicker",
        "td",
        "a",
        ".badge.pass",
        ".badge.open",
        ".badge.fail",
    ):
        assert _contrast(page, selector) >= 4.5, selector


def test_paper_is_white_also_where_the_screen_is_dark(opened, outcomes):
    page = opened(to_html(outcomes, title="x", facts={}), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    colour = page.locator("main").evaluate("e => getComputedStyle(e).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
