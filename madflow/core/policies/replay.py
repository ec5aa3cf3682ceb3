"""What a policy would have done on debates that were held: rounds are revealed as it asks for them, never earlier.

All debates of a run go forward together, one step at a time. Before each step the policy learns from what all of them
have revealed so far, so its reliabilities never rest on a reply it did not ask for.

Where a policy asks some seats of a round only, they come in the order of a digest of what they said: an order that is
as good as random, the same in every replay, and blind to the names and places of seats. Seats that the recording of a
round lacks come last, silent, and are no calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..stopping import Stop
from .debated import Debated, Said
from .policy import Policy, Verdict
from .reliability import Reliabilities

__all__ = ["Replayed", "replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One debate under a policy.

    Attributes:
        verdict: what it came to.
        seen: what the policy asked for; seats that the recording lacks are in it with the answer None.
        calls: how many recorded replies that is.
    """

    verdict: Verdict
    seen: Debated
    calls: int


def replay(policy: Policy, run: Sequence[Debated]) -> list[Replayed]:
    """Hold the debates of one run again; one result each, in their order.

    A seat that was asked in a round and gave nothing must be in it with the answer None, to be counted as a call.
    """
    prints = _fingerprints(run)
    arrivals = [[_arrivals(debated, spoken, prints) for spoken in debated.rounds] for debated in run]
    seen = [replace(debated, rounds=(), rounds_max=max(1, len(debated.rounds))) for debated in run]
    going = list(range(len(run)))
    learned = Reliabilities()
    while going:
        still = []
        for place in going:
            step = policy.next(seen[place], learned)
            if isinstance(step, Stop) or not arrivals[place]:
                continue
            seen[place] = _revealed(seen[place], arrivals[place], step.round, step.seats)
            still.append(place)
        going = still
        learned = policy.learn(seen)
    calls = [_calls(debated, full) for debated, full in zip(seen, run, strict=True)]
    return [Replayed(policy.decide(debated, learned), debated, n) for debated, n in zip(seen, calls, strict=True)]


def _arrivals(debated: Debated, spoken: Sequence[Said], prints: Mapping[str, str]) -> list[Said]:
    lacking = sorted(set(debated.seats) - {said.seat for said in spoken})
    ordered = sorted(spoken, key=lambda said: (_digest(said), prints[said.seat], said.seat))
    return [*ordered, *(Said(seat, None) for seat in lacking)]


def _calls(seen: Debated, full: Debated) -> int:
    recorded = {(number, said.seat) for number, spoken in enumerate(full.rounds) for said in spoken}
    return sum((number, said.seat) in recorded for number, spoken in enumerate(seen.rounds) for said in spoken)


def _digest(said: Said) -> str:
    text = "\x00".join((said.text, said.answer or "", str(said.confidence)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _fingerprints(run: Sequence[Debated]) -> dict[str, str]:
    """Seat to a digest of all it said in the run: tells seats apart that said the same, whatever they are called."""
    said: dict[str, list[str]] = {}
    for debated in run:
        for spoken in debated.rounds:
            for one in spoken:
                said.setdefault(one.seat, []).append(_digest(one))
    return {seat: hashlib.sha256("".join(sorted(all_of)).encode()).hexdigest() for seat, all_of in said.items()}


def _revealed(seen: Debated, arrivals: Sequence[Sequence[Said]], number: int, count: int) -> Debated:
    spoken = len(seen.rounds[number - 1]) if number <= len(seen.rounds) else 0
    shown = tuple(arrivals[number - 1][: spoken + count])
    return replace(seen, rounds=(*seen.rounds[: number - 1], shown))
