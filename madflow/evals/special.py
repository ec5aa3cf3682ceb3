"""Suites that run no arm on debates: recorded reviews under ensembles, and how near the simulator comes to debates.

Both give what a suite of debates gives (`Parts`), so that results, targets and the report are the same for all.

- `reviews`: `ensembles.run_reviews` on the files.
- `simulator`: for each group of debates, `testing.panels.crossed_report`: each half of the questions is simulated by a
  panel that was fitted to the other half. `accuracy:T` and so on are of round T; "recorded" and "simulated" stand where
  an arm's name does, and the difference is the comparison. "copied" is the null: the other half's own figures, without
  a model. Each half is a group of its own; the group as a whole has both pooled, where the halves' errors cancel.
  `deviation_max` is the greatest absolute difference of accuracy, unanimity and flips over rounds and *halves*,
  `deviation_max_noise` √2 standard errors of the figure that is so far off (as much as two samples of questions differ
  by), `deviation_pooled_max` the greatest difference of the pooled figures. The interval around a recorded figure is
  ± 1.96 standard errors, that around a difference of a half √2 times as wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..testing.panels.calibration import SIMULATED_DEBATES, Crossed, Deviation, crossed_report, halves, worst
from .bootstrap import LEVEL, Interval
from .ensembles import run_reviews
from .pool import each
from .records import Recording
from .results import ArmMade, Comparison, Failed, Figures, Measured, TargetMeasured, figures
from .scoring import Scored, targeted, unjudged
from .suites import RECORDED, Bound, Group, Suite, Target

__all__ = ["COPIED", "SIMULATED", "Parts", "reviews", "simulations"]

COPIED: Final = "copied"
SIMULATED: Final = "simulated"
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Parts:
    """What a suite's run adds to its results; `lines`: file name without ending to its lines."""

    scored: Scored
    arms: tuple[ArmMade, ...]
    lines: Mapping[str, Sequence[Mapping[str, Any]]]
    failed: tuple[Failed, ...] = ()
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def reviews(suite: Suite, files: Mapping[str, Path], seed: int) -> Parts:
    """Every ensemble on the suite's files of recorded reviews. Raises as `run_reviews`."""
    found = run_reviews(files.values(), seed=seed)
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in found.rows:
        lines.setdefault(str(row["arm"]), []).append(row)
    targets = _targets(suite, found.measures, found.comparisons)
    return Parts(
        Scored(found.measures, found.comparisons, (), targets), found.arms, lines, notes=(*suite.notes, *found.notes)
    )


def simulations(
    suite: Suite,
    groups: Sequence[tuple[Group, Sequence[Recording]]],
    seed: int,
    workers: int,
    *,
    debates: int = SIMULATED_DEBATES,
) -> Parts:
    """The simulator on each group of recordings, `debates` a half. Raises as `crossed_report`."""
    jobs = [(place, tuple(recordings), seed, debates) for place, (_, recordings) in enumerate(groups) if recordings]
    found = {job[0]: made for job, made in each(_crossed, jobs, workers)}
    measures: list[Measured] = []
    comparisons: list[Comparison] = []
    for place, (group, recordings) in enumerate(groups):
        if place in found:
            taken, compared = _simulated(group, recordings, found[place], seed)
            measures += taken
            comparisons += compared
    arms = (
        ArmMade(arm=RECORDED, title="what was said"),
        ArmMade(arm=SIMULATED, title="panels that were fitted to the other half of the questions"),
        ArmMade(arm=COPIED, title="the figures of the other half of the questions, as they are: no model"),
    )
    scored = Scored(tuple(measures), tuple(comparisons), (), _targets(suite, measures, comparisons))
    return Parts(scored, arms, {}, notes=suite.notes)


def _crossed(job: tuple[int, Sequence[Recording], int, int]) -> Crossed:
    _, recordings, seed, debates = job
    return crossed_report(recordings, seed, debates=debates)


