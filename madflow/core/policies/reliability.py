"""How reliable each seat is, learned across the debates of a run from who agrees with whom: no label is read.

The model is Dawid and Skene's with one coin per seat. A question with K possible answers has one right answer, every
answer equally likely beforehand. Seat s gives it with probability p_s, independently of the others, and otherwise one
of the K − 1 wrong ones, all equally likely. Expectation–maximisation alternates

    E   q_i(k) ∝ ∏_s p_s if s said k, (1 − p_s) / (K_i − 1) if s said anything else
    M   p_s = (a − 1 + Σ_i q_i(what s said)) / (a + b − 2 + n_s)

over the questions i that s answered, n_s many, from p_s = 0.7 for all, which makes the first E step a plurality vote.
M is the posterior mode under Beta(a, b), by default Beta(2, 2): a seat about which nothing is known counts as a coin
that is right half of the time, and ten debates move it. Every sum is rounded once (`math.fsum`), so the result does
not depend on the order of seats or debates.

Every solution has a twin in which right and wrong change places; only the start decides for the sane one. So where no
more than half of the seats end above chance, the mean of 1/K over their questions, nothing is learned: `by_seat` is
empty and all seats count alike.

`learn_disputed` asks for more where there is more to learn. Weights matter only where seats disagree, and a seat is not
worth the same there: what all agree on, easy questions and errors they share, raises everybody's p_s, a misleading
seat's above 1/K as well. So where the seats differ at all, reliabilities are learned from the disputed questions alone.
They differ where one p_s per seat explains the run better than one p for all, by Schwarz's criterion:

    2 (log L(p_1, …, p_S) − log L(p)) > (S − 1) log n

with n questions and the likelihood summed over their right answers. Where they do not differ, disputed questions hold
nothing but chance, which expectation–maximisation would take for a better and a worse seat; all questions are used.

What it survives: a seat that argues for wrong answers disagrees with the others wherever they agree, p_s falls below
1/K and its weight log(p_s (K − 1) / (1 − p_s)) becomes negative: its word counts against the answer. What it does not:
seats that err together, since agreement is all it sees; a majority of faulty seats wins. Feed it first-round answers,
given before anyone could persuade anyone.

Sources: A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm",
Applied Statistics 28 (1979); the log-odds weights are optimal for independent seats: S. Nitzan and J. Paroush,
"Optimal decision rules in uncertain dichotomous choice situations", International Economic Review 23 (1982); the
criterion: G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978); reliability depends on how
hard a question is: J. Whitehill et al., "Whose vote should count more", NIPS 2009.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ...errors import ConfigError
from .urn import Urn

__all__ = [
    "RELIABILITY_UNKNOWN",
    "Question",
    "Reliabilities",
    "learn_disputed",
    "learn_reliabilities",
    "log_odds",
    "posterior",
]

_START: Final = 0.7
RELIABILITY_UNKNOWN: Final = _START
"""Of a seat of which nothing is learned: where learning starts from. Above chance for two options as well, so that a
panel of strangers is a plain vote."""

_PRIOR: Final = (2.0, 2.0)
_FLOOR: Final = 0.01  # one coin never gets certain: a weight stays below log(99 (K − 1))
_STEPS_MAX: Final = 500
_CLOSE: Final = 1e-9
_RANK_DIGITS: Final = 6

Question = tuple[Mapping[str, str], int]
"""(seat to answer, how many answers there can be, at least 2)."""


@dataclass(frozen=True, slots=True)
class Reliabilities:
    """The probability that a seat is right, by seat.

    Attributes:
        by_seat: 0.01 to 0.99, by seats in order; empty where nothing was seen, or the panel is not above chance.
        questions: how many it rests on: those that were answered, or only the disputed ones (`learn_disputed`).
        steps: iterations taken; settled: whether the last one moved no seat by more than 1e-9.
        urn: how much the panel's replies agree, where the policy looks at it.
        rank: whom the policy asks first: 0 is the best; empty where it does not choose.

    Raises:
        ConfigError: a reliability outside of 0.01 to 0.99.
    """

    by_seat: Mapping[str, float] = field(default_factory=dict)
    questions: int = 0
    steps: int = 0
    settled: bool = True
    urn: Urn = field(default_factory=Urn)
    rank: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for seat, level in self.by_seat.items():
            if not _FLOOR <= level <= 1 - _FLOOR:  # also refuses what is no number
                raise ConfigError(
                    f"the reliability of seat {seat!r} is {_FLOOR} to {1 - _FLOOR} ({level}); nobody is never wrong"
                )

    def of(self, seat: str) -> float:
        """A seat's reliability, `RELIABILITY_UNKNOWN` if it was never seen."""
        return self.by_seat.get(seat, RELIABILITY_UNKNOWN)

    def among(self, seats: Iterable[str]) -> Reliabilities:
        """The same, of these seats only: a debate of a panel in which some are absent."""
        here = set(seats)
        return replace(
            self,
            by_seat={seat: level for seat, level in self.by_seat.items() if seat in here},
            rank={seat: place for seat, place in self.rank.items() if seat in here},
        )

    def ranked(self) -> dict[str, int]:
        """Seat to its place by reliability, 0 for the best, by seats in order; seats within 1e-6 share a place."""
        level = {seat: round(found, _RANK_DIGITS) for seat, found in self.by_seat.items()}
        places = {found: place for place, found in enumerate(sorted(set(level.values()), reverse=True))}
        return {seat: places[found] for seat, found in sorted(level.items())}


