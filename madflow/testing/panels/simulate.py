"""Debates of a simulated panel, whole: what every seat says in every round, and what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...core.policies import Debated, Said, leaders
from ...core.topology import parse_topology, visible
from ...errors import ConfigError
from .behaviour import Sight
from .model import PanelModel
from .seats import Cast, Question, cast, pose

__all__ = ["QUESTIONS_MAX", "Simulated", "simulate"]

QUESTIONS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Simulated:
    """A debate that was simulated; the fields are those of `madflow.evals.records.Recording` of the same names."""

    key: str
    question: str
    run: str
    debated: Debated
    gold: str
    adversaries: frozenset[str]
    prompt_chars: Mapping[tuple[int, str], int] = field(default_factory=dict)


def simulate(model: PanelModel, questions: int | Sequence[str], *, seed: int, run: str = "run-0") -> list[Simulated]:
    """One run: the panel debates every question.

    Args:
        questions: their names, or how many (q0, q1, …), at most 1,000,000.
        seed: any whole number. The same seed, names and model give the same debates.

    Raises:
        ConfigError: too many questions, or names that are not distinct.
    """
    names = (
        [f"q{place}" for place in range(min(questions, QUESTIONS_MAX + 1))] if isinstance(questions, int) else questions
    )
    if len(names) > QUESTIONS_MAX or len(set(names)) != len(names):
        raise ConfigError(
            f"a run has at most {QUESTIONS_MAX} questions, all distinct (questions={len(names)}, "
            f"distinct={len(set(names))}); hold several runs"
        )
    playing = cast(model, run, seed)
    return [_Debate(playing, pose(model, name, seed), seed).hold() for name in names]


class _Debate:
    def __init__(self, playing: Cast, question: Question, seed: int) -> None:
        self._cast, self._question, self._seed = playing, question, seed
        self._model, self._seats = playing.model, playing.model.seats
        self._topology = parse_topology(self._model.course.topology)
        self._answers: list[dict[str, str | None]] = []  # by round; what stands in the record
        self._last: dict[str, tuple[int, str | None]] = {}  # seat to its last round and answer
        self._prompts: dict[tuple[int, str], int] = {}

    def hold(self) -> Simulated:
        course = self._model.course
        for number in range(1, course.rounds + 1):
            if self._hold_round(number):
                break
        rounds = tuple(
            tuple(self._said(number, seat, answer) for seat, answer in spoken.items())
            for number, spoken in enumerate(self._answers, start=1)
        )
        return Simulated(
            key=f"{self._cast.run}/{self._question.key}",
            question=self._question.key,
            run=self._cast.run,
            debated=Debated(rounds, self._seats, rounds_max=course.rounds, options=self._model.options),
            gold=self._question.gold,
            adversaries=frozenset(seat for seat, agent in self._cast.seats.items() if agent.misleads),
            prompt_chars=self._prompts,
        )

    def _hold_round(self, number: int) -> bool:
        """Ask the seats of a round; True if the debate is over."""
        course = self._model.course
        order = self._cast.draws.shuffled(self._seats, "order", self._cast.run, self._question.key, number)
        missed = self._cast.draws.uniform("missed", self._cast.run, self._question.key, number) < course.missed
        spoken: dict[str, str | None] = {}
        for seat in order[: course.seats_asked(number, len(order))]:
            others = self._others(number, seat)
            shown = len(others) + (seat in self._last)
            self._prompts[number, seat] = self._model.question_chars + shown * self._model.reply_chars
            sight = Sight(self._last[seat][1], others) if seat in self._last else None
            spoken[seat] = self._cast.reply(self._question, seat, number, sight)
            if course.one_by_one and not missed and self._agreed(spoken):
                break
        self._last.update({seat: (number, answer) for seat, answer in spoken.items()})
        self._answers.append({seat: spoken[seat] for seat in self._seats if seat in spoken})
        return not missed and self._agreed(spoken)

    def _agreed(self, spoken: Mapping[str, str | None]) -> bool:
        votes = {seat: answer for seat, answer in spoken.items() if answer is not None}
        if self._model.course.agree is None or not votes:
            return False
        leading = leaders(votes)[0]
        return sum(answer == leading for answer in votes.values()) > self._model.course.agree * len(self._seats)

    def _others(self, number: int, reader: str) -> tuple[tuple[str | None, bool], ...]:
        """(answer, whether it misleads) of the last reply of each other seat in sight."""
        seen = self._seats
        if self._topology.kind != "all" and self._last:
            seen = visible(self._topology, self._seats, reader, number, self._seed)
        found = []
        for seat in seen:
            if seat != reader and seat in self._last:
                said_in, answer = self._last[seat]
                told = self._cast.told(self._question, seat, said_in, answer, reader)
                found.append((told, self._cast.misleads(self._question, seat, told)))
        return tuple(found)

    def _said(self, number: int, seat: str, answer: str | None) -> Said:
        text = f"({answer})" if answer is not None else "?"
        sure = self._cast.confidence(self._question, seat, number, answer)
        return Said(seat, answer, sure, text.ljust(self._model.reply_chars, "."))
