"""How much an outcome is to be distrusted, from votes alone: the score to flag or to withhold outcomes by.

    suspicion_i = (replies that are not for the outcome, of all replies in debate i)
                + (mean over the run's debates of: first replies that are not for the first round's leader)

The first term is the disagreement on the way: a consensus that seats were talked into has it, one they started from has
not. The second is the panel's: two debates that are unanimous from the start differ in how much a panel's agreement
means, and one that often disagrees also agrees by accident more often. It is the same for all debates of a run, so it
orders outcomes between runs only. An unreadable reply is for nothing.

The scale is 0 to 2 and means nothing by itself: `conformal.conformal_threshold` on the suspicion of right outcomes
makes a bound on false alarms of it. The score is ours; disagreement as a sign of error is the query by committee of
H. S. Seung, M. Opper, H. Sompolinsky, COLT 1992.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .debated import Debated, Said, leaders

__all__ = ["suspicions"]


def suspicions(run: Sequence[tuple[Debated, str | None]]) -> list[float]:
    """One score for each (debate, outcome) of a run, in order; higher is worse. An outcome of None has no support."""
    if not run:
        return []
    panel = math.fsum(_first(debated) for debated, _ in run) / len(run)
    return [_against(debated.rounds, outcome) + panel for debated, outcome in run]


def _first(debated: Debated) -> float:
    return _against(debated.rounds[:1], next(iter(leaders(debated.votes(1))), None))


def _against(rounds: Sequence[Sequence[Said]], outcome: str | None) -> float:
    """The share of the replies that are not for an outcome; 1 without replies."""
    replies = [said.answer for spoken in rounds for said in spoken]
    agreeing = sum(answer is not None and answer == outcome for answer in replies)
    return 1 - agreeing / len(replies) if replies else 1.0
