"""A debate that was held, with what only its judge may know.

`Recording.debated` is all that a policy is given: answers, stated confidences, texts, seats. The right answer, the
condition, who was told to mislead, and what the debate was called stay outside it.

Tokens are counted as characters / 4, of every prompt and reply that was asked for, so that arms are compared alike
whatever a provider's tokenizer says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..core.policies import Debated, Policy, replay, suspicions
from ..errors import ConfigError

__all__ = ["CHARS_PER_TOKEN", "Outcome", "Recording", "by_run", "outcomes", "tokens"]

CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded debate.

    Attributes:
        key: names the recording, e.g. file and line; unique among those that are compared.
        question: names the question; recordings of one question are one cluster.
        run: names the panel: the same models in the same seats. Reliabilities are learned inside one run only.
        debated: what was said, whole.
        gold: the right answer, as `Said.answer` would write it; None where it is not known.
        condition: e.g. "clean" or "adversary"; adversaries: the seats that were told to mislead.
        prompt_chars: (round, seat) to the length of the prompt behind that reply; rounds count from 1.
        latency_ms: (round, seat) to how long the reply took, where that is known.
        unread: (round, seat) of replies whose own text gives no answer, even where one was recorded for them.
    """

    key: str
    question: str
    run: str
    debated: Debated
    gold: str | None = None
    condition: str = ""
    adversaries: frozenset[str] = frozenset()
    prompt_chars: Mapping[tuple[int, str], int] = field(default_factory=dict)
    latency_ms: Mapping[tuple[int, str], int] = field(default_factory=dict)
    unread: frozenset[tuple[int, str]] = frozenset()

    def __post_init__(self) -> None:
        if not self.adversaries.issubset(self.debated.seats):
            strangers = sorted(self.adversaries.difference(self.debated.seats))
            raise ConfigError(f"recording {self.key}: {strangers} mislead but hold no seat; name seats")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an arm made of a recording.

    Attributes:
        tied: the answers it could not tell apart, normally one; () where it has none: it failed, or nobody voted.
        abstained: it says not to rely on the answer.
        confidence: 0 to 1. suspicion: greater where the outcome is less to be trusted;
            any scale, `core.policies.suspicions` for policies.
        decided: the debate itself ended in a decision for it; else the answer is what it leans to.
        rounds, calls: held, and replies asked for; tokens: of those, by `tokens`.
    """

    recording: Recording
    tied: tuple[str, ...]
    abstained: bool
    confidence: float
    suspicion: float
    stop_reason: str
    rounds: int
    calls: int
    tokens: float
    decided: bool = True

    @property
    def answer(self) -> str | None:
        """The answer, the first in order of those that are tied."""
        return min(self.tied, default=None)


def tokens(recording: Recording, seen: Debated | None = None) -> float:
    """Tokens of the prompts and replies of a recording, or of the part of it that was `seen`."""
    shown = recording.debated if seen is None else seen
    asked = {(number, said.seat) for number, spoken in enumerate(shown.rounds, start=1) for said in spoken}
    chars = sum(
        len(said.text) + recording.prompt_chars.get((number, said.seat), 0)
        for number, spoken in enumerate(recording.debated.rounds, start=1)
        for said in spoken
        if (number, said.seat) in asked
    )
    return chars / CHARS_PER_TOKEN


def by_run(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """The recordings of each run, runs in order of their first one.

    Raises:
        ConfigError: two recordings have one key.
    """
    seen: set[str] = set()
    runs: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.key in seen:
            raise ConfigError(f"two recordings have the key {recording.key!r}; give each its own")
        seen.add(recording.key)
        runs.setdefault(recording.run, []).append(recording)
    return runs


def outcomes(policy: Policy, recordings: Sequence[Recording], lot: str = "") -> list[Outcome]:
    """What a policy makes of recordings, in their order: it is shown `Recording.debated`, run by run, nothing else.

    Args:
        lot: as in `replay`: another text, another order in which seats are asked.
    """
    made: dict[str, Outcome] = {}
    for run in by_run(recordings).values():
        replayed = replay(policy, [recording.debated for recording in run], lot)
        doubts = suspicions([(one.seen, one.verdict.answer) for one in replayed])
        for recording, one, doubt in zip(run, replayed, doubts, strict=True):
            verdict = one.verdict
            made[recording.key] = Outcome(
                recording=recording,
                tied=verdict.tied,
                abstained=verdict.abstained,
                confidence=verdict.confidence,
                suspicion=doubt,
                stop_reason=verdict.stop.reason,
                rounds=len(one.seen.rounds),
                calls=one.calls,
                tokens=tokens(recording, one.seen),
            )
    return [made[recording.key] for recording in recordings]
