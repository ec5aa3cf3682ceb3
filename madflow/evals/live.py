"""Arms on live models: the same set-ups as on recordings, with a user's own questions.

Every debate is held by the real graph and recorded in one ledger, under an id made of the arm, the panel and the
question. So a run that is interrupted resumes by the same command: what was answered is not asked, or paid for, again.

- An arm that weighs seats by reliability learns as it goes: the questions are taken in pieces of `LEARN_EVERY`, and
  each piece knows the seats from the pieces before it, never from labels.
- `vote-equal` is self-consistency at equal tokens: as many seats as the arm it is compared with could have paid for,
  by what both spent a question (see `equal_seats`).
- `judge-swapped` is `judge` with the options in reverse order: the two should name the same answer.

Tokens and money are those that providers reported, or the reservation where one reported nothing. A debate that ends
without an answer, or in an error, stays in every denominator.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from ..core.budget import Budget
from ..core.canonical import digest
from ..core.config import Config
from ..core.messages import Agent
from ..core.policies import Debated, Reliabilities, Said, suspicions
from ..core.proposal import Proposal
from ..core.state import State
from ..debate.learning import Past
from ..debate.run import hold
from ..debate.setup import Debate
from ..debate.stream import stream_name
from ..errors import BudgetTooSmall, ConfigError, MadflowError, TaskError
from ..ports import Ledger
from .answers import Kind, normal_answer, read_answer
from .arms import ARMS, Arm, arm_named
from .dataset import Question
from .records import Outcome, Recording

__all__ = ["LEARN_EVERY", "LIVE_ARMS", "SEATS_MAX", "Held", "Panel", "Spent", "equal_seats", "hold_arm", "live_arm"]

LEARN_EVERY: Final = 20
SEATS_MAX: Final = 26
_SWAPPED: Final = "judge-swapped"
LIVE_ARMS: Final[Mapping[str, Arm]] = {
    **ARMS,
    "vote-equal": replace(ARMS["vote"], name="vote-equal", title="self-consistency at the debate's tokens"),
    _SWAPPED: replace(ARMS["judge"], name=_SWAPPED, title="judge, options in reverse order"),
}
"""The arms of recordings, and those that only live models can fill."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Who answers.

    Attributes:
        models: names or `ModelClient`s; seats take them in turn.
        size: how many seats a debate has.
        budget: the caps of one debate.
        api_base: of an OpenAI-compatible server, for models given by name.
    """

    models: tuple[Any, ...]
    size: int = 3
    budget: Budget = field(default_factory=Budget)
    api_base: str | None = None
    max_output_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("a live arm needs a model; give --model NAME")
        if not 1 <= self.size <= SEATS_MAX:
            raise ConfigError(f"a panel has 1 to {SEATS_MAX} seats (size={self.size}); change --agents")

    def agents(self, count: int) -> list[Agent]:
        """So many seats, s1, s2, …"""
        return [
            Agent(f"s{n}", model=self.models[(n - 1) % len(self.models)], max_output_tokens=self.max_output_tokens)
            for n in range(1, count + 1)
        ]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a debate cost, as charged: tokens, and money in 10⁻⁹ dollars; None where no price is known.

    `unreported`: the part of the tokens that no provider reported, charged as they were reserved.
    """

    tokens: int
    usd_nanos: int | None
    unreported: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """One question under one arm. `outcome.recording` is the debate that was held."""

    outcome: Outcome
    spent: Spent
    error: str = ""


def live_arm(name: str) -> Arm:
    """An arm for live models. Raises ConfigError, with the names there are."""
    if name not in LIVE_ARMS:
        raise ConfigError(f"there is no live arm {name!r}; there are {', '.join(LIVE_ARMS)}")
    return LIVE_ARMS[name] if name in (_SWAPPED, "vote-equal") else arm_named(name)


def equal_seats(against: Sequence[Held], vote: Sequence[Held], size: int) -> int:
    """How many seats a vote can have for what `against` spent a question: tokens of it / tokens of a seat's one reply.

    Rounded down, at least 1, at most `SEATS_MAX`.
    """
    budget = sum(one.spent.tokens for one in against) / max(1, len(against))
    reply = sum(one.spent.tokens for one in vote) / max(1, len(vote) * size)
    return max(1, min(SEATS_MAX, int(budget / reply))) if reply else size


