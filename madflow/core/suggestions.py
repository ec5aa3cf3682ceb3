"""Suggested patches of a review: from the findings that carry them to the steps that apply them.

1. A review holds patches up to `PATCHES_CHARS_MAX` characters, in the order of its findings; the rest are left out,
   with a note on their findings.
2. A patch has a vote of its own, for a defect can be real and its repair wrong. It is accepted if its finding is
   published and the seats that could judge the finding and did not raise it accept the patch by strictly more than half
   of their weight. Silence never accepts, and a seat never accepts its own.
3. The accepted patches of one file become one step. In the order of the findings, a patch joins if it is of the same
   state of the file and collides with none before it (`core.unified.merge_hunks`); one that does not is left out.

What becomes of each patch is said by its finding's id, so that a reader of the review sees why one is not in the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .findings import Finding, Judged, Vote
from .plan import path_problem
from .unified import Hunk, merge_hunks, read_hunks, write_patch

__all__ = ["PATCHED_FILES_MAX", "PATCHES_CHARS_MAX", "Suggested", "limit_patches", "patch_accepted", "suggested_steps"]

PATCHES_CHARS_MAX: Final = 96 * 1024
"""Characters of all suggested patches of a review: every voter reads them."""

PATCHED_FILES_MAX: Final = 150
"""Files that one review's plan patches."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """What became of a finding's patch: accepted (a step applies it), rejected, or left_out; the note says why."""

    status: str
    note: str = ""


def limit_patches(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, without the patches that find no room within `PATCHES_CHARS_MAX`; a note says so."""
    kept: list[Finding] = []
    room = PATCHES_CHARS_MAX
    why = f"suggested patch left out: a review's patches take at most {PATCHES_CHARS_MAX} characters"
    for finding in findings:
        fits = len(finding.patch) <= room
        room -= len(finding.patch) if fits else 0
        note = "; ".join(part for part in (finding.note, why) if part)
        without = {"patch": "", "patch_before": "", "patch_by": "", "note": note}
        kept.append(finding if fits else finding.model_copy(update=without))
    return tuple(kept)


def patch_accepted(judged: Judged, votes: Mapping[str, Vote], weights: Mapping[str, int]) -> bool:
    """Whether a finding's patch is accepted (rule 2 above). `votes`: on it, by agent; `weights`: the panel's."""
    if not judged.finding.patch or not judged.published:
        return False
    left_out = {*judged.recused, *judged.unable}
    accepting = sum(
        weights[agent]
        for agent, vote in votes.items()
        if vote.patch == "accept" and agent in weights and agent not in left_out
    )
    return 2 * accepting > judged.tally["eligible_weight"]


def suggested_steps(
    judged: Iterable[Judged], votes: Mapping[str, Mapping[str, Vote]], weights: Mapping[str, int]
) -> tuple[list[dict[str, Any]], dict[str, Suggested]]:
    """The patch steps of a review, by path, and what became of each patch, by its finding's id."""
    outcome: dict[str, Suggested] = {}
    files: dict[str, dict[str, Finding]] = {}
    for row in judged:
        finding = row.finding
        if not finding.patch:
            continue
        if not patch_accepted(row, votes.get(finding.id, {}), weights):
            outcome[finding.id] = Suggested("rejected", "the other seats did not accept it")
        elif problem := path_problem(finding.file):
            outcome[finding.id] = Suggested("left_out", problem)
        else:
            files.setdefault(finding.file, {})[finding.id] = finding
    steps: list[dict[str, Any]] = []
    for path in sorted(files):
        if len(steps) == PATCHED_FILES_MAX:
            why = f"a plan patches at most {PATCHED_FILES_MAX} files"
            outcome.update((name, Suggested("left_out", why)) for name in files[path])
        else:
            steps.append(_step(path, files[path], outcome))
    return steps, outcome


def _step(path: str, findings: Mapping[str, Finding], outcome: dict[str, Suggested]) -> dict[str, Any]:
    before = next(iter(findings.values())).patch_before
    hunks: dict[str, tuple[Hunk, ...]] = {}
    for name, finding in findings.items():
        if finding.patch_before != before:
            outcome[name] = Suggested("left_out", "the file changed in the tree while the seats reviewed it")
        else:
            hunks[name] = read_hunks(finding.patch, path)
    merged, collided = merge_hunks(hunks)
    for name in hunks:
        other = collided.get(name)
        outcome[name] = (
            Suggested("left_out", f"it collides with the patch of {other}") if other else Suggested("accepted")
        )
    return {"step": "patch", "target": f"file:{path}", "patch": write_patch(path, merged), "sha256_before": before}
