"""The tables of a report for a terminal: what the page says first, then every measure.

Texts go in as `Text`, never as markup, so that no name can style or link anything.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ..errors import ConfigError
from ..evals.results import Figures, Results
from .reading import results_of
from .view import Matrix, Table, View, beside, cell_key, group_label, met_of, on_debates, verdict
from .words import (
    DASH,
    NOTE_CHARS_MAX,
    is_difference,
    measured,
    one_line,
    said,
    said_interval,
    threshold,
    wanted,
)

__all__ = ["WIDTH_MIN", "text_tables"]

WIDTH_MIN: Final = 60
_STYLES: Final = {"met": "green", "not met": "red"}
_COLUMN: Final = 21  # of a number with its interval below


def text_tables(
    results: Results | Mapping[str, Any], *, width: int = 120, colour: bool = False, everything: bool = False
) -> str:
    """One suite as text: its targets, its main measures on all groups, what failed, and its notes.

    Args:
        everything: also comparisons, all other measures, and what the recordings hold.
        width: columns of the terminal, at least 60; a table with more columns than fit goes on below.
        colour: with ANSI colours for met and not met.

    Raises:
        ConfigError: a width below 60, or a mapping that is no results.json.
    """
    if width < WIDTH_MIN:
        raise ConfigError(f"tables need {WIDTH_MIN} columns (width={width}); widen the terminal")
    view = View(results_of(results))
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None, legacy_windows=False
    )
    told = view.results
    console.print(Text(one_line(told.title or told.suite, 200), style="bold"))
    console.print(Text(f"{one_line(told.suite)}, {one_line(told.created_at)}, code {one_line(told.code.digest, 12)}"))
    grids = [*_targets(view), *(part for one in view.matrices for part in _matrix(view, one, width))]
    if everything:
        grids += [*_comparisons(view), *(part for one in view.tables for part in _measures(view, one, width))]
        grids += _recorded(view)
    for grid in grids:
        console.print()
        console.print(grid)
    for target in told.targets:
        if target.note:
            console.print(Text(f"{one_line(target.name, 160)}: {one_line(target.note, NOTE_CHARS_MAX)}"))
    for one in told.failed:
        console.print(Text(f"failed: {one_line(one.key, 200)}: {one_line(one.error, NOTE_CHARS_MAX)}", style="red"))
    for note in told.notes:
        console.print(Text(f"note: {one_line(note, NOTE_CHARS_MAX)}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _grid(title: str, heads: Iterable[tuple[str, bool]]) -> Grid:
    """A table with a title. `heads`: names, and whether their column holds numbers."""
    made = Grid(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, number in heads:
        made.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    return made


def _targets(view: View) -> list[Grid]:
    targets = view.results.targets
    if not targets:
        return []
    made = _grid(
        met_of(targets),
        (("target", False), ("on", False), ("arm", False), ("wanted", False), ("measured", True), ("result", False)),
    )
    for one in targets:
        limit = threshold(one.target)
        better, signed = limit[0] if limit else measured(one.measure).better, is_difference(one.measure)
        came, why, on = verdict(one), beside(one), on_debates(one)
        made.add_row(
            Text(one_line(one.name, 160)),
            Text(f"{group_label(one.group)}, {on}" if on else group_label(one.group)),
            Text(one_line(one.arm)),
            Text(wanted(one.measure, one.target)),
            _stacked(said(one.value, better=better, signed=signed), said_interval(one.low, one.high, signed=signed)),
            Text(f"{came}; {why}" if why else came, style=_STYLES.get(came, "")),
        )
    return [made]


def _comparisons(view: View) -> list[Grid]:
    found = []
    for group, label in view.groups.items():
        here = [one for one in view.results.comparisons if cell_key(one.group) == group]
        if not here:
            continue
        made = _grid(
            f"{label}: arm − other, the same questions drawn for both",
            (("arm", False), ("against", False), ("measure", False), ("difference", True)),
        )
        order = list(dict.fromkeys(one.measure for one in here))
        for one in sorted(here, key=lambda one: order.index(one.measure)):
            about = measured(one.measure)
            value = said(one.value, better=about.better, signed=True)
            made.add_row(
                Text(one_line(one.arm)),
                Text(one_line(one.against)),
                Text(about.label),
                _stacked(value, said_interval(one.low, one.high, signed=True), beside=True),
            )
        found.append(made)
    return found


def _matrix(view: View, one: Matrix, width: int) -> list[Grid]:
    about = measured(one.measure)
    rows = [(arm, [_cell(cell, about.better, view.decimals(one.measure)) for cell in row]) for arm, row in one.rows]
    return _cut(about.label, one.groups, rows, width)


def _measures(view: View, one: Table, width: int) -> list[Grid]:
    heads = [measured(name).label for name in one.measures]
    kinds = [(name, measured(name).better, view.decimals(name)) for name in one.measures]
    rows = [
        (arm, [_cell(row.get(name), better, decimals) for name, better, decimals in kinds]) for arm, row in one.rows
    ]
    return _cut(f"{one.group}: {one.family.lower()}", heads, rows, width)


def _cell(found: Figures | None, better: int, decimals: int) -> Text:
    if found is None:
        return Text(DASH)
    return _stacked(
        said(found.value, better=better, decimals=decimals), said_interval(found.low, found.high, decimals=decimals)
    )


def _cut(title: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Text]]], width: int) -> list[Grid]:
    """A table of arms, cut into as many as its columns need."""
    named = min(max((len(one_line(arm)) for arm, _ in rows), default=0), width // 3)
    fitting = max(1, (width - named) // _COLUMN)
    found = []
    for first in range(0, len(heads), fitting):
        shown = [("arm", False), *((head, True) for head in heads[first : first + fitting])]
        made = _grid(f"{title}{' (continued)' if first else ''}", shown)
        for arm, cells in rows:
            made.add_row(Text(one_line(arm)), *cells[first : first + fitting])
        found.append(made)
    return found


def _recorded(view: View) -> list[Grid]:
    found = []
    for label, measures in view.recorded:
        made = _grid(f"{label}: what the recordings hold", (("measure", False), ("measured", True), ("n", True)))
        for one in measures:
            decimals = view.decimals(one.measure)
            value = said(one.value, better=measured(one.measure).better, decimals=decimals)
            interval = said_interval(one.low, one.high, decimals=decimals)
            made.add_row(Text(measured(one.measure).label), _stacked(value, interval, beside=True), Text(f"{one.n:,}"))
        found.append(made)
    return found


def _stacked(value: str, interval: str, *, beside: bool = False) -> Text:
    """A value, with its interval below or beside it."""
    return Text(f"{value}{' ' if beside else chr(10)}{interval}" if interval else value)
