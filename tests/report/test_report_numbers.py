"""What a report says of a number, and where it puts things: rounding, ticks, labels, fronts.

Would catch: a value shown better than it is; a missing value shown as 0; a tick outside its axis or with a wrong label;
labels that touch; a beaten arm on the Pareto front.
"""

import math
from decimal import Decimal
from itertools import pairwise
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import crowded, empty, group, measured

from madflow.report import axes, plots, words
from madflow.report.axes import Box
from madflow.report.markup import element, svg_text
from madflow.report.plots import Point, Series
from madflow.report.reading import results_of
from madflow.report.style import COLOURS, DARK, LIGHT, MARKS, Theme, marker
from madflow.report.view import View

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def number(text: str) -> Decimal:
    return Decimal(text.replace("−", "-").replace(",", ""))


@given(FINITE, st.integers(0, 4))
def test_no_number_is_flattered(value: float, decimals: int) -> None:
    """Would catch rounding to nearest: 0.53496 as 0.535."""
    step, exact = Decimal(1).scaleb(-decimals), Decimal(repr(round(value, 12)))
    down = number(words.said(value, better=1, decimals=decimals))
    up = number(words.said(value, better=-1, decimals=decimals))
    assert down <= exact <= up
    assert exact - down < step
    assert up - exact < step


def test_numbers_as_they_are_shown() -> None:
    """Would catch binary noise shown as a digit, a negative zero, a lost sign, a missing value that looks measured."""
    assert words.said(0.29) == "0.2900"
    assert words.said(0.1 + 0.2, better=-1) == "0.3000"
    assert words.said(0.534996) == "0.5349"
    assert words.said(0.030001, better=-1) == "0.0301"
    assert words.said(-0.0) == "0.0000"
    assert words.said(-0.00001) == "−0.0001"
    assert words.said(0.006, signed=True) == "+0.0060"
    assert words.said(12345.6, decimals=0) == "12,345"
    assert [words.said(value) for value in (None, math.nan, math.inf)] == ["–", "–", "–"]
    assert words.said_interval(0.12341, 0.12341) == "[0.1234, 0.1235]"
    assert words.said_interval(None, 0.5) == ""


def test_targets_are_read() -> None:
    """Would catch a bound read the wrong way round, and a hedge that is left out."""
    assert words.threshold(">= 0.535") == (1, 0.535)
    assert words.threshold("<= .03") == (-1, 0.03)
    assert words.threshold("> 0, the whole interval") == (1, 0.0)
    assert words.threshold("every one") is None
    assert words.hedge(">= 0.5", 0.49, 0.6) == "its interval reaches below"
    assert words.hedge("<= 4", 3.0, 4.1) == "its interval reaches above"
    assert (
        words.hedge(">= 0.5", 0.5, 0.6) == words.hedge("every one", 0.1, 0.2) == words.hedge(">= 1", None, None) == ""
    )
    assert words.wanted("token_share", "<= 0.15") == "token share ≤ 0.15"


def test_texts_are_made_safe() -> None:
    """Would catch an escape sequence, a direction override, a lone surrogate or 10 kB of name in a report."""
    assert words.clean("a\x1b[31m\u202eb\ud800\u0000\tc\u00a0d\n") == "a\ufffd[31m\ufffdb\ufffd\ufffd    c d\n"
    assert words.one_line(" a \n b ") == "a b"
    assert len(words.one_line("x" * 10_000)) == words.NAME_CHARS_MAX
    assert words.measured("interception:0.216").label == "wrong consensus intercepted at 0.216 false flags"
    assert words.measured("own_measure").label == "own measure"
    assert words.measured("oracle:1 − that of vote").label == "oracle in round 1 − that of vote"


@given(st.lists(FINITE, max_size=6), st.booleans())
def test_linear_axes(values: list[float], zero: bool) -> None:
    """Would catch ticks outside the axis, too few or too many, or labelled with another number."""
    axis = axes.linear(values, 300, 20, zero=zero)
    assert 2 <= len(axis.ticks) <= 12
    for value, text in axis.ticks:
        assert axis.low <= value <= axis.high
        assert float(number(text)) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert all(axis.low <= value <= axis.high for value in values)
    assert all(20 - 1e-6 <= axis(value) <= 300 + 1e-6 for value in values)
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=6))
def test_logarithmic_axes(values: list[float]) -> None:
    """Would catch an axis on which equal factors are not equally long, or a wrong label."""
    axis = axes.logarithmic(values, 0, 100)
    assert all(axis.low <= value <= axis.high for value in values)
    assert all(float(text) == pytest.approx(value) for value, text in axis.ticks)
    middle = math.sqrt(axis.low * axis.high)
    assert axis(middle) == pytest.approx(50)


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(1, 30))
def test_spread_places(wanted: list[float], gap: float) -> None:
    """Would catch names of curves that lie on each other, beside the panel, or in another order than their curves."""
    found = axes.spread(wanted, gap, 0, 100)
    least = min(gap, 100 / max(1, len(wanted) - 1))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in found)
    assert all(b - a >= least - 1e-6 for a, b in pairwise(sorted(found)))
    pairs = list(zip(wanted, found, strict=True))
    assert all(a[1] < b[1] for a in pairs for b in pairs if a[0] < b[0])
    if len(wanted) == 1:
        assert found == wanted


