"""Debates of a simulated panel, whole: what every seat says in every round, and what is right.

Nothing is drawn twice for one purpose, and a draw depends on the seed, the run, the question, the seat and the
round only: see draws.py. A question has the same kind, right answer and tempting answer in every run of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase
from typing import Final

from ...core.policies import Debated, Said, leaders
from ...core.topology import parse_topology, visible
from ...errors import ConfigError
from .behaviour import Sight, choices, first_chances, later_scores
from .draws import Draws
from .model import AgentModel, PanelModel, QuestionKind

__all__ = ["QUESTIONS_MAX", "Cast", "Question", "Simulated", "answers_of", "cast", "pose", "simulate"]

QUESTIONS_MAX: Final = 1_000_000
_LETTERED: Final = 26


@dataclass(frozen=True, slots=True)
class Question:
    """A question: `gold` is right, `tempting` is the wrong answer that its kind tempts to."""

    key: str
    kind: QuestionKind
    gold: str
    tempting: str


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


@dataclass(frozen=True, slots=True)
class Cast:
    """The seats of one run, as drawn: seat to its model, with the competence that it has in this run."""

    model: PanelModel
    draws: Draws
    run: str
    seats: Mapping[str, AgentModel]

    def first(self, question: Question, seat: str) -> str | None:
        """What an honest seat says in round 1."""
        kind, agent = question.kind, self.seats[seat]
        right, tempted, _, blank = first_chances(kind, agent.competence, self.model.choices)
        left = self._draw("said", question, seat, 1)
        for chance, answer in ((blank, None), (right, question.gold), (tempted, question.tempting)):
            left -= chance
            if left < 0:
                return answer
        others = _others(self.model, question)
        return others[int(self._draw("which", question, seat, 1) * len(others))] if others else question.tempting

    def later(self, question: Question, seat: str, number: int, sight: Sight) -> str | None:
        """What an honest seat says in a later round."""
        offered = choices(sight, question.gold, self.model.choices)
        scores = later_scores(offered, self.model.persuasion, self.seats[seat])
        who = "*" if self._draw("unison", question, "*", number) < self.model.unison else seat
        noise = (
            -math.log(
                -math.log(self.draws.uniform("heard", self.run, question.key, who, number, choice.answer, choice.many))
            )
            for choice in offered
        )
        chosen = max(zip(scores, noise, offered, strict=True), key=lambda each: each[0] + each[1])[2]
        if chosen.answer is not None or chosen.many == 0:
            return chosen.answer
        known = {choice.answer for choice in offered}
        unseen = [answer for answer in answers_of(self.model) if answer not in known]
        return unseen[int(self._draw("which", question, who, number) * len(unseen))]

    def slips(self, question: Question, seat: str, number: int) -> bool:
        """Whether a seat that misleads says what it holds itself in this round, should that be right."""
        agent = self.seats[seat]
        return self._draw("slip", question, seat, number) < (agent.slips_first if number == 1 else agent.slips)

    def misled(self, question: Question, seat: str, number: int, reader: str) -> str:
        """What a seat that misleads tells a reader in a round; reader "" is the record."""
        agent, answers = self.seats[seat], answers_of(self.model)
        if agent.role == "flipper":
            start = int(self._draw("start", question, seat, 0) * len(answers))
            return answers[(start + number) % len(answers)]
        others = _others(self.model, question)
        picked = others[int(self._draw("target", question, seat, 0) * len(others))] if others else question.tempting
        target = question.tempting if self._draw("tempts", question, seat, 0) < agent.tempting else picked
        if agent.role == "adversary" or not reader or self._draw("reader", question, seat, reader) < 0.5:
            return target
        rest = [answer for answer in answers if answer not in (question.gold, target)]
        return rest[int(self._draw("second", question, seat, 0) * len(rest))]

    def confidence(self, question: Question, seat: str, number: int, answer: str | None) -> float | None:
        """What the seat states: its mean give or take a tenth, in hundredths."""
        stated = self.seats[seat].confidence
        if stated is None or answer is None:
            return None
        mean = stated[answer != question.gold]
        return round(min(1.0, max(0.0, mean + 0.2 * (self._draw("sure", question, seat, number) - 0.5))), 2)

    def _draw(self, what: str, question: Question, seat: str, number: int | str) -> float:
        return self.draws.uniform(what, self.run, question.key, seat, number)


def answers_of(model: PanelModel) -> tuple[str, ...]:
    """All answers that a question of this panel has: letters up to 26, else numbers."""
    if 0 < model.options <= _LETTERED:
        return tuple(ascii_uppercase[: model.options])
    return tuple(str(number) for number in range(1, model.choices + 1))


def pose(model: PanelModel, key: str, seed: int) -> Question:
    """The question of that name."""
    draws = Draws(seed)
    answers = answers_of(model)
    kind = model.kinds[draws.place([kind.share for kind in model.kinds], "kind", key)]
    gold = answers[int(draws.uniform("gold", key) * len(answers))]
    wrong = [answer for answer in answers if answer != gold]
    return Question(key, kind, gold, wrong[int(draws.uniform("tempting", key) * len(wrong))])


def cast(model: PanelModel, run: str, seed: int) -> Cast:
    """The seats of a run."""
    draws = Draws(seed)
    drawn = {
        seat: replace(agent, competence=_bounded(agent.competence + model.spread * draws.normal("seat", run, seat)))
        if model.spread
        else agent
        for seat, agent in zip(model.seats, model.agents, strict=True)
    }
    return Cast(model, draws, run, drawn)


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
        self._held: dict[str, int] = {}
        self._misled: set[tuple[int, str]] = set()
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
        misleading = frozenset(seat for seat, agent in self._cast.seats.items() if agent.misleads)
        return Simulated(
            key=f"{self._cast.run}/{self._question.key}",
            question=self._question.key,
            run=self._cast.run,
            debated=Debated(rounds, self._seats, rounds_max=course.rounds, options=self._model.options),
            gold=self._question.gold,
            adversaries=misleading,
            prompt_chars=self._prompts,
        )

    def _hold_round(self, number: int) -> bool:
        """Ask the seats of a round; True if the debate is over."""
        course = self._model.course
        order = self._cast.draws.shuffled(self._seats, "order", self._cast.run, self._question.key, number)
        spoken: dict[str, str | None] = {}
        for seat in order[: course.seats_asked(number, len(order))]:
            spoken[seat] = self._reply(number, seat)
            if course.one_by_one and self._agreed(spoken):
                break
        for seat, answer in spoken.items():
            before = [said[seat] for said in self._answers if seat in said][-1:]
            self._held[seat] = self._held.get(seat, 0) + 1 if before == [answer] else 1
        self._answers.append({seat: spoken[seat] for seat in self._seats if seat in spoken})
        return self._agreed(spoken)

    def _agreed(self, spoken: Mapping[str, str | None]) -> bool:
        votes = {seat: answer for seat, answer in spoken.items() if answer is not None}
        if self._model.course.agree is None or not votes:
            return False
        leading = leaders(votes)[0]
        return sum(answer == leading for answer in votes.values()) > self._model.course.agree * len(self._seats)

    def _reply(self, number: int, seat: str) -> str | None:
        sight = self._sight(number, seat)
        self._prompts[number, seat] = self._model.question_chars
        if number > 1:
            shown = len(sight.others) + (seat in self._held)
            self._prompts[number, seat] += shown * self._model.reply_chars
        misleads = self._cast.seats[seat].misleads
        if not misleads or self._cast.slips(self._question, seat, number):
            first = seat not in self._held
            honest = (
                self._cast.first(self._question, seat)
                if first
                else self._cast.later(self._question, seat, number, sight)
            )
            if not misleads or honest == self._question.gold:
                return honest
        self._misled.add((number, seat))
        return self._cast.misled(self._question, seat, number, "")

    def _sight(self, number: int, seat: str) -> Sight:
        others = []
        for other in self._visible(number, seat):
            last = [place for place, said in enumerate(self._answers, start=1) if other in said][-1:]
            if other != seat and last:
                misled = (last[0], other) in self._misled
                told = self._cast.misled(self._question, other, last[0], seat) if misled else None
                others.append((told or self._answers[last[0] - 1][other], misled))
        own = [said[seat] for said in self._answers if seat in said][-1:]
        return Sight(own[0] if own else None, self._held.get(seat, 0), tuple(others))

    def _visible(self, number: int, seat: str) -> Sequence[str]:
        if self._topology.kind == "all":
            return self._seats
        return visible(self._topology, self._seats, seat, number, self._seed)

    def _said(self, number: int, seat: str, answer: str | None) -> Said:
        text = f"({answer})" if answer is not None else "?"
        sure = self._cast.confidence(self._question, seat, number, answer)
        return Said(seat, answer, sure, text.ljust(self._model.reply_chars, "."))


def _others(model: PanelModel, question: Question) -> list[str]:
    return [answer for answer in answers_of(model) if answer not in (question.gold, question.tempting)]


def _bounded(logit: float) -> float:
    return max(-50.0, min(50.0, logit))
