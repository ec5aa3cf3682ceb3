"""Policies: a rule for asking, one for going on, and one for counting, put together under a name.

A policy looks at a debate as far as it was seen (`Debated`) and says what to do next: `Ask` so many more seats in such
a round, or a `Stop` with its reason and numbers. At the end it gives a `Verdict`. It keeps no state. What it may know
of other debates is `Reliabilities`, which `learn` makes from the first rounds of the run, without labels.

In the first round seats are asked at once (`ask="all"`, or a panel of no more than `ask_whole`), or `ask_first` of them
drawn by lot, and then one by one while another vote is worth it, the most reliable first as far as that is known:
- `lead:N`: until the leader is N votes ahead;
- `beta:P`: until it is truly ahead with probability P (`sampling.beta_lead`);
- `value:V`: until one more vote raises the share of the answer by less than V (`sampling.vote_value`);
- `urn:V`: while the best plan raises it by more than V a vote, with the agreement learned in the run (`urn.urn_gain`).
Whatever the rule, asking ends once the seats left cannot change who leads the count of votes. Where votes weigh
the same that is `unassailable`; where they do not, the answer could still change, and the stop is `converged`.

A next round is held, up to the policy's own limit and the debate's, unless
- `never`; `always` holds all of them;
- `met`: the votes of the last round, over all seats, meet a majority; `unanimous`: they are all the same;
- `tied`: one answer has a greater share than every other, with the shares as this policy counts them;
- `confident:C`: the greatest share is C or more,
or, where `round_price` is above 0, a vote of it is not expected to raise the share of the answer by so much: whoever
disagrees about everything does not agree for being asked again. A later round begins with `ask_first` seats, the most
reliable ones, and goes on one by one until the rule that called for it is met.

Every rule depends on seats only through what they said: no seat is first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, get_args

from ...errors import ConfigError
from ..stopping import Stop
from .debated import Debated, leaders, tally
from .pooling import FOLLOWED, Pool, Weighing, shares, trust
from .reliability import Reliabilities, learn_disputed
from .sampling import beta_lead, vote_value
from .urn import Urn, learn_urn, urn_gain

__all__ = ["POLICIES", "Ask", "Policy", "Verdict", "policy_named"]

_TIE: Final = 1e-9  # shares that differ by less are equal: rounding must not pick a winner
_GAIN: Final = 1e-9  # an expected gain below is rounding
_ASK: Final = re.compile(r"all|lead:[1-9][0-9]{0,2}|(beta|value|urn):0?\.[0-9]{1,6}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_.+-]{0,59}", re.ASCII)
_ROUNDS_MAX: Final = 50
_GO_ON: Final = re.compile(r"never|always|met|unanimous|tied|confident:(0?\.[0-9]{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask `seats` more seats in `round` (1-based), those of the lowest `rank` first, by lot among equals.

    A seat that is not in `rank` has rank 0; an empty one leaves it all to the lot.
    """

    round: int
    seats: int
    rank: Mapping[str, int] = field(default_factory=dict)

    def chosen(self, drawn: Sequence[str]) -> tuple[str, ...]:
        """Who is asked, of seats that may still be asked, in the order in which the lot drew them."""
        return tuple(sorted(drawn, key=lambda seat: self.rank.get(seat, 0))[: self.seats])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a debate came to.

    Attributes:
        answer: the answer with the greatest share; the first in alphabetical order of those `tied`; None without votes.
        abstained: there is no answer, the confidence is below the policy's threshold, or, under `reliability`, each
            answer that nobody gave is more likely than this one.
        confidence: 0 to 1: the answer's share, or under `reliability` its `trust`, which does not take every vote for
            new evidence. It ranks outcomes, inside a run and between runs, and is not calibrated.
        tied: all answers with that share, in order.
        shares: of every answer given.
        stop: why no more was asked.
    """

    answer: str | None
    abstained: bool
    confidence: float
    tied: tuple[str, ...]
    shares: Mapping[str, float]
    stop: Stop


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to stop, pool and weigh. See the module for `ask` and `go_on`, and pooling.py for the rest.

    Attributes:
        ask, ask_first: how seats are asked inside a round, and how many are asked before the rule is looked at.
        ask_whole: panels of so many seats or fewer are asked whole in the first round: all their seats get known.
        go_on, rounds_max: when another round is held, and how many there may be.
        round_price: what a vote of a later round has to be worth, in shares; 0: nothing.
        pool, weighing, followed: which votes count, and how much.
        abstain_below: the confidence under which the verdict abstains; 0 never does.

    Raises:
        ConfigError: names the field that is wrong.
    """

    name: str
    ask: str = "all"
    ask_first: int = 1
    ask_whole: int = 0
    go_on: str = "never"
    rounds_max: int = 1
    round_price: float = 0.0
    pool: Pool = "first"
    weighing: Weighing = "equal"
    followed: float = 1.0
    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"a policy's name is like robust or my-policy, at most 60 characters ({self.name[:80]!r})"
            )
        if self.pool not in get_args(Pool) or self.weighing not in get_args(Weighing):
            raise ConfigError(
                f"policy {self.name}: pool is one of {get_args(Pool)}, weighing of {get_args(Weighing)} "
                f"(pool={self.pool!r}, weighing={self.weighing!r})"
            )
        counts = (self.ask_first, self.ask_whole, self.rounds_max)
        if not all(isinstance(count, int) for count in counts) or self.rounds_max > _ROUNDS_MAX:
            raise ConfigError(
                f"policy {self.name}: ask_first, ask_whole and rounds_max are whole numbers, rounds_max at most "
                f"{_ROUNDS_MAX} (ask_first, ask_whole, rounds_max={counts})"
            )
        if not _ASK.fullmatch(self.ask) or re.fullmatch(r"[a-z]+:0?\.0+", self.ask):
            raise ConfigError(
                f"policy {self.name}: ask is all, lead:N, beta:0.P, value:0.V or urn:0.V (ask={self.ask!r})"
            )
        if not _GO_ON.fullmatch(self.go_on):
            raise ConfigError(
                f"policy {self.name}: go_on is never, always, met, unanimous, tied or confident:0.C "
                f"(go_on={self.go_on!r})"
            )
        if self.ask_first < 1 or self.rounds_max < 1 or self.ask_whole < 0:
            raise ConfigError(
                f"policy {self.name}: ask_first and rounds_max are at least 1, ask_whole at least 0 "
                f"(ask_first={self.ask_first}, rounds_max={self.rounds_max}, ask_whole={self.ask_whole})"
            )
        if not all(0 <= part <= 1 for part in (self.followed, self.abstain_below, self.round_price)):
            raise ConfigError(
                f"policy {self.name}: followed, abstain_below and round_price are 0 to 1 "
                f"(followed={self.followed}, abstain_below={self.abstain_below}, round_price={self.round_price})"
            )

    def learn(self, run: Iterable[Debated]) -> Reliabilities:
        """What the first rounds of a run say about its seats; nothing where this policy does not weigh by it."""
        known = list(run)
        learned = Reliabilities()
        if self.weighing == "reliability":
            learned = learn_disputed((debated.votes(1), debated.choices) for debated in known)
            if self.ask != "all":
                learned = replace(learned, rank=learned.ranked())
        if self.ask.startswith("urn:") or self.round_price:
            learned = replace(learned, urn=learn_urn(known))
        return learned

    def opening(self, debated: Debated) -> int:
        """How many seats the first round begins with, whatever is known."""
        seats = len(debated.seats)
        return seats if self.ask == "all" or seats <= self.ask_whole else min(self.ask_first, seats)

    def next(self, debated: Debated, learned: Reliabilities) -> Ask | Stop:
        """What to do now."""
        held = max(1, len(debated.rounds))
        asked = len(debated.rounds[held - 1]) if debated.rounds else 0
        if asked < self.opening(debated) and held == 1:
            return Ask(1, self.opening(debated) - asked)
        more = self._more(debated, learned, held, asked)
        if more:
            return Ask(held, more, learned.rank)
        if held < min(self.rounds_max, debated.rounds_max) and self._goes_on(debated, learned):
            return Ask(held + 1, self._first(debated), learned.rank)
        return self._stop(debated, learned, held)

    def decide(self, debated: Debated, learned: Reliabilities) -> Verdict:
        """The verdict on what was seen."""
        counted = self._shares(debated, learned)
        tied = _greatest(counted)
        held = max(1, len(debated.rounds))
        confidence = self._sure(debated, learned, counted)[tied[0]] if tied else 0.0
        return Verdict(
            answer=tied[0] if tied else None,
            abstained=not tied or confidence < self.abstain_below or self._unlikely(debated, counted),
            confidence=confidence,
            tied=tied,
            shares=counted,
            stop=self._stop(debated, learned, held),
        )

    def _shares(self, debated: Debated, learned: Reliabilities) -> dict[str, float]:
        return shares(debated, learned, self.pool, self.weighing, self.followed)

    def _sure(self, debated: Debated, learned: Reliabilities, counted: Mapping[str, float]) -> Mapping[str, float]:
        return trust(debated, learned, self.pool, self.followed) if self.weighing == "reliability" else counted

    def _unlikely(self, debated: Debated, counted: Mapping[str, float]) -> bool:
        """Whether every answer given is less likely than each that nobody gave: the most likely one was not said.

        Under `reliability` shares are probabilities of all K answers, and those that nobody gave share the rest evenly.
        Other shares know no such rest.
        """
        unsaid = debated.choices - len(counted)
        if self.weighing != "reliability" or unsaid == 0:
            return False
        return max(counted.values()) < (1 - math.fsum(counted.values())) / unsaid - _TIE

    def _first(self, debated: Debated) -> int:
        """How many seats a later round begins with."""
        return len(debated.seats) if self.ask == "all" else min(self.ask_first, len(debated.seats))

    def _more(self, debated: Debated, learned: Reliabilities, number: int, asked: int) -> int:
        """How many more seats to ask in the round that is being held, after its opening."""
        left = len(debated.seats) - asked
        if self.ask == "all" or left == 0:
            return left
        if number > 1:
            return self._first(debated) - asked if asked < self._first(debated) else int(self._unmet(debated, learned))
        leader, second, others = _counts(debated.votes(number))
        rule, _, value = self.ask.partition(":")
        if leader - second > left:
            more = False
        elif rule == "lead":
            more = leader - second < int(value)
        elif rule == "beta":
            more = leader == 0 or beta_lead(leader, second) < float(value)
        elif rule == "value":
            more = leader == 0 or vote_value(leader, second, others, left) >= float(value)
        else:
            more = self._gain(debated, learned.urn, left, float(value)) > _GAIN
        return int(more)

    def _gain(self, debated: Debated, urn: Urn, left: int, price: float) -> float:
        """What asking `left` more is worth after the first round's votes."""
        return urn_gain(list(tally(debated.votes(1)).values()), left, urn.alpha(debated.rounds[0]), price)

    def _goes_on(self, debated: Debated, learned: Reliabilities) -> bool:
        if not self._unmet(debated, learned):
            return False
        return not self.round_price or self._gain(debated, learned.urn, len(debated.seats), self.round_price) > _GAIN

    def _unmet(self, debated: Debated, learned: Reliabilities) -> bool:
        """Whether the rule for going on calls for another round, or for more of a later one."""
        rule, _, value = self.go_on.partition(":")
        if rule in ("never", "always"):
            return rule == "always"
        votes = debated.votes(len(debated.rounds))
        leader, _second, _others = _counts(votes)
        if rule == "met":
            return leader * 2 <= len(debated.seats)
        if rule == "unanimous":
            return leader < len(debated.rounds[-1]) or not votes
        counted = self._shares(debated, learned)
        if rule == "tied":
            return len(_greatest(counted)) != 1
        return max(counted.values(), default=0.0) < float(value)

    def _stop(self, debated: Debated, learned: Reliabilities, held: int) -> Stop:
        """Why asking ends, in words of stopping.py: `unassailable`, `converged` (a rule is met), `deadlock` (none is,
        and another round is not worth its price) or `max_rounds`."""
        spoken = debated.rounds[held - 1] if debated.rounds else ()
        votes = debated.votes(held)
        leader, second, _others = _counts(votes)
        left = len(debated.seats) - len(spoken)
        numbers: dict[str, int | str] = {"round": held, "leader": leader, "second": second, "asked": len(spoken)}
        if left and leader - second > left and self.weighing == "equal" and self.pool != "all":
            return Stop("unassailable", numbers)  # where votes weigh differently, the seats left could still turn it
        limit = min(self.rounds_max, debated.rounds_max)
        unmet = self._unmet(debated, learned)
        if not left and unmet and self.go_on != "never" and held < limit:
            return Stop("deadlock", {**numbers, "go_on": self.go_on, "round_price": str(self.round_price)})
        settled = self.go_on not in ("never", "always") and not unmet
        done = bool(leaders(votes)) and (left > 0 or settled)
        return Stop(
            "converged" if done else "max_rounds",
            {**numbers, "ask": self.ask, "go_on": self.go_on, "max_rounds": limit},
        )


