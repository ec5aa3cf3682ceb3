"""When a debate stops: small pure predicates over what its rounds came to, composed with & and |.

A condition looks at a `DebateView` and returns a `Stop`, which is one reason and the numbers that triggered it, or
None. `a | b` is the first that fires, from left to right; `a & b` fires when both do, with the reason of the first
and the numbers of both. Every condition has a text, which freezes it in a configuration: `parse_stop` reads it back,
& binds tighter than |, and parentheses group.

The reasons `budget_exceeded`, `timeout`, `judge`, `human` and `cancelled` are events of a debate, not predicates
over its rounds; they are recorded with the same `Stop`.

A seat's *position* is the option it holds, "" where it holds none. Rounds in which nobody holds a position say nothing
about agreement: neither `stable` nor `deadlock` reads anything into them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ..errors import ConfigError

__all__ = [
    "DEFAULT_STOP",
    "DebateView",
    "RoundRecord",
    "Stop",
    "StopCondition",
    "StopReason",
    "converged",
    "deadlock",
    "max_rounds",
    "no_new_claims",
    "parse_stop",
    "quorum_lost",
    "stable",
    "unassailable",
]

StopReason = Literal[
    "converged",
    "unassailable",
    "stable",
    "no_new_claims",
    "deadlock",
    "max_rounds",
    "budget_exceeded",
    "timeout",
    "judge",
    "human",
    "cancelled",
    "quorum_lost",
]

DEFAULT_STOP: Final = "converged | quorum_lost | max_rounds"
"""Debate only while the rule is not met and a quorum is alive."""

_TEXT_MAX: Final = 1000
_COUNT_MAX: Final = 1000
_NESTING_MAX: Final = 50
_WORD: Final = re.compile(r"\s*([&|()]|[a-z_]+(?::[0-9]{1,9})?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one round came to.

    Attributes:
        round: 1-based. met: the decision rule is met; winner: by which option.
        positions: agent to the option it holds, "" where it holds none.
        new_claims: claims that no earlier round made; answered: seats that answered at all.
    """

    round: int
    met: bool
    winner: str | None
    positions: Mapping[str, str]
    new_claims: int
    answered: int


