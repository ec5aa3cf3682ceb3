"""The seats of one run and what each says, given what it saw: model.py's formulas with draws put in.

A draw depends on the seed, the run, the question, the seat and the round only: see draws.py. A question has the same
kind, right answer and tempting answer in every run of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Final

from .behaviour import Sight, choices, first_chances, later_scores
from .draws import Draws
from .model import AgentModel, PanelModel, QuestionKind

__all__ = ["Cast", "Question", "answers_of", "cast", "pose"]

_LETTERED: Final = 26


@dataclass(frozen=True, slots=True)
class Question:
    """A question: `gold` is right, `tempting` is the wrong answer that its kind tempts to."""

    key: str
    kind: QuestionKind
    gold: str
    tempting: str


@dataclass(frozen=True, slots=True)
class Cast:
    """The seats of one run, as drawn: seat to its model, with the competence that it has in this run."""

    model: PanelModel
    draws: Draws
    run: str
    seats: Mapping[str, AgentModel]

    def reply(self, question: Question, seat: str, number: int, sight: Sight | None) -> str | None:
        """What the seat says to the record in a round (1-based); `sight` is None where it has not spoken before."""
        misleads = self.seats[seat].misleads
        if not misleads or self._slips(question, seat, number):
            held = self._first(question, seat) if sight is None else self._later(question, seat, number, sight)
            if not misleads or held == question.gold:
                return held
        return self._misled(question, seat, number, "")

    def told(self, question: Question, seat: str, number: int, answer: str | None, reader: str) -> str | None:
        """What a reader hears of a seat that said `answer` to the record in that round."""
        if self.seats[seat].role != "equivocator" or answer == question.gold:
            return answer
        return self._misled(question, seat, number, reader)

    def misleads(self, question: Question, seat: str, answer: str | None) -> bool:
        """Whether an answer of that seat is one that it argues for to mislead."""
        return self.seats[seat].misleads and answer != question.gold

    def _first(self, question: Question, seat: str) -> str | None:
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

    def _later(self, question: Question, seat: str, number: int, sight: Sight) -> str | None:
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

    def _slips(self, question: Question, seat: str, number: int) -> bool:
        """Whether a seat that misleads says what it holds itself in this round, should that be right."""
        agent = self.seats[seat]
        return self._draw("slip", question, seat, number) < (agent.slips_first if number == 1 else agent.slips)

    def _misled(self, question: Question, seat: str, number: int, reader: str) -> str:
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


def _others(model: PanelModel, question: Question) -> list[str]:
    return [answer for answer in answers_of(model) if answer not in (question.gold, question.tempting)]


def _bounded(logit: float) -> float:
    return max(-50.0, min(50.0, logit))
