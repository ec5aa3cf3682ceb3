"""Conditional logit by Newton's method, in plain Python: small problems only.

Maximises Σ weight · log P(chosen) − ridge/2 · |β|², P(k) ∝ exp(offset_k + β·x_k). The function is concave and the
ridge makes its maximum unique and finite even where a feature tells outcomes apart perfectly. Steps are halved
until they gain.

Source: D. McFadden, "Conditional Logit Analysis of Qualitative Choice Behavior", 1974.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...core.linear import solve
from ...errors import ConfigError
from .behaviour import chances_of

__all__ = ["Case", "fit_logit"]

_STEPS_MAX: Final = 50
_HALVINGS_MAX: Final = 30
_ENOUGH: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Case:
    """What was chosen `weight` times among the same alternatives, each (offset, features)."""

    weight: float
    chosen: int
    offered: tuple[tuple[float, tuple[float, ...]], ...]


def fit_logit(cases: Sequence[Case], size: int, ridge: float = 1.0) -> list[float]:
    """The weights β of `size` features.

    Raises:
        ConfigError: the ridge is not above 0, or no maximum was found within 50 steps.
    """
    if not 0 < ridge < math.inf:
        raise ConfigError(f"the ridge is above 0, which keeps weights finite (ridge={ridge}); use 1")
    beta = [0.0] * size
    value = _value(cases, beta, ridge)
    for _ in range(_STEPS_MAX):
        slope, curve = _derivatives(cases, beta, ridge)
        step = solve(curve, slope)
        gain = sum(a * b for a, b in zip(slope, step, strict=True))
        if gain < _ENOUGH:
            return beta
        for halving in range(_HALVINGS_MAX):
            tried = [b + s / 2**halving for b, s in zip(beta, step, strict=True)]
            found = _value(cases, tried, ridge)
            if found > value:
                beta, value = tried, found
                break
        else:
            return beta
    raise ConfigError(
        f"the logit has no maximum after {_STEPS_MAX} steps (cases={len(cases)}); raise the ridge ({ridge})"
    )


def _chances(case: Case, beta: Sequence[float]) -> tuple[list[float], float]:
    """The chance of each alternative, and the log of that of the chosen one."""
    scores = [
        offset + sum(b * x for b, x in zip(beta, features, strict=True) if x) for offset, features in case.offered
    ]
    chances = chances_of(scores)
    return chances, math.log(max(chances[case.chosen], sys.float_info.min))


def _value(cases: Sequence[Case], beta: Sequence[float], ridge: float) -> float:
    gained = math.fsum(case.weight * _chances(case, beta)[1] for case in cases)
    return gained - ridge / 2 * math.fsum(b * b for b in beta)


def _derivatives(cases: Sequence[Case], beta: Sequence[float], ridge: float) -> tuple[list[float], list[list[float]]]:
    """The gradient, and the Hessian's negative."""
    size = len(beta)
    slope = [-ridge * b for b in beta]
    curve = [[ridge * (row == column) for column in range(size)] for row in range(size)]
    for case in cases:
        chances, _ = _chances(case, beta)
        mean = [0.0] * size
        for chance, (_, features) in zip(chances, case.offered, strict=True):
            present = [(place, x) for place, x in enumerate(features) if x]
            for place, x in present:
                mean[place] += chance * x
                for other, y in present:
                    curve[place][other] += case.weight * chance * x * y
        present = [(place, x) for place, x in enumerate(mean) if x]
        for place, x in present:
            slope[place] -= case.weight * x
            for other, y in present:
                curve[place][other] -= case.weight * x * y
        for place, x in enumerate(case.offered[case.chosen][1]):
            slope[place] += case.weight * x
    return slope, curve
