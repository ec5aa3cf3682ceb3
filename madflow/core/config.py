"""What a debate is opened with, frozen: the fingerprint that a resume must match.

Everything that could change the outcome is here: task, panel, prompts, protocol, rule, rounds, stopping, topology,
seed. `limits` is the one part that a resume may change, and only upwards. The prompts enter as one digest a file, so
that a refused resume can name the file that changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from .budget import Limits
from .messages import Frozen, Seat, Task
from .plan import ABSENT, PATH_CHARS_MAX, path_problem
from .policies import Policy, Reliabilities
from .quorum import quorum
from .rules import Rule, parse_rule
from .stopping import DEFAULT_STOP, StopCondition, parse_stop
from .topology import parse_topology

__all__ = ["BALLOTS_MAX", "EDITION", "FALLBACKS", "Config", "Merge", "ReviewPlan", "changes"]

BALLOTS_MAX: Final = 256
"""Seats with a ballot that a panel may have; a judge and a mediator may sit beside them."""

EDITION: Final = 2
"""The edition of the rules of `answer` that a debate is opened under; see `Config.edition`."""

FALLBACKS = ("mediator", "judge", "human")
Fallback = Literal["mediator", "judge", "human"]


class ReviewPlan(Frozen):
    """What the plan of a review holds beside its findings, as it was when the debate opened.

    Attributes:
        path: where the review is written, beneath the root.
        before: the SHA-256 of what stands there, or "absent".
        fix: whether accepted patches are applied.
        test: the program, with its arguments, that must exit 0 afterwards; empty: none is run.
    """

    path: str = Field(min_length=1, max_length=PATH_CHARS_MAX)
    before: str = Field(default=ABSENT, pattern=r"^([0-9a-f]{64}|absent)$")
    fix: bool = True
    test: tuple[Annotated[str, Field(max_length=4_096)], ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _usable(self) -> ReviewPlan:
        if problem := path_problem(self.path):
            raise ValueError(f"{self.path[:120]!r}: {problem}")
        if self.test and (not self.test[0] or any("\0" in word for word in self.test)):
            raise ValueError('a test is a program and its arguments, e.g. ["pytest", "-q"]')
        return self


class Merge(Frozen):
    """How claims of a review become findings.

    Attributes:
        rule: "overlap" (core.findings) or "same" (core.merging). A review recorded without one merged by overlap.
        judge: the seat that is asked about pairs in doubt; empty: the words decide.
    """

    rule: Literal["overlap", "same"] = "overlap"
    judge: str = ""


class Config(Frozen):
    """One debate's frozen set-up.

    Attributes:
        seats: at most `BALLOTS_MAX` with a ballot, one judge and one mediator.
        parts: for a review, the file paths of each part that a seat reads in one call; empty: one part, everything.
        languages: the languages an agent can read; an agent that is absent reads any.
        max_age_s: how long the proposal stays valid after the debate opened, in seconds.
        faulty: weight of faulty seats the quorum must survive (F in ⌊(W+F)/2⌋+1).
        warm_first: in each round one seat starts and the others wait for its first token.
        review_plan: for a review, what its plan holds beside the findings; None: it has no plan.
        merge: for a review, how its claims become findings.
        policy: who is asked, how long, and what the answers come to, in place of `rule` and `stop`; None: those decide.
        learned: what the policy knows of the seats from earlier debates of this panel; None: nothing.
        reader_order: "shared" (every reader gets the same transcript: cacheable) or "own" (the reader's own turn last).
        edition: which rules of `answer` hold, so that every ledger folds to the bytes it was recorded with. Under 1,
            brackets around a free answer count under a policy only, a point before it under a rule only, and a policy
            withholds an answer by its confidence alone; under 2, both always count, and an answer that a policy holds
            less likely than one that nobody gave is withheld. A debate recorded without the field has 1; a resume
            goes on under its own.
    """

    debate_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")
    task: Task
    protocol: Literal["answer", "proposal", "review"] = "answer"
    crew: str = "generic"
    seats: tuple[Seat, ...]
    rule: str = "majority"
    tie: Literal["none", "judge", "earliest"] = "none"
    faulty: int = Field(default=0, ge=0)
    rounds: int = Field(default=3, ge=1, le=50)
    stop: str = DEFAULT_STOP
    topology: str = "all"
    seed: int = Field(default=0, ge=0, lt=2**32)
    fallback: tuple[Fallback, ...] = ()
    prompts: dict[str, str] = Field(default_factory=dict)
    parts: tuple[tuple[str, ...], ...] = ()
    languages: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    max_age_s: int = Field(default=86_400, ge=1, le=10**9)
    warm_first: bool = False
    reader_order: Literal["shared", "own"] = "shared"
    review_plan: ReviewPlan | None = None
    merge: Merge = Merge()
    policy: Policy | None = None
    learned: Reliabilities | None = None
    edition: Literal[1, 2] = 1
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _coherent(self) -> Config:
        if len(self.voters) > BALLOTS_MAX:
            raise ValueError(
                f"{len(self.voters)} seats hold a ballot, the limit is {BALLOTS_MAX}; leave out "
                f"{len(self.voters) - BALLOTS_MAX}"
            )
        twice = sorted(agent for agent, count in Counter(seat.agent for seat in self.seats).items() if count > 1)
        if twice:
            raise ValueError(f"agents share an id: {', '.join(twice)}; every agent needs its own")
        if not self.voters:
            raise ValueError("no seat holds a ballot: the panel has only judges and mediators; add a debater")
        for role in ("judge", "mediator"):
            held = [seat.agent for seat in self.seats if seat.role == role]
            if len(held) > 1:
                raise ValueError(f"{len(held)} agents have the role {role} ({', '.join(held)}); at most 1 may")
            if role in self.fallback and not held:
                raise ValueError(f'fallback "{role}" needs an agent with the role {role}; the panel has none')
        if (self.tie == "judge" or self.rule_.needs_judge) and not self.seat_of("judge"):
            raise ValueError('the rule or tie policy asks a judge; add an agent with role = "judge"')
        strangers = sorted(set(self.rule_.holders) - set(self.electorate))
        if strangers:
            ballots = ", ".join(self.electorate)
            raise ValueError(f"veto holders without a ballot: {', '.join(strangers)}; ballots: {ballots}")
        _check_options(self.task)
        self._check_merge()
        self._check_policy()
        parse_stop(self.stop)
        parse_topology(self.topology)
        quorum(self.electorate_weight, self.faulty)
        return self

    def _check_merge(self) -> None:
        judge = self.merge.judge
        if not judge:
            return
        if self.protocol != "review" or self.merge.rule != "same":
            raise ValueError(
                f"{judge} would judge which claims of a review are the same, by the merge rule same (protocol="
                f"{self.protocol}, rule={self.merge.rule}); leave the judge out"
            )
        if judge not in {seat.agent for seat in self.seats}:
            seats = ", ".join(sorted(seat.agent for seat in self.seats))
            raise ValueError(f"no seat {judge!r} to judge which claims are the same; there are {seats}")

    def _check_policy(self) -> None:
        if self.policy is None:
            if self.learned is not None:
                raise ValueError("learned goes with a policy; name one, e.g. robust, or leave it out")
            return
        if self.protocol != "answer":
            raise ValueError(f"a policy answers questions; the protocol is {self.protocol}: leave the policy out")
        if self.rule != f"policy:{self.policy.name}":
            raise ValueError(f"policy {self.policy.name} counts in place of a rule (rule={self.rule}); leave rule out")
        if self.faulty:
            raise ValueError(
                f"policy {self.policy.name} has a quorum of those it asks (faulty={self.faulty}); leave it 0"
            )
        strangers = sorted(set(self.learned.by_seat if self.learned else ()) - set(self.electorate))
        if strangers:
            raise ValueError(f"learned names seats that this panel has not: {', '.join(strangers)}; learn from its own")
        if any(weight != 1 for weight in self.electorate.values()):
            raise ValueError(f"policy {self.policy.name} weighs seats itself; leave their weights at 1")
        if self.rounds > self.policy.rounds_max:
            most = self.policy.rounds_max
            raise ValueError(
                f"policy {self.policy.name} holds {most} rounds at most (rounds={self.rounds}); ask for fewer"
            )

    @cached_property
    def rule_(self) -> Rule:
        return parse_rule("plurality" if self.policy is not None else self.rule)

    @cached_property
    def stop_(self) -> StopCondition:
        return parse_stop(self.stop)

    @cached_property
    def voters(self) -> tuple[Seat, ...]:
        """Seats that hold a ballot, by id: the panel's order never matters."""
        return tuple(sorted((seat for seat in self.seats if seat.votes), key=lambda seat: seat.agent))

    @cached_property
    def electorate(self) -> dict[str, int]:
        return {seat.agent: seat.weight for seat in self.voters}

    @cached_property
    def electorate_weight(self) -> int:
        return sum(seat.weight for seat in self.seats if seat.votes)

    @cached_property
    def quorum(self) -> int:
        """Valid weight below which nothing is decided, frozen for the debate."""
        return quorum(self.electorate_weight, self.faulty)

    def seat(self, agent: str) -> Seat:
        for seat in self.seats:
            if seat.agent == agent:
                return seat
        raise ConfigError(f"no agent {agent!r} in this debate; it has {', '.join(s.agent for s in self.seats)}")

    def seat_of(self, role: str) -> Seat | None:
        """The seat that holds `role`, or None."""
        return next((seat for seat in self.seats if seat.role == role), None)

    def identity(self) -> dict[str, Any]:
        """What a resume must match: everything but the limits, the edition, what the tree held at the opening, and
        the prompt of a judge of pairs where there is none. Panel order does not count."""
        hidden: Any = {
            "limits": True,
            "edition": True,
            "seats": True,
            "warm_first": True,
            "review_plan": {"before": True},
        }
        data = self.model_dump(mode="json", exclude=hidden)
        if not self.merge.judge:  # its words reach nobody
            data["prompts"] = {name: digest for name, digest in self.prompts.items() if not name.endswith(_PAIRS)}
        data["seats"] = {seat.agent: seat.model_dump(mode="json", exclude={"agent"}) for seat in self.seats}
        return data


_PAIRS: Final = "/same.md"  # the prompt of a judge of pairs
_RESERVED = ("abstain", "invalid", "missing", "none")  # what becomes of ballots, and of a judge's or a human's word


def _check_options(task: Task) -> None:
    ids = [oid for oid, _ in task.options]
    for oid in ids:
        if not oid.strip() or oid.strip().casefold() in _RESERVED or ids.count(oid) > 1:
            why = "is used twice" if ids.count(oid) > 1 else "is empty or reserved"
            raise ValueError(f"option id {oid!r} {why}; give every option an id of its own")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, each as `path: old → new` (values shortened), sorted by path."""
    return sorted(_diff("", old, new))


def _diff(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            where = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield f"{where}: added ({_short(new[key])})"
            elif key not in new:
                yield f"{where}: removed ({_short(old[key])})"
            else:
                yield from _diff(where, old[key], new[key])
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any, limit: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
