"""What a policy would have done on debates that were held: rounds are revealed as it asks for them, never earlier.

What a policy learns of a run must rest on nothing that it does not ask for. So it learns in three steps (`learn_run`):
every debate opens with the seats that the policy asks first whatever it knows; what they say tells how much the panel
agrees and whom to ask next; the first rounds are then held to their end, and what was asked for in them tells how
reliable each seat is. Whom and how many to ask stays as it was learned from the openings: so each debate, held on its
own with what was learned, asks in its first round for what it was learned from, and for nothing else.

Where a policy asks some seats of a round only, they are drawn in an order of digests of what the row and the seats
hold: as good as random, the same in every replay, and blind to the names and places of seats. Seats that the recording
of a round lacks come last, silent, and are no calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .debated import Debated, Said
from .policy import Ask, Policy, Verdict
from .reliability import Reliabilities

__all__ = ["Replayed", "learn_run", "replay"]


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


def learn_run(policy: Policy, run: Sequence[Debated]) -> Reliabilities:
    """What a policy learns of a run from the replies of the first rounds that it asks for.

    Args:
        run: debates whose first round is whole and in the order in which the lot draws seats; later ones are not read.
    """
    opened = [_shown(debated, 1, debated.rounds[0][: policy.opening(debated)]) for debated in run if debated.rounds]
    known = policy.learn(opened)
    first = [_first_round(policy, debated, known) for debated in run if debated.rounds]
    return replace(policy.learn(first), urn=known.urn, rank=known.rank)


def replay(policy: Policy, run: Sequence[Debated], lot: str = "") -> list[Replayed]:
    """Hold the debates of one run again; one result each, in their order.

    A seat that was asked in a round and gave nothing must be in it with the answer None, to be counted as a call.

    Args:
        lot: any text; another one draws the seats in another order. Where a policy asks some seats only, the mean over
            many lots says what it is worth, and one lot what it is worth with some luck.
    """
    prints = _fingerprints(run)
    drawn = [
        replace(debated, rounds=tuple(_arrivals(debated, spoken, prints, lot) for spoken in debated.rounds))
        for debated in run
    ]
    learned = learn_run(policy, drawn)
    return [_replayed(policy, whole, recorded, learned) for whole, recorded in zip(drawn, run, strict=True)]


def _replayed(policy: Policy, whole: Debated, recorded: Debated, learned: Reliabilities) -> Replayed:
    seen = replace(whole, rounds=(), rounds_max=max(1, len(whole.rounds)))
    while whole.rounds and isinstance(step := policy.next(seen, learned), Ask):
        seen = _asked(seen, whole, step)
    return Replayed(policy.decide(seen, learned), seen, _calls(seen, recorded))


def _first_round(policy: Policy, whole: Debated, learned: Reliabilities) -> Debated:
    seen = replace(whole, rounds=(), rounds_max=1)
    while isinstance(step := policy.next(seen, learned), Ask):
        seen = _asked(seen, whole, step)
    return seen


def _asked(seen: Debated, whole: Debated, step: Ask) -> Debated:
    spoken = seen.rounds[step.round - 1] if step.round <= len(seen.rounds) else ()
    heard = {said.seat for said in spoken}
    left = {said.seat: said for said in whole.rounds[step.round - 1] if said.seat not in heard}
    return _shown(seen, step.round, (*spoken, *(left[seat] for seat in step.chosen(tuple(left)))))


def _shown(seen: Debated, number: int, spoken: Sequence[Said]) -> Debated:
    return replace(seen, rounds=(*seen.rounds[: number - 1], tuple(spoken)))


def _arrivals(debated: Debated, spoken: Sequence[Said], prints: Mapping[str, str], lot: str) -> tuple[Said, ...]:
    lacking = sorted(set(debated.seats) - {said.seat for said in spoken})
    held = "".join(sorted(_digest(said) for said in spoken))

    def draw(said: Said) -> tuple[str, str, str]:
        print_ = prints.get(said.seat, "")
        drawn = (lot + held + print_).encode("utf-8", "backslashreplace")
        return hashlib.sha256(drawn).hexdigest(), _digest(said), said.seat

    return (*sorted(spoken, key=draw), *(Said(seat, None) for seat in lacking))


def _calls(seen: Debated, full: Debated) -> int:
    recorded = {(number, said.seat) for number, spoken in enumerate(full.rounds) for said in spoken}
    return sum((number, said.seat) in recorded for number, spoken in enumerate(seen.rounds) for said in spoken)


def _digest(said: Said) -> str:
    text = "\x00".join((said.text, said.answer or "", str(said.confidence)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _fingerprints(run: Sequence[Debated]) -> dict[str, str]:
    """Seat to a digest of all it said in first rounds: tells seats apart that said the same, whatever their names."""
    said: dict[str, list[str]] = {}
    for debated in run:
        for spoken in debated.rounds[:1]:
            for one in spoken:
                said.setdefault(one.seat, []).append(_digest(one))
    return {seat: hashlib.sha256("".join(sorted(all_of)).encode()).hexdigest() for seat, all_of in said.items()}
