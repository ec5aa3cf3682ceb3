"""Ways to count ballots: pure functions over options and (weight, choices) pairs.

Every function is exact, treats all options alike, and does not depend on the order of the ballots. What the rules mean,
and when a count decides anything, stands in rules.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Ballots", "Standing", "approvals", "borda", "condorcet", "first_choices", "margins", "most", "runoff"]

Ballots = Sequence[tuple[int, tuple[str, ...]]]
"""(weight, choices by preference) of each valid ballot."""


class Standing(NamedTuple):
    """How the options stand, before any tie is settled.

    Attributes:
        winner: the option that wins by itself; tied: those between which the count cannot choose, in their order.
        scores: option to its score, as text; blocked: a motion that cannot be approved any more.
    """

    winner: str | None
    tied: tuple[str, ...]
    scores: Mapping[str, str]
    blocked: bool = False


def most(counts: Mapping[str, int], scores: Mapping[str, str] | None = None) -> Standing:
    """One leader wins; several are tied. `scores` are the texts to show, by default the counts."""
    top = max(counts.values())
    shown = {option: str(count) for option, count in counts.items()} if scores is None else scores
    return _one_of((option for option, count in counts.items() if count == top), shown)


def first_choices(options: Sequence[str], ballots: Ballots) -> dict[str, int]:
    """Weight of first choices."""
    counts = dict.fromkeys(options, 0)
    for weight, choices in ballots:
        counts[choices[0]] += weight
    return counts


def approvals(options: Sequence[str], ballots: Ballots) -> dict[str, int]:
    """Weight of the ballots that name an option."""
    counts = dict.fromkeys(options, 0)
    for weight, choices in ballots:
        for option in choices:
            counts[option] += weight
    return counts


def borda(options: Sequence[str], ballots: Ballots) -> dict[str, int]:
    """*Doubled* Borda points, so that the average given to options that are not named stays whole."""
    points = dict.fromkeys(options, 0)
    for weight, choices in ballots:
        unnamed = len(options) - len(choices)
        for option in options:
            points[option] += weight * (unnamed - 1)  # the mean of 0 … unnamed − 1, doubled
        for place, option in enumerate(choices):
            points[option] += weight * (2 * (len(options) - 1 - place) - (unnamed - 1))
    return points


def margins(options: Sequence[str], ballots: Ballots) -> dict[str, dict[str, int]]:
    """For every option, by how much more weight it is preferred to each other option than the other way round."""
    table = {option: {other: 0 for other in options if other != option} for option in options}
    for weight, choices in ballots:
        below = set(options)
        for option in choices:
            below.remove(option)
            for other in below:
                table[option][other] += weight
                table[other][option] -= weight
    return table


def condorcet(options: Sequence[str], ballots: Ballots) -> Standing:
    """The option that beats every other, or else the Smith set as a tie. Scores are contests won."""
    table = margins(options, ballots)
    wins = {option: sum(margin > 0 for margin in table[option].values()) for option in options}
    undefeated = {option: sum(margin >= 0 for margin in table[option].values()) for option in options}
    # The best by Copeland's score is in the Smith set, which then grows by whatever a member does not beat.
    smith = {max(options, key=lambda option: wins[option] + undefeated[option])}
    while more := {o for o in options if o not in smith and any(table[member][o] <= 0 for member in smith)}:
        smith |= more
    scores = {option: str(count) for option, count in wins.items()}
    return _one_of((option for option in options if option in smith), scores)


def runoff(options: Sequence[str], ballots: Ballots) -> Standing:
    """Instant runoff; the lowest go together, and if all are equally low they are tied. Scores are last counts."""
    last = dict.fromkeys(options, 0)
    going = set(options)
    while True:
        counts = {option: 0 for option in options if option in going}
        for weight, choices in ballots:
            best = next((choice for choice in choices if choice in going), None)
            if best is not None:
                counts[best] += weight
        last.update(counts)
        top, low = max(counts.values()), min(counts.values())
        if 2 * top > sum(counts.values()) or top == low:
            leaders = [option for option, count in counts.items() if count == top]
            return _one_of(leaders, {option: str(count) for option, count in last.items()})
        going -= {option for option, count in counts.items() if count == low}


def _one_of(options: Iterable[str], scores: Mapping[str, str]) -> Standing:
    tied = tuple(options)
    return Standing(tied[0], (), scores) if len(tied) == 1 else Standing(None, tied, scores)
