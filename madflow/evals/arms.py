"""Arms: ways to answer a question with a panel, each run through the real debate graph.

An arm is a debate's set-up: who speaks, how long, and who counts. Recorded rows are debated again by the graph with a
recorded client: the graph asks, the recording answers, and nothing is seen that was not asked for. The outcome is read
from the state that the debate's records fold to.

- `single`: one seat, its first reply.
- `vote`: self-consistency; every seat's first reply, plurality.
- `rule`: a debate as madflow holds it by default: majority of the panel, at most three rounds, stop when it is met.
- `debate`: the papers' procedure; all recorded rounds, plurality of the last.
- `judge`: the first replies; where they are not unanimous, one seat that has read them all decides (its second reply).
- every policy of `core.policies` under its own name.

What a debate came to is scored, whichever way it ended: its decision, or where it made none (a tie, no quorum, no
majority), what it leans to: the policy's verdict, or the most votes of the last round that was held. `Outcome.decided`
says which, and a measure of that name how often.

Reliabilities are learned inside one run, from the first-round replies that the arm asks for anyway and from nothing
else; then every debate of the run is held with them. Seats are asked in an order drawn from what the row holds, never
from names (`core.topology.order` with the row's fingerprint as the debate's id), so two rows that hold the same are
one debate.

Tokens are characters / 4 of the prompts and replies that were asked for, by `records.tokens`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..core.budget import Budget
from ..core.messages import Agent
from ..core.policies import POLICIES, Ask, Debated, Policy, Reliabilities, Said, leaders, learn_run, suspicions
from ..core.proposal import Proposal
from ..core.protocols.guided import debated_of
from ..core.replies import PROSE_CHARS_MAX
from ..core.topology import order
from ..debate.run import hold
from ..debate.setup import Debate
from ..errors import ConfigError
from ..models.recorded import RecordedModel
from ..models.scripted import ScriptedModel
from ..ports import Ledger
from .load import Row
from .records import Outcome, tokens

__all__ = ["ARMS", "Arm", "arm_named", "first_round", "learned_of", "run_arm"]

_JUDGE: Final = "judge"
_AT_ONCE: Final = 16
_TOKENS: Final = 10**12  # a recorded call costs nothing; the cap only has to be above all that a row may hold


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to answer.

    Attributes:
        policy: who is asked and what it comes to; None: the debate's default rule.
        seats_max: how many seats of the panel take part; 0: all.
        judge: a seat that has read the first replies decides where they are not unanimous.
    """

    name: str
    title: str
    policy: Policy | None = None
    seats_max: int = 0
    judge: bool = False


_TITLES: Final[Mapping[str, str]] = {
    "vote": "self-consistency: one round, plurality",
    "debate": "fixed rounds, plurality of the last",
    "met": "rounds until a majority agrees",
    "lead": "asks until one answer is 3 ahead",
    "adaptive": "asks until the leader is ahead with P ≥ .95",
    "value": "asks while a vote is worth it",
    "pooled": "two rounds unless unanimous, votes pooled",
    "independent": "pooled, followers discounted",
    "confident": "one round, weighted by stated confidence",
    "reliable": "one round, weighted by learned reliability",
    "robust": "the recommended default",
}

ARMS: Final[Mapping[str, Arm]] = {
    arm.name: arm
    for arm in (
        Arm("single", "one seat, one reply", replace(POLICIES["vote"], name="single"), seats_max=1),
        Arm("rule", "majority rule, three rounds at most"),
        Arm("judge", "first replies, one reader decides", judge=True),
        *(Arm(name, _TITLES.get(name, name), policy) for name, policy in POLICIES.items()),
    )
}
"""All arms by name."""


def arm_named(name: str) -> Arm:
    """An arm.

    Raises:
        ConfigError: there is none of that name; the message lists them.
    """
    if name not in ARMS:
        raise ConfigError(f"there is no arm {name!r}; there are {', '.join(ARMS)}")
    return ARMS[name]


