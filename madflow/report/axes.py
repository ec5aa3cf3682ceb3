"""Axes, text widths and the placing of labels: the geometry of a plot, without a drawing.

Ticks are at 1, 2 or 5 times a power of ten (P. Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990); on a
logarithmic axis at those of 1, 2, 5 that lie in range. Labels of points are placed greedily, at the first of eight
places around the point that touches nothing placed before (the candidate places of E. Imhof, "Positioning names on
maps", The American Cartographer 2, 1975); a label with no free place is left out, since the legend names every point.

The width of a text is not known without its font. It is estimated from the widths of characters in a wide face: a label
may be given too much room, not too little.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Axis", "Box", "fitted", "linear", "logarithmic", "place", "spread", "text_width"]

# Hundredths of an em, of characters in a wide face (DejaVu Sans), rounded up to fives.
_WIDTHS: Final = {
    30: "'IJijl",
    35: " ,./:;\\|",
    40: "()-[]ft·–",
    45: "!r",
    50: '"*_`',
    55: "?csz",
    60: "FLkvxy",
    65: "0123456789$EPSTYabdeghnopqu{}",
    70: "ABCKRVXZ",
    75: "NU",
    80: "&DGHOQ",
    85: "#+<=>^w~≤≥−→",
    90: "M",
    100: "%@Wm…—",
}
_HUNDREDTHS: Final = {char: width for width, chars in _WIDTHS.items() for char in chars}
_OTHER: Final = 80
_STRONG: Final = 1.15


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in the plot's units."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to places.

    Attributes:
        low, high: the values at the ends; start, end: the places of those.
        ticks: values with their labels; log: whether equal factors are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; one beyond an end is put at that end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def linear(
    values: Iterable[float], start: float, end: float, *, count: int = 6, zero: bool = False, floor: float = -math.inf
) -> Axis:
    """An axis a little longer than its values reach.

    Args:
        values: finite; none or one gives an axis around it.
        start, end: places in the plot; count: about how many ticks.
        zero: begins at 0, for bars; floor: never below, e.g. 0 for shares.
    """
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low
    if span <= 1e-9 * max(1.0, abs(high)):
        span = 0.1 * abs(high) or 1.0
        low, high = low - (0 if zero and low == 0 else span / 2), high + span / 2
    pad = 0.06 * (high - low)
    low = low if zero and low == 0 else max(low - pad, min(floor, low))
    high += pad
    step = _nice((high - low) / max(1, count - 1))
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple((n * step, f"{n * step:.{places}f}".replace("-", "−")) for n in range(first, last + 1))
    return Axis(low, high, start, end, ticks)


def logarithmic(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis on which equal factors are equally long. `values`: positive, at least one."""
    known = list(values)
    low, high = min(known), max(known)
    factor = max((high / low) ** 0.06, 1.02)
    low, high = low / factor, high * factor
    steps = (1, 2, 5) if high / low < 1_000 else (1,)
    ticks = [
        (mantissa * 10.0**power, f"{mantissa * 10.0**power:.{max(0, -power)}f}")
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for mantissa in steps
        if low <= mantissa * 10.0**power <= high
    ]
    return Axis(low, high, start, end, tuple(ticks), log=True)


def _nice(step: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `step`, but for a tenth of it."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(mantissa * power for mantissa in (1, 2, 5, 10) if mantissa * power >= 0.9 * step)


def text_width(text: str, size: float, *, strong: bool = False) -> float:
    """About how wide a text is set in `size`, not less than it is in common faces. `strong`: semibold or bold."""

    def hundredths(char: str) -> int:
        if char in _HUNDREDTHS:
            return _HUNDREDTHS[char]
        if unicodedata.combining(char):
            return 0
        return 105 if unicodedata.east_asian_width(char) in "WF" else _OTHER

    return size * (_STRONG if strong else 1.0) * sum(map(hundredths, text)) / 100


def fitted(text: str, size: float, width: float, *, strong: bool = False) -> str:
    """The text, or as much of its beginning as is no wider than `width`, with an ellipsis."""
    if text_width(text, size, strong=strong) <= width:
        return text
    kept = len(text)
    while kept > 0 and text_width(text[:kept].rstrip() + "…", size, strong=strong) > width:
        kept -= 1
    return text[:kept].rstrip() + "…"


def place(
    at: tuple[float, float], size: tuple[float, float], gap: float, taken: Sequence[Box], within: Box
) -> Box | None:
    """Where a label of that (width, height) stands free beside the point, or None. Right and left come first."""
    (x, y), (width, height) = at, size
    middle = height / 2
    spots = (
        (x + gap, y - middle),
        (x - gap - width, y - middle),
        (x - width / 2, y - gap - height),
        (x - width / 2, y + gap),
        (x + 0.75 * gap, y - 0.75 * gap - height),
        (x + 0.75 * gap, y + 0.75 * gap),
        (x - 0.75 * gap - width, y - 0.75 * gap - height),
        (x - 0.75 * gap - width, y + 0.75 * gap),
    )
    for left, top in spots:
        box = Box(left, top, left + width, top + height)
        if box.within(within) and not any(box.touches(other) for other in taken):
            return box
    return None


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in their order, at least `gap` apart, between low and high.

    Where there is not room for all at that distance they are evenly spaced.
    """
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    if not order:
        return []
    if (len(order) - 1) * gap > high - low:
        gap = (high - low) / (len(order) - 1)
    found: list[float] = []
    for index in order:
        found.append(max(wanted[index], found[-1] + gap if found else low))
    ceiling = high
    for rank in range(len(found) - 1, -1, -1):
        found[rank] = min(found[rank], ceiling)
        ceiling = found[rank] - gap
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        places[index] = found[rank]
    return places
