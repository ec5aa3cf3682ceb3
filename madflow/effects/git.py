"""The effect `git_commit`: what the working tree holds at some paths becomes a commit on a branch.

Objects first: `prepare` writes the blobs, the tree and the commit, which nobody sees as long as no ref leads to them,
and the intent names both ends of the move. `do` moves the ref, by compare-and-swap. So the ref itself tells:

    the ref is             do                        probe          undo                          probe of the undo
    old                    move it to new            absent         done already                  done
    new                    done already              done           move it back to old           absent
    ahead of new           done already              done           refused: conflict             absent
    something else         refused: conflict         cannot tell    refused: conflict             cannot tell

*The commit.* Its parent is the branch, or HEAD's commit where the branch does not exist yet. A path that is missing in
the working tree is removed. Content is committed as it stands, without filters; a path whose attributes ask for one
(git-lfs, ident, an encoding) is refused. Author and committer are `madflow <madflow@localhost>`, and a last line of the
message names the idempotency key. The date is the parent's plus one second: the same step on the same parent and
content is the same commit, whenever it is made, so that objects which were lost before a ref led to them can be made
again. When it really happened is in the ledger.

*The branch that is checked out.* Its index would be left behind by the ref, so its entries for these paths, and for no
others, are set to what is committed, before the ref is moved. A crash in between leaves them staged, as after `git
add`, and the next attempt goes on. While a merge, a cherry-pick or a revert is under way, or a path has conflicts,
nothing is committed; nor on a branch that another worktree has checked out. Taking back restores the ref and these
entries, where they are still as the commit left them; the working tree belongs to the steps that wrote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ..core.plan import GitCommitStep
from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import EffectError
from ..ports import EffectContext
from .beneath import Content, open_place
from .fence import TimeLimit, failed, holding_async, settled
from .gitprogram import Git, check_repository
from .steps import check_allowed, parsed, wrong_kind

__all__ = ["GitEffect"]

T = TypeVar("T")

_NAME: Final = "madflow"
_MAIL: Final = "madflow@localhost"
_UNDER_WAY: Final = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
_ATTRIBUTES: Final = ("filter", "ident", "working-tree-encoding")
_PLAIN: Final = ("unspecified", "unset")
_PATHS_A_CALL: Final = 100


class GitEffect:
    """Performs the `git_commit` steps of a plan.

    Args:
        protected: paths beneath the root that are never a step's: the policy file, the ledger.
        program: git's name, or its path.
    """

    def __init__(self, *, protected: Iterable[str] = (), program: str = "git") -> None:
        self._protected, self._program = frozenset(protected), program

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Make the commit, without moving the ref.

        Returns:
            {"ref", "parent", "old": the ref's commit, or None; "new": the commit; "tree"; "entries": per path what is
            committed, "MODE SHA" or "" for removed; "index": the same of the index, or None where the branch is not
            checked out}. Failed: "permission_denied", "nothing_to_commit", "no_such_path", "no_repository",
            "no_commit", "no_git", "filtered", "unmerged", "merge_under_way", "checked_out_elsewhere", "git_failed",
            and what `beneath` refuses. No ref has moved then.
        """
        return await self._within(step, ctx, self._prepare)

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Move the ref, or move it back. Failed: "conflict", "busy" (somebody holds git's locks), "objects_lost", …"""
        return await self._within(step, ctx, self._do if ctx.direction == "do" else self._undo, facts)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Where the ref is. While an earlier attempt is still under way nobody can tell."""
        found = await self._within(step, ctx, self._probe, facts)
        return Uncertain(f"{found.code}: {found.message}") if isinstance(found, Failed) else found

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no attempt, and no git it started, is running, and none of an earlier term can begin any more."""
        return await settled(ctx)

    async def _within(
        self,
        step: Mapping[str, Any],
        ctx: EffectContext,
        work: Callable[[_Job], Awaitable[T]],
        facts: Mapping[str, Any] | None = None,
    ) -> T | Failed:
        """`work` on the step, holding its key; an EffectError as Failed."""
        limit = TimeLimit(ctx.timeout_s)
        try:
            limit.check()
            known = _parsed(step)
            root = ctx.root.resolve()
            check_repository(root, known.target.removeprefix("git:"))
            async with holding_async(ctx, limit) as held:
                git = Git(root, ctx.run_dir, limit, held=held, program=self._program)
                return await work(_Job(known, ctx, root, git, limit, facts or {}, self._protected))
        except EffectError as error:
            return failed(error)

    async def _prepare(self, job: _Job) -> Mapping[str, Any]:
        check_allowed(job.step, job.ctx)
        old = await job.commit_at(job.ref)
        await job.check_branch()
        parent = old or await job.commit_at("HEAD")
        if not parent:
            why = "HEAD has no commit yet; make the first one by hand"
            raise EffectError("no_commit", why, applied=False)
        entries, tree, new = await job.build(parent)
        index = await job.index_entries() if await job.is_checked_out() else None
        return {
            "ref": job.ref,
            "parent": parent,
            "old": old or None,
            "new": new,
            "tree": tree,
            "entries": entries,
            "index": index,
        }

    async def _do(self, job: _Job) -> Done:
        new = str(job.facts["new"])
        now = await job.commit_at(job.ref)
        if now != (job.facts["old"] or ""):
            if now and await job.is_behind(new, now):
                return Done({"commit": new, "already": True})
            raise job.conflict(now)
        await job.check_branch()
        if not await job.exists(new):
            await job.build_again()
        checked_out = await job.is_checked_out()
        if checked_out:
            await job.set_index(expected=job.facts["index"], wanted=job.facts["entries"])
        if not await job.move(new, job.facts["old"]):
            if checked_out:
                await job.put_index_back()
            raise job.conflict(await job.commit_at(job.ref))
        return Done({"commit": new})

    async def _undo(self, job: _Job) -> Done:
        new, old = str(job.facts["new"]), job.facts["old"]
        now = await job.commit_at(job.ref)
        if now == (old or ""):
            return Done({"commit": old, "already": True})
        if now != new:
            raise job.conflict(now)
        await job.check_branch()
        checked_out = await job.is_checked_out()
        if checked_out and job.facts["index"] is None:
            why = f"{job.ref} was checked out since; taking it back would leave its index behind: do it by hand"
            raise EffectError("conflict", why, applied=False)
        if not await job.move(old, new):
            raise job.conflict(await job.commit_at(job.ref))
        if checked_out:
            await job.put_index_back()
        return Done({"commit": old})

    async def _probe(self, job: _Job) -> Done | Absent | Uncertain:
        new, old = str(job.facts["new"]), job.facts["old"] or ""
        now = await job.commit_at(job.ref)
        there = bool(now) and (now == new or await job.is_behind(new, now))
        if not there and now != old:
            return Uncertain(str(job.conflict(now)))
        if job.ctx.direction == "undo":
            return Absent() if there else Done({"commit": old or None})
        return Done({"commit": new}) if there else Absent()


def _parsed(step: Mapping[str, Any]) -> GitCommitStep:
    """The step, validated again. Raises EffectError: "bad_step"."""
    known = parsed(step)
    if not isinstance(known, GitCommitStep):
        raise wrong_kind("GitEffect", "git_commit", known)
    if "\0" in known.message:
        raise EffectError("bad_step", "the message of a commit holds a NUL character", applied=False)
    if len(set(known.paths)) < len(known.paths):
        raise EffectError("bad_step", "a path is listed twice; list it once", applied=False)
    return known


@dataclass(frozen=True, slots=True)
class _Job:
    """One step in one repository, while its key is held."""

    step: GitCommitStep
    ctx: EffectContext
    root: Path
    git: Git
    limit: TimeLimit
    facts: Mapping[str, Any]
    protected: frozenset[str]

    @property
    def ref(self) -> str:
        """The branch, in full."""
        return self.step.target.removeprefix("git:")

    async def commit_at(self, name: str) -> str:
        """The commit a ref leads to, "" where there is none."""
        return await self.git.found("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")

    async def exists(self, commit: str) -> bool:
        """Whether the commit's object is there."""
        return (await self.git.run("cat-file", "-e", f"{commit}^{{commit}}", ok=None))[0] == 0

    async def is_behind(self, commit: str, tip: str) -> bool:
        """Whether `commit` is `tip` or an ancestor of it."""
        return (await self.git.run("merge-base", "--is-ancestor", commit, tip, ok=None))[0] == 0

    async def is_checked_out(self) -> bool:
        """Whether HEAD is this branch."""
        return await self.git.found("symbolic-ref", "--quiet", "HEAD") == self.ref

    def conflict(self, now: str) -> EffectError:
        """The ref is where the step does not know it."""
        return EffectError(
            "conflict",
            f"{self.ref} is {now or 'gone'}: neither {self.facts['old'] or 'absent'}, as before the step, nor "
            f"{self.facts['new']}, as after it; somebody else has moved it, so it is left as it is",
            applied=False,
        )

    async def check_branch(self) -> None:
        """The branch is a plain one, and nobody is in the middle of something on it. Raises EffectError."""
        if await self.git.found("symbolic-ref", "--quiet", self.ref):
            why = f"{self.ref} is a symbolic ref; name the branch it stands for"
            raise EffectError("symbolic_ref", why, applied=False)
        listed = await self.git.text("worktree", "list", "--porcelain")
        _, *others = listed.split("\n\n")
        if any(f"branch {self.ref}" in block.split("\n") for block in others):
            why = f"{self.ref} is checked out in another worktree, whose index would be left behind"
            raise EffectError("checked_out_elsewhere", why, applied=False)
        if await self.is_checked_out():
            under_way = [path.name for path in (self.root / ".git").iterdir() if path.name in _UNDER_WAY]
            if under_way:
                why = f"{self.ref} is checked out with something under way ({under_way[0]}); finish or abort it first"
                raise EffectError("merge_under_way", why, applied=False)

    async def build(self, parent: str) -> tuple[list[str], str, str]:
        """Write the objects: (entries, tree, commit)."""
        await self._check_attributes()
        entries = [await self._entry(path) for path in self.step.paths]
        index = self.ctx.run_dir / f"{self.ctx.key}.index"
        leftovers = (index, index.with_name(f"{index.name}.lock"))
        env = {"GIT_INDEX_FILE": str(index)}
        try:
            for path in leftovers:
                path.unlink(missing_ok=True)
            await self.git.run("read-tree", parent, env=env)
            had = await self.index_entries(env)
            for path_, entry, before in zip(self.step.paths, entries, had, strict=True):
                if not entry and not before:
                    why = f"{path_!r} is neither in the working tree nor in {parent[:12]}"
                    raise EffectError("no_such_path", why, applied=False)
            await self._feed_index(list(zip(self.step.paths, entries, strict=True)), len(parent), env)
            tree = await self.git.text("write-tree", env=env)
        finally:
            for path in leftovers:
                with suppress(FileNotFoundError):
                    path.unlink()
        if tree == await self.git.text("rev-parse", "--verify", f"{parent}^{{tree}}"):
            why = f"the paths hold what {parent[:12]} holds already"
            raise EffectError("nothing_to_commit", why, applied=False)
        stamp = await self.git.text("rev-list", "--timestamp", "--max-count=1", parent)
        date = f"@{int(stamp.split()[0]) + 1} +0000"
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", _NAME), ("EMAIL", _MAIL), ("DATE", date))
        }
        message = f"{self.step.message.rstrip()}\n\nMadflow-Key: {self.ctx.key}\n"
        new = await self.git.text("commit-tree", tree, "-p", parent, feed=message.encode(), env=who)
        return entries, tree, new

    async def build_again(self) -> None:
        """The commit's objects were lost before a ref led to them: make the same ones once more."""
        _, _, new = await self.build(self.facts["parent"])
        if new != self.facts["new"]:
            why = f"the objects of {self.facts['new']} are gone, and the working tree gives {new} now; decide again"
            raise EffectError("objects_lost", why, applied=False)

    async def _check_attributes(self) -> None:
        """No path is to go through a program, or be changed, on its way into git. Raises EffectError: "filtered"."""
        feed = "".join(f"{path}\0" for path in self.step.paths).encode()
        _, out, _ = await self.git.run("check-attr", "-z", "--stdin", *_ATTRIBUTES, feed=feed)
        fields = out.decode(errors="replace").split("\0")
        for path, name, value in zip(fields[0::3], fields[1::3], fields[2::3], strict=False):
            if value not in _PLAIN:
                why = f"{path!r} has the attribute {name}={value}, which git's plumbing leaves out; use a command step"
                raise EffectError("filtered", why, applied=False)

    async def _entry(self, path: str) -> str:
        """The working tree's file as an object: "MODE SHA", "" where there is none."""
        content = await asyncio.to_thread(self._read, path)
        if content is None:
            return ""
        sha = await self.git.text("hash-object", "-w", "-t", "blob", "--no-filters", "--stdin", feed=content.data)
        return f"{'100755' if content.mode & 0o100 else '100644'} {sha}"

    def _read(self, path: str) -> Content | None:
        with open_place(self.root, path, protected=self.protected) as place:
            return place.read()

    async def index_entries(self, env: Mapping[str, str] | None = None) -> list[str]:
        """Per path what an index holds: "MODE SHA" or "". Raises EffectError: "unmerged"."""
        found: dict[str, str] = {}
        for start in range(0, len(self.step.paths), _PATHS_A_CALL):
            paths = self.step.paths[start : start + _PATHS_A_CALL]
            _, out, _ = await self.git.run("ls-files", "--stage", "-z", "--", *paths, env=env)
            for line in out.decode(errors="surrogateescape").split("\0")[:-1]:
                head, _, path = line.partition("\t")
                mode, sha, stage = head.split(" ")
                if stage != "0" and path in self.step.paths:
                    raise EffectError("unmerged", f"{path!r} has conflicts in the index; resolve them", applied=False)
                found[path] = f"{mode} {sha}"
        return [found.get(path, "") for path in self.step.paths]

    async def _feed_index(
        self, entries: Sequence[tuple[str, str]], digits: int, env: Mapping[str, str] | None = None
    ) -> None:
        """Set entries of an index; "" removes one. `digits`: how many an object's name has.

        Raises EffectError: "busy", where somebody has it locked.
        """
        zero = "0" * digits
        lines = (f"{entry or f'0 {zero}'}\t{path}\0" for path, entry in entries)
        feed = "".join(lines).encode()
        code, _, said = await self.git.run("update-index", "-z", "--index-info", feed=feed, env=env, ok=None)
        if code:
            busy = "File exists" in said
            why = f"git update-index exited with {code}: {said[:300]}"
            raise EffectError("busy" if busy else "git_failed", why, transient=busy, applied=False)

    async def set_index(self, *, expected: Sequence[str] | None, wanted: Sequence[str]) -> None:
        """Set the checked-out index's entries of these paths, which are as expected or wanted already."""
        if expected is None:
            why = f"{self.ref} was checked out since the step was prepared; its index would be left behind"
            raise EffectError("conflict", why, applied=False)
        have = await self.index_entries()
        for path, now, before, after in zip(self.step.paths, have, expected, wanted, strict=True):
            if now not in (before, after):
                why = f"{path!r} was staged by somebody else since the step was prepared"
                raise EffectError("conflict", why, applied=False)
        if have != list(wanted):
            self.limit.check()
            await self._feed_index(list(zip(self.step.paths, wanted, strict=True)), len(self.facts["new"]))

    async def put_index_back(self) -> None:
        """The checked-out index's entries as they were, where they still are as the commit has them."""
        have = await self.index_entries()
        rows = zip(self.step.paths, have, self.facts["entries"], self.facts["index"] or have, strict=True)
        back = [(path, before) for path, now, after, before in rows if now == after != before]
        if back:
            await self._feed_index(back, len(self.facts["new"]))

    async def move(self, to: str | None, from_: str | None) -> bool:
        """Move the ref by compare-and-swap (None: there is none); whether it was moved. Raises EffectError: "busy"."""
        self.limit.check()
        none = "0" * len(str(self.facts["new"]))
        what = ["-d", self.ref, from_ or none] if to is None else [self.ref, to, from_ or none]
        note = f"madflow {self.ctx.direction} {self.ctx.key}"
        who = {"GIT_COMMITTER_NAME": _NAME, "GIT_COMMITTER_EMAIL": _MAIL}
        code, _, said = await self.git.run(
            "update-ref", "--no-deref", "-m", note, *what, env=who, ok=None, applied=None
        )
        if code == 0:
            return True
        if await self.commit_at(self.ref) != (from_ or ""):
            return False
        busy = "File exists" in said
        why = f"git update-ref exited with {code}: {said[:300]}"
        raise EffectError("busy" if busy else "git_failed", why, transient=busy, applied=False)
