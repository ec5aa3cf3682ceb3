"""The panel that is simulated, as numbers.

*First round.* A question is of a kind: how easy it is, how much one of its wrong answers tempts, how often a reply
to it is unreadable. The seat's chance to be right is the Rasch model's, logistic(easiness + competence); a wrong
seat takes the question's tempting answer with probability `temptation`, otherwise any wrong one alike. Seats know
nothing of each other: they err together because they share the kind and the tempting answer. Kinds are a histogram
with free shares rather than a normal law, because models that share their training are nearly all right or nearly
all wrong.

*Later rounds.* A seat chooses between the answers by a conditional logit: P(k) ∝ exp(U(k)). U adds up what speaks
for an answer (`Persuasion`): that it is the seat's own, that others in sight hold it, that one who misleads argues
for it, that it is right. Between its own answer and another that others hold, the chance to change is a logistic in
the lead. Drawn as random utility: each answer gets U(k) plus Gumbel noise, how well it happens to be argued, and
the greatest wins. In a share of the rounds, `unison`, all seats hear the same noise: a good argument then moves
everybody. Single seats are as likely to move either way, but they move together, which is what makes real panels
unanimous sooner than independent seats would be.

*Seats that are no honest debaters.* An adversary argues for one wrong answer in every round. An equivocator tells one
half of its readers that, and the other half another wrong one; to the record it says what it tells the first half. A
flipper says another answer every round.

Sources: G. Rasch, "Probabilistic Models for Some Intelligence and Attainment Tests", 1960; R. D. Bock and M. Aitkin,
Psychometrika 46 (1981) (abilities as a histogram); D. McFadden, "Conditional Logit Analysis of Qualitative Choice
Behavior", 1974; R. Bond and P. Smith, Psychological Bulletin 119 (1996) (conformity grows with the majority). The
features of U and unison are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Final, Literal, get_args

from ...core.policies.debated import OPEN_CHOICES
from ...core.topology import parse_topology
from ...errors import ConfigError

__all__ = ["PANEL_SEATS_MAX", "AgentModel", "Course", "PanelModel", "Persuasion", "QuestionKind", "Role", "agents"]

Role = Literal["honest", "adversary", "equivocator", "flipper"]

PANEL_SEATS_MAX: Final = 101
_ROUNDS_MAX: Final = 50
_LOGIT_MAX: Final = 50.0


@dataclass(frozen=True, slots=True)
class QuestionKind:
    """A kind of question.

    Attributes:
        easiness: the log-odds that a seat of competence 0 is right.
        temptation: how often a wrong seat takes the one tempting answer, 0 to 1, beyond choosing it by chance.
        unreadable: how often a first reply cannot be read, 0 to 1.
        share: of the questions, any positive weight.
    """

    easiness: float
    temptation: float = 0.0
    unreadable: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        _logit("easiness", self.easiness)
        _probability("temptation", self.temptation)
        _probability("unreadable", self.unreadable)
        if not 0 < self.share < math.inf:
            raise ConfigError(f"a kind's share of the questions is above 0 (share={self.share}); leave the kind out")


@dataclass(frozen=True, slots=True)
class Persuasion:
    """What speaks for an answer in a later round, in log-odds. All 0: a seat picks any answer alike.

    The default is a round figure near what calibration gives on recorded debates of three seats: for exploring, and
    not a measurement.

    Attributes:
        keep: it is the seat's own of the round before.
        conform: all others in sight hold it; a half of them is worth half of it.
        unanimous: added to `conform` where all others in sight hold it; below 0, the last voice counts for little.
        mislead: added to `conform` for the share of the others who mislead and hold it.
        right_kept: it is right, and the seat's own. right_seen: it is right, another's in sight, and not the seat's
            own. right_unseen: it is right, and nobody in sight holds it.
        unseen: nobody in sight holds it, nor the seat itself.
        blank: the reply cannot be read. blank_again: and the seat's last one could not. blank_seen: times the share of
            the others in sight who could not be read.
    """

    keep: float = 0.5
    conform: float = 2.5
    unanimous: float = -0.5
    mislead: float = 0.0
    right_kept: float = 0.3
    right_seen: float = 0.2
    right_unseen: float = 0.5
    unseen: float = -1.5
    blank: float = -2.0
    blank_again: float = 1.0
    blank_seen: float = 1.0

    def __post_init__(self) -> None:
        for each in fields(self):
            _logit(each.name, getattr(self, each.name))

    def weights(self) -> tuple[float, ...]:
        """In the order of the fields."""
        return tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True, slots=True)
class AgentModel:
    """A seat.

    Attributes:
        competence: added to the easiness of every question.
        conformity: times `Persuasion.conform`; 0 does not listen, 1 is as calibrated.
        stubbornness: added to `Persuasion.keep`.
        role: see the module.
        slips_first, slips: how often, in round 1 and in later ones, one who misleads says what it holds itself if that
            is right.
        tempting: how often the wrong answer that it argues for is the question's tempting one.
        confidence: (when right, when wrong): the mean of the confidence it states, 0 to 1; None states none.
    """

    competence: float = 0.0
    conformity: float = 1.0
    stubbornness: float = 0.0
    role: Role = "honest"
    slips_first: float = 0.0
    slips: float = 0.0
    tempting: float = 0.5
    confidence: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _logit("competence", self.competence)
        _logit("stubbornness", self.stubbornness)
        if not 0 <= self.conformity <= _LOGIT_MAX:
            raise ConfigError(f"conformity is 0 to {_LOGIT_MAX:g}, 1 is as calibrated (conformity={self.conformity})")
        if self.role not in get_args(Role):
            raise ConfigError(f"a seat's role is one of {', '.join(get_args(Role))} (role={self.role!r}); name one")
        _probability("slips_first", self.slips_first)
        _probability("slips", self.slips)
        _probability("tempting", self.tempting)
        for stated in self.confidence or ():
            _probability("confidence", stated)

    @property
    def misleads(self) -> bool:
        """It does not say what it holds to be right."""
        return self.role != "honest"


@dataclass(frozen=True, slots=True)
class Course:
    """How a debate is held.

    Attributes:
        rounds: how many at most, 1 to 50.
        topology: "all", "ring" or "sparse:K": whose last reply a seat sees.
        agree: the debate ends once more than this share of all seats said the same in one round; None never.
        missed: how often that agreement is overlooked for a round, 0 to 1: what ends recorded debates reads replies in
            its own way.
        one_by_one: the seats of a round are asked one after the other, in a drawn order, and `agree` is looked at after
            each reply; otherwise after the round.
        asked: how many seats are asked in round 1, 2, …, 0 for all; the last entry holds for the rounds after it; ()
            asks all.
    """

    rounds: int = 3
    topology: str = "all"
    agree: Fraction | None = None
    missed: float = 0.0
    one_by_one: bool = False
    asked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= _ROUNDS_MAX:
            raise ConfigError(f"a simulated debate has 1 to {_ROUNDS_MAX} rounds (rounds={self.rounds}); choose fewer")
        if self.agree is not None and not 0 < self.agree < 1:
            raise ConfigError(f"agree is a share above 0 and below 1, or None (agree={self.agree}); fix it")
        _probability("missed", self.missed)
        if any(count < 0 for count in self.asked):
            raise ConfigError(f"each round asks one seat or more, or 0 for all (asked={self.asked}); fix it")
        parse_topology(self.topology)

    def seats_asked(self, number: int, seats: int) -> int:
        """How many of `seats` are asked in a round (1-based)."""
        if not self.asked:
            return seats
        return min(seats, self.asked[min(number, len(self.asked)) - 1] or seats)


@dataclass(frozen=True, slots=True)
class PanelModel:
    """Everything about a panel, its questions and its way to debate.

    Attributes:
        agents: the seats, at most 101; they are called s0, s1, … in this order.
        kinds: the kinds of question.
        options: how many options questions have; 0 for open answers, of which there are `OPEN_CHOICES`.
        unison: how often, 0 to 1, the seats of a later round weigh arguments alike.
        spread: the standard deviation of a seat's competence around its own figure, drawn once a run.
        question_chars, reply_chars: how long questions and replies are, for counting tokens.
    """

    agents: tuple[AgentModel, ...]
    kinds: tuple[QuestionKind, ...] = field(default_factory=lambda: (QuestionKind(1.0),))
    persuasion: Persuasion = field(default_factory=Persuasion)
    course: Course = field(default_factory=Course)
    options: int = 4
    unison: float = 0.25
    spread: float = 0.0
    question_chars: int = 400
    reply_chars: int = 800

    def __post_init__(self) -> None:
        if not 1 <= len(self.agents) <= PANEL_SEATS_MAX:
            raise ConfigError(f"a panel has 1 to {PANEL_SEATS_MAX} seats ({len(self.agents)} are given); seat as many")
        if not self.kinds:
            raise ConfigError("a panel needs a kind of question or more (kinds=()); give QuestionKind(easiness)")
        least = 3 if any(agent.role == "equivocator" for agent in self.agents) else 2
        if self.options != 0 and self.options < least:
            raise ConfigError(f"this panel needs {least} options or more, or 0 for open ones (options={self.options})")
        _probability("unison", self.unison)
        if not 0 <= self.spread <= _LOGIT_MAX:
            raise ConfigError(f"spread is a standard deviation, 0 to {_LOGIT_MAX:g} (spread={self.spread}); fix it")
        if self.question_chars < 0 or self.reply_chars < 0:
            raise ConfigError(
                f"lengths are 0 or more (question_chars={self.question_chars}, reply_chars={self.reply_chars})"
            )

    @property
    def choices(self) -> int:
        """How many answers there are."""
        return self.options or OPEN_CHOICES

    @property
    def seats(self) -> tuple[str, ...]:
        """The seats' names, in order of `agents`."""
        return tuple(f"s{place}" for place in range(len(self.agents)))


def agents(honest: int, *others: AgentModel, competence: Sequence[float] = (0.0,)) -> tuple[AgentModel, ...]:
    """So many honest seats, whose competence goes round `competence`, and the others behind them."""
    return (*(AgentModel(competence[place % len(competence)]) for place in range(honest)), *others)


def _logit(name: str, value: float) -> None:
    if not -_LOGIT_MAX <= value <= _LOGIT_MAX:
        raise ConfigError(f"{name} is in log-odds, -{_LOGIT_MAX:g} to {_LOGIT_MAX:g} ({name}={value}); fix it")


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is a probability, 0 to 1 ({name}={value}); fix it")