@given(st.text(max_size=60), st.floats(10, 200))
def test_cut_texts_fit(text: str, width: float) -> None:
    """Would catch a title that runs out of its panel."""
    assert axes.text_width(axes.fitted(text, 11, width), 11) <= max(width, axes.text_width("…", 11))


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_front_against_brute_force(places: dict[str, tuple[int, int]]) -> None:
    """Would catch a beaten arm on the front, and an unbeaten one off it."""
    points = {name: Point(x, y) for name, (x, y) in places.items()}
    best = plots.front(points)
    for name, (x, y) in places.items():
        beaten = any((a <= x and b >= y) and (a, b) != (x, y) for a, b in places.values())
        assert (name in best) == (not beaten)


def texts(drawn: Element) -> list[Box]:
    """The room each label of a trade-off takes: points' names are the texts of class label."""
    found = []
    for one in drawn.iter("text"):
        kind = one.get("class", "").split()
        if "label" in kind:
            middle, width = float(one.get("x", "0")), axes.text_width(one.text or "", 11, strong="strong" in kind)
            top = float(one.get("y", "0")) - 10.5
            found.append(Box(middle - width / 2 + 0.1, top + 0.1, middle + width / 2 - 0.1, top + 13.9))
    return found


@pytest.mark.parametrize("arms", [1, 2, 9, 30, 40])
def test_labels_never_touch(arms: int) -> None:
    """Would catch names on names, names out of the panel, and a panel of few arms that names none."""
    for _, series in View(results_of(crowded(arms))).tradeoffs:
        found = texts(plots.tradeoff("title", series))
        assert not any(a.touches(b) for n, a in enumerate(found) for b in found[:n])
        assert all(box.within(Box(0, 0, plots.WIDTH, plots.HEIGHT)) for box in found)
        assert len(found) >= min(arms, 5)


def test_marks_differ() -> None:
    """Would catch two arms with one colour and shape."""
    shapes = {(one.tag, one.get("points"), one.get("class")) for one in (marker(n, 0, 0) for n in range(MARKS))}
    assert len(shapes) == MARKS == COLOURS**2


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrasts(theme: Theme) -> None:
    """Would catch a colour that cannot be told from the paper (WCAG 2.2: texts 4.5:1, drawings 3:1)."""
    assert min(contrast(colour, theme.paper) for colour in (theme.ink, theme.quiet)) >= 4.5
    assert min(contrast(colour, theme.paper) for colour in theme.series) >= 3
    assert all(contrast(theme.series[role], theme.paper) >= 4.5 for role in (0, 2, 7)), "links, good and bad are texts"


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        lights = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * lights[0] + 0.7152 * lights[1] + 0.0722 * lights[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    "points", [(), (Point(1, 0.5),), (Point(1, 0.0), Point(2, 0.0)), (Point(1, 0.5, 0.4, 0.6), Point(9, 0.1))]
)
def test_odd_numbers_of_points_are_drawn(points: tuple[Point, ...]) -> None:
    """Would catch a division by zero on one point, equal points, or none."""
    series = [Series("one", 0, points)] if points else []
    assert len(plots.curves("t", series, "share").findall(".//circle")) == len(points)
    assert len(plots.bars("t", series, "share").findall(".//rect")) == len(points)
    one = [Series("one", 0, points[:1])] if points else []
    assert len(plots.tradeoff("t", one).findall(".//circle")) == len(points[:1])


def test_points_on_one_spot_share_a_label() -> None:
    """Would catch an arm that is hidden below another one and named nowhere in the drawing."""
    series = [Series(name, mark, (Point(0.1, 0.5),)) for mark, name in enumerate(("vote", "lead"))]
    labels = [one.text for one in plots.tradeoff("t", series).iter("text") if "label" in (one.get("class") or "")]
    assert labels == ["vote, lead"]


def test_a_matrix_has_the_groups_that_were_measured() -> None:
    """Would catch a column of dashes for a group on which a measure makes no sense."""
    case = empty() | {"measures": [measured("a", "accuracy", 0.5), measured("a", "calls", 1.0, on=group("other"))]}
    (matrix,) = View(results_of(case)).matrices
    assert (matrix.measure, matrix.groups, [arm for arm, _ in matrix.rows]) == ("accuracy", ("attack, clean",), ["a"])


def test_attributes_are_cleaned() -> None:
    """Would catch a control character that ends up in an attribute, where XML forbids it."""
    drawn = element("g", "x\x00", title="a\x1b\u202eb", data_value=1.25)
    assert svg_text(drawn).count("\ufffd") == 3
    assert drawn.get("data-value") == "1.2"
