"""From outcomes to figures: measures by name, each with its interval, and what can be compared.

A name may carry an argument after a colon: `oracle:1` is of round 1, `interception:0.216` at that share of false flags.
There are those of an arm's outcomes and those of the recordings, which no arm decides; either is a
ratio of sums over debates (then two arms can be compared, drawn together by question) or a function of all cases at
once. The formulas are in metrics.py and docs/reference/metrics.md; this module only names them and finds their cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, Final

from ..core.policies import Debated
from ..errors import ConfigError
from . import metrics
from .bootstrap import DRAWS, LEVEL, Interval, Item, difference, estimate, resampled, statistic
from .curves import Ranked, binned
from .records import Outcome, Recording
from .schema import ROUNDS_MAX

__all__ = ["MEASURES", "Figure", "Measure", "measure_named", "round_measures", "unanimity"]

_PAIRS_MAX: Final = 20_000  # above it the pairs of seats and debates are too many to draw 2,000 times


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure that was taken: over `n` debates, or cases of other kind."""

    n: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure by name, its argument bound.

    Attributes:
        of: "outcomes" of an arm, or "recordings".
        items: the cases of a ratio of sums; None for a function of all cases, which is then in `take`.
    """

    name: str
    of: str
    items: Callable[[Sequence[Any]], list[Item]] | None
    take: Callable[[Sequence[Any], int, int], Interval]

    def figure(self, cases: Sequence[Outcome] | Sequence[Recording], *, seed: int = 0, draws: int = DRAWS) -> Figure:
        """Its value and interval on outcomes or recordings."""
        return Figure(len(cases), self.take(cases, seed, draws))

    def compared(self, cases: Sequence[Any], others: Sequence[Any], *, seed: int = 0, draws: int = DRAWS) -> Interval:
        """How much greater it is on `cases` than on `others`, drawn together by question.

        Raises:
            ConfigError: it is no ratio of sums.
        """
        if self.items is None:
            raise ConfigError(f"measure {self.name} is no ratio of sums: it cannot be compared; drop the comparison")
        return difference(self.items(cases), self.items(others), seed=seed, draws=draws)


def measure_named(text: str) -> Measure:
    """The measure that a suite names.

    Raises:
        ConfigError: there is none, or its argument is missing, needless or wrong; the message lists them.
    """
    name, colon, argument = text.partition(":")
    if name not in MEASURES:
        raise ConfigError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    of, kind, made = MEASURES[name]
    if bool(colon) != (kind is not None):
        raise ConfigError(f"measure {name} takes {'an' if kind else 'no'} argument ({text!r}); write it so")
    try:
        bound = made if kind is None else partial(made, argument=_within(text, name, kind(argument)))
    except ValueError as error:
        raise ConfigError(f"measure {text!r}: {argument!r} is no {kind.__name__ if kind else ''}; fix it") from error
    if name in _STATISTICS:
        return Measure(text, of, None, bound)
    return Measure(text, of, bound, partial(_ratio, bound, name not in _NO_SHARES))


def _within(text: str, name: str, argument: float) -> float:
    """The argument of a measure, where there is such a one. Else it would be of nothing, and say so by no word."""
    what, low, high = _BOUNDS.get(name, ("a round", 1, ROUNDS_MAX))
    if not low <= argument <= high:
        given = text.partition(":")[2]
        raise ConfigError(f"measure {text!r}: {given} is not {what}, which is {low} to {high}; fix it")
    return argument


def round_measures(recordings: Sequence[Recording], number: int) -> dict[str, list[Item]]:
    """The cases of a round's curve: `accuracy`, `unanimity`, and the flips from this round to the next."""
    pairs = [
        replace(one, debated=replace(one.debated, rounds=one.debated.rounds[number - 1 : number + 1]))
        for one in recordings
        if len(one.debated.rounds) > number
    ]
    return {
        "accuracy": metrics.round_accuracy(recordings, number),
        "unanimity": unanimity(recordings, number),
        "right_to_wrong": metrics.right_to_wrong(pairs),
        "wrong_to_right": metrics.wrong_to_right(pairs),
    }


def unanimity(recordings: Sequence[Recording], argument: int) -> list[Item]:
    """Debates in which all that were asked in a round (the last one held where there were fewer) gave one answer."""
    return [Item(one.question, _unanimous(one.debated, argument)) for one in recordings]


