"""Suites that run no arm on debates: recorded reviews under ensembles, and how near the simulator comes to debates.

Both give what a suite of debates gives (`Parts`), so that results, targets and the report are the same for all.

- `reviews`: `ensembles.run_reviews` on the files.
- `simulator`: for each group of debates, `testing.panels.crossed_report`: each half of the questions is simulated by a
  panel that was fitted to the other half. `ACCURACY:T` and so on are of round T; "recorded" and "simulated" stand where
  an arm's name does, and the difference is the comparison. `deviation_max` is the greatest absolute difference of
  accuracy, unanimity and flips over the rounds. The interval around a recorded figure is ± 1.96 standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..testing.panels.calibration import Deviation, crossed_report
from .bootstrap import LEVEL, Interval
from .ensembles import run_reviews
from .pool import each
from .records import Recording
from .results import ArmMade, Comparison, Failed, Figures, Measured, TargetMeasured, figures
from .scoring import Scored, targeted
from .suites import RECORDED, Bound, Group, Suite, Target

__all__ = ["SIMULATED", "Parts", "reviews", "simulations"]

SIMULATED: Final = "simulated"
_CALIBRATED: Final = ("accuracy", "unanimity", "right_to_wrong", "wrong_to_right")
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


def simulations(suite: Suite, groups: Sequence[tuple[Group, Sequence[Recording]]], seed: int, workers: int) -> Parts:
    """The simulator on each group of recordings. Raises as `crossed_report`."""
    jobs = [(place, tuple(recordings), seed) for place, (_, recordings) in enumerate(groups) if recordings]
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
    )
    scored = Scored(tuple(measures), tuple(comparisons), (), _targets(suite, measures, comparisons))
    return Parts(scored, arms, {}, notes=suite.notes)


def _crossed(job: tuple[int, Sequence[Recording], int]) -> list[Deviation]:
    _, recordings, seed = job
    return crossed_report(recordings, seed)


def _simulated(
    group: Group, recordings: Sequence[Recording], deviations: Sequence[Deviation], seed: int
) -> tuple[list[Measured], list[Comparison]]:
    questions = len({one.question for one in recordings})

    def interval(value: float, error: float) -> Interval:
        return Interval(value, value - _Z * error, value + _Z * error, LEVEL, 0, seed, questions)

    def measured(arm: str, name: str, taken: Interval) -> Measured:
        return Measured(
            group=group.key, arm=arm, measure=name, n=len(recordings), questions=questions, **figures(taken)
        )

    measures, comparisons = [], []
    for one in deviations:
        name = f"{one.measure}:{one.round}"
        measures.append(measured(RECORDED, name, interval(one.recorded, one.error)))
        measures.append(measured(SIMULATED, name, interval(one.simulated, math.nan)))
        difference = figures(interval(one.simulated - one.recorded, one.error))
        comparisons.append(Comparison(group=group.key, arm=SIMULATED, against=RECORDED, measure=name, **difference))
    gaps = [abs(one.simulated - one.recorded) for one in deviations if one.measure in _CALIBRATED]
    greatest = max((gap for gap in gaps if not math.isnan(gap)), default=math.nan)
    measures.append(measured(SIMULATED, "deviation_max", interval(greatest, math.nan)))
    return measures, comparisons


def _targets(
    suite: Suite, measures: Sequence[Measured], comparisons: Sequence[Comparison]
) -> tuple[TargetMeasured, ...]:
    """The suite's targets, looked up among figures that are there already."""
    made = []
    for target in suite.target:
        found = _looked_up(target, target, measures, comparisons)
        given = [(bound, _looked_up(target, bound, measures, comparisons)) for bound in target.given]
        made.append(targeted(target, _group(target), found, given))
    return tuple(made)


def _group(target: Target) -> dict[str, str]:
    return {"data": target.data, **({"condition": target.condition} if target.condition else {})}


def _looked_up(
    target: Target, bound: Bound, measures: Sequence[Measured], comparisons: Sequence[Comparison]
) -> Figures | None:
    """The figure of a bound: on the target's data, and its condition where it names one."""

    def fits(one: Measured | Comparison) -> bool:
        group = {name: value for name, value in one.group.items() if (name, value) != ("condition", "all")}
        return group == _group(target) and one.arm == target.arm and one.measure == bound.measure

    if bound.against:
        return next((one for one in comparisons if fits(one) and one.against == bound.against), None)
    return next((one for one in measures if fits(one)), None)
