"""One seed, one run, one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ...errors import ConfigError
from .checks import check_end
from .cluster import Cluster, Wrong
from .mutants import MUTANTS, Seams

__all__ = ["Report", "simulate"]

TAIL_LINES: Final = 60


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    Attributes:
        wrong: the promises that were broken; empty where all were kept.
        events: (time, node, what, details), oldest first; `lines` shows them.
        counts: how often what happened, e.g. "appends", "fenced", "late", "died".
        ends: how the commits ended, by status.
    """

    seed: int
    mutant: str
    wrong: tuple[str, ...]
    events: Sequence[tuple[int, str, str, Sequence[Any]]]
    counts: Mapping[str, int]
    ends: Mapping[str, int]

    @property
    def lines(self) -> list[str]:
        """The trace as text."""
        return [f"{at:>6}  {node:<3} {what:<12} {', '.join(map(str, said))}" for at, node, what, said in self.events]

    def __str__(self) -> str:
        mutant = f" mutant={self.mutant!r}" if self.mutant else ""
        if not self.wrong:
            return f"seed {self.seed}{mutant}: {len(self.events)} events, all promises kept"
        tail = "\n".join(self.lines[-TAIL_LINES:])
        what = "\n".join(f"  {line}" for line in self.wrong)
        return f"seed {self.seed}{mutant}: broken promises\n{what}\nthe last {TAIL_LINES} events:\n{tail}"


def simulate(seed: int, *, mutant: str = "", seams: Seams | None = None) -> Report:
    """Run one seed. The same seed gives the same report, byte by byte, in every process.

    Args:
        mutant: a defect of `MUTANTS` to plant; seams: parts of your own instead.

    Raises:
        ConfigError: there is no such mutant.
    """
    if mutant and mutant not in MUTANTS:
        raise ConfigError(f"there is no mutant {mutant!r}; there are {', '.join(sorted(MUTANTS))}")
    rng = Random(seed)  # noqa: S311 - a replayable run, no secret
    cluster = Cluster(rng, seams or (MUTANTS[mutant] if mutant else Seams()))
    wrong: list[str]
    try:
        cluster.run()
        wrong = check_end(cluster)
    except Wrong as error:
        wrong = [str(error)]
    counts = cluster.counts + Counter(cluster.world.fates) + Counter({"terms": cluster.ledger.term})
    return Report(seed, mutant, tuple(wrong), cluster.trace, counts, cluster.people.ends())