def _unanimous(debated: Debated, number: int) -> bool:
    held = min(number, len(debated.rounds))
    answers = {said.answer for said in debated.rounds[held - 1]} if held else set()
    return len(answers) == 1 and None not in answers


def _ratio(
    items: Callable[[Sequence[Any]], list[Item]], share: bool, cases: Sequence[Any], seed: int, draws: int
) -> Interval:
    return estimate(items(cases), seed=seed, draws=draws, share=share)


def _clusters(cases: Sequence[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for question, case in cases:
        found.setdefault(question, []).append(case)
    return found


def _groups(cases: Sequence[tuple[str, Any]]) -> list[list[Any]]:
    """The cases of each question, by questions in order: in no other are the draws the same for every arm."""
    return [held for _, held in sorted(_clusters(cases).items())]


def _mean(of: Callable[[Outcome], float], outcomes: Sequence[Outcome]) -> list[Item]:
    return [Item(one.recording.question, of(one)) for one in outcomes]


def _read(recordings: Sequence[Recording], wanted: Callable[[str], bool] = bool) -> list[Item]:
    """Replies whose own text was read as an answer, of those with a text; what was recorded for them does not help."""
    return [
        Item(one.question, said.answer is not None and (number, said.seat) not in one.unread)
        for one in recordings
        for number, spoken in enumerate(one.debated.rounds, start=1)
        for said in spoken
        if wanted(said.text.strip())
    ]


def _is_json(text: str) -> bool:
    return text.startswith(("{", "[", "```json", '"'))


def _is_prose(text: str) -> bool:
    return bool(text) and not _is_json(text)


def _calibration(outcomes: Sequence[Outcome], seed: int, draws: int) -> Interval:
    right = metrics.accuracy(outcomes)
    cases = [(one.recording.question, (one.confidence, item.part)) for one, item in zip(outcomes, right, strict=True)]
    groups = _groups(cases)
    return resampled(len(groups), binned(groups), seed=seed, draws=draws)


def _ranked(of: str, outcomes: Sequence[Outcome]) -> tuple[int, Ranked]:
    groups = _groups([(q, (score, wrong)) for q, score, wrong in metrics.consensus_cases(outcomes, of)])
    return len(groups), Ranked(groups)


def _interception(of: str, outcomes: Sequence[Outcome], seed: int, draws: int, argument: float) -> Interval:
    count, ranked = _ranked(of, outcomes)
    return resampled(count, partial(ranked.interception, false_flags=argument), seed=seed, draws=draws)


def _auc(of: str, outcomes: Sequence[Outcome], seed: int, draws: int) -> Interval:
    count, ranked = _ranked(of, outcomes)
    return resampled(count, ranked.auc, seed=seed, draws=draws)


def _agreement(outcomes: Sequence[Outcome], of: str) -> list[Item]:
    """Debates that ended in one answer, as `metrics.consensus_cases` takes them, of all."""
    taken = [question for question, _, _ in metrics.consensus_cases(outcomes, of)]
    return [Item(one.recording.question, 0.0, 1.0) for one in outcomes] + [Item(one, 1.0, 0.0) for one in taken]


def _errors(recordings: Sequence[Recording], seed: int, draws: int) -> Interval:
    """`metrics.error_correlation`, its cases taken apart once: (run and pair of seats, both errors) by question."""
    cases = []
    for one in recordings:
        votes = one.debated.votes(1)
        honest = sorted(set(one.debated.seats) - one.adversaries)
        wrong = {seat: votes.get(seat) != one.gold for seat in honest}
        cases += [(one.question, ((one.run, a, b), 2 * wrong[a] + wrong[b])) for a, b in combinations(honest, 2)]
    clusters = _clusters(cases)
    if len(cases) <= _PAIRS_MAX:
        return statistic(clusters, _mean_phi, seed=seed, draws=draws)
    whole = _mean_phi([case for _, case in cases])
    return Interval(whole, math.nan, math.nan, LEVEL, 0, seed, len(clusters))


def _mean_phi(cases: Sequence[tuple[tuple[str, str, str], int]]) -> float:
    tables: dict[tuple[str, str, str], list[int]] = {}
    for pair, place in cases:
        table = tables.get(pair)
        if table is None:
            table = tables[pair] = [0, 0, 0, 0]
        table[place] += 1
    found = []
    for neither, second, first, both in tables.values():
        spread = (both + first) * (second + neither) * (both + second) * (first + neither)
        if spread:
            found.append((both * neither - first * second) / math.sqrt(spread))
    return math.fsum(found) / len(found) if found else math.nan


def _latency(recordings: Sequence[Recording], seed: int, draws: int, argument: int) -> Interval:
    cases = [(one.question, found) for one in recordings for found in metrics.latencies([one])]
    return statistic(_clusters(cases), partial(metrics.percentile, share=argument / 100), seed=seed, draws=draws)


def _numbered(of: Callable[[Sequence[Recording], int], list[Item]]) -> Callable[..., list[Item]]:
    def made(recordings: Sequence[Recording], argument: int) -> list[Item]:
        return of(recordings, argument)

    return made


_Entry = tuple[str, Callable[[str], Any] | None, Callable[..., Any]]
_O: Final = "outcomes"
_R: Final = "recordings"

MEASURES: Final[Mapping[str, _Entry]] = {
    "accuracy": (_O, None, metrics.accuracy),
    "gain": (_O, None, metrics.gain),
    "token_share": (_O, None, metrics.token_share),
    "tokens": (_O, None, partial(_mean, lambda one: one.tokens)),
    "calls": (_O, None, partial(_mean, lambda one: one.calls)),
    "rounds": (_O, None, partial(_mean, lambda one: one.rounds)),
    "collapses": (_O, None, metrics.collapses),
    "corrections": (_O, None, metrics.corrections),
    "oracle_gap": (_O, None, metrics.oracle_gap),
    "abstentions": (_O, None, metrics.abstentions),
    "decided": (_O, None, partial(_mean, lambda one: one.decided)),
    "selective_accuracy": (_O, None, metrics.selective_accuracy),
    "brier": (_O, None, metrics.brier),
    "calibration_error": (_O, None, _calibration),
    "interception": (_O, float, partial(_interception, "last")),
    "interception_outcome": (_O, float, partial(_interception, "outcome")),
    "auc": (_O, None, partial(_auc, "last")),
    "auc_outcome": (_O, None, partial(_auc, "outcome")),
    "consensus": (_O, None, partial(_agreement, of="last")),
    "seat_accuracy": (_R, int, _numbered(metrics.seat_accuracy)),
    "misleading_accuracy": (_R, int, _numbered(partial(metrics.seat_accuracy, misleading=True))),
    "round_accuracy": (_R, int, _numbered(metrics.round_accuracy)),
    "unanimity": (_R, int, unanimity),
    "oracle": (_R, int, _numbered(metrics.oracle)),
    "all_wrong": (_R, int, _numbered(metrics.all_wrong)),
    "right_to_wrong": (_R, None, metrics.right_to_wrong),
    "wrong_to_right": (_R, None, metrics.wrong_to_right),
    "modal_adoption": (_R, None, metrics.modal_adoption),
    "disagreement_collapses": (_R, None, metrics.disagreement_collapses),
    "error_correlation": (_R, None, _errors),
    "latency_ms": (_R, int, _latency),
    "read": (_R, None, _read),
    "read_json": (_R, None, partial(_read, wanted=_is_json)),
    "read_prose": (_R, None, partial(_read, wanted=_is_prose)),
}
"""Name to: what it is of, the type of its argument (None: it takes none), and the metric."""

_BOUNDS: Final[Mapping[str, tuple[str, int, int]]] = {
    "interception": ("a share of false flags", 0, 1),
    "interception_outcome": ("a share of false flags", 0, 1),
    "latency_ms": ("a percentile", 0, 100),
}
"""Name to: what its argument is, the least and the greatest. Arguments of all others are rounds."""

_NO_SHARES: Final = frozenset({"brier", "calls", "gain", "oracle_gap", "rounds", "token_share", "tokens"})
"""Ratios of sums that are no share of cases: of these 0 or 1 can be so by construction, or is no bound."""

_STATISTICS: Final = frozenset(
    {
        "auc",
        "auc_outcome",
        "calibration_error",
        "error_correlation",
        "interception",
        "interception_outcome",
        "latency_ms",
    }
)
