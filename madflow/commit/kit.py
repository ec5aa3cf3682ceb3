"""The default parts of a committer: its effects, its elector, its folders, its scope's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ..effects.command import CommandEffect
from ..effects.file import FileEffect
from ..effects.git import GitEffect
from ..effects.http import HttpEffect
from ..effects.sql import SqlEffect
from ..election.heartbeat import BEATS_PER_LEASE, Heartbeat
from ..election.local import LocalElector
from ..ports import Clock, Effect, Elector, FencedLedger, Renewed, Term
from .desk import Desk
from .steps import CallEffect, Step
from .streams import ROOT_SCOPE

__all__ = [
    "default_effects",
    "default_elector",
    "folder_of",
    "heartbeat",
    "run_dir_of",
    "scope_of",
]

FOLDER: Final = ".madflow"


def folder_of(ledger: str | Path | FencedLedger, root: Path) -> Path:
    """The folder a ledger keeps its locks and run files in: its file's, or `.madflow` beneath the root."""
    path: Any = ledger if isinstance(ledger, str | Path) else getattr(ledger, "path", None)
    return Path(path).resolve().parent if path is not None else root.resolve() / FOLDER


def scope_of(root: Path, ledger: str | Path | FencedLedger) -> str:
    """The scope of a root: "root" where its ledger lies in it or in its `.madflow`, else its absolute path."""
    real = root.resolve()
    return ROOT_SCOPE if folder_of(ledger, root) in (real / FOLDER, real) else str(real)


def run_dir_of(ledger: FencedLedger, root: Path) -> Path:
    """Where effects keep run locks and what a compensation needs; created if missing."""
    run_dir = folder_of(ledger, root) / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    return run_dir


def default_effects(steps: Mapping[str, Step], protected: frozenset[str]) -> dict[str, Effect]:
    """One effect a step kind. `protected`: paths beneath the root that none of them writes."""
    files, commands = FileEffect(protected=protected), CommandEffect()
    return {
        "read": files,
        "write": files,
        "patch": files,
        "command": commands,
        "test": commands,
        "http": HttpEffect(),
        "sql": SqlEffect(protected=protected),
        "git_commit": GitEffect(protected=protected),
        "call": CallEffect(steps),
    }


def default_elector(ledger: FencedLedger, run_dir: Path, clock: Clock, *, may_be_killed: bool) -> Elector:
    """The elector of one machine. `may_be_killed`: this process is madflow's own."""
    return LocalElector(ledger, lock_dir=run_dir.parent / "locks", clock=clock, may_be_killed=may_be_killed)


@asynccontextmanager
async def heartbeat(elector: Elector, term: Term, lease_s: float, desk: Desk) -> AsyncIterator[None]:
    """Renew the lease while the block runs, and tell the desk when it is lost.

    An elector that can renew without an event loop (`beat`) does so from a thread, so that a host whose loop is busy
    does not look dead; any other from a task.
    """

    def lost(why: str) -> None:
        desk.lost = desk.lost or why

    beat = getattr(elector, "beat", None)
    if beat is not None:
        with Heartbeat(beat, term, ttl_s=lease_s, on_lost=lost):
            yield
        return

    async def renew() -> None:
        try:
            while isinstance(found := await elector.renew(term), Renewed):
                await desk.clock.sleep(lease_s / BEATS_PER_LEASE)
        except Exception as error:
            lost(f"the lease could not be renewed: {type(error).__name__}: {error}")
        else:
            lost(found.why)

    task = asyncio.create_task(renew(), name=f"heartbeat {term.scope}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
