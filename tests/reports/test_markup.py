import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.reports import wording
from compliance.reports.markup import node, to_html_page, to_xml, verbatim

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT, ANY_TEXT)
def test_text_and_attributes_come_back_as_the_plain_text_that_went_in(text, attribute):
    root = ET.fromstring(to_xml(node("a", text, title=attribute)))
    assert root.text == (wording.plain(text) or None)
    assert root.get("title") == wording.plain(attribute)


def test_strings_around_children_keep_their_order():
    paragraph = node("p", "a", node("b", "c"), "d", None, "e")
    assert ET.tostring(paragraph) == b"<p>a<b>c</b>de</p>"


def test_attribute_names_are_written_as_html_writes_them():
    assert ET.tostring(node("a", class_="x", aria_label=1)) == b'<a class="x" aria-label="1" />'


class _Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs))


@pytest.mark.parametrize(
    "text", ["<script>&\"'", '"><script>', "</p><img src=x onerror=y>", "&lt;"]
)
def test_markup_in_text_stays_text_in_a_page(text):
    page = to_html_page(node("p", text, title=text))
    assert _Tags(page).found == [("p", [("title", text)])]


def test_the_style_sheet_alone_is_verbatim():
    assert "<style>a > b {}</style>" in to_html_page(verbatim("style", "a > b {}"))