def run_arm(arm: Arm, rows: Sequence[Row], *, at_once: int = _AT_ONCE, ledger: Ledger | None = None) -> list[Outcome]:
    """Debate the rows of one run again; one outcome each, in their order.

    Args:
        rows: of one run: reliabilities are learned across them.
        at_once: how many debates are held at the same time.
        ledger: where the debates are recorded; a temporary one where it is None. It must not hold them already.

    Raises:
        ConfigError: the rows belong to several runs.
    """
    runs = {row.recording.run for row in rows}
    if len(runs) > 1:
        raise ConfigError(f"an arm is run on one run at a time ({len(runs)} were given); group the rows first")
    if ledger is not None:
        return asyncio.run(_run_arm(arm, rows, ledger, at_once))
    from ..ledger.sqlite import open_ledger

    with tempfile.TemporaryDirectory(prefix="madflow-arm-") as folder, open_ledger(Path(folder) / "ledger.db") as own:
        return asyncio.run(_run_arm(arm, rows, own, at_once))


def learned_of(policy: Policy, rows: Sequence[Row]) -> Reliabilities:
    """What a policy learns of a run from the first-round replies that it asks for, and from nothing else."""
    drawn = []
    for row in rows:
        whole = row.recording.debated
        said = {one.seat: one for one in whole.rounds[0]} if whole.rounds else {}
        first = tuple(_as_held(said.get(seat, Said(seat, None))) for seat in _drawn(row, 1))
        drawn.append(replace(whole, rounds=(first,), rounds_max=1))
    return learn_run(policy, drawn)


def first_round(policy: Policy, row: Row) -> Debated:
    """As much of a row's first round as a policy asks for that has learned nothing."""
    whole, known = row.recording.debated, Reliabilities()
    said = {one.seat: one for one in whole.rounds[0]} if whole.rounds else {}
    drawn = [_as_held(said.get(seat, Said(seat, None))) for seat in _drawn(row, 1)]
    seen = replace(whole, rounds=(), rounds_max=1)
    while isinstance(step := policy.next(seen, known), Ask):
        count = len(seen.rounds[0]) if seen.rounds else 0
        seen = replace(seen, rounds=(tuple(drawn[: count + step.seats]),))
    return seen


def _as_held(said: Said) -> Said:
    """A reply as the graph will have it: one that could not be read is an empty one there, a very long one its end."""
    return replace(said, text=_replayed(said.text) if said.answer is not None else "")


async def _run_arm(arm: Arm, rows: Sequence[Row], ledger: Ledger, at_once: int) -> list[Outcome]:
    learned = learned_of(arm.policy, rows) if arm.policy is not None else None
    gate = asyncio.Semaphore(at_once)
    held: dict[str, tuple[Proposal, Debated]] = {}

    async def one(row: Row) -> None:
        async with gate:
            outcome, state = await hold(_debate(arm, row, learned, ledger))
            assert isinstance(outcome, Proposal)  # noqa: S101 - no arm asks a human
            held[row.fingerprint] = outcome, debated_of(state)

    distinct = {row.fingerprint: row for row in rows}
    await asyncio.gather(*(one(row) for row in distinct.values()))
    made = [_outcome(arm, row, *held[row.fingerprint], learned) for row in rows]
    doubts = suspicions([(seen, answer) for _, seen, answer in made])
    return [replace(one, suspicion=doubt) for (one, _, _), doubt in zip(made, doubts, strict=True)]


def _debate(arm: Arm, row: Row, learned: Reliabilities | None, ledger: Ledger) -> Debate:
    recording = row.recording
    whole = recording.debated
    seats = _drawn(row, 1)[: arm.seats_max or None]
    calls = 2 * len(whole.seats) * max(1, len(whole.rounds)) + 2  # an unreadable reply is asked for once more
    common: dict[str, Any] = {
        "id": row.fingerprint,
        "task": {"task_id": row.fingerprint, "question": row.prompt or row.task_id, "options": list(row.options)},
        "ledger": ledger,
        "budget": Budget(tokens=_TOKENS, calls=calls),
    }
    model = _recorded(row)
    agents = [Agent(seat, model=model) for seat in seats]
    rounds = max(1, len(whole.rounds))
    if arm.judge:
        return Debate(
            **common, agents=[*agents, _judge(row)], rule="unanimity", rounds=1, fallback=("judge",), stop="max_rounds"
        )
    if arm.policy is None:
        return Debate(**common, agents=agents, rule="majority", rounds=min(3, rounds))
    known = learned.among(whole.seats) if learned is not None else None
    return Debate(**common, agents=agents, policy=arm.policy, learned=known, rounds=min(rounds, arm.policy.rounds_max))