def learn_reliabilities(questions: Iterable[Question], prior: tuple[float, float] = _PRIOR) -> Reliabilities:
    """One-coin Dawid–Skene by expectation–maximisation, at most 500 iterations.

    Args:
        questions: the first-round answers of a run's debates; those without an answer say nothing.
        prior: a and b of Beta(a, b), both at least 1.

    Raises:
        ConfigError: a question with fewer than 2 possible answers, or with more answers than there can be; a prior
            below 1.
    """
    if min(prior) < 1 or not all(map(math.isfinite, prior)):
        raise ConfigError(f"a prior is Beta(a, b) with a and b of at least 1 (prior={prior}); raise them")
    patterns = _patterns(questions)
    asked: Counter[str] = Counter()
    for (votes, _), times in patterns.items():
        for seat, _answer in votes:
            asked[seat] += times
    belief = dict.fromkeys(sorted(asked), _START)
    steps, settled = 0, not belief
    while not settled and steps < _STEPS_MAX:
        fresh = _maximised(belief, patterns, asked, prior)
        settled = max(abs(fresh[seat] - belief[seat]) for seat in belief) <= _CLOSE
        belief, steps = fresh, steps + 1
    sane = 2 * sum(belief[seat] > chance for seat, chance in _chances(patterns, asked).items()) > len(belief)
    return Reliabilities(belief if sane else {}, patterns.total(), steps, settled)


def learn_disputed(questions: Iterable[Question], *, prior: tuple[float, float] = _PRIOR) -> Reliabilities:
    """As `learn_reliabilities`; from the questions with two answers or more where the seats are shown to differ.

    A seat without an answer to those keeps what all questions say of it. Raises as `learn_reliabilities`.
    """
    known = list(questions)
    learned = learn_reliabilities(known, prior=prior)
    if not _differ(_patterns(known), learned.by_seat, prior):
        return learned
    disputed = learn_reliabilities([one for one in known if len(set(one[0].values())) > 1], prior=prior)
    return replace(disputed, by_seat={**learned.by_seat, **disputed.by_seat}) if disputed.by_seat else learned


def log_odds(reliability: float, choices: int) -> float:
    """The weight of one vote: log(p (K − 1) / (1 − p)), in nats; 0 for a seat that guesses.

    Args:
        reliability: p, strictly between 0 and 1; choices: K, at least 2.
    """
    return math.log(reliability) + math.log(choices - 1) - math.log1p(-reliability)


def posterior(scores: Mapping[str, float], choices: int) -> dict[str, float]:
    """The probability of each answer from its summed log-odds; an answer nobody gave has the score 0.

    The probabilities add up to less than 1 where `choices` is more than the answers given.
    """
    unseen = max(0, choices - len(scores))
    top = max([*scores.values(), 0.0] if unseen else scores.values(), default=0.0)
    shares = {answer: math.exp(score - top) for answer, score in scores.items()}
    total = math.fsum([*shares.values(), unseen * math.exp(-top)])
    return {answer: share / total for answer, share in shares.items()}


