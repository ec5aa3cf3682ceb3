"""The figures of the commit layer: appends, whole commits, failover."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from figures import Figure
from processes import COMMIT_ARM, arm

__all__ = ["CommitScale", "CommitSections"]


@dataclass(frozen=True, slots=True)
class CommitScale:
    """How much of the commit layer is measured.

    Attributes:
        appends: pairs of loops, records a loop, records asked for at once.
        commits: of each plan, how many are not measured, and then how many are.
        failovers: runs with SIGKILL, and with SIGSTOP; lease_s: the workers' lease in seconds.
    """

    appends: tuple[int, int, int]
    commits: tuple[int, int]
    failovers: tuple[int, int]
    lease_s: float


TAKEOVER_S = 3.0
"""What a takeover may take beside the lease."""


class CommitSections:
    """Sections of the benchmark; what two figures share is measured once."""

    def __init__(self, folder: Path, scale: CommitScale) -> None:
        self._folder, self._commit_scale = folder, scale
        self.append_run = cache(self._append_run)

    def _commit_arm(self, name: str, job: dict[str, Any]) -> dict[str, Any]:
        return arm(name, self._folder / "commit", [job], script=COMMIT_ARM)[0]

    def _append_run(self) -> dict[str, Any]:
        pairs, appends, group = self._commit_scale.appends
        return self._commit_arm("append", {"pairs": pairs, "appends": appends, "group": group})

    def append(self) -> list[Figure]:
        """Records a second, each durable before the next is begun, against a bare loop of append and fdatasync."""
        run, figures = self.append_run(), []
        rates = run["rates"]
        bare = rates["bare"]
        for name, what in (
            ("append_now", "fenced append"),
            ("append", "fenced append, awaited"),
            ("record", "record, awaited"),
        ):
            ratios, overwriting = _ratios(rates[name], bare), median(_ratios(rates[name], rates["overwrite"]))
            detail = (
                f"{median(rates[name]):,.0f}/s, bare {median(bare):,.0f}/s of {run['record_bytes']} bytes; "
                f"{overwriting:.2f} × a bare loop that overwrites; {_spread(ratios)}"
            )
            figures.append(Figure("append", f"{what}/s", median(ratios), "× bare", 0.5, detail, least=True))
        return figures

    def group(self) -> list[Figure]:
        """Records a second where many are asked for at once."""
        rates, many = self.append_run()["rates"], self._commit_scale.appends[2]
        ratios = _ratios(rates["group"], rates["append_now"])
        detail = f"{median(rates['group']):,.0f}/s; {_spread(ratios)}"
        name = f"{many:,} appends asked for at once"
        return [Figure("group", name, median(ratios), "× one by one", 5, detail, least=True)]

    def commit(self) -> list[Figure]:
        """A whole commit of an approved plan of three steps: request, election, seal, steps, resignation."""
        warm_up, times = self._commit_scale.commits
        common = {"commits": times, "warm_up": warm_up, "record_bytes": self.append_run()["record_bytes"]}
        figures = []
        for third in ("test", "sql"):
            run = self._commit_arm("commit", {**common, "third": third})
            walls, syncs = run["walls_s"], run["ledger_syncs"] + run["effect_syncs"]
            detail = (
                f"median of {len(walls)}, fastest {min(walls) * 1000:.0f}, slowest {max(walls) * 1000:.0f}; "
                f"{syncs} syncs ({run['ledger_syncs']} of the ledger, {run['effect_syncs']} of files and folders), "
                f"as many bare ones {median(run['bare_s']) * 1000:.0f} ms; CPU {median(run['cpu_s']) * 1000:.0f} ms"
            )
            figures.append(Figure("commit", f"write, patch, {third}", median(walls) * 1000, "ms", detail=detail))
        return figures

    def failover(self) -> list[Figure]:
        """From the signal that ends or stops the leader in its third step, to the next node's seal and commit."""
        lease_s, figures = self._commit_scale.lease_s, []
        for name, runs, wait_s in zip(
            ("SIGKILL", "SIGSTOP"), self._commit_scale.failovers, (0.0, lease_s), strict=True
        ):
            run = self._commit_arm("failover", {"runs": runs, "lease_s": lease_s, "signal": name})
            sealed, committed = run["sealed_s"], run["committed_s"]
            detail = (
                f"slowest of {runs}, lease {lease_s:g} s; sealed after {median(sealed):.2f} s (slowest "
                f"{max(sealed):.2f}), committed after {median(committed):.2f} s"
            )
            target = wait_s + TAKEOVER_S
            figures.append(Figure("failover", f"{name} to committed", max(committed), "s", target, detail))
        return figures


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """By pair."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _spread(ratios: list[float]) -> str:
    return f"{len(ratios)} pairs {min(ratios):.2f} to {max(ratios):.2f}"
