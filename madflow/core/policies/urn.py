"""How much another vote is worth on this question, learned from how much a run's replies agree: no label is read.

The model is Hoppe's urn. Of n votes so far, c_k of them for answer k, the next one is

    answer k with probability c_k / (n + α),    an answer that nobody gave yet with probability α / (n + α):

a small α means a question on which everybody agrees. Questions differ, and what tells them apart before many votes are
in is how the replies are worded: where a model has to reason longer, and where two replies that name the same answer
argue for it in other words, it agrees less with itself. So

    log α_i = a + b (x_i − x̄) + c (y_i − ȳ),    x̄, ȳ: over the run,

    x_i: mean of log(1 + characters) over the replies to question i,
    y_i: mean over their pairs of log((1 + words in both) / (1 + words in one only)), distinct words without case,

with one a, b and c for the run, the mode of their posterior. A question with n votes for k distinct answers
contributes α^k / (α (α + 1) … (α + n − 1)): the order of votes cancels, and a rule for stopping that looks at these
votes only does not bias it. In logits this is a logistic regression of "new" on x and y with the offset −log n, so it
is concave and Newton's method finds its only maximum. The prior is one pair of average replies that agreed and one that
did not, which makes the chance to agree, 1 / (1 + α), Beta(2, 2); b and c are normal, 0 ± 1. Without texts both are 0,
and where fewer than two votes have a text y counts as ȳ. Replies that are no vote show nothing.

The odds that two replies agree are 1 / α. `Urn.ease` is the log of these odds against the run's: by how much easier
than usual the panel finds this question, as far as its wording shows that, whoever agrees with whom.

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
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final

from ...errors import ConfigError
from ..linear import solve
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
_WORD: Final = re.compile(r"\w+")

_Signs = tuple[float | None, float | None]
_Case = tuple[tuple[float, float], int, int]  # ((length, likeness) about the run's, votes, distinct answers)


@dataclass(frozen=True, slots=True)
class Urn:
    """How much a run's replies agree.

    Attributes:
        level: a, the log of α of average replies; 0: as many pairs agree as not, which is what nothing is known means.
        slope: b, how much log α rises with the log of the length; centre: x̄, the run's mean log length.
        pull: c, how much it rises with the log of the likeness, mostly below 0; usual: ȳ, the run's mean log likeness.
        questions: how many had two votes or more; settled: whether the last step was at most 1e-9.
    """

    level: float = 0.0
    slope: float = 0.0
    centre: float = 0.0
    questions: int = 0
    settled: bool = True
    pull: float = 0.0
    usual: float = 0.0

    def __post_init__(self) -> None:
        for name in ("level", "slope", "centre", "pull", "usual"):
            if not abs(getattr(self, name)) <= _LOG_MAX:  # also refuses what is no number
                raise ConfigError(
                    f"an urn's {name} is at most {_LOG_MAX} in size ({getattr(self, name)}); learn it anew"
                )

    def alpha(self, replies: Sequence[Said]) -> float:
        """α of a question with these replies, above 0; that of average replies where none has a text."""
        return math.exp(_within(self.level - self.ease(replies)))

    def ease(self, replies: Sequence[Said]) -> float:
        """Log odds that two replies agree, against the run's average, as their wording shows; 0 without texts."""
        length, likeness = _signs(replies)
        longer = 0.0 if length is None else self.slope * (length - self.centre)
        liker = 0.0 if likeness is None else self.pull * (likeness - self.usual)
        return _within(-(longer + liker))


def learn_urn(run: Iterable[Debated]) -> Urn:
    """The urn of a run from the first rounds of its debates, in at most 100 Newton steps."""
    first = [debated.rounds[0] for debated in run if debated.rounds]
    signs = [_signs(replies) for replies in first]
    centre, usual = (_mean([sign[place] for sign in signs]) for place in (0, 1))
    cases = [_case(*one, (centre, usual)) for one in zip(first, signs, strict=True)]
    cases = [case for case in cases if case[1] > 1]
    found = [0.0, 0.0, 0.0]
    settled = False
    for _ in range(_STEPS_MAX):
        step = _newton([*cases, ((0.0, 0.0), 2, 1), ((0.0, 0.0), 2, 2)], found)
        found = [value + change for value, change in zip(found, step, strict=True)]
        if settled := max(map(abs, step)) <= _CLOSE:
            break
    level, slope, pull = found
    return Urn(level, slope, centre, len(cases), settled, pull, usual)


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


def _within(exponent: float) -> float:
    return max(-_LOG_MAX, min(_LOG_MAX, exponent))


def _signs(replies: Sequence[Said]) -> _Signs:
    """What the wording of replies shows: (mean log length, mean log likeness of two); None where there is none."""
    texts = [said.text for said in replies if said.text and said.answer is not None]
    words = [frozenset(_WORD.findall(text.casefold())) for text in texts]
    alike = [math.log((1 + len(one & two)) / (1 + len(one ^ two))) for one, two in combinations(words, 2)]
    lengths = [math.log1p(len(text)) for text in texts]
    return math.fsum(lengths) / len(lengths) if lengths else None, math.fsum(alike) / len(alike) if alike else None


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else 0.0


def _case(replies: Sequence[Said], signs: _Signs, means: tuple[float, float]) -> _Case:
    answers = [said.answer for said in replies if said.answer is not None]
    about = [0.0 if sign is None else sign - mean for sign, mean in zip(signs, means, strict=True)]
    return (about[0], about[1]), len(answers), len(set(answers))


def _newton(cases: Sequence[_Case], at: Sequence[float]) -> list[float]:
    """The step from (level, slope, pull) towards the maximum of the posterior, each part at most 2."""
    rows: list[tuple[tuple[float, ...], float, float]] = []  # what is known of a question, its gradient, its curvature
    for about, votes, distinct in cases:
        known = (1.0, *about)
        alpha = math.exp(_within(math.fsum(value * x for value, x in zip(at, known, strict=True))))
        new = [alpha / (n + alpha) for n in range(1, votes)]
        rows.append((known, distinct - 1 - math.fsum(new), math.fsum(p * (1 - p) for p in new)))
    size = range(len(at))
    prior = [0.0, *[1.0] * (len(at) - 1)]
    rise = [math.fsum([-prior[i] * at[i], *(known[i] * up for known, up, _ in rows)]) for i in size]
    bend = [
        [math.fsum([prior[i] * (i == j), *(known[i] * known[j] * by for known, _, by in rows)]) for j in size]
        for i in size
    ]
    return [_within_stride(part) for part in solve(bend, rise)]


def _within_stride(part: float) -> float:
    return max(-_STRIDE_MAX, min(_STRIDE_MAX, part))


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