async def hold_arm(
    arm: Arm,
    questions: Sequence[Question],
    panel: Panel,
    ledger: Ledger,
    *,
    kind: Kind = "number",
    seats: int | None = None,
    at_once: int = 8,
    place: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    on_done: Callable[[Held], None] = lambda held: None,
) -> list[Held]:
    """Hold every question under an arm, or take it up where it was left; one result each, in their order.

    Args:
        kind: how open answers compare with gold (see answers.py).
        seats: another size of the panel than its own, for `vote-equal`.
        place: entered around each debate; what it raises ends the run, which can be resumed.
        on_done: called as each question ends, inside its place.

    Raises:
        UsageError and its kinds: what can be known before the first call, e.g. no key.
        LedgerError: the ledger failed.
    """
    holding = _Holding(arm, panel, ledger, kind, seats or panel.size, Past(ledger))
    held: list[Held] = []
    learned: Reliabilities | None = None
    weighs = arm.policy is not None and arm.policy.weighing == "reliability"
    gate = asyncio.Semaphore(at_once)

    async def one(question: Question, known: Reliabilities | None) -> Held:
        async with gate, place():
            made = await holding.hold(question, known)
            on_done(made)
        return made

    each = LEARN_EVERY if weighs else max(1, len(questions))
    for start in range(0, len(questions), each):
        held += await asyncio.gather(*(one(question, learned) for question in questions[start : start + each]))
        if weighs and arm.policy is not None:
            past = [holding.name(q) for q, made in zip(questions, held, strict=False) if not made.error]
            learned = holding.past.learn(arm.policy, past) if past else None
    doubts = suspicions([(one.outcome.recording.debated, one.outcome.answer) for one in held])
    return [
        replace(one, outcome=replace(one.outcome, suspicion=doubt)) for one, doubt in zip(held, doubts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Holding:
    """An arm with its panel: what holds one question."""

    arm: Arm
    panel: Panel
    ledger: Ledger
    kind: Kind
    size: int
    past: Past

    def name(self, question: Question) -> str:
        """The debate's id: the same for the same arm, panel and question."""
        models = [getattr(model, "name", "") or str(model) for model in self.panel.models]
        options = [list(option) for option in question.options]
        what = digest([models, self.size, self.panel.max_output_tokens, question.question, options])
        place = sha256(question.task_id.encode("utf-8", "backslashreplace")).hexdigest()
        return f"{self.arm.name}-{place[:12]}-{what[:16]}"

    async def hold(self, question: Question, learned: Reliabilities | None) -> Held:
        try:
            proposal, state = await hold(self._debate(question, self._begun_with(question, learned)))
        except (TaskError, BudgetTooSmall) as error:  # this question cannot be held; the others can
            return self._failed(question, f"{question.task_id}: {error}")
        if not isinstance(proposal, Proposal):
            raise MadflowError(f"debate {self.name(question)} waits for a human; no arm asks one")
        if proposal.decision.tally.missing == proposal.decision.tally.eligible:
            causes = sorted({vote.notes for vote in proposal.votes if vote.notes != "not_asked"})
            return self._failed(question, f"{question.task_id}: no seat answered ({', '.join(causes)[:200]})")
        return self._held(question, proposal, state)

    def _begun_with(self, question: Question, learned: Reliabilities | None) -> Reliabilities | None:
        """What the debate was begun with, where it was begun: what is known now may be more."""
        begun = self.ledger.read(stream_name(self.name(question)))
        return Config.model_validate(begun[0].payload["config"]).learned if begun else learned

    def _debate(self, question: Question, learned: Reliabilities | None) -> Debate:
        arm, options = self.arm, list(question.options)
        common: dict[str, Any] = {
            "id": self.name(question),
            "task": {
                "task_id": question.task_id,
                "question": question.question,
                "options": options[::-1] if arm.name == _SWAPPED else options,
            },
            "ledger": self.ledger,
            "budget": self.panel.budget,
            "api_base": self.panel.api_base,
        }
        agents = self.panel.agents(arm.seats_max or self.size)
        if arm.judge:
            judge = replace(self.panel.agents(self.size + 1)[-1], id="judge", role="judge")
            return Debate(
                **common, agents=[*agents, judge], rule="unanimity", rounds=1, fallback=("judge",), stop="max_rounds"
            )
        if arm.policy is None:
            return Debate(**common, agents=agents, rule="majority", rounds=3)
        return Debate(**common, agents=agents, policy=arm.policy, learned=learned)

    def _held(self, question: Question, proposal: Proposal, state: State) -> Held:
        texts = {option["id"]: option["text"] for option in proposal.content["options"]}
        named = {oid: oid if question.options else _open(text, self.kind, question) for oid, text in texts.items()}
        decision, policy = proposal.decision, proposal.content.get("policy")
        if policy is not None:
            tied = tuple(sorted({named[oid] for oid in policy["tied"]}))
            abstained, confidence = bool(policy["abstained"]), float(policy["confidence"])
        else:
            backed = Counter(vote.decision for vote in proposal.votes if vote.decision in named)
            most = max(backed.values(), default=0)
            leading = [oid for oid, count in backed.items() if count == most]
            tied = tuple(sorted({named[oid] for oid in ([decision.choice] if decision.choice else leading)}))
            abstained, confidence = (
                not tied,
                backed[decision.choice or leading[0]] / len(proposal.votes) if tied else 0.0,
            )
        tokens = int(proposal.usage["prompt_tokens"]) + int(proposal.usage["output_tokens"])
        outcome = Outcome(
            recording=self._recording(question, state, named),
            tied=tied,
            abstained=abstained,
            confidence=confidence,
            suspicion=0.0,
            stop_reason=decision.stop_reason,
            rounds=decision.rounds,
            calls=int(proposal.usage["calls"]),
            tokens=float(tokens),
            decided=proposal.approved,
        )
        usd, open_ = proposal.usage["usd"], proposal.usage["unreported"]
        unreported = int(open_["prompt_tokens"]) + int(open_["output_tokens"])
        return Held(outcome, Spent(tokens, None if usd is None else int(Decimal(usd) * 10**9), unreported))

    def _failed(self, question: Question, error: str) -> Held:
        recording = self._recording(question)
        return Held(Outcome(recording, (), True, 0.0, 1.0, "failed", 0, 0, 0.0, decided=False), Spent(0, 0), error)

    def _recording(
        self, question: Question, state: State | None = None, named: Mapping[str, str] | None = None
    ) -> Recording:
        """The debate as it was held, its answers by their names in the data; an empty one where it was not held."""
        gold = question.gold if question.options or question.gold is None else _open(question.gold, self.kind, question)
        shown, latency = Debated((), ("s1",)), {}
        if state is not None and named is not None:
            seen = self.past.add(state)
            shown = replace(seen, rounds=tuple(tuple(_renamed(one, named) for one in said) for said in seen.rounds))
            latency = _latencies(self.ledger, state)
        key = f"{self.arm.name}/{question.task_id}"
        return Recording(key, question.task_id, self.arm.name, shown, gold=gold, latency_ms=latency)


def _open(text: str, kind: Kind, question: Question) -> str:
    """An open answer in its normal form; what a sentence around it says, where it is no bare answer."""
    plain = normal_answer(text)
    if plain is not None and kind in ("number", "numbers") and not plain[-1].isdigit():
        plain = read_answer(text, None, kind, question.question).answer or plain
    return plain or text.strip()


def _renamed(said: Said, named: Mapping[str, str]) -> Said:
    return said if said.answer is None else replace(said, answer=named[said.answer])


def _latencies(ledger: Ledger, state: State) -> dict[tuple[int, str], int]:
    """(round, seat) to the time its call took, attempts and repairs added up, in ms."""
    stages = {one.stage.number: one.stage for one in state.closed}
    found: Counter[tuple[int, str]] = Counter()
    for record in ledger.read(stream_name(state.config.debate_id)):
        if record.kind != "settled":
            continue
        number, kind, agent, *_ = str(record.payload["entry"]["key"]).split("/")
        if kind in ("position", "discuss") and int(number) in stages:
            found[stages[int(number)].round, agent] += int(record.payload.get("latency_ms", 0))
    return dict(found)
