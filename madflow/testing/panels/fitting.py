"""From recorded debates with known answers to the panel that would say such things.

1. Kinds of question: the histogram under which the honest seats' first replies are most likely (histogram.py).
2. What speaks for an answer in later rounds: a conditional logit on every honest reply of those rounds (logit.py).
   At the maximum, the expected number of right seats that stay right, of wrong ones that become right, and of seats
   that take up what others hold, equal the recorded ones, given what was said before; so the simulation errs only
   where steps add up.
3. Unison: between the rates of unanimity that a simulation has without it and with it always, where the recorded
  one is.
4. Seats that mislead: how often one says what is right, and how often its target (the wrong answer it gives most)
   is the tempting one, from how often honest first errors are the same.
5. The course: how many rounds, how many are asked in each, and, where some debates end early, the share of agreement
   (more than 1/2, 2/3, or nearly all) that explains most endings.

Nothing but answers, the right answer and who misled is read: no text, no name, no run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final, Protocol, TypeAlias

from ...core.policies import Debated, Said
from ...errors import ConfigError
from .behaviour import Sight, chances_of, choices, first_chances, later_scores
from .histogram import Pattern, histogram, pattern_of
from .logit import Case, fit_logit
from .model import AgentModel, Course, PanelModel, Persuasion, QuestionKind
from .simulate import simulate

__all__ = ["Scored", "course_of", "fit"]

_SIZE: Final = len(fields(Persuasion))
_NEGLIGIBLE: Final = 0.01  # a difference of shares that says nothing
_TRIED: Final = 3_000  # debates simulated to set unison
_Chosen: TypeAlias = tuple[int, tuple[tuple[int, tuple[float, ...]], ...]]
_SHARES: Final = (Fraction(1, 2), Fraction(2, 3), Fraction(99, 100))


class Scored(Protocol):
    """A debate with its right answer: `Simulated`, or `madflow.evals.records.Recording`."""

    @property
    def question(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def debated(self) -> Debated: ...
    @property
    def gold(self) -> str | None: ...
    @property
    def adversaries(self) -> frozenset[str]: ...


def fit(recorded: Sequence[Scored], *, ridge: float = 1.0) -> PanelModel:
    """The panel that is most likely to have held these debates.

    Args:
        recorded: debates of one kind of panel, all with gold. Seats and options are those of most of them; as many
            seats mislead as do in most of them. ridge: see `fit_logit`.

    Raises:
        ConfigError: none were recorded, or one lacks gold or has no first round.
    """
    if not recorded:
        raise ConfigError("there is nothing to fit a panel to (recorded=0 debates); give some")
    for one in recorded:
        if one.gold is None or not one.debated.rounds or not one.debated.rounds[0]:
            raise ConfigError(f"a debate on {one.question!r} has no gold or no first round; leave it out")
    kinds = histogram(Counter(map(_pattern, recorded)))
    chosen = Counter(
        _chosen(sight, answer, _gold(one), one.debated.choices) for one in recorded for sight, answer in _steps(one)
    )
    persuasion = Persuasion(*fit_logit(_cases(chosen), _SIZE, ridge)) if chosen else Persuasion()
    misleading = _most(len(one.adversaries) for one in recorded)
    seats = _most(len(one.debated.seats) for one in recorded)
    adversary = _adversary(recorded, kinds, persuasion)
    panel = PanelModel(
        agents=(*(AgentModel() for _ in range(seats - misleading)), *(adversary for _ in range(misleading))),
        kinds=kinds,
        persuasion=persuasion,
        course=course_of(recorded),
        options=_most(one.debated.options for one in recorded),
    )
    return replace(panel, unison=_unison(panel, recorded)) if chosen else panel


def _unison(panel: PanelModel, recorded: Sequence[Scored]) -> float:
    """The unison under which later rounds are unanimous as often as recorded: straight between never and always."""
    names = [f"q{place}" for place in range(_TRIED)]
    never, always = (
        _unanimous(simulate(replace(panel, unison=unison), names, seed=0, run="fit")) for unison in (0.0, 1.0)
    )
    if always - never < _NEGLIGIBLE:
        return 0.0
    return min(1.0, max(0.0, (_unanimous(recorded) - never) / (always - never)))


def _unanimous(debates: Sequence[Scored]) -> float:
    """The share of debates that are unanimous, over all rounds after the first, the last one held where one ended."""
    rounds = max(len(one.debated.rounds) for one in debates)
    found = []
    for one in debates:
        for number in range(2, rounds + 1):
            said = {reply.answer for reply in one.debated.rounds[min(number, len(one.debated.rounds)) - 1]}
            found.append(len(said) == 1 and None not in said)
    return sum(found) / len(found)


def course_of(recorded: Sequence[Scored]) -> Course:
    """The course that explains most endings of the debates; everybody is taken to have seen everybody."""
    rounds = max(len(one.debated.rounds) for one in recorded)
    seats = max(len(one.debated.seats) for one in recorded)
    most = [
        max(len(one.debated.rounds[number]) for one in recorded if len(one.debated.rounds) > number)
        for number in range(rounds)
    ]
    asked = tuple(0 if count == seats else count for count in most) if min(most) < seats else ()
    early = any(len(one.debated.rounds) < rounds for one in recorded)
    if not early:
        return Course(rounds, asked=asked)
    one_by_one = any(len(one.debated.rounds[0]) < len(one.debated.seats) for one in recorded)
    agreed = {share: [_agreed(one.debated, share) for one in recorded] for share in _SHARES}

    def explained(share: Fraction) -> int:
        """Debates of which no round but the last held was agreed on, and that one was, or is the last of all."""
        return sum(not any(ends[:-1]) and (ends[-1] or len(ends) == rounds) for ends in agreed[share])

    agree = max(_SHARES, key=explained)
    went_on = sum(sum(ends[:-1]) for ends in agreed[agree])
    ended = sum(ends[-1] and len(ends) < rounds for ends in agreed[agree])
    missed = went_on / (went_on + ended) if went_on else 0.0
    return Course(rounds, agree=agree, missed=missed, one_by_one=one_by_one, asked=asked)


def _agreed(debated: Debated, share: Fraction) -> list[bool]:
    """For each round held, whether more than that share of all seats said the same."""
    return [
        max(Counter(said.answer for said in spoken if said.answer).values(), default=0) > share * len(debated.seats)
        for spoken in debated.rounds
    ]


def _pattern(one: Scored) -> Pattern:
    first = (said.answer for said in one.debated.rounds[0] if said.seat not in one.adversaries)
    return pattern_of(first, _gold(one), one.debated.choices)


def _chosen(sight: Sight, answer: str | None, gold: str, answers: int) -> _Chosen:
    """What was chosen among what, without names: choices alike in all features are one."""
    offered = choices(sight, gold, answers)
    names = [choice.answer for choice in offered]
    place = len(offered) - 1 if answer is None else names.index(answer) if answer in names else len(offered) - 2
    alike = [(choice.many, choice.features) for choice in offered]
    return sorted(alike).index(alike[place]), tuple(sorted(alike))


def _cases(chosen: Counter[_Chosen]) -> list[Case]:
    return [
        Case(count, place, tuple((math.log(many or 1), features) for many, features in offered))
        for (place, offered), count in sorted(chosen.items())
    ]


def _steps(one: Scored, *, misleading: bool = False) -> Iterator[tuple[Sight, str | None]]:
    """What each honest seat, or each misleading one, saw before a later round, and what it said then."""
    last: dict[str, str | None] = {}
    for before, after in pairwise((*one.debated.rounds, ())):
        for said in before:
            last[said.seat] = said.answer
        for said in after:
            if (said.seat in one.adversaries) == misleading and said.seat in last:
                others = tuple(
                    (answer, seat in one.adversaries and answer != one.gold)
                    for seat, answer in last.items()
                    if seat != said.seat
                )
                yield Sight(last[said.seat], others), said.answer


def _adversary(recorded: Sequence[Scored], kinds: tuple[QuestionKind, ...], persuasion: Persuasion) -> AgentModel:
    """One that misleads as those in the debates did."""
    found = [(one, seat) for one in recorded for seat in sorted(one.adversaries)]
    errors = alike = 0
    answers = 0.0
    for one, seat in found:
        target = _target(one, seat)
        honest = [said.answer for said in one.debated.rounds[0] if said.seat not in one.adversaries]
        wrong = [answer for answer in honest if answer is not None and answer != one.gold]
        errors += len(wrong)
        alike += sum(answer == target for answer in wrong)
        answers += one.debated.choices * len(wrong)
    tempting = _tempting(alike / errors, kinds, round(answers / errors)) if errors else AgentModel().tempting
    first, later = _slips_first(recorded), _slips(recorded, persuasion)
    return AgentModel(role="adversary", slips_first=first, slips=later, tempting=tempting)


def _slips_first(recorded: Sequence[Scored]) -> float:
    """How often seats that mislead are right in the first round, for each time that honest ones are."""
    rights: dict[bool, list[bool]] = {True: [], False: []}
    for one in recorded:
        for said in one.debated.rounds[0]:
            rights[said.seat in one.adversaries].append(said.answer == one.gold)
    misled, honest = (sum(found) / max(1, len(found)) for found in (rights[True], rights[False]))
    return min(1.0, misled / honest) if honest else 0.0


def _slips(recorded: Sequence[Scored], persuasion: Persuasion) -> float:
    """How often seats that mislead are right in later rounds, for each time that honest ones would be there."""
    honest = AgentModel()
    rights, expected = 0, 0.0
    for one in recorded:
        gold = _gold(one)
        for sight, answer in _steps(one, misleading=True):
            offered = choices(sight, gold, one.debated.choices)
            chances = chances_of(later_scores(offered, persuasion, honest))
            rights += answer == gold
            expected += sum(chance for chance, choice in zip(chances, offered, strict=True) if choice.answer == gold)
    return min(1.0, rights / expected) if expected else 0.0


def _tempting(alike: float, kinds: tuple[QuestionKind, ...], answers: int) -> float:
    """How often a target is the tempting answer, if honest errors are the target that often."""
    if answers <= 2:
        return 1.0
    tempted = wrong = 0.0
    for kind in kinds:
        _, temptation, other, _ = first_chances(kind, 0.0, answers)
        tempted += kind.share * temptation
        wrong += kind.share * (temptation + other * (answers - 2))
    if_tempting = tempted / wrong
    if_not = (1 - if_tempting) / (answers - 2)
    if if_tempting - if_not < _NEGLIGIBLE:
        return 0.5
    return min(1.0, max(0.0, (alike - if_not) / (if_tempting - if_not)))


def _target(one: Scored, seat: str) -> str | None:
    said = Counter(reply.answer for reply in _replies(one, {seat}) if reply.answer not in (None, one.gold))
    return min(said, key=lambda answer: (-said[answer], answer or ""), default=None)


def _replies(one: Scored, seats: Set[str]) -> Iterator[Said]:
    return (said for spoken in one.debated.rounds for said in spoken if said.seat in seats)


def _gold(one: Scored) -> str:
    if one.gold is None:
        raise ConfigError(f"a debate on {one.question!r} has no gold; leave it out")
    return one.gold


def _most(values: Iterable[int]) -> int:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