_Pattern = tuple[tuple[tuple[str, str], ...], int]


def _patterns(questions: Iterable[Question]) -> Counter[_Pattern]:
    """Each distinct way of voting and how often it occurred: panels agree a lot, so there are far fewer of them."""
    patterns: Counter[_Pattern] = Counter()
    for votes, choices in questions:
        given = len(set(votes.values()))
        if choices < 2 or given > choices:
            raise ConfigError(f"{given} answers were given where {choices} can be, and at least 2; fix `choices`")
        if votes:
            patterns[tuple(sorted(votes.items())), choices] += 1
    return patterns


def _chances(patterns: Counter[_Pattern], asked: Counter[str]) -> dict[str, float]:
    """What each seat would reach by guessing: the mean of 1/K over its questions."""
    parts: dict[str, list[float]] = {seat: [] for seat in asked}
    for (votes, choices), times in patterns.items():
        for seat, _answer in votes:
            parts[seat].append(times / choices)
    return {seat: math.fsum(found) / asked[seat] for seat, found in parts.items()}


def _maximised(
    belief: Mapping[str, float],
    patterns: Counter[_Pattern],
    asked: Counter[str],
    prior: tuple[float, float],
) -> dict[str, float]:
    right: dict[str, list[float]] = {seat: [] for seat in belief}
    for (votes, choices), times in patterns.items():
        sure = posterior(_scores(votes, belief, choices), choices)
        for seat, answer in votes:
            right[seat].append(times * sure[answer])
    a, b = prior
    fresh = {}
    for seat, masses in right.items():
        weight = a + b - 2 + asked[seat]
        fresh[seat] = min(1 - _FLOOR, max(_FLOOR, (a - 1 + math.fsum(masses)) / weight))
    return fresh


def _differ(patterns: Counter[_Pattern], belief: Mapping[str, float], prior: tuple[float, float]) -> bool:
    """Schwarz's criterion: one reliability per seat against one for all."""
    if len(belief) < 2:
        return False
    gained = _log_likelihood(patterns, belief) - _log_likelihood(patterns, _alike(patterns, belief, prior))
    return 2 * gained > (len(belief) - 1) * math.log(patterns.total())


def _alike(patterns: Counter[_Pattern], seats: Iterable[str], prior: tuple[float, float]) -> dict[str, float]:
    """The same expectation–maximisation with one coin for all seats."""
    a, b = prior
    belief, fresh, steps = dict.fromkeys(seats, _START), 0.0, 0
    votes = sum(len(said) * times for (said, _), times in patterns.items())
    while steps < _STEPS_MAX:
        masses = []
        for (said, choices), times in patterns.items():
            sure = posterior(_scores(said, belief, choices), choices)
            masses += [times * sure[answer] for _seat, answer in said]
        fresh = min(1 - _FLOOR, max(_FLOOR, (a - 1 + math.fsum(masses)) / (a + b - 2 + votes)))
        settled = abs(fresh - next(iter(belief.values()))) <= _CLOSE
        belief, steps = dict.fromkeys(belief, fresh), steps + 1
        if settled:
            break
    return belief


def _log_likelihood(patterns: Counter[_Pattern], belief: Mapping[str, float]) -> float:
    """log P(what was said), summed over the right answers, every one equally likely; nats, up to a constant."""
    parts = []
    for (said, choices), times in patterns.items():
        wrong = math.fsum(math.log1p(-belief[seat]) - math.log(choices - 1) for seat, _answer in said)
        scores = _scores(said, belief, choices)
        top = max(0.0, *scores.values())
        unseen = (choices - len(scores)) * math.exp(-top)
        right = math.fsum([*(math.exp(score - top) for score in scores.values()), unseen])
        parts.append(times * (wrong + top + math.log(right)))
    return math.fsum(parts)


def _scores(votes: Sequence[tuple[str, str]], belief: Mapping[str, float], choices: int) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for seat, answer in votes:
        parts.setdefault(answer, []).append(log_odds(belief[seat], choices))
    return {answer: math.fsum(found) for answer, found in parts.items()}