def _recorded(row: Row) -> RecordedModel:
    """The panel as it was recorded: a reply that could not be read is replayed as an empty one, which is invalid."""
    recording = row.recording
    rounds = [{said.seat: said for said in spoken} for spoken in recording.debated.rounds]
    texts: dict[str, list[str | None]] = {}
    answers: dict[str, list[str | None]] = {}
    confidences: dict[str, list[float | None]] = {}
    prompts: dict[str, list[int]] = {}
    for seat in recording.debated.seats:
        said = [spoken.get(seat) for spoken in rounds]
        texts[seat] = [_replayed(one.text) if one is not None and one.answer is not None else None for one in said]
        answers[seat] = [one.answer if one is not None else None for one in said]
        confidences[seat] = [one.confidence if one is not None else None for one in said]
        prompts[seat] = [recording.prompt_chars.get((number, seat), 0) for number in range(1, len(rounds) + 1)]
    return RecordedModel(
        texts, answers=answers, confidences=confidences, prompt_chars=prompts, name=recording.run[:100] or "recorded"
    )


def _replayed(text: str) -> str:
    """A recorded text, or as much of its end as a reply may have: the answer beside it counts all the same."""
    return text[-PROSE_CHARS_MAX:]


def _judge(row: Row) -> Agent:
    """One seat of the panel as the judge: the answer of its second reply, given after reading every first one.

    Nobody reads a judge's reasons, which may be longer than a scripted reply.
    """
    found = _judging(row)
    choice = found.answer if found is not None else None
    return Agent(_JUDGE, model=ScriptedModel({"*": {"choice": choice or "none"}}), role="judge")


def _judging(row: Row) -> Said | None:
    rounds = row.recording.debated.rounds
    said = {one.seat: one for one in rounds[1]} if len(rounds) > 1 else {}
    return next((said[seat] for seat in _drawn(row, 2) if seat in said), None)


def _drawn(row: Row, number: int) -> tuple[str, ...]:
    return order(row.recording.debated.seats, debate_id=row.fingerprint, round=number, seed=0)


def _outcome(
    arm: Arm, row: Row, proposal: Proposal, seen: Debated, learned: Reliabilities | None
) -> tuple[Outcome, Debated, str | None]:
    """The outcome, what of the row was seen, and the answer as it is named there."""
    if arm.policy is None:
        return _by_rule(row, proposal)
    verdict = arm.policy.decide(seen, learned or Reliabilities())
    named = {} if row.options else {option["id"]: option["text"] for option in proposal.content["options"]}
    made = Outcome(
        recording=row.recording,
        tied=tuple(sorted(named.get(answer, answer) for answer in verdict.tied)),
        abstained=verdict.abstained,
        decided=proposal.approved,
        confidence=verdict.confidence,
        suspicion=0.0,
        stop_reason=proposal.decision.stop_reason,
        rounds=proposal.decision.rounds,
        calls=_calls(row, seen),
        tokens=tokens(row.recording, seen),
    )
    return made, seen, min(verdict.tied, key=lambda answer: named.get(answer, answer), default=None)


def _by_rule(row: Row, proposal: Proposal) -> tuple[Outcome, Debated, str | None]:
    decision, whole = proposal.decision, row.recording.debated
    rounds = whole.rounds[: decision.rounds]
    if decision.decided_by.startswith("judge:") and (read := _judging(row)) is not None:
        rounds = (*rounds, (read,))
    seen = replace(whole, rounds=rounds)
    tied: tuple[str, ...]
    if proposal.approved:
        tied = (str(decision.choice if row.options else proposal.content["answer_text"]),)
    else:
        tied = leaders(seen.votes(max(1, len(seen.rounds))))
    backing = sum(answer in tied[:1] for answer in seen.votes(decision.rounds).values())
    made = Outcome(
        recording=row.recording,
        tied=tied,
        abstained=not tied,
        decided=proposal.approved,
        confidence=backing / len(whole.seats) if tied else 0.0,
        suspicion=0.0,
        stop_reason=decision.stop_reason,
        rounds=decision.rounds,
        calls=_calls(row, seen),
        tokens=tokens(row.recording, seen),
    )
    return made, seen, min(tied, default=None)


def _calls(row: Row, seen: Debated) -> int:
    """Replies that were asked for and that the recording has."""
    recorded = {(number, said.seat) for number, spoken in enumerate(row.recording.debated.rounds, 1) for said in spoken}
    return sum((number, said.seat) in recorded for number, spoken in enumerate(seen.rounds, 1) for said in spoken)
