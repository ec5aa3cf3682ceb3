"""What a report draws and lists, taken from results: groups in their order, arms with their marks, measures by family.

The arm "recorded" stands for what no arm decides (what the recorded seats did); it has tables and no point of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ..evals.results import Comparison, Figures, Measured, Results, RoundMeasured, TargetMeasured
from .plots import Point, Series
from .words import FAMILIES, MEASURES, base_measure, decimals_for, hedge, known, measured, one_line, threshold

__all__ = [
    "FLIPS",
    "GROUPS_DRAWN_MAX",
    "MARKED_MAX",
    "RECORDED",
    "SERIES_MAX",
    "Matrix",
    "Table",
    "View",
    "beside",
    "cell_key",
    "group_label",
    "met_of",
    "on_debates",
    "span",
    "verdict",
]

RECORDED: Final = "recorded"
FLIPS: Final = ("right_to_wrong", "wrong_to_right")
GROUPS_DRAWN_MAX: Final = 24
MARKED_MAX: Final = 40  # arms in one drawing
SERIES_MAX: Final = 6  # curves in one drawing
_Key = tuple[tuple[str, str], ...]
_FIRST: Final = ("data", "condition")
_MAIN: Final = ("accuracy", "token_share")


@dataclass(frozen=True, slots=True)
class Table:
    """Measures of one family on one group: a row an arm, a column a measure."""

    group: str
    family: str
    measures: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, Measured]], ...]

    def size(self, measure: str) -> tuple[int, int] | None:
        """How many items of how many questions a measure is taken over, where that is the same for all arms."""
        sizes = {(row[measure].n, row[measure].questions) for _, row in self.rows if measure in row}
        return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True, slots=True)
class Matrix:
    """One measure of all arms on all groups that have it: a row an arm, a column a group."""

    measure: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Measured | None, ...]], ...]


def cell_key(group: Mapping[str, str]) -> _Key:
    """A group as a key of a dict."""
    return tuple(sorted(group.items()))


def group_label(group: Mapping[str, str]) -> str:
    """A group as a reader says it: the data, then the condition, then what else there is, with its name."""
    parts = [group[name] for name in _FIRST if group.get(name) and group[name] != "all"]
    parts += [f"{name} {value}" for name, value in sorted(group.items()) if name not in _FIRST]
    return one_line(", ".join(parts)) or "all"


def verdict(target: TargetMeasured) -> str:
    """ "met", "not met", "not measured"; where there was nothing to judge it by, or a part: "no data", "not judged"."""
    if target.met is None:
        return "no data" if target.why == "no data" else "not judged"
    return "not measured" if known(target.value) is None else "met" if target.met else "not met"


def beside(target: TargetMeasured) -> str:
    """What stands beside the verdict: why it is none or "not met"; of one that is met, what its interval reaches."""
    came = verdict(target)
    if came == "met":
        return hedge(target.target, target.low, target.high)
    return "" if came == target.why else one_line(target.why, 300)


def on_debates(target: TargetMeasured) -> str:
    """On how many debates it was judged, where that is known."""
    return "" if target.n is None else f"{target.n:,} debate{'' if target.n == 1 else 's'}"


def met_of(targets: Sequence[TargetMeasured]) -> str:
    """How many are met of those that are judged, and how many are not: "2 of 3 targets met, 1 without data"."""
    judged = [one for one in targets if one.met is not None]
    blank, open_ = (sum(verdict(one) == said for one in targets) for said in ("no data", "not judged"))
    met = sum(verdict(one) == "met" for one in judged)
    said = [f"{met} of {len(judged)} target{'' if len(judged) == 1 else 's'} met"] if judged else []
    said += [f"{open_} not judged"] if open_ else []
    said += [f"{blank} without data"] if blank else []
    return ", ".join(said)


class View:
    """Results, read for a report."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @cached_property
    def groups(self) -> dict[_Key, str]:
        """Every group, in the order in which it first appears, with its label."""
        lists: tuple[Sequence[Measured | Comparison], ...] = (self.results.measures, self.results.comparisons)
        found = {cell_key(one.group): group_label(one.group) for part in lists for one in part}
        return found | {cell_key(one.group): group_label(one.group) for one in self.results.rounds}

    @cached_property
    def arms(self) -> dict[str, str]:
        """Every arm with its title, "recorded" last: those that are listed, then others that were measured."""
        listed = {one.arm: one_line(one.title or one.arm) for one in self.results.arms}
        seen = listed | {one.arm: one_line(listed.get(one.arm, one.arm)) for one in self.results.measures}
        ordered = {arm: title for arm, title in seen.items() if arm != RECORDED}
        return ordered | ({RECORDED: "what the recordings hold"} if RECORDED in seen else {})

    def mark(self, arm: str) -> int:
        """The number of an arm's colour and shape, the same in all drawings."""
        return self._marks.get(arm, 0)

    @cached_property
    def _marks(self) -> dict[str, int]:
        return {arm: mark for mark, arm in enumerate(self.arms)}

    @cached_property
    def _cells(self) -> dict[_Key, dict[tuple[str, str], Measured]]:
        """Group to (arm, measure) to what was measured."""
        found: dict[_Key, dict[tuple[str, str], Measured]] = {}
        for one in self.results.measures:
            found.setdefault(cell_key(one.group), {})[one.arm, one.measure] = one
        return found

    @cached_property
    def _shares(self) -> dict[_Key, dict[str, list[RoundMeasured]]]:
        """Group to measure to its rounds, in order."""
        found: dict[_Key, dict[str, list[RoundMeasured]]] = {}
        for one in sorted(self.results.rounds, key=lambda one: one.round):
            found.setdefault(cell_key(one.group), {}).setdefault(one.measure, []).append(one)
        return found

    @cached_property
    def _decimals(self) -> dict[str, int]:
        values: dict[str, list[float | None]] = {}
        for one in self.results.measures:
            values.setdefault(one.measure, []).extend((one.value, one.low, one.high))
        return {measure: decimals_for(found) for measure, found in values.items()}

    def decimals(self, measure: str) -> int:
        """How many decimals a measure has, everywhere in the report."""
        return self._decimals.get(measure, 4)

    def cell(self, group: _Key, arm: str, measure: str) -> Measured | None:
        return self._cells.get(group, {}).get((arm, measure))

    @cached_property
    def tables(self) -> list[Table]:
        """All measures, group by group and family by family; families and measures nobody measured are left out."""
        return [table for key in self.groups for family in FAMILIES if (table := self._table(key, family)).rows]

    @cached_property
    def recorded(self) -> list[tuple[str, list[Measured]]]:
        """What no arm decides, as (group's label, its measures): in a row an arm each it would be mostly dashes."""
        found = [
            (label, [one for (arm, _), one in self._cells.get(key, {}).items() if arm == RECORDED])
            for key, label in self.groups.items()
        ]
        return [(label, measures) for label, measures in found if measures]

    def _table(self, key: _Key, family: str) -> Table:
        here = {cell: one for cell, one in self._cells.get(key, {}).items() if cell[0] != RECORDED}
        names = dict.fromkeys(measure for _, measure in here if measured(measure).family == family)
        order = {name: place for place, name in enumerate(MEASURES)}
        columns = tuple(sorted(names, key=lambda name: (order.get(name.partition(":")[0], len(order)), name)))
        rows = tuple(
            (arm, row)
            for arm in self.arms
            if (row := {name: here[arm, name] for name in columns if (arm, name) in here})
        )
        return Table(self.groups[key], family, columns, rows)

    @cached_property
    def matrices(self) -> list[Matrix]:
        """The main measures: accuracy, token share, and what targets are set on; else the first one there is."""
        present = dict.fromkeys(one.measure for one in self.results.measures)
        aimed = dict.fromkeys(base_measure(one.measure) for one in self.results.targets)
        costs = () if "token_share" in present else ("tokens",)
        main = [name for name in (*_MAIN, *costs, *(name for name in aimed if name not in _MAIN)) if name in present]
        return [self._matrix(name) for name in main or list(present)[:1]]

    def _matrix(self, measure: str) -> Matrix:
        groups = [key for key, cells in self._cells.items() if any(name == measure for _, name in cells)]
        rows = [(arm, tuple(self.cell(key, arm, measure) for key in groups)) for arm in self.arms]
        return Matrix(measure, tuple(self.groups[key] for key in groups), tuple(row for row in rows if any(row[1])))

    @cached_property
    def tradeoffs(self) -> list[tuple[str, list[Series]]]:
        """Accuracy against token share: (group's label, a series an arm), for groups where an arm has both."""
        found = []
        for key, label in self.groups.items():
            series = []
            for arm in self.arms:
                answers, cost = self.cell(key, arm, "accuracy"), self.cell(key, arm, "token_share")
                if answers and cost and known(answers.value) is not None and known(cost.value) is not None:
                    series.append(Series(one_line(arm), self.mark(arm), (_point(cost, answers),)))
            if series:
                found.append((label, series[:MARKED_MAX]))
        return found[:GROUPS_DRAWN_MAX]

    def by_round(self, *, flips: bool) -> list[tuple[str, list[Series]]]:
        """Shares per round: (group's label, a series a measure); of flips, or of everything else."""
        names = dict.fromkeys(one.measure for one in self.results.rounds if (one.measure in FLIPS) == flips)
        found = []
        for key, label in self.groups.items():
            series = []
            for mark, name in enumerate(names):
                here = self._shares.get(key, {}).get(name, [])
                points = [Point(one.round, one.value, one.low, one.high) for one in here if one.value is not None]
                if points:
                    series.append(Series(measured(name).label, _flip_mark(name, mark), tuple(points)))
            if series:
                found.append((label, series[:SERIES_MAX]))
        return found[:GROUPS_DRAWN_MAX]

    @cached_property
    def left_undrawn(self) -> int:
        """How many groups are in tables only, since there are more than are drawn."""
        return max(0, len(self.groups) - GROUPS_DRAWN_MAX)

    def plotted(self) -> dict[str, str]:
        """The arms that have a point in some trade-off, with their titles."""
        shown = {one.mark for _, series in self.tradeoffs for one in series}
        return {arm: title for arm, title in self.arms.items() if arm != RECORDED and self.mark(arm) in shown}


def span(shown: Iterable[Figures], targets: Iterable[str] = (), *, zero: bool = False) -> tuple[float, float]:
    """Ends of a scale on which values, intervals and targets lie, a little wider than they are."""
    values = [at for one in shown for at in (one.value, one.low, one.high) if at is not None]
    values += [limit[1] for target in targets if (limit := threshold(target))] + ([0.0] if zero else [])
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def _flip_mark(name: str, mark: int) -> int:
    return 1 if name == "right_to_wrong" else mark if name not in FLIPS else 0


def _point(cost: Measured, answers: Measured) -> Point:
    return Point(cost.value or 0.0, answers.value or 0.0, answers.low, answers.high, cost.low, cost.high)
