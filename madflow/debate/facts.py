"""What code knows about a reply: facts, recorded with the answer, so that nothing needs the tree again.

- a plan (draft, revise, mediate): `evidence`, what it quotes, checked; and `plan`, the state of every file that it
  writes or patches, by step (`{"sha256_before": {"0": hash}}`), or `{"problem": why it cannot be carried out}`.
- findings (find): `patches`, by finding: `{"sha256_before": hash}` of the file that the suggested patch applies to, or
  `{"problem": why not}`.

Replies are hostile, and so are the paths in them: they are read as evidence is (`reading`), or as an effect would,
beneath a directory descriptor. Facts are shown to models, so they never tell what a file holds, only that a patch does
not fit; and of what looks secret not even that, or a model could learn it by guessing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Config
from ..core.findings import known_path
from ..core.messages import Evidence
from ..core.state import Ask
from ..core.unified import read_hunks, write_patch
from ..errors import EffectError, PlanError
from .reading import TEXT_BYTES_MAX
from .session import Verify

if TYPE_CHECKING:
    from ..effects.patch import PatchMismatch

__all__ = ["facts_of", "verifier"]

PROBLEM_CHARS_MAX = 300


def verifier(root: Path | None, own: Verify | None = None) -> Verify | None:
    """What a debate checks of each reply: the facts above, where it has a root, and what the app's own check adds.

    Of a fact that both name, ours is kept: the protocols read it.
    """
    if root is None:
        return own

    def verify(config: Config, ask: Ask, reply: Mapping[str, Any]) -> Mapping[str, Any]:
        added = own(config, ask, reply) if own is not None else {}
        return {**added, **facts_of(config, ask, reply, root)}

    return verify


def facts_of(config: Config, ask: Ask, reply: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The facts of one parsed reply, by the tree beneath `root`; empty where there is nothing to know."""
    if ask.kind == "find":
        patches = _patches(config, reply.get("findings") or (), root)
        return {"patches": patches} if patches else {}
    if ask.kind not in ("draft", "revise", "mediate"):
        return {}
    draft = (reply.get("draft") or {}) if ask.kind == "mediate" else reply
    facts: dict[str, Any] = {}
    if draft.get("evidence"):
        facts["evidence"] = _evidence(config, draft["evidence"], root)
    pinned = _plan(draft.get("plan") or (), root)
    return {**facts, "plan": pinned} if pinned else facts


def _evidence(config: Config, quoted: Sequence[Mapping[str, Any]], root: Path) -> list[bool | None]:
    from .evidence import check_evidence

    items = [Evidence(id=f"E{number}", **item) for number, item in enumerate(quoted, start=1)]
    return [item.verified for item in check_evidence(items, root=root, task=config.task)]


def _plan(plan: Sequence[Mapping[str, Any]], root: Path) -> dict[str, Any]:
    """The hashes that pin a plan, or why it cannot be carried out on this tree."""
    from ..effects.freeze import freeze_plan
    from ..effects.own import protected_paths
    from ..effects.patch import PatchMismatch

    steps = [{key: value for key, value in step.items() if value is not None} for step in plan]
    bare = [{key: value for key, value in step.items() if key != "sha256_before"} for step in steps]
    for index, step in enumerate(steps):
        if step["step"] == "patch" and _secret(step["target"].removeprefix("file:"), step["patch"]):
            return {"problem": f"step {index}: {_NOT_TRIED}"}
    try:
        frozen = freeze_plan(bare, root, protected=protected_paths(root, None, None)) if bare else []
    except PlanError as error:
        cause = error.__cause__
        why = f"step {error.step}: {_misfit(cause)}" if isinstance(cause, PatchMismatch) else str(error)
        return {"problem": why[:PROBLEM_CHARS_MAX]}
    known = {str(index): step["sha256_before"] for index, step in enumerate(frozen) if step.get("sha256_before")}
    for index, step in enumerate(steps):
        said, found = step.get("sha256_before"), known.get(str(index))
        if said is not None and said != found:
            return {"problem": f"step {index}: it expects the file as {said[:12]}, the tree has {str(found)[:12]}"}
    return {"sha256_before": known} if known else {}


def _patches(config: Config, findings: Sequence[Mapping[str, Any]], root: Path) -> dict[str, dict[str, str]]:
    files = {file.path: file for file in config.task.files}
    wanted = config.review_plan is not None and config.review_plan.fix
    facts: dict[str, dict[str, str]] = {}
    for index, finding in enumerate(findings):
        patch = str(finding.get("patch") or "")
        if not patch.strip():
            continue
        path, _ = known_path(str(finding["file"]), files)
        if not wanted or path is None:
            facts[str(index)] = {"problem": "the diff has no such file" if wanted else "no patches were asked for"}
            continue
        try:
            facts[str(index)] = {"sha256_before": _tried(patch, path, root)}
        except (PlanError, EffectError) as error:
            facts[str(index)] = {"problem": str(error)[:PROBLEM_CHARS_MAX]}
    return facts


def _tried(patch: str, path: str, root: Path) -> str:
    """The hash of the file that the patch fits, by the effect that would apply it. Raises PlanError, EffectError."""
    from ..effects.beneath import read_file
    from ..effects.own import protected_paths
    from ..effects.patch import PatchMismatch, apply_patch

    whole = write_patch(path, read_hunks(patch, path))
    if _secret(path, whole):
        raise PlanError(_NOT_TRIED, step=None)
    data = read_file(root, path, TEXT_BYTES_MAX, protected=protected_paths(root, None, None))
    try:
        apply_patch(data, whole, path)
    except PatchMismatch as error:
        raise PlanError(_misfit(error), step=None) from error
    return hashlib.sha256(data or b"").hexdigest()


_NOT_TRIED = "the patch is of a file of secrets, or holds what looks like a secret; it is not tried"


def _secret(path: str, patch: str) -> bool:
    from .secrets import redact, secret_path

    return secret_path(path) or redact(patch) != patch


def _misfit(error: PatchMismatch) -> str:
    """What is wrong with a patch, without the file's own lines."""
    where = f"hunk {error.hunk} (line {error.line} of the patch)" if error.hunk else "the patch"
    return f"{where} is malformed or does not fit the file as it is; write it anew, or write the whole file"
