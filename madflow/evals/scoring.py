"""A suite's figures: every measure of every arm on every group, the comparisons, the curves by round, the targets.

Three measures need more than one arm's outcomes on one group and are made here:

- `adversary_loss`: accuracy on the group's clean debates − accuracy on those of the condition "adversary", drawn
  together by question.
- `detection`: runs with one misleading seat in which that seat is the least reliable one that the arm learned of.
- `swap_consistency:ARM`: debates in which this arm and ARM, which differs in the order of the answers only, name the
  same answer.

A measure that a group does not allow (no adversary, no such round) is left out; one of nothing has the value null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from . import metrics
from .bootstrap import Interval, Item, difference, estimate
from .measuring import Measure, measure_named, round_measures
from .records import Outcome, Recording
from .results import Comparison, Figures, Measured, RoundMeasured, TargetMeasured, cut, figures, shown
from .suites import RECORDED, Bound, Group, Suite, Target

if TYPE_CHECKING:
    from .load import Row

__all__ = ["Scored", "Scorer", "check_measures", "partly", "stem", "targeted", "unjudged"]

_ADVERSARY: Final = "adversary"
_FAILED: Final = "failed"
_CLEAN: Final = "clean"
_SPECIAL: Final = ("adversary_loss", "detection", "swap_consistency")


@dataclass(frozen=True, slots=True)
class Scored:
    """What `Scorer.score` gives: the parts of `Results` that it makes."""

    measures: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    rounds: tuple[RoundMeasured, ...]
    targets: tuple[TargetMeasured, ...]


def check_measures(suite: Suite) -> None:
    """Refuse, before anything is run, a suite that names a measure wrongly.

    Raises:
        ConfigError: names the suite and the measure.
    """
    compared = [name for one in suite.comparison for name in one.measures]
    bounds = [bound for target in suite.target for bound in (target, *target.given)]
    if not suite.data:
        return
    try:
        for name in (*suite.measures, *suite.recorded, *compared, *(bound.measure for bound in bounds)):
            if name.partition(":")[0] not in _SPECIAL:
                measure_named(name)
        for name in (*compared, *(bound.measure for bound in bounds if bound.against)):
            if name in _SPECIAL or measure_named(name).items is None:
                raise ConfigError(f"measure {name} cannot be compared: it is no ratio of sums")
    except ConfigError as error:
        raise ConfigError(f"suite {suite.name}: {error}") from error


class Scorer:
    """Scores one suite.

    Args:
        rows: of all its data.
        outcomes: (arm, rows a run) to recording's key to outcome.
        pieces: rows a run to the runs, or pieces of runs, that arms were given.
    """

    def __init__(
        self,
        suite: Suite,
        rows: Sequence[Row],
        outcomes: Mapping[tuple[str, int | None], Mapping[str, Outcome]],
        pieces: Mapping[int | None, Sequence[Sequence[Row]]],
        groups: Sequence[Group],
        *,
        seed: int = 0,
    ) -> None:
        self._suite, self._rows, self._outcomes, self._pieces, self._seed = suite, rows, outcomes, pieces, seed
        self._groups = groups
        self._recordings: dict[tuple[tuple[str, ...], str], list[Recording]] = {}
        self._taken: dict[tuple[str, str, str, str], tuple[int, Interval]] = {}

    def score(self) -> Scored:
        """All figures, group by group, so that the draws of a group are shared."""
        measures: list[Measured] = []
        comparisons: list[Comparison] = []
        rounds: list[RoundMeasured] = []
        for group in self._groups:
            if not self._of(group):
                continue
            measures += self._measures(group)
            comparisons += self._comparisons(group)
            rounds += self._rounds(group)
        targets = [self._target(target) for target in self._suite.target]
        return Scored(tuple(measures), tuple(comparisons), tuple(rounds), tuple(targets))

    def _of(self, group: Group, condition: str | None = None) -> list[Recording]:
        """The recordings of a group, in the order of the rows."""
        wanted = group.condition if condition is None else condition
        key = (group.files, wanted)
        if key not in self._recordings:
            self._recordings[key] = [
                row.recording
                for row in self._rows
                if stem(row.file) in group.files and (not wanted or row.recording.condition == wanted)
            ]
        return self._recordings[key]

    def _made(self, group: Group, arm: str, condition: str | None = None) -> list[Outcome]:
        made = self._outcomes[arm, group.rows_per_run]
        return [made[one.key] for one in self._of(group, condition)]

    def _measures(self, group: Group) -> list[Measured]:
        asked = [(arm, name) for arm in group.arms for name in self._suite.measures]
        asked += [(RECORDED, name) for name in self._suite.recorded]
        found = []
        for arm, name in asked:
            taken = self._take(group, arm, name)
            if taken is not None:
                n, interval = taken
                found.append(
                    Measured(
                        group=group.key, arm=arm, measure=name, n=n, questions=interval.questions, **figures(interval)
                    )
                )
        return found

    def _take(self, group: Group, arm: str, name: str) -> tuple[int, Interval] | None:
        key = (group.label, group.condition, arm, name)
        if key not in self._taken:
            taken = self._fresh(group, arm, name)
            if taken is None:
                return None
            self._taken[key] = taken
        return self._taken[key]

    def _fresh(self, group: Group, arm: str, name: str) -> tuple[int, Interval] | None:
        kind, _, argument = name.partition(":")
        if kind == "adversary_loss":
            return self._adversary_loss(group, arm)
        if kind == "detection":
            return self._ratio(self._detection(group, arm))
        if kind == "swap_consistency":
            return self._ratio(self._swapped(group, arm, argument))
        measure = measure_named(name)
        cases: Sequence[Outcome] | Sequence[Recording] = (
            self._made(group, arm) if measure.of == "outcomes" else self._of(group)
        )
        figure = measure.figure(cases, seed=self._seed)
        return figure.n, figure.interval

    def _ratio(self, items: list[Item]) -> tuple[int, Interval] | None:
        return (len(items), estimate(items, seed=self._seed, share=True)) if items else None

    def _adversary_loss(self, group: Group, arm: str) -> tuple[int, Interval] | None:
        clean_too = any((one.label, one.condition) == (group.label, _CLEAN) for one in self._groups)
        if group.condition != _ADVERSARY or not clean_too or not self._of(group, _CLEAN):
            return None
        clean = metrics.accuracy(self._made(group, arm, _CLEAN))
        attacked = metrics.accuracy(self._made(group, arm))
        return len(attacked), difference(clean, attacked, seed=self._seed)

    def _detection(self, group: Group, arm: str) -> list[Item]:
        from .arms import arm_named, learned_of

        policy = arm_named(arm).policy
        if policy is None or policy.weighing != "reliability" or group.condition != _ADVERSARY:
            return []
        members = {one.key for one in self._of(group)}
        recordings, suspicion = [], {}
        pieces = self._pieces[group.rows_per_run]
        for number, piece in enumerate(pieces):
            rows = [row for row in piece if row.recording.key in members]
            if not rows:
                continue
            learned = learned_of(policy, piece)
            recordings += [replace(row.recording, run=str(number)) for row in rows]
            suspicion.update(
                {(str(number), seat): 1 - learned.of(seat) for row in rows for seat in row.recording.debated.seats}
            )
        panels = {str(number): piece[0].recording.run for number, piece in enumerate(pieces) if piece}
        return [replace(item, question=panels[item.question]) for item in metrics.detection(recordings, suspicion)]

    def _swapped(self, group: Group, arm: str, other: str) -> list[Item]:
        if other not in group.arms or other == arm:
            return []
        both = zip(self._made(group, arm), self._made(group, other), strict=True)
        return metrics.swap_consistency((a.recording.question, a.answer, b.answer) for a, b in both)

    def _comparisons(self, group: Group) -> list[Comparison]:
        found = []
        for one in self._suite.comparison:
            arms = [arm for arm in one.arms or group.arms if arm != one.against and arm in group.arms]
            for arm in arms if one.against in group.arms else ():
                for name in one.measures:
                    interval = self._compared(group, arm, one.against, measure_named(name))
                    found.append(
                        Comparison(group=group.key, arm=arm, against=one.against, measure=name, **figures(interval))
                    )
        return found

    def _compared(self, group: Group, arm: str, against: str, measure: Measure) -> Interval:
        return measure.compared(self._made(group, arm), self._made(group, against), seed=self._seed)

    def _rounds(self, group: Group) -> list[RoundMeasured]:
        recordings = self._of(group)
        held = max((len(one.debated.rounds) for one in recordings), default=0)
        found = []
        for number in range(1, min(self._suite.rounds, held) + 1):
            for name, items in round_measures(recordings, number).items():
                if items:
                    interval = estimate(items, seed=self._seed, share=True)
                    found.append(RoundMeasured(group=group.key, round=number, measure=name, **figures(interval)))
        return found

    def _target(self, target: Target) -> TargetMeasured:
        group = next((g for g in self._groups if g.label == target.data and g.condition == target.condition), None)
        if group is None or not self._of(group):
            return unjudged(targeted(target, {"data": target.data, "condition": target.condition or "all"}, None, ()))
        given = [(bound, self._bound(group, target.arm, bound)) for bound in target.given]
        made = targeted(target, group.key, self._bound(group, target.arm, target), given, len(self._of(group)))
        lost = 0 if target.arm == RECORDED else sum(o.stop_reason == _FAILED for o in self._made(group, target.arm))
        if not lost:
            return made
        note = f"{lost} debates failed: nothing is met. {made.note}".strip()
        why = f"{lost} debates failed" + (f"; {made.why}" if made.why else "")
        return made.model_copy(update={"met": False, "why": why, "note": note})

    def _bound(self, group: Group, arm: str, bound: Bound) -> Figures | None:
        if not {arm, bound.against} <= {*group.arms, RECORDED, ""}:
            return None
        if bound.against:
            return Figures(**figures(self._compared(group, arm, bound.against, measure_named(bound.measure))))
        taken = self._take(group, arm, bound.measure)
        return None if taken is None else Figures(**figures(taken[1]))


def stem(file: str) -> str:
    """A recording's file name without its ending."""
    return file.removesuffix(".gz").removesuffix(".jsonl")


