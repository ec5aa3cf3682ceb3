"""What the pages are made of: the frame of a document, tables with captions, cells for numbers and verdicts.

A page is one file that asks for nothing: its Content-Security-Policy forbids every source and admits exactly its own
style and script, by their digests. Text of other origin stands in `bdi` elements, so that a name written from right to
left does not turn what stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..evals.results import Figures, TargetMeasured
from .markup import Child, Element, element, html_text, verbatim
from .plots import Point, glyph
from .style import digest_source, page_script, page_style
from .view import beside, group_label, on_debates, span, verdict
from .words import (
    NAME_CHARS_MAX,
    NOTE_CHARS_MAX,
    is_difference,
    measured,
    one_line,
    said,
    said_interval,
    threshold,
    wanted,
)

__all__ = [
    "TARGET_HEADS",
    "bdi",
    "cell",
    "document",
    "interval_cell",
    "many",
    "number_cell",
    "section",
    "table",
    "target_cells",
    "text_cell",
]

TARGET_HEADS: Final = ("target", "on", "arm", "wanted", "known before", "measured", "95 % interval", "result")
_NUMBERS: Final = ("measured", "difference", "rows")


def document(title: str, *body: Child) -> str:
    """A page with madflow's style, script and policy around `body`."""
    policy = (
        f"default-src 'none'; style-src {digest_source(page_style())}; script-src {digest_source(page_script())}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{title} – madflow"),
        verbatim("style", page_style()),
    )
    return html_text(element("html", head, element("body", body, verbatim("script", page_script())), lang="en"))


def section(name: str, title: str, *children: Child) -> Element:
    return element("section", element("h2", title), children, id=name)


def bdi(text: str, limit: int = NAME_CHARS_MAX) -> Element:
    """Text of other origin on one line, which turns nothing around it."""
    return element("bdi", one_line(text, limit))


def many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def table(
    caption: Child,
    heads: Sequence[str],
    rows: Iterable[Element],
    *,
    numbers: Sequence[str] = _NUMBERS,
    below: Sequence[Sequence[str]] = (),
) -> Element:
    """A table with its caption, in a box that scrolls by itself where the table is wider than the page.

    Args:
        numbers: those of `heads` whose columns are set flush right; below: quiet lines under each of `heads`.
    """
    columns = [
        element("th", head, [element("small", text) for text in texts], scope="col", class_=_flush(head, numbers))
        for head, texts in zip(heads, below or [()] * len(heads), strict=True)
    ]
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", columns)),
        element("tbody", rows),
        class_="sorts",
    )
    label = " ".join("".join(made[0].itertext()).split())
    return element("div", made, class_="wide", tabindex="0", role="region", aria_label=label)


def _flush(head: str, numbers: Sequence[str]) -> str | None:
    return "number" if head in numbers else None


def cell(*children: Child, kind: str | None = None) -> Element:
    return element("td", children, class_=kind)


def text_cell(text: str, limit: int = NOTE_CHARS_MAX) -> Element:
    """Prose of other origin; its columns are as wide as a line is read with ease."""
    return cell(bdi(text, limit) if text else "", kind="text")


def number_cell(value: float | None, *, better: int = 0, decimals: int = 4, signed: bool = False) -> Element:
    """A value as it is shown; the cell sorts by the value itself, and last where there is none."""
    made = cell(said(value, better=better, decimals=decimals, signed=signed), kind="number")
    made.set("data-value", "" if value is None else repr(value))
    return made


def interval_cell(
    one: Figures, scale: tuple[float, float], limit: float | None, mark: int, *, decimals: int = 4, signed: bool = False
) -> Element:
    """An interval as a drawing, with its numbers below; it sorts by the lower end."""
    drawn = glyph(Point(0.0, one.value, one.low, one.high), scale, limit, mark) if one.value is not None else None
    numbers = said_interval(one.low, one.high, decimals=decimals, signed=signed)
    made = cell(drawn, element("small", numbers or "none"), kind="interval")
    made.set("data-value", "" if one.low is None else repr(one.low))
    return made


def target_cells(targets: Sequence[TargetMeasured]) -> list[list[Element]]:
    """The cells of each target, under TARGET_HEADS."""
    found = []
    for one in targets:
        limit = threshold(one.target)
        better = limit[0] if limit else measured(one.measure).better
        scale, signed = span([one], [one.target]), is_difference(one.measure)
        found.append(
            [
                element("th", bdi(one.name, 160), _note(one), scope="row", class_="aim"),
                cell(element("bdi", group_label(one.group)), element("small", on) if (on := on_debates(one)) else None),
                cell(element("code", one_line(one.arm))),
                cell(element("bdi", wanted(one.measure, one.target))),
                text_cell(one.known, 300),
                number_cell(one.value, better=better, signed=signed),
                interval_cell(one, scale, limit[1] if limit else None, 2 if one.met else 7, signed=signed),
                _verdict_cell(one),
            ]
        )
    return found


def _note(one: TargetMeasured) -> Element | None:
    return element("small", bdi(one.note, NOTE_CHARS_MAX)) if one.note else None


def _verdict_cell(one: TargetMeasured) -> Element:
    said_as = verdict(one)
    mark = {"met": "✓", "not met": "✗"}.get(said_as, "")
    said_beside = beside(one)
    kind = {"met": "verdict good", "not met": "verdict bad"}.get(said_as, "verdict quiet")
    text = element("span", f"{mark} {said_as}".strip(), class_=kind)
    return cell(text, element("small", bdi(said_beside, 300)) if said_beside else None)
