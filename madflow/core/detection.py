"""Who found what: how far to trust that several detectors raised one thing, learned without labels.

A detector is anything that raises some things and is silent on the rest: a reviewer and defects, an analyser and
warnings. A *case* is one thing that was raised, by some of those who could have raised it. The model is Dawid and
Skene's with two coins a detector. A case is real with probability π. Detector s raises a real one with probability
a_s (its sensitivity) and a spurious one with probability b_s (its false alarms), independently of the others.
Expectation–maximisation alternates, over cases i and the detectors that could have raised them,

    E   q_i = σ(log π/(1 − π) + Σ_{s raised i} log a_s/b_s + Σ_{s silent on i} log (1 − a_s)/(1 − b_s))
    M   a_s = (m·a₀ + Σ_{i raised by s} q_i) / (m + Σ_i q_i),   b_s likewise with 1 − q_i and b₀,   π = mean q_i

from q_i = the share of those who could that did raise i. m = 2 cases of a prior at a₀ = 0.3, b₀ = 0.05 keep a detector
about which little is known near those. One coin, as for answers (`policies.reliability`), is not enough: silence is
right almost always, so a detector that says nothing would look the best.

What this is good for: a detector that raises much that nobody else does earns a high b_s, and its word counts little;
one that is silent on what all others find earns a low a_s, and its silence says nothing. What it cannot know: a thing
that all find and nobody wants to hear about looks real. Detectors of one make err together and count as two. And there
is no case for what nobody raised, so the rates are those among what somebody did: they serve to tell cases apart.

Every sum is rounded once, so the result does not depend on the order of cases or detectors. Where no more than half of
the detectors end with a_s > b_s the solution is the twin in which real and spurious change places; nothing is learned.

`cut_for_f1` says how many to accept. With q_1 ≥ q_2 ≥ … the plug-in estimate of F1 of the first k is 2Σ_{i≤k} q_i /
(k + Σ_i q_i), and its maximum F* is reached by accepting exactly those with q_i > F*/2.

Sources: A. P. Dawid and A. M. Skene, Applied Statistics 28 (1979); D. D. Lewis, "Evaluating and optimizing autonomous
text classification systems", SIGIR 1995; Z. C. Lipton, C. Elkan, B. Naryanaswamy, "Optimal thresholding of classifiers
to maximize F1 measure", ECML 2014.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigError

__all__ = ["Case", "Cut", "Detectors", "cut_for_f1", "learn_detectors"]

_PRIOR_CASES: Final = 2.0
_SENSITIVITY: Final = 0.3
_FALSE_ALARMS: Final = 0.05
_FLOOR: Final = 1e-6
_STEPS_MAX: Final = 500
_CLOSE: Final = 1e-9

Case = tuple[Set[str], Set[str]]
"""(who raised it, who could have raised it; the first is within the second)."""


@dataclass(frozen=True, slots=True)
class Detectors:
    """What was learned about detectors.

    Attributes:
        sensitivity, false_alarms: a_s and b_s, by detectors in order; empty where nothing was learned.
        real: π, the share of cases that are real.
        steps: iterations taken; settled: whether the last one moved no probability by more than 1e-9.
    """

    sensitivity: Mapping[str, float] = field(default_factory=dict)
    false_alarms: Mapping[str, float] = field(default_factory=dict)
    real: float = 0.5
    steps: int = 0
    settled: bool = True

    def probability(self, case: Case) -> float:
        """That a case is real. Where nothing was learned: the share of those who could that raised it.

        A detector that was never seen counts for nothing.
        """
        raised, could = case
        if not self.sensitivity:
            return len(raised) / len(could)
        return _sigmoid(_logit(case, self.sensitivity, self.false_alarms, self.real))


@dataclass(frozen=True, slots=True)
class Cut:
    """How far to accept: `above` is F*/2, `f1` the expected F*, `count` how many are above."""

    above: float
    f1: float
    count: int


def learn_detectors(cases: Iterable[Case]) -> Detectors:
    """Two-coin Dawid–Skene by expectation–maximisation, at most 500 iterations.

    Raises:
        ConfigError: a case that nobody raised, or that somebody raised who could not have.
    """
    patterns = _patterns(cases)
    could: Counter[str] = Counter()
    for (_, able), times in patterns.items():
        for name in able:
            could[name] += times
    if not patterns:
        return Detectors()
    sure = {pattern: min(1 - _FLOOR, len(pattern[0]) / len(pattern[1])) for pattern in patterns}
    sensitivity: dict[str, float] = {}
    false_alarms: dict[str, float] = {}
    real, steps, settled = 0.5, 0, False
    while not settled and steps < _STEPS_MAX:
        sensitivity, false_alarms, real = _maximised(sure, patterns, sorted(could))
        fresh = {
            pattern: _sigmoid(_logit((frozenset(pattern[0]), frozenset(pattern[1])), sensitivity, false_alarms, real))
            for pattern in patterns
        }
        settled = max(abs(fresh[pattern] - sure[pattern]) for pattern in patterns) <= _CLOSE
        sure, steps = fresh, steps + 1
    sane = 2 * sum(sensitivity[name] > false_alarms[name] for name in could) > len(could)
    return (
        Detectors(sensitivity, false_alarms, real, steps, settled) if sane else Detectors({}, {}, 0.5, steps, settled)
    )


def cut_for_f1(probabilities: Iterable[float]) -> Cut:
    """Which probabilities to accept so that the expected F1 is greatest; above 1 where there are none.

    Raises:
        ConfigError: a probability outside 0 to 1.
    """
    ordered = sorted(probabilities, reverse=True)
    if ordered and not 0 <= ordered[-1] <= ordered[0] <= 1:
        raise ConfigError(f"probabilities are from 0 to 1 (least {ordered[-1]}, greatest {ordered[0]}); fix them")
    whole, taken, best = math.fsum(ordered), 0.0, 0.0
    for count, value in enumerate(ordered, start=1):
        taken += value
        best = max(best, 2 * taken / (count + whole))
    if not best:
        return Cut(1.0, 0.0, 0)
    return Cut(best / 2, best, sum(value > best / 2 for value in ordered))


_Pattern = tuple[tuple[str, ...], tuple[str, ...]]


def _patterns(cases: Iterable[Case]) -> Counter[_Pattern]:
    patterns: Counter[_Pattern] = Counter()
    for raised, could in cases:
        if not raised or not raised <= could:
            raise ConfigError(
                f"a case was raised by {sorted(raised)} where {sorted(could)} could; "
                "it has one at least, and all are among those who could"
            )
        patterns[tuple(sorted(raised)), tuple(sorted(could))] += 1
    return patterns


def _maximised(
    sure: Mapping[_Pattern, float], patterns: Counter[_Pattern], names: Iterable[str]
) -> tuple[dict[str, float], dict[str, float], float]:
    real: dict[str, list[float]] = {name: [] for name in names}
    spurious: dict[str, list[float]] = {name: [] for name in real}
    hits: dict[str, list[float]] = {name: [] for name in real}
    alarms: dict[str, list[float]] = {name: [] for name in real}
    for pattern, times in patterns.items():
        raised, able = pattern
        yes, no = times * sure[pattern], times * (1 - sure[pattern])
        for name in able:
            real[name].append(yes)
            spurious[name].append(no)
        for name in raised:
            hits[name].append(yes)
            alarms[name].append(no)
    share = math.fsum(times * sure[pattern] for pattern, times in patterns.items()) / patterns.total()
    return (
        {name: _shrunk(hits[name], real[name], _SENSITIVITY) for name in real},
        {name: _shrunk(alarms[name], spurious[name], _FALSE_ALARMS) for name in real},
        min(1 - _FLOOR, max(_FLOOR, share)),
    )


def _shrunk(part: Iterable[float], whole: Iterable[float], prior: float) -> float:
    share = (math.fsum(part) + _PRIOR_CASES * prior) / (math.fsum(whole) + _PRIOR_CASES)
    return min(1 - _FLOOR, max(_FLOOR, share))


def _logit(case: Case, sensitivity: Mapping[str, float], false_alarms: Mapping[str, float], real: float) -> float:
    raised, could = case
    parts = [math.log(real) - math.log1p(-real)]
    for name in could:
        if name not in sensitivity:
            continue
        a, b = sensitivity[name], false_alarms[name]
        parts.append(math.log(a / b) if name in raised else math.log1p(-a) - math.log1p(-b))
    return math.fsum(parts)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