def targeted(
    target: Target,
    group: dict[str, str],
    found: Figures | None,
    given: Sequence[tuple[Bound, Figures | None]],
    n: int | None = None,
) -> TargetMeasured:
    """A target with what was found, and whether it and all that is given with it hold; the note says what was found.

    Args:
        found: the target's own figure; None where it was not measured. given: the same for each further bound.
        n: debates that they were measured on, where that is known.
    """
    checks = [(bound, value, value is not None and _holds(bound, value)) for bound, value in given]
    notes = [
        f"{_described(bound)} {bound.target}: {_said(bound, value)}, {'yes' if holds else 'no'}"
        for bound, value, holds in checks
    ]
    return TargetMeasured(
        name=target.name,
        measure=_described(target),
        group=group,
        arm=target.arm,
        target=target.target + (", the whole interval" if target.significant else ""),
        known=target.known,
        n=n,
        why="; ".join(_missed(bound, value) for bound, value, holds in checks if not holds),
        met=found is not None and _holds(target, found) and all(holds for *_, holds in checks),
        note=". ".join(part for part in ("; ".join(notes), target.note) if part),
        value=found.value if found is not None else None,
        low=found.low if found is not None else None,
        high=found.high if found is not None else None,
    )


def unjudged(target: TargetMeasured, why: str = "no data") -> TargetMeasured:
    """The target, neither met nor missed."""
    return target.model_copy(update={"met": None, "why": why})


def partly(target: TargetMeasured) -> TargetMeasured:
    """A target of which only a part of the data was read: what was found, and no verdict."""
    return target if target.met is None else unjudged(target, "a part of the data")


def _missed(bound: Bound, found: Figures | None) -> str:
    """A bound that does not hold, with the value it has in place of the one that was wanted."""
    if found is None or found.value is None:
        return f"{_described(bound)} was not measured"
    whole = ", the whole interval" if bound.significant else ""
    said = _said(bound, found) if bound.significant else cut(found.value, bound.target.startswith("<"))
    return f"{_described(bound)} {said} is not {bound.target}{whole}"


def _holds(bound: Bound, found: Figures) -> bool:
    return bound.holds(found.value, found.low, found.high)


def _described(bound: Bound) -> str:
    """A bound's measure for people: what is compared with what."""
    return f"{bound.measure} − that of {bound.against}" if bound.against else bound.measure


def _said(bound: Bound, found: Figures | None) -> str:
    return "not measured" if found is None else shown(found, costs=bound.target.startswith("<"))