def _simulated(
    group: Group, recordings: Sequence[Recording], crossed: Crossed, seed: int
) -> tuple[list[Measured], list[Comparison]]:
    parts = [(len(half), len({one.question for one in half})) for half in halves(recordings)]
    whole = _Taken(group.key, len(recordings), len({one.question for one in recordings}), seed)
    measures, comparisons = whole.compared(SIMULATED, crossed.pooled, 1.0)
    greatest = worst(crossed.pooled)
    measures.append(
        whole.measured(SIMULATED, "deviation_pooled_max", abs(greatest.points) / 100 if greatest else math.nan)
    )
    for arm, found in ((SIMULATED, crossed.simulated), (COPIED, crossed.copied)):
        greatest = worst(one for half in found for one in half)
        gap, noise = (abs(greatest.points) / 100, math.sqrt(2) * greatest.error) if greatest else (math.nan, math.nan)
        measures.append(whole.measured(arm, "deviation_max", gap))
        measures.append(whole.measured(arm, "deviation_max_noise", noise))
        for number, (half, (n, questions)) in enumerate(zip(found, parts, strict=True), start=1):
            taken = _Taken({**group.key, "half": str(number)}, n, questions, seed)
            figured, compared = taken.compared(arm, half, math.sqrt(2))
            measures += [one for one in figured if arm in (one.arm, SIMULATED)]
            comparisons += compared
    return measures, comparisons


@dataclass(frozen=True, slots=True)
class _Taken:
    """Figures of one group of recordings, or of a half of it."""

    group: dict[str, str]
    n: int
    questions: int
    seed: int

    def compared(
        self, arm: str, deviations: Sequence[Deviation], wider: float
    ) -> tuple[list[Measured], list[Comparison]]:
        """What was recorded and what `arm` has; a difference's standard error is `wider` times that of the first."""
        measures, comparisons = [], []
        for one in deviations:
            name = f"{one.measure}:{one.round}"
            measures.append(self.measured(RECORDED, name, one.recorded, one.error))
            measures.append(self.measured(arm, name, one.simulated))
            gap = figures(self._interval(one.simulated - one.recorded, wider * one.error))
            comparisons.append(Comparison(group=self.group, arm=arm, against=RECORDED, measure=name, **gap))
        return measures, comparisons

    def measured(self, arm: str, measure: str, value: float, error: float = math.nan) -> Measured:
        taken = figures(self._interval(value, error))
        return Measured(group=self.group, arm=arm, measure=measure, n=self.n, questions=self.questions, **taken)

    def _interval(self, value: float, error: float) -> Interval:
        return Interval(value, value - _Z * error, value + _Z * error, LEVEL, 0, self.seed, self.questions)


def _targets(
    suite: Suite, measures: Sequence[Measured], comparisons: Sequence[Comparison]
) -> tuple[TargetMeasured, ...]:
    """The suite's targets, looked up among figures that are there already."""
    made = []
    for target in suite.target:
        found = _looked_up(target, target, measures, comparisons)
        given = [(bound, _looked_up(target, bound, measures, comparisons)) for bound in target.given]
        n = next((one.n for one in measures if _named(one) == _group(target)), None)
        one = targeted(target, _group(target), found, given, n)
        made.append(one if n else unjudged(one))
    return tuple(made)


def _group(target: Target) -> dict[str, str]:
    return {"data": target.data, **({"condition": target.condition} if target.condition else {})}


def _named(one: Measured | Comparison) -> dict[str, str]:
    """The group of a figure, as `_group` has a target's."""
    return {name: value for name, value in one.group.items() if (name, value) != ("condition", "all")}


def _looked_up(
    target: Target, bound: Bound, measures: Sequence[Measured], comparisons: Sequence[Comparison]
) -> Figures | None:
    """The figure of a bound: on the target's data, and its condition where it names one."""

    def fits(one: Measured | Comparison) -> bool:
        return _named(one) == _group(target) and one.arm == target.arm and one.measure == bound.measure

    if bound.against:
        return next((one for one in comparisons if fits(one) and one.against == bound.against), None)
    return next((one for one in measures if fits(one)), None)
