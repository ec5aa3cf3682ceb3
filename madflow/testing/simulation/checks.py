"""What must hold when a run has ended: the records against the promises, and against what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.invariants import violations
from ...core.journal import CommitState, Journal, KeyState
from .world import Place, SimCommit

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["check_end"]


def check_end(cluster: Cluster) -> list[str]:
    """Everything that is wrong, as lines."""
    records = cluster.ledger.records
    journal = Journal(records)
    found = violations(records)
    found += _doubts(cluster, journal)
    found += _resources(cluster)
    for name, state in journal.commits.items():
        found += _truth(cluster, cluster.commits[name], state)
    return found


def _truth(cluster: Cluster, commit: SimCommit, state: CommitState) -> list[str]:
    """What is recorded has happened, and what is recorded as taken back is gone."""
    world, found = cluster.world, []
    for key in state.keys.values():
        place: Place = (commit.commit_id, key.index, key.direction)
        if key.effect_class == "none" or place in world.spoken:
            continue
        happened = world.effects.get(place, 0)
        if key.status == "done" and not happened:
            found.append(f"{place} is recorded as done, and never happened")
        if key.status == "failed" and happened:
            found.append(f"{place} is recorded as failed, and happened")
        if key.status == "intended" and world.sent.get(place):
            found.append(f"{place} was sent before it was started")
    if state.closed == "committed":
        found += [f"{name} is committed without step {i}" for i, name in _left_out(cluster, commit, state)]
    if state.closed == "compensated":
        found += [f"{name} is compensated, and step {i} is still there" for i, name in _left_over(cluster, commit)]
    return found


def _left_out(cluster: Cluster, commit: SimCommit, state: CommitState) -> list[tuple[int, str]]:
    missing = []
    for index, step in enumerate(commit.steps):
        place: Place = (commit.commit_id, index, "do")
        key: KeyState | None = state.keys.get((index, "do"))
        happened = cluster.world.effects.get(place) or place in cluster.world.spoken
        if key is None or not (happened or step.classes["do"] == "none"):
            missing.append((index, commit.commit_id))
    return missing


def _left_over(cluster: Cluster, commit: SimCommit) -> list[tuple[int, str]]:
    left, world = [], cluster.world
    for index, step in enumerate(commit.steps):
        done: Place = (commit.commit_id, index, "do")
        undone: Place = (commit.commit_id, index, "undo")
        if step.undoable == "nothing" or done in world.spoken or undone in world.spoken:
            continue
        if world.effects.get(done) and not world.effects.get(undone):
            left.append((index, commit.commit_id))
    return left


def _doubts(cluster: Cluster, journal: Journal) -> list[str]:
    """A human is asked only where the table says so."""
    found = []
    for record in cluster.ledger.records:
        if record.kind != "in_doubt":
            continue
        key, code = journal.keys[record.payload["idempotency_key"]], record.payload["error_code"]
        if code in _MAY_DOUBT.get(key.effect_class, ()) or (key.direction == "undo" and code in _UNDO_MAY_DOUBT):
            continue
        found.append(f"record {record.seq}: {key.effect_class} ({key.direction}) is in doubt because of {code}")
    return found


_MAY_DOUBT = {
    "idempotent": ("attempts_used_up", "timeout", "busy", "exit_code", "gone", "still_running", "commit_deadline"),
    "verifiable": ("probe_uncertain", "still_running"),
    "non_verifiable": ("submitter_lost", "timeout", "still_running"),
    "none": ("still_running",),
}
_UNDO_MAY_DOUBT = ("no_undo", "gone", "attempts_used_up", "timeout", "busy", "not_applied", "commit_deadline")


def _resources(cluster: Cluster) -> list[str]:
    """A resource is held by one commit at a time."""
    holders: dict[str, str] = {}
    found = []
    for record in cluster.ledger.records:
        name, admission = record.payload.get("commit_id", ""), record.payload.get("admission")
        if record.kind in ("committed", "compensated"):
            holders = {target: holder for target, holder in holders.items() if holder != name}
        for target in admission["targets"] if admission else ():
            other = holders.setdefault(target, name)
            if other != name:
                found.append(f"record {record.seq}: {name} takes {target}, which {other} holds")
    return found
