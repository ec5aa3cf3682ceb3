"""How much another vote is worth on this question, learned from how much a run's replies agree: no label is read.

The model is Hoppe's urn. Of n votes so far, c_k of them for answer k, the next one is

    answer k with probability c_k / (n + α),    an answer that nobody gave yet with probability α / (n + α):

a small α means a question on which everybody agrees. Questions differ, and what tells them apart before many votes are
in is how long the replies are: where a model has to reason longer, it agrees less with itself. So

    log α_i = a + b (x_i − x̄),    x_i: mean of log(1 + characters) over the replies to question i, x̄: over the run,

with one a and one b for the run, the mode of their posterior. A question with n votes for k distinct answers
contributes α^k / (α (α + 1) … (α + n − 1)): the order of votes cancels, and a rule for stopping that looks at these
votes only does not bias it. In logits this is a logistic regression of "new" on x with the offset −log n, so it is
concave and Newton's method finds its only maximum. The prior is one pair of replies of average length that agreed and
one that did not, which makes the chance to agree, 1 / (1 + α), Beta(2, 2); b is normal, 0 ± 1. Without texts b is 0.

What a vote is worth follows by looking ahead (`urn_gain`). What asking can raise is the share of the chosen answer; a
vote has a price in the same unit; the best plan of asking and stopping is found backwards from the last vote. Shares
stand in for the chance to be right: samples of one model are right about as often as they agree. Answers that cannot
overtake any more are not told apart.

Votes are taken to be alike, whoever gives them, and the urn knows no list of options.

Sources: F. M. Hoppe, "Pólya-like urns and the Ewens' sampling formula", J. Math. Biology 20 (1984); W. J. Ewens, "The
sampling theory of selectively neutral alleles", Theor. Popul. Biology 3 (1972) (the likelihood); B. Efron, C. Morris,
"Stein's estimation rule and its competitors: an empirical Bayes approach", J. Amer. Stat. Assoc. 68 (1973); the price a
sample and the backward induction: A. Wald, "Statistical Decision Functions" (1950). Length as the covariate is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ...errors import ConfigError
from .debated import Debated, Said

__all__ = ["URN_HORIZON_MAX", "Urn", "learn_urn", "urn_gain"]

URN_HORIZON_MAX: Final = 8
"""How many votes `urn_gain` looks ahead."""

_VOTES_MAX: Final = 1_000
_STEPS_MAX: Final = 100
_CLOSE: Final = 1e-9
_STRIDE_MAX: Final = 2.0  # of one Newton step: the first ones overshoot where the data say "always" or "never"
_GRADES: Final = 4  # α is rounded to a quarter of an octave: what was computed once serves again
_OCTAVES_MAX: Final = 6
_LOG_MAX: Final = 300.0


@dataclass(frozen=True, slots=True)
class Urn:
    """How much a run's replies agree.

    Attributes:
        level: a, the log of α at average length; 0: as many pairs agree as not, which is what nothing is known means.
        slope: b, how much log α rises with the log of the length; centre: x̄, the run's mean log length.
        questions: how many had two votes or more; settled: whether the last step was at most 1e-9.
    """

    level: float = 0.0
    slope: float = 0.0
    centre: float = 0.0
    questions: int = 0
    settled: bool = True

    def __post_init__(self) -> None:
        for name in ("level", "slope", "centre"):
            if not abs(getattr(self, name)) <= _LOG_MAX:  # also refuses what is no number
                raise ConfigError(
                    f"an urn's {name} is at most {_LOG_MAX} in size ({getattr(self, name)}); learn it anew"
                )

    def alpha(self, replies: Iterable[Said]) -> float:
        """α of a question with these replies, above 0; that of an average length where none has a text."""
        length = _length(replies)
        exponent = self.level + (0.0 if length is None else self.slope * (length - self.centre))
        return math.exp(max(-_LOG_MAX, min(_LOG_MAX, exponent)))


def learn_urn(run: Iterable[Debated]) -> Urn:
    """The urn of a run from the first rounds of its debates, in at most 100 Newton steps."""
    first = [debated.rounds[0] for debated in run if debated.rounds]
    lengths = [length for length in map(_length, first) if length is not None]
    centre = math.fsum(lengths) / len(lengths) if lengths else 0.0
    cases = [case for case in (_case(replies, centre) for replies in first) if case[1] > 1]
    level = slope = 0.0
    for _ in range(_STEPS_MAX):
        by_level, by_slope = _newton([*cases, (0.0, 2, 1), (0.0, 2, 2)], level, slope)
        level, slope = level + by_level, slope + by_slope
        if max(abs(by_level), abs(by_slope)) <= _CLOSE:
            return Urn(level, slope, centre, len(cases))
    return Urn(level, slope, centre, len(cases), settled=False)


def urn_gain(votes: Sequence[int], left: int, alpha: float, price: float) -> float:
    """By how much asking raises the expected share of the chosen answer, what it costs taken off; 0: stop.

    Args:
        votes: of each answer given, each at least 1, 1,000 in all; none: nothing is chosen yet.
        left: how many seats were not asked; at most `URN_HORIZON_MAX` of them are looked at.
        alpha: above 0; taken as the nearest of 2^(i/4) between 1/64 and 64.
        price: of one vote, in shares; above 0.

    Raises:
        ConfigError: a number outside its bounds.
    """
    if min(votes, default=1) < 1 or sum(votes) > _VOTES_MAX or left < 0:
        raise ConfigError(
            f"an answer has 1 vote or more, all have {_VOTES_MAX} at most, and 0 seats or more are left "
            f"(votes={list(votes)[:20]}, left={left}); fix them"
        )
    if not (0 < alpha < math.inf and 0 < price < math.inf):
        raise ConfigError(f"alpha and price are above 0 and finite (alpha={alpha}, price={price}); fix them")
    octaves = min(_OCTAVES_MAX, max(-_OCTAVES_MAX, math.log2(alpha)))
    counts, ahead = tuple(sorted(votes, reverse=True)), min(left, URN_HORIZON_MAX)
    grade = round(octaves * _GRADES)
    return _best(*_contenders(counts, 0, ahead), ahead, grade, price) - _share(counts, sum(counts), grade)


def _length(replies: Iterable[Said]) -> float | None:
    lengths = [math.log1p(len(said.text)) for said in replies if said.text]
    return math.fsum(lengths) / len(lengths) if lengths else None


def _case(replies: Sequence[Said], centre: float) -> tuple[float, int, int]:
    """(length about the run's, votes, distinct answers) of a question."""
    answers = [said.answer for said in replies if said.answer is not None]
    length = _length(replies)
    return (0.0 if length is None else length - centre), len(answers), len(set(answers))


def _newton(cases: Sequence[tuple[float, int, int]], level: float, slope: float) -> tuple[float, float]:
    """The step from (level, slope) towards the maximum of the posterior, each part at most 2."""
    rises: list[tuple[float, float]] = []  # of each question: its part of the gradient and of the curvature
    for x, votes, distinct in cases:
        alpha = math.exp(level + slope * x)
        new = [alpha / (n + alpha) for n in range(1, votes)]
        rises.append((distinct - 1 - math.fsum(new), math.fsum(p * (1 - p) for p in new)))
    xs = [x for x, _, _ in cases]
    up = math.fsum(rise for rise, _ in rises)
    tilt = math.fsum([-slope, *(x * rise for x, (rise, _) in zip(xs, rises, strict=True))])
    curve = math.fsum(bend for _, bend in rises)
    cross = math.fsum(x * bend for x, (_, bend) in zip(xs, rises, strict=True))
    square = math.fsum([1.0, *(x * x * bend for x, (_, bend) in zip(xs, rises, strict=True))])
    whole = curve * square - cross * cross  # above 0: the prior on the slope makes it so
    by_level, by_slope = (square * up - cross * tilt) / whole, (curve * tilt - cross * up) / whole
    return (
        min(_STRIDE_MAX, max(-_STRIDE_MAX, by_level)),
        min(_STRIDE_MAX, max(-_STRIDE_MAX, by_slope)),
    )


def _contenders(counts: tuple[int, ...], others: int, ahead: int) -> tuple[tuple[int, ...], int]:
    """The leader and who can still overtake within `ahead` votes, and the votes of all others."""
    stay = tuple(count for place, count in enumerate(counts) if place == 0 or count + ahead > counts[0])
    return stay, others + sum(counts) - sum(stay)


def _share(counts: tuple[int, ...], votes: int, grade: int) -> float:
    return counts[0] / (votes + 2.0 ** (grade / _GRADES)) if counts else 0.0


@lru_cache(maxsize=1 << 16)
def _best(counts: tuple[int, ...], others: int, ahead: int, grade: int, price: float) -> float:
    """The expected share under the best plan, the price of what it asks taken off."""
    votes = sum(counts) + others
    now = _share(counts, votes, grade)
    newcomer = not counts or ahead > counts[0]  # an answer nobody gave yet could still win
    if ahead == 0 or (len(counts) == 1 and not newcomer):
        return now
    whole = votes + 2.0 ** (grade / _GRADES)
    chances = []
    for place, count in enumerate(counts):
        if place and counts[place - 1] == count:
            continue  # equal ones are one case, counted with the first: one vote more keeps the order there
        raised = (*counts[:place], count + 1, *counts[place + 1 :])
        chance = counts.count(count) * count / whole
        chances.append(chance * _best(*_contenders(raised, others, ahead - 1), ahead - 1, grade, price))
    if others:
        chances.append(others / whole * _best(*_contenders(counts, others + 1, ahead - 1), ahead - 1, grade, price))
    fresh = 2.0 ** (grade / _GRADES) / whole
    after = (*counts, 1)
    chances.append(fresh * _best(*_contenders(after, others, ahead - 1), ahead - 1, grade, price))
    return max(now, math.fsum(chances) - price)
