"""A debate as a policy sees it: who said what in which round, as far as it was asked for.

Nothing in here says what the right answer is, which model holds a seat, or which condition a recording was made under:
a policy cannot read what its input cannot hold.

A vote is a seat's answer in one round. A seat that was asked and gave no readable answer has spoken and not voted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError

__all__ = ["OPEN_CHOICES", "Debated", "Said", "leaders", "tally"]

OPEN_CHOICES: Final = 20
"""How many answers an open question is taken to have. Many: to agree by accident on a wrong one is rare. Counting only
the answers that were given makes agreement worthless, and panels that err a lot are then learned upside down."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one seat said in one round.

    Attributes:
        seat: which seat; it holds the same model in every debate of a run.
        answer: the option or the normalised answer; None where it could not be read, or the seat abstained.
        confidence: as the seat stated it, 0 to 1; None where it stated none.
        text: the whole reply.
    """

    seat: str
    answer: str | None
    confidence: float | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise ConfigError(f"the confidence of seat {self.seat!r} is 0 to 1 (confidence={self.confidence}); fix it")
        if self.answer == "":
            raise ConfigError(f"seat {self.seat!r} has an empty answer; write None where nothing could be read")


@dataclass(frozen=True, slots=True)
class Debated:
    """A debate as far as it was seen.

    Attributes:
        rounds: what was said, oldest round first; the order inside a round means nothing.
        seats: who may be asked, in any order; at least one.
        rounds_max: how many rounds there may be, at least 1.
        options: how many options there are to choose from; 0 for open answers.

    Raises:
        ConfigError: a seat that is not one of `seats` or that spoke twice in a round, or more rounds than may be.
    """

    rounds: tuple[tuple[Said, ...], ...]
    seats: tuple[str, ...]
    rounds_max: int = 1
    options: int = 0

    def __post_init__(self) -> None:
        if not self.seats or len(set(self.seats)) != len(self.seats):
            raise ConfigError(f"a debate has distinct seats, at least one (seats={list(self.seats)}); fix them")
        if not 1 <= max(1, len(self.rounds)) <= self.rounds_max:
            raise ConfigError(f"{len(self.rounds)} rounds were held, the limit is {self.rounds_max}; raise rounds_max")
        if self.options < 0 or self.options == 1:
            raise ConfigError(f"there are 2 options or more, or 0 for open answers (options={self.options}); fix it")
        known = set(self.seats)
        for number, said in enumerate(self.rounds, start=1):
            speakers = [one.seat for one in said]
            if len(set(speakers)) != len(speakers) or not known.issuperset(speakers):
                raise ConfigError(f"round {number} has a speaker twice or an unknown one ({sorted(speakers)}); fix it")

    @property
    def choices(self) -> int:
        """How many answers there can be: the options, or `OPEN_CHOICES` for open answers; not fewer than were given."""
        given = {said.answer for spoken in self.rounds for said in spoken if said.answer is not None}
        return max(self.options or OPEN_CHOICES, len(given))

    def votes(self, number: int) -> dict[str, str]:
        """Seat to answer in a round (1-based), by seats in order of their names; empty if it was not held."""
        if number > len(self.rounds):
            return {}
        return {
            said.seat: said.answer
            for said in sorted(self.rounds[number - 1], key=lambda said: said.seat)
            if said.answer is not None
        }


def tally(votes: Mapping[str, str]) -> dict[str, int]:
    """Answer to its number of votes, by answers in order."""
    return dict(sorted(Counter(votes.values()).items()))


def leaders(votes: Mapping[str, str]) -> tuple[str, ...]:
    """The answers with the most votes, in order; empty without votes."""
    counts = tally(votes)
    most = max(counts.values(), default=0)
    return tuple(answer for answer, count in counts.items() if count == most)
