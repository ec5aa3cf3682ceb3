"""Lots: which seats a policy asks of a recorded round is drawn by a text, any text, and by nothing else."""

from __future__ import annotations

import pytest

from madflow.core.policies import Debated, Policy, Said, replay

SEATS = tuple(f"s{place}" for place in range(6))
RUN = [
    Debated((tuple(Said(seat, "ABC"[n * k % 3], text=f"{seat} of {n}") for k, seat in enumerate(SEATS)),), SEATS)
    for n in range(1, 9)
]
FEW = Policy("few", ask="lead:2")


def asked(lot: str) -> list[list[str]]:
    return [[said.seat for said in done.seen.rounds[0]] for done in replay(FEW, RUN, lot)]


@pytest.mark.parametrize("lot", ["", "a", "é", "\ud800", "\0"])
def test_any_text_is_a_lot_of_its_own(lot: str) -> None:
    """Catches: half a surrogate pair that has no UTF-8 form and raises; a lot that changes nothing; one that is drawn
    anew each time."""
    assert asked(lot) == asked(lot) != asked(f"{lot}, another")
