"""Drawings as files: all panels of one kind on one sheet, with a heading and, where points need it, a legend.

A sheet is an SVG file that needs nothing else: it holds its style, and no address but the name of its format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .axes import fitted, text_width
from .markup import Element, element, svg_text, verbatim
from .plots import HEIGHT, WIDTH, bars, curves, swatch, tradeoff
from .style import marker, plot_style
from .view import View
from .words import clean, one_line

__all__ = ["SHEETS", "panels", "sheets"]

SHEETS: Final = {
    "accuracy-tokens.svg": "Accuracy against tokens",
    "rounds.svg": "Round by round",
    "flips.svg": "Answers that turned",
}
_COLUMNS_MAX: Final = 3
_GAP: Final = 16
_HEAD: Final = 40
_ROW: Final = 20


def panels(view: View, sheet: str) -> list[Element]:
    """The drawings of one sheet, a group each; none where nothing was measured for it."""
    if sheet == "accuracy-tokens.svg":
        return [tradeoff(label, series) for label, series in view.tradeoffs]
    if sheet == "rounds.svg":
        return [curves(label, series, "share of debates") for label, series in view.by_round(flips=False)]
    return [bars(label, series, "share of votes") for label, series in view.by_round(flips=True)]


def sheets(view: View) -> dict[str, str]:
    """File name to SVG, for each sheet that has a drawing."""
    found = {}
    for name, title in SHEETS.items():
        drawn = panels(view, name)
        if drawn:
            legend = _legend(view, name)
            found[name] = svg_text(
                _sheet(f"{title}: {one_line(view.results.title)}", drawn, legend, name == "flips.svg")
            )
    return found


def _legend(view: View, sheet: str) -> Sequence[tuple[int, str]]:
    if sheet == "accuracy-tokens.svg":
        return [(view.mark(arm), _named(arm, title)) for arm, title in view.plotted().items()]
    return [] if sheet == "rounds.svg" else [(1, "right → wrong"), (0, "wrong → right")]


def _named(arm: str, title: str) -> str:
    short = one_line(arm)
    return short if title == short else f"{short}: {title}"


def _sheet(title: str, drawn: Sequence[Element], legend: Sequence[tuple[int, str]], bars_drawn: bool) -> Element:
    columns = min(_COLUMNS_MAX, len(drawn))
    width = columns * WIDTH + (columns - 1) * _GAP + 2 * _GAP
    keys, top = _legend_rows(legend, width), _HEAD
    body: list[Element] = [
        element("text", fitted(title, 17, width - 2 * _GAP, strong=True), x=_GAP, y=27, class_="head")
    ]
    for row in keys:
        for left, mark, text in row:
            body.append((swatch if bars_drawn else marker)(mark, left + 6, top + 8))
            body.append(element("text", text, x=left + 18, y=top + 12))
        top += _ROW
    top += 6 if keys else 0
    for number, panel in enumerate(drawn):
        panel.set("x", str(_GAP + number % columns * (WIDTH + _GAP)))
        panel.set("y", str(top + number // columns * (HEIGHT + _GAP)))
        body.append(panel)
    height = top + -(-len(drawn) // columns) * (HEIGHT + _GAP)
    return element(
        "svg",
        element("title", title),
        element("desc", f"{len(drawn)} panels"),
        verbatim("style", plot_style()),
        element("rect", width=width, height=height, class_="paper"),
        body,
        class_="plot",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
    )


def _legend_rows(legend: Sequence[tuple[int, str]], width: float) -> list[list[tuple[float, int, str]]]:
    """Entries side by side, and below where the sheet ends: rows of (left, mark, text)."""
    rows: list[list[tuple[float, int, str]]] = []
    left = float(width)
    for mark, text in legend:
        shown = fitted(clean(text), 11, width - 2 * _GAP - 30)
        needed = text_width(shown, 11) + 18 + 22
        if left + needed > width - _GAP:
            rows.append([])
            left = float(_GAP)
        rows[-1].append((left, mark, shown))
        left += needed
    return rows
