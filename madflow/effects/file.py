"""The effects on files: `read`, `write` and `patch`.

A write is verifiable by what the file holds. `prepare` finds out what is there (`before`), computes what shall be there
(`after`), and keeps the old content, flushed, beside the ledger, so that the step can be taken back; both hashes are in
the intent before anything happens. From then on the file itself tells what has happened:

    it holds           do                        probe          undo                      probe of the undo
    before             replace it                absent         done already              done
    after              done already              done           put `before` back         absent
    something else     refused: conflict         cannot tell    refused: conflict         cannot tell

So doing it twice is doing it once, and what somebody else has written meanwhile is never overwritten. "Done" is only
said of what has been flushed. `absent` is a content like any other: a write may make a file, a patch remove one.

A write says what it overwrites (`sha256_before`, filled when the plan is frozen). A patch need not: its own context
says it, since nothing is searched for. A `read` changes nothing: it fails where its precondition does not hold.

The content kept for the undo lies in `<run_dir>/kept/<sha256>`, and is never removed here: whoever prunes the ledger
may remove what no open commit can come back to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from ..core.plan import ABSENT, PatchStep, ReadStep, WriteStep
from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import EffectError
from ..held import open_unheld
from ..ports import EffectContext
from .beneath import FILE_BYTES_MAX, Content, Place, open_place
from .fence import TimeLimit, holding, in_thread, settled
from .patch import content_after
from .steps import check_allowed, parsed, wrong_kind
from .walk import flush_folder, write_all

__all__ = ["FileEffect"]

_NO_WRITE_BITS: Final = 0o222


class FileEffect:
    """Performs the `read`, `write` and `patch` steps of a plan, in threads.

    Args:
        protected: paths beneath the root that are never a step's: the policy file, the ledger.
    """

    def __init__(self, *, protected: Iterable[str] = ()) -> None:
        self._protected = frozenset(protected)

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Check the precondition, and keep what the step replaces.

        Returns:
            {"before", "after": a SHA-256 in hex or "absent"; "mode": the permission bits before, or None; "kept": the
            kept content's SHA-256, or None; "parents": the folders that the step has to make}; of a `read` {}.
            Failed: "permission_denied", "precondition_unpinned", "precondition_failed", "patch_mismatch",
            "bad_content", "too_large", "cannot_keep", and what `beneath` refuses. Nothing has happened then.
        """
        return await in_thread(lambda limit: self._prepare(_parsed(step), ctx, limit), ctx.timeout_s)

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Put the file from one content to the other. Failed: "conflict" where it holds neither, "disk_full",
        "permission_denied", "timeout", …; `applied` is None only where the new content may have the name already."""
        return await in_thread(lambda limit: self._do(_parsed(step), facts, ctx, limit), ctx.timeout_s)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Which content the file holds. While an earlier attempt is still under way nobody can tell."""
        found = await in_thread(lambda limit: self._probe(_parsed(step), facts, ctx, limit), ctx.timeout_s)
        return Uncertain(f"{found.code}: {found.message}") if isinstance(found, Failed) else found

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no attempt is under way, and none of an earlier term can begin any more."""
        return await settled(ctx)

    def _place(self, step: _FileStep, ctx: EffectContext) -> AbstractContextManager[Place]:
        return open_place(ctx.root, step.target.removeprefix("file:"), protected=self._protected)

    def _prepare(self, step: _FileStep, ctx: EffectContext, limit: TimeLimit) -> Mapping[str, Any]:
        check_allowed(step, ctx)
        with self._place(step, ctx) as place:
            seen = place.read()
            missing = place.missing
        before = seen.sha256 if seen else ABSENT
        if isinstance(step, ReadStep):
            _check_read(step, before)
            return {}
        if step.sha256_before is None and isinstance(step, WriteStep):
            raise EffectError(
                "precondition_unpinned",
                f"{step.target} would be overwritten whatever it holds ({before} now); freeze the plan against a tree",
                applied=False,
            )
        if step.sha256_before not in (None, before):
            raise EffectError(
                "precondition_failed",
                f"{step.target} is {before}, the plan expects {step.sha256_before}; decide again on this tree",
                applied=False,
            )
        data = content_after(step, seen.data if seen else None)
        if data is not None and len(data) > FILE_BYTES_MAX:
            why = f"{step.target} would have {len(data)} bytes, the limit is {FILE_BYTES_MAX}; use a command for it"
            raise EffectError("too_large", why, applied=False)
        after = _sha256(data)
        kept = None
        if seen is not None and after != before:
            if not seen.mode & _NO_WRITE_BITS:
                why = f"{step.target} is read-only (mode {seen.mode:o}); make it writable first"
                raise EffectError("permission_denied", why, applied=False)
            kept = before
            _keep(ctx.run_dir, before, seen.data, limit)
        return {
            "before": before,
            "after": after,
            "mode": seen.mode if seen else None,
            "kept": kept,
            "parents": list(missing) if data is not None else [],
        }

    def _do(self, step: _FileStep, facts: Mapping[str, Any], ctx: EffectContext, limit: TimeLimit) -> Done:
        if isinstance(step, ReadStep):
            return self._read(step, ctx)
        forward = ctx.direction == "do"
        wanted, expected = (facts["after"], facts["before"]) if forward else (facts["before"], facts["after"])
        with holding(ctx, limit), self._place(step, ctx) as place:
            place.clear(ctx.key)
            seen = place.read()
            now = seen.sha256 if seen else ABSENT
            if now == wanted:
                place.sync()
                return Done({"sha256": wanted, "already": True})
            if now != expected:
                raise _conflict(step, now, facts, forward)
            if forward:
                data = self._after(step, seen, wanted)
            else:
                data = None if wanted == ABSENT else _kept(ctx.run_dir, wanted)
            if data is not None:
                mode = None if forward else facts["mode"]
                place.replace(data, token=ctx.key, seen=seen, mode=mode, proceed=limit.check)
                return Done({"sha256": wanted, "bytes": len(data)})
            assert seen is not None  # noqa: S101 - it holds `expected`, which is not what is wanted
            place.remove(seen=seen, proceed=limit.check)
            gone = [] if forward else place.remove_folders(facts["parents"])
            return Done({"sha256": ABSENT, **({"removed_folders": gone} if gone else {})})

    def _after(self, step: _FileStep, seen: Content | None, wanted: str) -> bytes | None:
        assert not isinstance(step, ReadStep)  # noqa: S101 - a read is done elsewhere
        data = content_after(step, seen.data if seen else None)
        if _sha256(data) != wanted:
            why = (
                f"{step.target} would become {_sha256(data)}, the intent says {wanted}; the ledger and the step differ"
            )
            raise EffectError("conflict", why, applied=False)
        return data

    def _read(self, step: ReadStep, ctx: EffectContext) -> Done:
        if ctx.direction == "undo":
            return Done({"note": "there is nothing to take back"})
        with self._place(step, ctx) as place:
            seen = place.read()
        now = seen.sha256 if seen else ABSENT
        _check_read(step, now)
        return Done({"sha256": now, **({"bytes": len(seen.data)} if seen else {})})

    def _probe(
        self, step: _FileStep, facts: Mapping[str, Any], ctx: EffectContext, limit: TimeLimit
    ) -> Done | Absent | Uncertain:
        if isinstance(step, ReadStep):
            return Absent()
        forward = ctx.direction == "do"
        wanted, expected = (facts["after"], facts["before"]) if forward else (facts["before"], facts["after"])
        with holding(ctx, limit), self._place(step, ctx) as place:
            seen = place.read()
            now = seen.sha256 if seen else ABSENT
            if now == wanted:
                place.sync()
                return Done({"sha256": wanted})
        if now == expected:
            return Absent()
        return Uncertain(str(_conflict(step, now, facts, forward)))


_FileStep = ReadStep | WriteStep | PatchStep


def _parsed(step: Mapping[str, Any]) -> _FileStep:
    """The step, validated again. Raises EffectError: "bad_step"."""
    known = parsed(step)
    if not isinstance(known, ReadStep | WriteStep | PatchStep):
        raise wrong_kind("FileEffect", "read, write and patch", known)
    return known


def _sha256(data: bytes | None) -> str:
    return ABSENT if data is None else hashlib.sha256(data).hexdigest()


def _check_read(step: ReadStep, now: str) -> None:
    if step.sha256 is None and now == ABSENT:
        raise EffectError("precondition_failed", f"{step.target} is not there", applied=False)
    if step.sha256 not in (None, now):
        why = f"{step.target} is {now}, the plan expects {step.sha256}; decide again on this tree"
        raise EffectError("precondition_failed", why, applied=False)


def _conflict(step: _FileStep, now: str, facts: Mapping[str, Any], forward: bool) -> EffectError:
    was, will = ("before", "after") if forward else ("after", "before")
    return EffectError(
        "conflict",
        f"{step.target} is {now}: neither {facts[was]}, as {was} the step, nor {facts[will]}, as {will} it; somebody "
        "else has changed it, so it is left as it is",
        applied=False,
    )


def _keep(run_dir: Path, sha256: str, data: bytes, limit: TimeLimit) -> None:
    """Keep `data` under its hash, durably. What is kept already is checked, and flushed."""
    folder = run_dir / "kept"
    path = folder / sha256
    try:
        new = not folder.is_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if new:
            for parent in (run_dir, run_dir.parent):
                flush_folder(parent)
        if path.is_file() and _read_kept(path) == data:
            with open_unheld(path) as file:
                os.fsync(file)
        else:
            temporary = folder / f"{sha256}.{os.getpid()}.{id(limit):x}.tmp"
            _write_new(temporary, data)
            temporary.replace(path)
        flush_folder(folder)
    except OSError as error:
        why = f"the old content cannot be kept for the undo, in {folder}: {error.strerror or error}"
        raise EffectError("cannot_keep", why, applied=False) from error
    limit.check()


def _read_kept(path: Path) -> bytes:
    with open_unheld(path) as file, os.fdopen(file, "rb", closefd=False) as stream:
        return stream.read(FILE_BYTES_MAX + 1)


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except FileExistsError:  # of a process that was killed, and had this number
        path.unlink()
        file = os.open(path, flags, 0o600)
    try:
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def _kept(run_dir: Path, sha256: str) -> bytes:
    path = run_dir / "kept" / sha256
    try:
        data = _read_kept(path)
    except OSError as error:
        why = f"the content to put back is lost: {path}: {error.strerror or error}; put it there, or undo by hand"
        raise EffectError("kept_lost", why, applied=False) from error
    if _sha256(data) != sha256:
        raise EffectError("kept_lost", f"the content to put back was altered: {path}; undo by hand", applied=False)
    return data
