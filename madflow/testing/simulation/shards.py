"""Many seeds in many processes.

Not part of `__main__`: a process that is spawned imports what it is to run by its module's name, and has another main.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Final, TypeAlias

from .run import simulate

__all__ = ["SHARD_SEEDS", "Shard", "sweep"]

SHARD_SEEDS: Final = 250

Shard: TypeAlias = tuple[int, list[str], Counter[str]]
"""How many seeds ran, what failed, and what happened."""


def _shard(task: tuple[int, int, str]) -> Shard:
    """Run some seeds, from the first."""
    first, seeds, mutant = task
    failed: list[str] = []
    counts: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        report = simulate(seed, mutant=mutant)
        counts.update(report.counts)
        counts.update({f"ended {how}": number for how, number in report.ends.items()})
        if report.wrong:
            failed.append(str(report))
    return seeds, failed, counts


def sweep(first: int, seeds: int, *, mutant: str = "", workers: int = 1) -> Iterator[Shard]:
    """Run seeds in shards, in their order.

    Args:
        workers: processes; 1 runs here.
    """
    ends = first + seeds
    tasks = [(start, min(SHARD_SEEDS, ends - start), mutant) for start in range(first, ends, SHARD_SEEDS)]
    if workers <= 1 or len(tasks) < 2:
        yield from map(_shard, tasks)
        return
    with get_context("spawn").Pool(min(workers, len(tasks))) as pool:
        yield from pool.imap(_shard, tasks)
