"""Elements of HTML, SVG and XML, safe by construction: every string is data, never markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from compliance.reports import wording

Node = ET.Element


def node(tag: str, *children: Node | str | None, **attributes: str | float) -> Node:
    """Return an element; text and attributes pass through `wording.plain`.

    Attribute names: a trailing underscore is dropped (``class_``), an inner one
    becomes a hyphen (``aria_label``). None among the children is left out.
    """
    element = ET.Element(tag, {_key(k): wording.plain(str(v)) for k, v in attributes.items()})
    for child in children:
        if isinstance(child, str):
            _append_text(element, wording.plain(child))
        elif child is not None:
            element.append(child)
    return element


def _key(attribute: str) -> str:
    return attribute.rstrip("_").replace("_", "-")


def _append_text(element: Node, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def verbatim(tag: str, text: str) -> Node:
    """Return an element around our own text, unchanged: for the style sheet alone."""
    element = ET.Element(tag)
    element.text = text
    return element


def to_html_page(root: Node) -> str:
    """Return a whole HTML page."""
    ET.indent(root, " ")
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def to_xml(root: Node) -> str:
    """Return a whole XML document, to be encoded as UTF-8."""
    ET.indent(root, "  ")
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
