"""Elements of HTML and SVG, so that no text is ever pasted into markup.

Every text and attribute goes through one function, which cleans it, and through the standard library's serialiser,
which escapes it. A report's own style and script come from files of this package, and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element, tostring

from .words import clean

__all__ = ["Child", "Element", "element", "html_text", "svg_text", "verbatim"]

Child: TypeAlias = "str | Element | Iterable[Child] | None"
_INLINE: Final = frozenset(("a", "abbr", "b", "bdi", "button", "code", "small", "span", "strong", "tspan", "br", "pre"))
_SVG: Final = "http://www.w3.org/2000/svg"


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """One element with what it holds.

    Args:
        children: texts, elements, or iterables of them; None is left out.
        attributes: `class_` is class, `text_anchor` is text-anchor; numbers have one decimal; None is left out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), clean(value) if isinstance(value, str) else _number(value))
    for child in _flat(children):
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + clean(child)
        else:
            made.text = (made.text or "") + clean(child)
    made.tail = None if tag in _INLINE else "\n"
    return made


def verbatim(tag: str, text: str) -> Element:
    """A style or script element with text of this package's own; it is not cleaned, so that its digest stays true."""
    made = Element(tag)
    made.text, made.tail = text, "\n"
    return made


def html_text(root: Element) -> str:
    """A whole HTML document."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html")


def svg_text(root: Element) -> str:
    """A whole SVG document that stands alone. `root` is an svg element; it is given the namespace that HTML implies."""
    root.set("xmlns", _SVG)
    return tostring(root, encoding="unicode", method="xml")


def _flat(children: Iterable[Child]) -> Iterator[str | Element]:
    for child in children:
        if isinstance(child, str | Element):
            yield child
        elif child is not None:
            yield from _flat(child)


def _number(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