@dataclass(frozen=True, slots=True)
class DebateView:
    """What conditions look at.

    Attributes:
        rounds: those finished, oldest first; max_rounds: how many there may be.
        unassailable: no outstanding ballot can change the vote (`rules.unassailable`).
        quorum, live_weight: the weight needed, and the weight of the seats that still answer.
        weights: voting weight by agent, 1 where an agent is not in it.
    """

    rounds: tuple[RoundRecord, ...]
    max_rounds: int
    unassailable: bool = False
    quorum: int = 0
    live_weight: int = 0
    weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a debate stopped, with the numbers that triggered it."""

    reason: StopReason
    numbers: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class StopCondition:
    """A predicate over a `DebateView`. Compose with & and |; `str` is the text that `parse_stop` reads.

    Attributes:
        op: "is" for one predicate, "and" or "or" for a composition of `parts`.
        name, count: the predicate, and its number of rounds (0 where it takes none).
    """

    op: Literal["is", "and", "or"]
    name: str = ""
    count: int = 0
    parts: tuple[StopCondition, ...] = ()

    def __call__(self, view: DebateView) -> Stop | None:
        """The reason to stop now, or None."""
        if self.op == "is":
            return _CHECKS[self.name](view, self.count)
        found = [part(view) for part in self.parts]
        fired = [stop for stop in found if stop is not None]
        if self.op == "or":
            return fired[0] if fired else None
        if len(fired) < len(found):
            return None
        numbers: dict[str, int | str] = {}
        for stop in reversed(fired):
            numbers.update(stop.numbers)
        return Stop(fired[0].reason, numbers)

    def __and__(self, other: StopCondition) -> StopCondition:
        return _join("and", self, other)

    def __or__(self, other: StopCondition) -> StopCondition:
        return _join("or", self, other)

    def __str__(self) -> str:
        if self.op == "is":
            return f"{self.name}:{self.count}" if self.count else self.name
        if self.op == "or":
            return " | ".join(str(part) for part in self.parts)
        return " & ".join(f"({part})" if part.op == "or" else str(part) for part in self.parts)

    @property
    def bounded(self) -> bool:
        """Whether `max_rounds` alone is enough to make this condition fire."""
        if self.op == "is":
            return self.name == "max_rounds"
        return (any if self.op == "or" else all)(part.bounded for part in self.parts)


def converged() -> StopCondition:
    """The decision rule is met."""
    return StopCondition("is", "converged")


def unassailable() -> StopCondition:
    """No outstanding ballot can change the vote."""
    return StopCondition("is", "unassailable")


def stable(n: int = 2) -> StopCondition:
    """The last `n` ≥ 2 rounds have the same positions, and one option leads alone, by weight."""
    return _counted("stable", n)


def no_new_claims(n: int = 1) -> StopCondition:
    """The last `n` ≥ 1 rounds, none of them the first, made no claim that was not made before."""
    return _counted("no_new_claims", n)


def deadlock(n: int = 2) -> StopCondition:
    """The last `n` ≥ 2 rounds have the same positions and no option leads alone, or the panel goes in a circle.

    A circle: the positions are those of an earlier round, and were others in between.
    """
    return _counted("deadlock", n)


def max_rounds() -> StopCondition:
    """The last round that is allowed is over."""
    return StopCondition("is", "max_rounds")


def quorum_lost() -> StopCondition:
    """The seats that still answer are too few for a quorum."""
    return StopCondition("is", "quorum_lost")


def parse_stop(text: str) -> StopCondition:
    """Read a condition, e.g. "converged | stable:2 & no_new_claims | max_rounds".

    Raises:
        ConfigError: the text is no condition; the message names the fix.
    """
    if len(text) > _TEXT_MAX:
        raise ConfigError(f"a stop condition has at most {_TEXT_MAX} characters (characters={len(text)}); shorten it")
    if text.count("(") > _NESTING_MAX:
        raise ConfigError(f"a stop condition has at most {_NESTING_MAX} parentheses ({text.count('(')}); drop some")
    words: list[str] = []
    at = 0
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            raise ConfigError(f"stop condition {text!r} is unreadable at {text[at:].strip()!r}; {_USAGE}")
        words.append(word[1])
        at = word.end()
    condition = _parse_or(text, words)
    if words:
        raise ConfigError(f"stop condition {text!r} has {words[0]!r} where & or | is expected; {_USAGE}")
    return condition


def _parse_or(text: str, words: list[str]) -> StopCondition:
    condition = _parse_and(text, words)
    while words and words[0] == "|":
        words.pop(0)
        condition = condition | _parse_and(text, words)
    return condition


def _parse_and(text: str, words: list[str]) -> StopCondition:
    condition = _parse_one(text, words)
    while words and words[0] == "&":
        words.pop(0)
        condition = condition & _parse_one(text, words)
    return condition


def _parse_one(text: str, words: list[str]) -> StopCondition:
    word = words.pop(0) if words else "the end"
    if word == "(":
        condition = _parse_or(text, words)
        if not words or words.pop(0) != ")":
            raise ConfigError(f"stop condition {text!r} lacks a closing parenthesis; add it")
        return condition
    name, _, count = word.partition(":")
    if name not in _CHECKS:
        raise ConfigError(f"stop condition {text!r} has {word!r} where a condition is expected; {_USAGE}")
    if name in _DEFAULTS:
        return _counted(name, int(count) if count else _DEFAULTS[name])
    if count:
        raise ConfigError(f"stop condition {name} takes no number ({word!r}); write {name}")
    return StopCondition("is", name)


def _counted(name: str, count: int) -> StopCondition:
    least = 1 if name == "no_new_claims" else 2
    if not least <= count <= _COUNT_MAX:
        raise ConfigError(
            f"{name} takes {least} to {_COUNT_MAX} rounds (rounds={count}); write {name}:{_DEFAULTS[name]}"
        )
    return StopCondition("is", name, count)


def _join(op: Literal["and", "or"], *parts: StopCondition) -> StopCondition:
    flat: list[StopCondition] = []
    for part in parts:
        flat.extend(part.parts if part.op == op else (part,))
    return StopCondition(op, parts=tuple(flat))


def _held(record: RoundRecord) -> dict[str, str]:
    return {agent: position for agent, position in record.positions.items() if position}


def _leaders(view: DebateView, held: Mapping[str, str]) -> tuple[list[str], int]:
    """The options that lead by weight, sorted, and that weight."""
    counts: dict[str, int] = {}
    for agent, position in held.items():
        counts[position] = counts.get(position, 0) + view.weights.get(agent, 1)
    top = max(counts.values())
    return sorted(option for option, count in counts.items() if count == top), top


def _unchanged(view: DebateView, count: int) -> dict[str, str] | None:
    """The positions of the last `count` rounds, where they are the same in all of them and somebody holds one."""
    if len(view.rounds) < count:
        return None
    held = _held(view.rounds[-1])
    same = all(_held(record) == held for record in view.rounds[-count:])
    return held if held and same else None


def _is_converged(view: DebateView, _: int) -> Stop | None:
    if not view.rounds or not view.rounds[-1].met:
        return None
    last = view.rounds[-1]
    return Stop("converged", {"round": last.round, "winner": last.winner or ""})


def _is_unassailable(view: DebateView, _: int) -> Stop | None:
    return Stop("unassailable", {"round": view.rounds[-1].round if view.rounds else 0}) if view.unassailable else None


def _is_stable(view: DebateView, count: int) -> Stop | None:
    held = _unchanged(view, count)
    if held is None:
        return None
    leaders, weight = _leaders(view, held)
    if len(leaders) > 1:
        return None
    return Stop("stable", {"round": view.rounds[-1].round, "rounds": count, "leader": leaders[0], "weight": weight})


def _is_no_new_claims(view: DebateView, count: int) -> Stop | None:
    recent = view.rounds[-count:]
    if len(recent) < count or any(record.round < 2 or record.new_claims for record in recent):
        return None
    return Stop("no_new_claims", {"round": recent[-1].round, "rounds": count})


def _is_deadlock(view: DebateView, count: int) -> Stop | None:
    held = _unchanged(view, count)
    if held is not None:
        leaders, weight = _leaders(view, held)
        if len(leaders) > 1:
            numbers: dict[str, int | str] = {"round": view.rounds[-1].round, "rounds": count}
            return Stop("deadlock", {**numbers, "tied": ",".join(leaders), "weight": weight})
    if not view.rounds or not (now := _held(view.rounds[-1])):
        return None
    changed = False
    for record in reversed(view.rounds[:-1]):
        if _held(record) != now:
            changed = True
        elif changed:
            return Stop("deadlock", {"round": view.rounds[-1].round, "same_as_round": record.round})
    return None


def _is_max_rounds(view: DebateView, _: int) -> Stop | None:
    done = view.rounds[-1].round if view.rounds else 0
    return Stop("max_rounds", {"round": done, "max_rounds": view.max_rounds}) if done >= view.max_rounds else None


def _is_quorum_lost(view: DebateView, _: int) -> Stop | None:
    if view.live_weight >= view.quorum:
        return None
    return Stop("quorum_lost", {"live_weight": view.live_weight, "quorum": view.quorum})


_CHECKS: Final[Mapping[str, Callable[[DebateView, int], Stop | None]]] = {
    "converged": _is_converged,
    "unassailable": _is_unassailable,
    "stable": _is_stable,
    "no_new_claims": _is_no_new_claims,
    "deadlock": _is_deadlock,
    "max_rounds": _is_max_rounds,
    "quorum_lost": _is_quorum_lost,
}
_DEFAULTS: Final[Mapping[str, int]] = {"stable": 2, "no_new_claims": 1, "deadlock": 2}
_USAGE: Final = f"join {', '.join(_CHECKS)} with &, | and parentheses, e.g. {DEFAULT_STOP!r}"
