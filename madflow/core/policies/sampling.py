"""When enough seats were asked: rules for panels whose seats can be asked one after the other.

All of them look at counts alone: the leader's votes, the runner-up's, the others', and how many seats are left. They
are exact (whole numbers and fractions) and know nothing of seats.

- `beta_lead`: adaptive consistency. The leader's and the runner-up's votes are a coin's, the coin's bias has a uniform
  prior, and asking stops when the coin favours the leader with probability above a threshold:
  P(p > 1/2 | v1, v2) = Σ_{i ≤ v1} C(n, i) / 2ⁿ with n = v1 + v2 + 1, the tail of Beta(v1 + 1, v2 + 1).
- `overturn`: the same coin, with an end. The probability that the seats left, each siding with one of the two,
  would make the runner-up win; beta-binomial, a final tie counted half. It is 0 where they are too few.
- `vote_value`: what one more vote is worth. Answers have Dirichlet shares (one pseudo-vote for the leader, the
  runner-up, and all others together). h more votes raise the share of the chosen answer by the expected lead of
  the runner-up where it overtakes; the value is the largest such rise per vote, over h up to the votes left (12 at
  most).
  Shares stand in for the chance to be right: samples of one model are right about as often as they agree.

Sources: P. Aggarwal, A. Madaan, Y. Yang, Mausam, "Let's Sample Step by Step: Adaptive-Consistency for Efficient
Reasoning and Coding with LLMs", EMNLP 2023 (the Beta rule, threshold 0.95); P. Frazier, W. Powell, S. Dayanik, "A
knowledge-gradient policy for sequential information collection", SIAM J. Control Optim. 47 (2008) (value of a sample).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Final

from ...errors import ConfigError

__all__ = ["HORIZON_MAX", "VOTES_MAX", "beta_lead", "overturn", "vote_value"]

VOTES_MAX: Final = 1_000
"""More votes than a panel has; the sums stay small."""

HORIZON_MAX: Final = 12
"""How many votes `vote_value` looks ahead."""


@lru_cache(maxsize=4096)
def beta_lead(leader: int, second: int) -> Fraction:
    """The probability that the leader is ahead of the runner-up in truth, exactly.

    Raises:
        ConfigError: votes outside 0 to 1,000, or a runner-up with more of them than the leader.
    """
    _check(leader, second, 0)
    flips = leader + second + 1
    return Fraction(sum(comb(flips, heads) for heads in range(leader + 1)), 2**flips)


@lru_cache(maxsize=4096)
def overturn(leader: int, second: int, left: int) -> Fraction:
    """The probability that `left` more votes make the runner-up win, exactly. Raises as `beta_lead` does."""
    _check(leader, second, left)
    lost = Fraction(0)
    for gained in range(left + 1):
        ways = comb(leader + gained, gained) * comb(second + left - gained, left - gained)
        lead = leader + gained - second - (left - gained)
        lost += ways if lead < 0 else Fraction(ways, 2) if lead == 0 else 0
    return lost / comb(leader + second + 1 + left, left)


@lru_cache(maxsize=4096)
def vote_value(leader: int, second: int, others: int, left: int) -> Fraction:
    """The most by which one of the `left` votes raises the share of the chosen answer, on average, exactly.

    Args:
        others: votes for any answer but the two.
    """
    _check(leader, second, left)
    if not 0 <= others <= VOTES_MAX:
        raise ConfigError(f"a panel has 0 to {VOTES_MAX} votes (others={others}); ask fewer seats")
    return max(
        (_rise(leader, second, others, h) / h for h in range(1, min(left, HORIZON_MAX) + 1)), default=Fraction(0)
    )


def _rise(leader: int, second: int, others: int, h: int) -> Fraction:
    """Dirichlet-multinomial over (leader, second, others) with one pseudo-vote each, h votes."""
    ways = 0
    for first in range(h + 1):
        for then in range(h - first + 1):
            ahead = second + then - leader - first
            if ahead > 0:
                rest = h - first - then
                ways += ahead * comb(leader + first, first) * comb(second + then, then) * comb(others + rest, rest)
    votes = leader + second + others
    return Fraction(ways, comb(votes + 2 + h, h) * (votes + 3 + h))


def _check(leader: int, second: int, left: int) -> None:
    if not 0 <= second <= leader <= VOTES_MAX or not 0 <= left <= VOTES_MAX:
        raise ConfigError(
            f"a leader has as many votes as the runner-up or more, all 0 to {VOTES_MAX} "
            f"(leader={leader}, second={second}, left={left}); pass them in order"
        )
