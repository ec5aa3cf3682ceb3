"""The drawings of a report: small panels, one per group of rows, each an svg element of its own.

- The trade-off: accuracy against token share, a point per arm with its intervals, and the Pareto front over the
  values: the arms that none other beats in both. Points on it are filled, others hollow.
- Curves: shares per round (accuracy, unanimity) with their intervals as bands.
- Flips: honest votes that turned from right to wrong and from wrong to right, per round.
- A glyph: one value with its interval and the line it is compared with, to stand in a table's cell.

Every drawing has a title and a description that say what it shows; every number drawn also stands in a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from .axes import Axis, Box, fitted, linear, logarithmic, place, spread, text_width
from .markup import Element, element
from .style import marker
from .words import known, said, said_interval

__all__ = ["HEIGHT", "WIDTH", "Point", "Series", "bars", "curves", "front", "glyph", "key", "swatch", "tradeoff"]

WIDTH: Final = 420
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 34, 46
_SIZE: Final = 11.0
_LINE: Final = 14.0
_LABEL_MAX: Final = 150.0
_GLYPH_WIDTH, _GLYPH_HEIGHT = 150, 18


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a place, with its interval; x_low and x_high where the place has one, too."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None
    x_low: float | None = None
    x_high: float | None = None

    def heights(self) -> list[float]:
        return [at for at in (self.value, known(self.low), known(self.high)) if at is not None]

    def places(self) -> list[float]:
        return [at for at in (self.x, known(self.x_low), known(self.x_high)) if at is not None]


@dataclass(frozen=True, slots=True)
class Series:
    """Points under one name. `mark`: the number of its colour and shape."""

    name: str
    mark: int
    points: tuple[Point, ...]


def front(points: Mapping[str, Point]) -> list[str]:
    """Names of the points that no other one beats: none has as high a value for less, or a higher one for as much."""
    return [
        name
        for name, one in points.items()
        if not any(
            (other.x <= one.x and other.value > one.value) or (other.x < one.x and other.value >= one.value)
            for other in points.values()
        )
    ]


def tradeoff(title: str, series: Sequence[Series]) -> Element:
    """Accuracy (the higher, the better) against token share (the more to the left, the cheaper): a point a series."""
    points = {one.name: one.points[0] for one in series if one.points}
    marks = {one.name: one.mark for one in series}
    best = front(points)
    places = [at for point in points.values() for at in point.places()]
    far = places and min(places) > 0 and max(places) / min(places) >= 4
    across = (logarithmic if far else linear)(places, _LEFT, WIDTH - _RIGHT)
    upright = linear([at for p in points.values() for at in p.heights()], HEIGHT - _BOTTOM, _TOP)
    drawn: list[Element] = [*_frame(across, upright, f"token share{' (log scale)' if far else ''}", "accuracy")]
    stairs = _stairs([points[name] for name in best], across, upright)
    if stairs:
        drawn.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in stairs), class_="front"))
    for name, point in points.items():
        drawn += _whiskers(point, across(point.x), upright, f"k{marks[name]}", across)
    for name, point in points.items():
        dot = marker(marks[name], across(point.x), upright(point.value), hollow=name not in best)
        share = f"{said(point.x, better=-1)} {said_interval(point.x_low, point.x_high)}".strip()
        about = f"{name}: accuracy {said(point.value)} {said_interval(point.low, point.high)}".strip()
        drawn.append(element("g", element("title", f"{about}, token share {share}"), dot))
    drawn += _names(points, best, across, upright, [Box(*box) for box in _boxes(stairs)])
    listed = "; ".join(f"{name} {said(p.value)} at {said(p.x, better=-1)}" for name, p in points.items())
    return _plot(title, f"Accuracy against token share. {listed or 'Nothing was measured.'}", drawn)


def curves(title: str, series: Sequence[Series], about: str) -> Element:
    """Shares per round: a line a series with its band, named at its end."""
    points = [point for one in series for point in one.points]
    room = min(130.0, max((text_width(one.name, _SIZE, strong=True) for one in series), default=0) + 14)
    right = WIDTH - _RIGHT - room
    across, inset = _rounds_axis(points, _LEFT, right, 22.0)
    upright = linear([at for p in points for at in p.heights()], HEIGHT - _BOTTOM, _TOP, floor=0.0)
    drawn = [*_frame(across, upright, "round", about, right=right)]
    ends = spread([upright(one.points[-1].value) for one in series], _LINE, _TOP + 4, HEIGHT - _BOTTOM - 4)
    for one, end in zip(series, ends, strict=True):
        drawn += _curve(one, across, upright)
        drawn.append(
            element(
                "text",
                fitted(one.name, _SIZE, room - 8, strong=True),
                x=right - inset + 10,
                y=end + 4,
                class_="label strong",
            )
        )
    listed = "; ".join(f"{one.name}: {', '.join(said(p.value) for p in one.points)}" for one in series)
    return _plot(title, f"Shares per round. {listed or 'Nothing was measured.'}", drawn)


def bars(title: str, series: Sequence[Series], about: str) -> Element:
    """Shares per round side by side from 0: a bar a series with its interval. Series of an even mark are hollow."""
    points = [point for one in series for point in one.points]
    across, _ = _rounds_axis(points, _LEFT, WIDTH - _RIGHT, WIDTH)
    across = replace(across, ticks=tuple((at, f"{text} → {said(at + 1, decimals=0)}") for at, text in across.ticks))
    upright = linear([at for p in points for at in p.heights()], HEIGHT - _BOTTOM, _TOP, zero=True)
    drawn = [*_frame(across, upright, "from round to round", about)]
    rounds = max(1, len({point.x for point in points}))
    wide = min(34.0, 0.7 * (WIDTH - _RIGHT - _LEFT) / rounds / max(1, len(series)))
    for number, one in enumerate(series):
        for point in one.points:
            middle = across(point.x) + (number - (len(series) - 1) / 2) * (wide + 2)
            top, base = upright(max(point.value, 0.0)), upright(min(point.value, 0.0))
            text = f"{one.name}, round {said(point.x, decimals=0)}: {said(point.value)}"
            shown = f"{text} {said_interval(point.low, point.high)}".strip()
            kind = f"k{one.mark} {'solid' if one.mark % 2 else 'hollow'}"
            box = element("rect", x=middle - wide / 2, y=top, width=wide, height=max(base - top, 0.5), class_=kind)
            drawn.append(element("g", element("title", shown), box))
            drawn += _whiskers(point, middle, upright, "ink")
    drawn.append(_line(_LEFT, upright(0.0), WIDTH - _RIGHT, upright(0.0), "zero"))
    listed = "; ".join(f"{one.name}: {', '.join(said(p.value) for p in one.points)}" for one in series)
    return _plot(title, f"Shares per round. {listed or 'Nothing was measured.'}", drawn)


def glyph(point: Point, scale: tuple[float, float], limit: float | None, mark: int) -> Element:
    """A value with its interval on a line between two ends, and a bar at the `limit` it is compared with."""
    low, high = scale
    axis = Axis(low, high if high > low else low + 1.0, 6, _GLYPH_WIDTH - 6, ())
    middle = _GLYPH_HEIGHT / 2
    drawn = [_line(0, middle, _GLYPH_WIDTH, middle, "grid")]
    if limit is not None:
        drawn.append(_line(axis(limit), 1, axis(limit), _GLYPH_HEIGHT - 1, "axis limit"))
    if known(point.low) is not None and known(point.high) is not None:
        drawn.append(_line(axis(point.low or 0.0), middle, axis(point.high or 0.0), middle, f"k{mark} stroke curve"))
    drawn.append(element("circle", cx=axis(point.value), cy=middle, r=4, class_=f"k{mark} solid"))
    return element(
        "svg",
        drawn,
        class_="plot glyph",
        viewBox=f"0 0 {_GLYPH_WIDTH} {_GLYPH_HEIGHT}",
        width=_GLYPH_WIDTH,
        height=_GLYPH_HEIGHT,
        aria_hidden="true",
    )


def key(mark: int, *, bar: bool = False) -> Element:
    """The mark of a series, or the look of its bars, to stand before its name in a legend."""
    dot = swatch(mark, 8, 8) if bar else marker(mark, 8, 8)
    return element("svg", dot, class_="plot key", viewBox="0 0 16 16", width=16, height=16, aria_hidden="true")


def swatch(mark: int, x: float, y: float) -> Element:
    """The look of a bar, around (x, y), for a legend."""
    return element("rect", x=x - 5, y=y - 5, width=10, height=10, class_=f"k{mark} {'solid' if mark % 2 else 'hollow'}")


def _plot(title: str, about: str, drawn: Sequence[Element]) -> Element:
    return element(
        "svg",
        element("title", title),
        element("desc", about),
        element("text", fitted(title, 12.5, WIDTH - 24, strong=True), x=12, y=19, class_="name"),
        drawn,
        class_="plot panel",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
    )


def _frame(across: Axis, upright: Axis, below: str, beside: str, right: float = WIDTH - _RIGHT) -> Iterator[Element]:
    bottom = HEIGHT - _BOTTOM
    for value, text in upright.ticks:
        yield _line(_LEFT, upright(value), right, upright(value), "grid")
        yield element("text", text, x=_LEFT - 7, y=upright(value) + 4, text_anchor="end", class_="quiet")
    for value, text in _legible(across):
        yield _line(across(value), bottom, across(value), bottom + 4, "axis")
        yield element("text", text, x=across(value), y=bottom + 17, text_anchor="middle", class_="quiet")
    yield _line(_LEFT, bottom, right, bottom, "axis")
    yield element("text", below, x=(_LEFT + right) / 2, y=HEIGHT - 10, text_anchor="middle", class_="quiet")
    middle = (_TOP + bottom) / 2
    turned = f"rotate(-90 12 {middle:.0f})"
    yield element("text", beside, x=12, y=middle + 4, text_anchor="middle", class_="quiet", transform=turned)


def _legible(axis: Axis) -> list[tuple[float, str]]:
    """The ticks whose labels do not touch, from the left."""
    found: list[tuple[float, str]] = []
    free = 0.0
    for value, text in axis.ticks:
        half = text_width(text, _SIZE) / 2
        if axis(value) - half >= free and axis(value) + half <= WIDTH:
            found.append((value, text))
            free = axis(value) + half + 6
    return found


def _rounds_axis(points: Sequence[Point], left: float, right: float, most: float) -> tuple[Axis, float]:
    """An axis of whole rounds with half a step, or `most`, at each end, and how long that is."""
    rounds = sorted({point.x for point in points}) or [1.0]
    first, last = rounds[0], rounds[-1]
    inset = min(most, (right - left) / (2 * (last - first + 1)))
    ticks = tuple((at, said(at, decimals=0)) for at in rounds)
    return Axis(first, max(last, first + 1e-9), left + inset, right - inset, ticks), inset


def _curve(one: Series, across: Axis, upright: Axis) -> Iterator[Element]:
    at = [(across(p.x), upright(p.value)) for p in one.points]
    banded = [p for p in one.points if known(p.low) is not None and known(p.high) is not None]
    if len(banded) > 1:
        above = [f"{across(p.x):.1f},{upright(p.high or 0.0):.1f}" for p in banded]
        below = [f"{across(p.x):.1f},{upright(p.low or 0.0):.1f}" for p in reversed(banded)]
        yield element("polygon", points=" ".join(above + below), class_=f"k{one.mark} area band")
    else:
        for point in banded:
            yield from _whiskers(point, across(point.x), upright, f"k{one.mark}")
    line = f"k{one.mark} stroke curve{' dashed' if one.mark % 2 else ''}"
    yield element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in at), class_=line)
    for point, (x, y) in zip(one.points, at, strict=True):
        text = f"{one.name}, round {said(point.x, decimals=0)}: {said(point.value)}"
        shown = f"{text} {said_interval(point.low, point.high)}".strip()
        yield element("g", element("title", shown), marker(one.mark, x, y, 4.5))


def _whiskers(point: Point, x: float, upright: Axis, colour: str, across: Axis | None = None) -> Iterator[Element]:
    low, high = known(point.low), known(point.high)
    if low is not None and high is not None:
        yield _line(x, upright(low), x, upright(high), f"{colour} stroke whisker")
    left, right = known(point.x_low), known(point.x_high)
    if across is not None and left is not None and right is not None:
        y = upright(point.value)
        yield _line(across(left), y, across(right), y, f"{colour} stroke across")


def _stairs(best: Sequence[Point], across: Axis, upright: Axis) -> list[tuple[float, float]]:
    """Corners of the line that shows what can be had for at most so many tokens."""
    ordered = sorted(best, key=lambda point: (point.x, point.value))
    if not ordered:
        return []
    steps = [(across(ordered[0].x), upright(ordered[0].value))]
    for before, after in pairwise(ordered):
        steps += [(across(after.x), upright(before.value)), (across(after.x), upright(after.value))]
    return [*steps, (across.end, upright(ordered[-1].value))]


def _boxes(corners: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float, float, float]]:
    """The room that each straight piece of a line takes."""
    for (x1, y1), (x2, y2) in pairwise(corners):
        yield min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1


def _names(
    points: Mapping[str, Point], best: Sequence[str], across: Axis, upright: Axis, lines: list[Box]
) -> Iterator[Element]:
    """Labels that touch no point and no other label, and where there is room no line, those of the front first.

    Points on one spot share a label; one that finds no place is only in the legend.

    Args:
        lines: what is drawn beside the points' own intervals; those are added to it.
    """
    taken: list[Box] = []
    for point in points.values():
        x, y = across(point.x), upright(point.value)
        taken.append(Box(x - 6, y - 6, x + 6, y + 6))
        low, high = known(point.low), known(point.high)
        if low is not None and high is not None:
            lines.append(Box(x - 1, upright(high), x + 1, upright(low)))
        left, right = known(point.x_low), known(point.x_high)
        if left is not None and right is not None:
            lines.append(Box(across(left), y - 1, across(right), y + 1))
    within = Box(_LEFT + 2, _TOP, WIDTH - 2, HEIGHT - _BOTTOM - 2)
    here: dict[tuple[int, int], list[str]] = {}
    for name in [*best, *sorted(points.keys() - set(best), key=lambda name: (-points[name].value, name))]:
        here.setdefault((round(across(points[name].x)), round(upright(points[name].value))), []).append(name)
    for name, *hidden in here.values():
        point, text = points[name], fitted(", ".join([name, *hidden]), _SIZE, _LABEL_MAX)
        x, y, width = across(point.x), upright(point.value), text_width(text, _SIZE, strong=name in best)
        box = place((x, y), (width, _LINE), 9, taken + lines, within)
        box = box or place((x, y), (width, _LINE), 9, taken, within)
        if box is not None:
            taken.append(box)
            yield element(
                "text",
                text,
                x=(box.left + box.right) / 2,
                y=box.top + 10.5,
                text_anchor="middle",
                class_="label strong" if name in best else "label",
            )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)
