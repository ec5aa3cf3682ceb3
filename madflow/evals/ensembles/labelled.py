"""Groups of comments weighed with what a judge said of the same reviewers' comments on *other* repositories.

1. A comment's probability p is a ridge logistic regression on the log odds of its reviewer's precision (hits and
   comments on other changes, with `PRIOR` comments at the mean precision added) and on the log of how many comments
   the reviewer made on this change: who says much is right less often.
2. A group's score is that of a noisy or, Σ −log(1 − p) over its reviewers.
3. A logistic regression on the score gives the probability that the group's spokesman matches a golden issue.

Everything is fitted on the changes given. While fitting 3, the score of a change comes from a fit of 1 without it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...core.linear import solve
from ...core.same import Group
from ...errors import ConfigError
from .reviews import Pull

__all__ = ["PRIOR", "Grouped", "Labelled", "NothingToLearnError", "fit_labelled", "logistic"]

PRIOR: Final = 6.0
_RIDGE: Final = 1.0
_STEPS_MAX: Final = 50
_CLOSE: Final = 1e-8
_EDGE: Final = 30.0

Grouped = Sequence[tuple[Pull, Sequence[Group]]]


class NothingToLearnError(ConfigError):
    """Of the labelled comments, none or all match a golden issue; also where one change is left out to learn from."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was learned from labels; `probability` is that of a group."""

    precisions: Mapping[str, float]
    mean: float
    comment: tuple[float, ...]
    group: tuple[float, ...]

    def probability(self, pull: Pull, group: Group) -> float:
        """That what a group publishes on a change is something a judge wants found."""
        return _chance(self.group, (1.0, _score(pull, group, self.precisions, self.mean, self.comment)))


def fit_labelled(grouped: Grouped) -> Labelled:
    """Fit on changes with their groups.

    Raises:
        NothingToLearnError: no comment matches anything, or all do, on all changes or on all but one.
    """
    pulls = [pull for pull, _ in grouped]
    rows: list[tuple[tuple[float, ...], bool]] = []
    for pull, groups in grouped:
        others = [other for other in pulls if other is not pull] or pulls
        known, mean = _precisions(others)
        weights = _comment_model(others)
        for group in groups:
            rows.append(((1.0, _score(pull, group, known, mean, weights)), bool(pull.comments[group.told].matches)))
    precisions, mean = _precisions(pulls)
    return Labelled(precisions, mean, _comment_model(pulls), logistic(rows))


def logistic(rows: Sequence[tuple[tuple[float, ...], bool]], ridge: float = _RIDGE) -> tuple[float, ...]:
    """Ridge logistic regression by Newton's method; the first weight, the intercept's, is all but free.

    Args:
        rows: (features, the first of which is 1; outcome).
    """
    size = len(rows[0][0])
    penalty = [0.01, *[ridge] * (size - 1)]
    weights = [0.0] * size
    for _ in range(_STEPS_MAX):
        slope = [-cost * weight for cost, weight in zip(penalty, weights, strict=True)]
        bend = [[penalty[i] if i == j else 0.0 for j in range(size)] for i in range(size)]
        for features, outcome in rows:
            chance = _chance(weights, features)
            for i in range(size):
                slope[i] += (outcome - chance) * features[i]
                for j in range(size):
                    bend[i][j] += chance * (1 - chance) * features[i] * features[j]
        step = solve(bend, slope)
        weights = [weight + change for weight, change in zip(weights, step, strict=True)]
        if max(map(abs, step)) <= _CLOSE:
            break
    return tuple(weights)


def _chance(weights: Sequence[float], features: Sequence[float]) -> float:
    value = math.fsum(weight * feature for weight, feature in zip(weights, features, strict=True))
    return 1 / (1 + math.exp(-max(-_EDGE, min(_EDGE, value))))


def _precisions(pulls: Sequence[Pull]) -> tuple[dict[str, float], float]:
    made: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for pull in pulls:
        for comment in pull.comments:
            made[comment.remark.by] += 1
            right[comment.remark.by] += bool(comment.matches)
    if not 0 < right.total() < made.total():
        raise NothingToLearnError(
            f"{right.total()} of {made.total()} comments match a golden issue: nothing can be learned from that; "
            "give changes with both kinds"
        )
    mean = right.total() / made.total()
    return {name: (right[name] + PRIOR * mean) / (count + PRIOR) for name, count in sorted(made.items())}, mean


def _features(pull: Pull, reviewer: str, precisions: Mapping[str, float], mean: float) -> tuple[float, ...]:
    precision = precisions.get(reviewer, mean)
    return 1.0, math.log(precision / (1 - precision)), math.log(pull.volume(reviewer))


def _comment_model(pulls: Sequence[Pull]) -> tuple[float, ...]:
    rows = []
    for pull in pulls:
        known, mean = _precisions([other for other in pulls if other is not pull] or pulls)
        features = {by: _features(pull, by, known, mean) for by in pull.reviewers}
        rows += [(features[comment.remark.by], bool(comment.matches)) for comment in pull.comments]
    return logistic(rows)


def _score(pull: Pull, group: Group, precisions: Mapping[str, float], mean: float, weights: Sequence[float]) -> float:
    reviewers = sorted({pull.comments[place].remark.by for place in group.members})
    return math.fsum(-math.log1p(-_chance(weights, _features(pull, by, precisions, mean))) for by in reviewers)
