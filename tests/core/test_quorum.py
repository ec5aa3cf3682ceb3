"""Quorums, against their definition by enumeration."""

from __future__ import annotations

import itertools

import pytest

from madflow.core.quorum import quorum
from madflow.errors import ConfigError


def test_plain_majority_without_faults():
    """Catches ⌈W/2⌉, which lets two halves decide differently."""
    assert [quorum(weight) for weight in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_two_quorums_share_more_than_the_faulty_seats(faulty: int):
    """The definition, over all pairs of seat sets. Catches a quorum that is too small by one, or needlessly large."""
    for seats in range(3 * faulty + 1, 9):
        needed = quorum(seats, faulty)
        sets = [set(s) for n in range(seats + 1) for s in itertools.combinations(range(seats), n)]

        def overlap(size: int, sets: list[set[int]] = sets) -> int:
            big = [s for s in sets if len(s) == size]
            return min(len(a & b) for a in big for b in big)

        assert overlap(needed) > faulty
        assert overlap(needed - 1) <= faulty


def test_out_of_reach():
    """Catches a quorum that correct seats alone can never reach: every debate would end in quorum_failed."""
    for faulty in range(1, 30):
        assert quorum(3 * faulty + 1, faulty) == 2 * faulty + 1
        with pytest.raises(ConfigError, match=rf"at least {3 * faulty + 1} weight"):
            quorum(3 * faulty, faulty)


@pytest.mark.parametrize(("weight", "faulty"), [(-1, 0), (3, -1)])
def test_negative_weights(weight: int, faulty: int):
    """Catches silently wrong arithmetic on nonsense."""
    with pytest.raises(ConfigError, match=f"total_weight={weight}, faulty={faulty}"):
        quorum(weight, faulty)
