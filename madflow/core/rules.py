"""Decision rules: from a ballot box to a decision, exactly.

One vote, in this order:

1. *Quorum.* Valid weight below the quorum (and always below 1) is `quorum_failed`, under every rule, whoever judges.
   So an empty, garbled or all-abstaining panel never approves.
2. *Veto*, where the rule has one: a holder's valid reject of a motion is `rejected`.
3. *The rule.* One option meets it: `approved`, and `met`. On a motion (options approve and reject), `rejected` once
   so much weight rejects that approval would fail even if every other eligible seat approved. A full split of 2 : 2
   under majority is therefore rejected, as in parliaments, while 1 : 1 with two seats silent is a tie.
4. *Ties*, settled by the policy: "none" leaves `no_decision`; "judge" asks for one of the tied options; "earliest"
   takes the first of them in the box's order, on a motion none. Such a win is never `met`.
5. Otherwise `no_decision`.

The rules, over valid ballots and integer weights; thresholds are fractions of *eligible* weight, W below:

- majority: first choices of more than W/2. supermajority:p/q: first choices · q ≥ p · W, with 1/2 < p/q ≤ 1.
  unanimity: first choices = W. These tie when several options lead equally and none meets the threshold.
- plurality: more first choices than any other option.
- approval: a ballot is a set; most ballots that name the option win (Brams & Fishburn 1978).
- borda: of m options the k-th named gets m − k points; those not named share the points that are left equally, so
  that every ballot gives the same total (the "averaged" convention for truncated ballots; Emerson 2013 compares them).
- condorcet: wins every pairwise contest strictly. A named option beats those not named; between two that are not named
  a ballot says nothing. Without such an option the Smith set is tied: the smallest set whose members beat all others.
- irv: instant runoff. While no option has more than half of the ballots that still name a continuing option, the
  lowest is eliminated; several equally low go together, unless that would leave none: then they are tied. No lot
  is drawn, so that nothing depends on an order.
- judge: a judge picks any option once the quorum has voted.
- veto:RULE, veto(ann,bob):RULE: anyone, or the seats named, can stop a motion; otherwise RULE decides. Only a motion
  can be rejected, so on other votes it is RULE alone.

On a motion a ballot is its first choice, and plurality, approval, borda, condorcet and irv all ask the same: does more
weight approve than reject? All arithmetic is on integers and fractions, and nothing depends on the order of seats.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement, permutations, product
from math import comb, gcd, perm, prod
from typing import Final, Literal

from ..errors import ConfigError
from .ballots import BallotBox
from .counting import Ballots, Standing, approvals, borda, condorcet, first_choices, margins, most, runoff

__all__ = ["RULES", "Outcome", "Result", "Rule", "Tie", "decide", "parse_rule", "unassailable"]

Result = Literal["approved", "rejected", "no_decision", "quorum_failed"]
Tie = Literal["none", "judge", "earliest"]

RULES: Final = (
    "majority",
    "supermajority:P/Q",
    "unanimity",
    "plurality",
    "approval",
    "borda",
    "condorcet",
    "irv",
    "judge",
    "veto:RULE",
    "veto(AGENT,AGENT):RULE",
    "weighted:RULE",
)
COMPLETIONS_MAX: Final = 5000
"""How many completions of a vote `unassailable` looks at before it says no."""

_TIES: Final = ("none", "judge", "earliest")
_THRESHOLDS: Final = {"majority": ">1/2", "unanimity": "1"}
_METHODS: Final = {
    "plurality": "most",
    "approval": "most",
    "borda": "most",
    "condorcet": "beats all",
    "irv": ">1/2 of continuing",
    "judge": "judge",
}
_ADDITIVE: Final[Mapping[str, Callable[[Sequence[str], Ballots], dict[str, int]]]] = {
    "majority": first_choices,
    "supermajority": first_choices,
    "unanimity": first_choices,
    "plurality": first_choices,
    "approval": approvals,
    "borda": borda,
}
_FRACTION: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_VETO: Final = re.compile(r"veto(?:\(([^()]*)\))?:(.+)")
_AGENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_TEXT_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A decision rule. `str(rule)` is its canonical text, and `parse_rule` reads it back.

    Attributes:
        kind: majority, supermajority, unanimity, plurality, approval, borda, condorcet, irv, judge or veto.
        p, q: the fraction of a supermajority, in lowest terms.
        inner: what decides when nobody vetoes; holders: who may veto, sorted, empty for everyone.
    """

    kind: str
    p: int = 1
    q: int = 1
    inner: Rule | None = None
    holders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "supermajority":
            if self.q < 1 or not self.q < 2 * self.p <= 2 * self.q:
                raise ConfigError(
                    f"a supermajority lies above 1/2 and at most at 1 (fraction={self.p}/{self.q}); write e.g. "
                    "supermajority:2/3, or majority for more than half"
                )
            shared = gcd(self.p, self.q)
            object.__setattr__(self, "p", self.p // shared)
            object.__setattr__(self, "q", self.q // shared)
        elif self.kind == "veto":
            if self.inner is None or self.inner.kind == "veto":
                raise ConfigError("a veto stands before one rule that is not a veto; write e.g. veto:majority")
            object.__setattr__(self, "holders", tuple(sorted(set(self.holders))))
        elif self.kind not in _THRESHOLDS and self.kind not in _METHODS:
            raise ConfigError(f"unknown decision rule {self.kind[:60]!r}; use one of: {', '.join(RULES)}")

    def __str__(self) -> str:
        if self.kind == "supermajority":
            return f"supermajority:{self.p}/{self.q}"
        if self.kind == "veto":
            return f"veto({','.join(self.holders)}):{self.inner}" if self.holders else f"veto:{self.inner}"
        return self.kind

    @property
    def threshold(self) -> str:
        """What an option has to reach, for people and records: "2/3", ">1/2", "1", "most", …"""
        if self.kind == "supermajority":
            return f"{self.p}/{self.q}"
        if self.inner is not None:
            return f"no veto, {self.inner.threshold}"
        return _THRESHOLDS.get(self.kind) or _METHODS[self.kind]

    @property
    def reads(self) -> Literal["choice", "set", "ranking"]:
        """What a ballot means to this rule: its first option, a set of options, or a ranking of them."""
        if self.inner is not None:
            return self.inner.reads
        if self.kind == "approval":
            return "set"
        return "ranking" if self.kind in ("borda", "condorcet", "irv") else "choice"

    def meets(self, weight: int, eligible: int) -> bool:
        """Whether `weight` of `eligible` reaches the threshold of majority, supermajority or unanimity."""
        if self.kind == "majority":
            return 2 * weight > eligible
        return weight * self.q >= self.p * eligible  # unanimity is 1/1

    @property
    def needs_judge(self) -> bool:
        """Whether the rule leaves the choice to a judge."""
        return (self.inner or self).kind == "judge"

    @property
    def has_threshold(self) -> bool:
        """Whether the rule asks for a fraction of eligible weight."""
        return self.kind in ("majority", "supermajority", "unanimity")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a vote came to.

    Attributes:
        winner: the approved option, or None unless `result` is "approved".
        tied: options between which the rule cannot choose, in the box's order; kept when the policy settles the tie.
        needs_judge: the result waits for a judge: for one of `tied`, or of all options where `tied` is empty.
        threshold: what was asked for, e.g. "2/3", ">1/2".
        scores: option to first-choice weight, approvals, points (exact, "7/2"), contests won, or the last
            count of a runoff.
        met: an option meets the rule by itself, with a quorum and no veto, before any tie is settled.
    """

    result: Result
    winner: str | None
    tied: tuple[str, ...]
    needs_judge: bool
    threshold: str
    scores: Mapping[str, str]
    met: bool


def parse_rule(text: str) -> Rule:
    """Read a rule from its text (see `RULES`). "weighted:RULE" is RULE: weights come from the electorate.

    Raises:
        ConfigError: the text is no rule; the message names the fix.
    """
    if len(text) > _TEXT_MAX:
        raise ConfigError(
            f"a rule has at most {_TEXT_MAX} characters (characters={len(text)}); name fewer veto holders"
        )
    text = _unweighted(text)
    if not text.startswith("veto"):
        return _parse_plain(text)
    veto = _VETO.fullmatch(text)
    if veto is None:
        raise ConfigError(f"{text!r} is no veto; write veto:majority, or veto(ann,bob):majority to name its holders")
    holders = () if veto[1] is None else tuple(name.strip() for name in veto[1].split(","))
    for name in holders:
        if not _AGENT.fullmatch(name):
            raise ConfigError(f"veto holder {name!r} is no agent id; write e.g. veto(ann,bob):majority")
    return Rule("veto", inner=_parse_plain(_unweighted(veto[2])), holders=holders)


def _unweighted(text: str) -> str:
    text = text.strip()
    rest = text.removeprefix("weighted:").strip()
    if rest.startswith("weighted") or not rest:
        raise ConfigError(f"{text!r} names no rule to weigh; write e.g. weighted:majority")
    return rest


def _parse_plain(text: str) -> Rule:
    if text.startswith("veto"):
        raise ConfigError(f"one veto cannot stand before another ({text[:60]!r}); write e.g. veto:majority")
    if not text.startswith("supermajority"):
        return Rule(text)
    fraction = _FRACTION.fullmatch(text.removeprefix("supermajority:"))
    if fraction is None:
        raise ConfigError(f"{text!r} has no fraction; write two whole numbers, e.g. supermajority:2/3")
    return Rule("supermajority", int(fraction[1]), int(fraction[2]))


def decide(rule: Rule, box: BallotBox, *, quorum: int, tie: Tie = "none", judged: str | None = None) -> Outcome:
    """Decide a vote as it stands; outstanding seats count as missing.

    Args:
        quorum: valid weight needed; less than 1 is read as 1.
        tie: who settles a tie.
        judged: what the judge picked, where one was asked; a pick outside the choice decides nothing.

    Raises:
        ConfigError: an unknown tie policy.
    """
    _check_tie(tie)
    ballots = [(entry.weight, entry.choices) for entry in box.seats if entry.status == "valid"]
    eligible = sum(entry.weight for entry in box.seats)
    core = rule.inner or rule
    standing = _stand(core, box, eligible, ballots)
    if sum(weight for weight, _ in ballots) < max(1, quorum):
        return Outcome("quorum_failed", None, (), False, rule.threshold, standing.scores, False)
    if rule.kind == "veto" and _vetoed(rule, box):
        return Outcome("rejected", None, (), False, rule.threshold, standing.scores, False)
    result, winner, needs_judge = _settle(core, box, standing, tie, judged)
    met = standing.winner is not None
    return Outcome(result, winner, standing.tied, needs_judge, rule.threshold, standing.scores, met)


def unassailable(rule: Rule, box: BallotBox, *, quorum: int, tie: Tie = "none") -> bool:
    """Whether no completion of the outstanding ballots could change the result, the winner or the quorum.

    A completion lets every outstanding seat vote in any way, abstain, be invalid or missing. Where a judge would be
    asked, what the judge may pick from must not change either. Exact for majority, supermajority, unanimity,
    plurality, approval, borda, motions and vetoes; condorcet, irv and ties of unequal weights are exact while there are
    at most 5,000 completions to look at, and False beyond (sound: the vote just goes on).

    Raises:
        ConfigError: an unknown tie policy.
    """
    _check_tie(tie)
    weights = [entry.weight for entry in box.seats if entry.outstanding]
    ballots = [(entry.weight, entry.choices) for entry in box.seats if entry.status == "valid"]
    valid, spare = sum(weight for weight, _ in ballots), sum(weights)
    needed = max(1, quorum)
    if not weights or not box.options or valid + spare < needed:
        return True
    if valid < needed:
        return False
    eligible = sum(entry.weight for entry in box.seats)
    core = rule.inner or rule
    if rule.kind == "veto" and box.is_motion:
        if _vetoed(rule, box):
            return True
        if not rule.holders or not set(rule.holders).isdisjoint(box.outstanding):
            return _stand(core, box, eligible, ballots).blocked
    if core.kind == "judge":
        return True
    return _holds(core, box, eligible, ballots, tie)


def _check_tie(tie: str) -> None:
    if tie not in _TIES:
        raise ConfigError(f"unknown tie policy {tie!r}; use one of: {', '.join(_TIES)}")


def _vetoed(rule: Rule, box: BallotBox) -> bool:
    return box.is_motion and any(
        entry.status == "valid" and entry.choices[0] == "reject" and (not rule.holders or entry.agent in rule.holders)
        for entry in box.seats
    )


def _settle(
    rule: Rule, box: BallotBox, standing: Standing, tie: Tie, judged: str | None
) -> tuple[Result, str | None, bool]:
    """Result, winner and whether a judge is needed, of a vote with a quorum and no veto."""
    if standing.winner is not None:
        return "approved", standing.winner, False
    if standing.blocked:
        return "rejected", None, False
    pick = standing.tied[0] if standing.tied and tie == "earliest" and not box.is_motion else None
    if rule.kind == "judge" or (standing.tied and tie == "judge"):
        if judged is None:
            return "no_decision", None, True
        pick = judged
    if pick is None or pick not in (standing.tied or box.options):
        return "no_decision", None, False
    if box.is_motion and pick == "reject":
        return "rejected", None, False
    return "approved", pick, False


def _stand(rule: Rule, box: BallotBox, eligible: int, ballots: Ballots) -> Standing:
    """Where the options stand under a rule that is not a veto."""
    if not box.options:
        return Standing(None, (), {})
    if rule.kind == "judge":
        return Standing(None, (), most(first_choices(box.options, ballots)).scores)
    if box.is_motion:
        return _motion(rule, first_choices(box.options, ballots), eligible)
    if rule.kind in ("condorcet", "irv"):
        return (condorcet if rule.kind == "condorcet" else runoff)(box.options, ballots)
    counts = _ADDITIVE[rule.kind](box.options, ballots)
    if rule.kind == "borda":
        return most(counts, {option: str(Fraction(points, 2)) for option, points in counts.items()})
    standing = most(counts)
    falls_short = rule.has_threshold and not rule.meets(max(counts.values()), eligible)
    return standing._replace(winner=None) if falls_short else standing


def _motion(rule: Rule, counts: Mapping[str, int], eligible: int) -> Standing:
    approve, reject = counts["approve"], counts["reject"]
    scores = {option: str(count) for option, count in counts.items()}
    if _carries(rule, approve, reject, eligible):
        return Standing("approve", (), scores)
    if not _carries(rule, eligible - reject, reject, eligible):
        return Standing(None, (), scores, blocked=True)
    return Standing(None, tuple(counts) if approve == reject > 0 else (), scores)


def _carries(rule: Rule, approve: int, reject: int, eligible: int) -> bool:
    return rule.meets(approve, eligible) if rule.has_threshold else approve > reject


# Completions. From here on the quorum stands, no veto is possible, and some seats are outstanding, so that a
# completion only matters by the valid ballots it adds. `spare` is the outstanding weight.


def _holds(rule: Rule, box: BallotBox, eligible: int, ballots: Ballots, tie: Tie) -> bool:
    """Whether every completion has the result of the vote as it stands."""
    weights = [entry.weight for entry in box.seats if entry.outstanding]
    if rule.kind in ("condorcet", "irv") and not box.is_motion:
        sure = _condorcet_holds if rule.kind == "condorcet" else _runoff_holds
        known = sure(box.options, ballots, sum(weights), tie)
        return _all_same(rule, box, ballots, weights, tie) if known is None else known
    if box.is_motion:
        counts = first_choices(box.options, ballots)
        return _motion_holds(rule, counts["approve"], counts["reject"], eligible=eligible, weights=weights, tie=tie)
    counts = _ADDITIVE[rule.kind](box.options, ballots)
    if rule.has_threshold:
        return _threshold_holds(rule, [*counts.values()], eligible, weights, tie)
    # One seat moves two options apart by its weight, in doubled Borda points by 2 (m − 1) times that.
    swing = sum(weights) * (2 * (len(counts) - 1) if rule.kind == "borda" else 1)
    return _lead_holds([*counts.values()], swing, tie)


def _condorcet_holds(options: Sequence[str], ballots: Ballots, spare: int, tie: Tie) -> bool | None:
    """None where it takes a look at every completion."""
    best = max(min(row.values(), default=spare + 1) for row in margins(options, ballots).values())
    if best > spare:
        return True  # whoever beats all others keeps doing so
    if tie == "earliest":
        return None
    if best > 0:
        return False  # everyone left puts another option first and the winner last
    if best + spare > 0:
        return False  # everyone left puts the option that is nearest to winning first
    return True if tie == "none" else None


def _runoff_holds(options: Sequence[str], ballots: Ballots, spare: int, tie: Tie) -> bool | None:
    """None where it takes a look at every completion."""
    counts = first_choices(options, ballots).values()
    return True if 2 * max(counts) > sum(counts) + spare else None


def _motion_holds(rule: Rule, approve: int, reject: int, *, eligible: int, weights: Sequence[int], tie: Tie) -> bool:
    if not _carries(rule, eligible - reject, reject, eligible):
        return True
    spare = sum(weights)
    if _carries(rule, approve, reject, eligible):
        return rule.has_threshold or approve > reject + spare
    worst = reject + spare
    if _carries(rule, approve + spare, reject, eligible) or not _carries(rule, eligible - worst, worst, eligible):
        return False
    return tie != "judge" or _never_ties([approve, reject], weights)


def _threshold_holds(rule: Rule, counts: Sequence[int], eligible: int, weights: Sequence[int], tie: Tie) -> bool:
    top = max(counts)
    if rule.meets(top, eligible):
        return True
    if rule.meets(top + sum(weights), eligible):
        return False
    return tie == "none" or _never_ties(counts, weights)


def _never_ties(counts: Sequence[int], weights: Sequence[int]) -> bool:
    """Whether one option leads alone now and, whatever single choices are added, ever after."""
    ordered = sorted(counts, reverse=True)
    if len(ordered) == 1 or ordered[0] - ordered[1] > sum(weights):
        return True
    reached = {tuple(ordered)}
    for weight in weights:
        added = {
            tuple(sorted((*state[:i], state[i] + weight, *state[i + 1 :]), reverse=True))
            for state in reached
            for i in range(len(state))
        }
        reached |= added
        if len(reached) > COMPLETIONS_MAX or any(state[0] == state[1] for state in reached):
            return False
    return True


def _lead_holds(points: Sequence[int], swing: int, tie: Tie) -> bool:
    """Whether the first by points stays first when every other option may gain `swing` on it."""
    leader = max(range(len(points)), key=points.__getitem__)
    for other, score in enumerate(points):
        if other == leader:
            continue
        caught_at = score + swing
        # A tie for the first place is no win, unless the policy gives it to the leader anyway.
        if caught_at > points[leader] or (caught_at == points[leader] and not (tie == "earliest" and leader < other)):
            return False
    return True


def _all_same(rule: Rule, box: BallotBox, ballots: Ballots, weights: Sequence[int], tie: Tie) -> bool:
    """Compare every completion by rankings with the vote as it stands; False where there are too many.

    The last place of a full ranking says nothing new, and seats of one weight are interchangeable.
    """
    options = box.options
    lengths = range(1, max(2, len(options)))
    kinds = 1 + sum(perm(len(options), length) for length in lengths)
    groups = Counter(weights)
    if prod(comb(seats + kinds - 1, seats) for seats in groups.values()) > COMPLETIONS_MAX:
        return False
    rankings = [(), *(ranking for length in lengths for ranking in permutations(options, length))]

    def sign(completed: Ballots) -> tuple[object, ...]:
        standing = _stand(rule, box, 0, completed)
        settled = _settle(rule, box, standing, tie, None)
        return (*settled, standing.tied if settled[2] else ())

    now = sign(ballots)
    picks = (combinations_with_replacement(rankings, seats) for seats in groups.values())
    for pick in product(*picks):
        added = [(weight, ranking) for weight, group in zip(groups, pick, strict=True) for ranking in group if ranking]
        if sign([*ballots, *added]) != now:
            return False
    return True