def _counts(votes: Mapping[str, str]) -> tuple[int, int, int]:
    """The leader's votes, the runner-up's, and the others'."""
    counts = sorted(tally(votes).values(), reverse=True)
    leader, second = [*counts, 0, 0][:2]
    return leader, second, sum(counts) - leader - second


def _greatest(counted: Mapping[str, float]) -> tuple[str, ...]:
    top = max(counted.values(), default=0.0)
    return tuple(answer for answer, share in sorted(counted.items()) if share >= top - _TIE)


POLICIES: Final[Mapping[str, Policy]] = {
    policy.name: policy
    for policy in (
        Policy("vote"),
        Policy("debate", go_on="always", rounds_max=3, pool="last"),
        Policy("met", go_on="met", rounds_max=3, pool="last"),
        Policy("lead", ask="lead:3"),
        Policy("adaptive", ask="beta:0.95"),
        Policy("value", ask="value:0.001"),
        Policy("pooled", go_on="unanimous", rounds_max=2, pool="all"),
        Policy("independent", go_on="unanimous", rounds_max=2, pool="all", followed=FOLLOWED),
        Policy("confident", weighing="confidence"),
        Policy("reliable", weighing="reliability"),
        Policy(
            "robust",
            ask="urn:0.004",
            ask_first=2,
            ask_whole=3,
            go_on="confident:0.7",
            rounds_max=2,
            round_price=0.05,
            pool="all",
            weighing="reliability",
            followed=FOLLOWED,
        ),
    )
}
"""Ready policies by name; `robust` is the default to recommend."""


def policy_named(name: str) -> Policy:
    """A ready policy.

    Raises:
        ConfigError: there is none of that name; the message lists them.
    """
    if name not in POLICIES:
        raise ConfigError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name]
