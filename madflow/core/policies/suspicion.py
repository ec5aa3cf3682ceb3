"""How much an outcome is to be distrusted, from votes alone: the score to flag or to withhold outcomes by.

    suspicion_i = 1 − trust(outcome of debate i)

`trust` (pooling.py) is the probability of the outcome in the logarithmic opinion pool of all replies, each seat as
reliable as the first rounds of the run make it look, votes that followed at a quarter. Three things make an outcome
suspect: replies for something else, more so those of reliable seats; a consensus that seats were talked into, since
what they said before still counts; and a panel that often disagrees, since its agreement, too, is then an accident more
often. A seat that argues for wrong answers all the time has a weight below zero: an outcome it stands for is the more
suspect. The last two order outcomes of different runs as well. An outcome of None, or one nobody gave, has suspicion 1.

The scale is 0 to 1, and 1 − suspicion is no frequency: seats that hold one model err together, and no vote shows it.
`conformal.conformal_threshold` on the suspicion of right outcomes makes a bound on false alarms of it.

Disagreement as a sign of error is the query by committee of H. S. Seung, M. Opper, H. Sompolinsky, COLT 1992; the
sources of the parts are in pooling.py and reliability.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from .debated import Debated
from .pooling import trust
from .reliability import learn_disputed

__all__ = ["suspicions"]


def suspicions(run: Sequence[tuple[Debated, str | None]]) -> list[float]:
    """One score for each (debate, outcome) of a run, in order; 0 to 1, higher is worse."""
    learned = learn_disputed((debated.votes(1), debated.choices) for debated, _ in run)
    return [1 - trust(debated, learned).get(outcome, 0.0) if outcome else 1.0 for debated, outcome in run]
