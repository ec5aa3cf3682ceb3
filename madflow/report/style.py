"""Colours and shapes of the plots, and the style of the page.

A point is told by its shape as well as by its colour: eight of each, so combined that 64 arms differ. Colours hold a
contrast of at least 3:1 with the paper they are drawn on, texts 4.5:1 (WCAG 2.2, 1.4.3 and 1.4.11), light and dark;
tests/report measures it. In a stand-alone SVG the colours are written out twice, since not every program that reads SVG
knows CSS variables; one that knows no media queries shows the light ones.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from .markup import Element, element

__all__ = [
    "COLOURS",
    "DARK",
    "LIGHT",
    "MARKS",
    "Theme",
    "digest_source",
    "marker",
    "page_script",
    "page_style",
    "plot_style",
]


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of light or dark: of paper, of text, of quiet text, of hairlines; and those of series."""

    paper: str
    ink: str
    quiet: str
    line: str
    series: tuple[str, ...]


LIGHT: Final = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    quiet="#57606a",
    line="#d5dae0",
    series=("#0067a5", "#b84a00", "#00734f", "#9c2f83", "#7d6100", "#4b3fb5", "#5c5c5c", "#a01c3c"),
)
DARK: Final = Theme(
    paper="#14171b",
    ink="#e8eaed",
    quiet="#a3abb5",
    line="#363c44",
    series=("#58b5ec", "#f2a03d", "#35c79a", "#e38fd0", "#e9dc55", "#a9a2ff", "#c4c4c4", "#ff8a94"),
)
COLOURS: Final = len(LIGHT.series)
MARKS: Final = COLOURS * COLOURS


def marker(index: int, x: float, y: float, radius: float = 5.0, *, hollow: bool = False) -> Element:
    """The mark of series `index` (0-based; from 64 on they repeat), around (x, y)."""
    shape = (index + index // COLOURS) % COLOURS
    kind = f"k{index % COLOURS} {'hollow' if hollow else 'solid'}"
    if shape == 0:
        return element("circle", cx=x, cy=y, r=radius, class_=kind)
    points = " ".join(f"{x + a * radius:.1f},{y + b * radius:.1f}" for a, b in _outline(shape))
    return element("polygon", points=points, class_=kind)


def _outline(shape: int) -> list[tuple[float, float]]:
    if shape == 1:
        return [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    if shape == 2:
        return [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]
    if shape in (3, 4):
        up = 1 if shape == 3 else -1
        return [(0, -1.15 * up), (1.1, 0.85 * up), (-1.1, 0.85 * up)]
    if shape in (5, 6):
        cross = [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)]
        cross += [(-a, -b) for a, b in cross]
        turned = [((a - b) * math.sqrt(0.5), (a + b) * math.sqrt(0.5)) for a, b in cross]
        return cross if shape == 5 else turned
    turns = [math.pi * (n / 5 - 0.5) for n in range(10)]
    return [
        (math.cos(turn) * (1.35 if n % 2 == 0 else 0.6), math.sin(turn) * (1.35 if n % 2 == 0 else 0.6))
        for n, turn in enumerate(turns)
    ]


@cache
def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def plot_style() -> str:
    """The rules that drawings need, for light and, where the reader prefers it, dark."""
    dark = _rules(DARK)
    return f"{_file('plot.css')}{_rules(LIGHT)}@media (prefers-color-scheme: dark) {{\n{dark}}}\n" + (
        f"@media print {{\n{_rules(LIGHT)}}}\n"
    )


def _rules(theme: Theme) -> str:
    rules: Mapping[str, str] = {
        ".plot text": f"fill: {theme.ink}; stroke: {theme.paper}",
        ".plot .quiet": f"fill: {theme.quiet}",
        ".plot .paper": f"fill: {theme.paper}",
        ".plot .grid": f"stroke: {theme.line}",
        ".plot .axis, .plot .front, .plot .zero": f"stroke: {theme.quiet}",
        ".plot .hollow": f"fill: {theme.paper}",
        ".plot .solid": f"stroke: {theme.paper}",
        ".plot .ink": f"stroke: {theme.ink}; fill: {theme.ink}",
    }
    found = [f"{selector} {{ {body}; }}\n" for selector, body in rules.items()]
    for number, colour in enumerate(theme.series):
        found.append(f".plot .k{number}.solid, .plot .k{number}.area {{ fill: {colour}; }}\n")
        found.append(f".plot .k{number}.hollow, .plot .k{number}.stroke {{ stroke: {colour}; }}\n")
    return "".join(found)


def page_style() -> str:
    """The page's whole style: its own, and that of the drawings in it."""
    themes = ((LIGHT, ""), (DARK, "(prefers-color-scheme: dark)"), (LIGHT, "print"))
    colours = "".join(_variables(theme, media) for theme, media in themes)
    return f"{colours}{_file('page.css')}{plot_style()}"


def _variables(theme: Theme, media: str) -> str:
    rule = f":root {{ --paper: {theme.paper}; --ink: {theme.ink}; --quiet: {theme.quiet}; --line: {theme.line}; "
    rule += f"--good: {theme.series[2]}; --bad: {theme.series[7]}; --link: {theme.series[0]}; }}\n"
    return f"@media {media} {{ {rule}}}\n" if media else rule


def page_script() -> str:
    """The page's only script: it makes column headers into buttons that sort."""
    return _file("page.js")


def digest_source(text: str) -> str:
    """The source expression by which a Content-Security-Policy admits exactly this text (CSP 3, hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
