"""How much valid weight a vote needs before it may decide anything.

Two quorums of weight Q out of W overlap in at least 2Q − W. If that overlap outweighs F, the weight that may be faulty
(crashed, garbled, or saying one thing here and another there), then any two decisions share at least one correct
seat, and they cannot contradict each other. 2Q − W > F gives the smallest such Q = ⌊(W + F) / 2⌋ + 1; with F = 0 it is
the plain majority. The quorum is computed once, when a debate opens, and does not shrink when seats fail.

Only *valid* weight counts towards it: an abstention, an invalid ballot and a missing one do not.
"""

from __future__ import annotations

from ..errors import ConfigError

__all__ = ["quorum"]


def quorum(total_weight: int, faulty: int = 0) -> int:
    """The smallest quorum whose pairs overlap in more than `faulty` weight: ⌊(W + F) / 2⌋ + 1.

    Sources: D. Malkhi, M. Reiter, "Byzantine Quorum Systems", Distributed Computing 11 (1998), for the overlap;
    D. K. Gifford, "Weighted Voting for Replicated Data", SOSP 1979, for integer weights.

    Args:
        total_weight: W, the summed integer weight of the seats; 0 (nobody may vote) gives 1, which is never reached.
        faulty: F, the weight that may be faulty.

    Raises:
        ConfigError: a negative number, or so much faulty weight that the correct rest alone could not reach the
            quorum: it can exactly when W ≥ 3F + 1.
    """
    if total_weight < 0 or faulty < 0:
        raise ConfigError(
            f"a quorum needs weights of at least 0 (total_weight={total_weight}, faulty={faulty}); check the weights"
        )
    needed = (total_weight + faulty) // 2 + 1
    if faulty and needed > total_weight - faulty:
        raise ConfigError(
            f"a quorum of {needed} is out of reach: {faulty} of {total_weight} weight may be faulty, which leaves "
            f"{total_weight - faulty}; seat at least {3 * faulty + 1} weight, or expect less of it to be faulty"
        )
    return needed
