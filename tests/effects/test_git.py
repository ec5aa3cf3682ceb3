"""The effect git_commit: in real repositories, hostile ones too."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from git_repository import ENV, Repository, commit, done, prepared

from madflow.core.policy import Policy, parse_policy
from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.git import GitEffect
from madflow.testing.effect_suite import EffectSuite


class TestGitCommits(EffectSuite):
    """Catches what the suite names: on a new branch, an old one, and the one that is checked out."""

    @pytest.fixture(params=["new branch", "old branch", "checked out"])
    def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
        world = Repository(tmp_path, branch="work" if request.param == "checked out" else "main")
        if request.param == "old branch":
            world.git("branch", "work")
        return world


async def test_the_commit_holds_the_paths_and_nothing_else(tmp_path: Path) -> None:
    """Catches a commit with other changes of the tree, a lost mode or line end, and a removed file that stays."""
    world = Repository(tmp_path)
    facts = await prepared(world)
    await done(world, facts)
    assert world.git("diff", "--raw", "--no-abbrev", "--name-status", world.first, "work").split("\n") == [
        "M\ta",
        "D\tb",
        "M\trun.sh",
        "A\tsub/new",
    ]
    assert world.git("ls-tree", "work", "run.sh").startswith("100755 ")
    assert world.git("cat-file", "-s", "work:a") == str(len(b"a, changed\r\n"))
    assert world.git("rev-parse", "work^") == world.first
    assert world.git("log", "-1", "--format=%an <%ae> %at %cn %ct", "work") == (
        "madflow <madflow@localhost> 1000000001 madflow 1000000001"
    )
    assert (
        world.git("log", "-1", "--format=%B", "work") == f"Change it\n\nBecause.\n\nMadflow-Key: {world.context().key}"
    )
    assert world.git("fsck", "--strict") == ""


async def test_the_branch_that_is_checked_out_stays_in_step(tmp_path: Path) -> None:
    """Catches a ref that is moved away under its index, and an index in which other paths are touched."""
    world = Repository(tmp_path, branch="work")
    world.git("add", "other")
    await done(world, await prepared(world))
    assert world.git("status", "--porcelain") == "M  other"
    assert world.git("reflog", "-1", "--format=%gs").startswith("madflow do ")


async def test_somebody_elses_staging_is_not_lost(tmp_path: Path) -> None:
    """Catches a commit that overwrites what was staged for its paths after it was prepared."""
    world = Repository(tmp_path, branch="work")
    facts = await prepared(world)
    (world.root / "a").write_text("staged by hand\n")
    world.git("add", "a")
    before = world.state()
    result = await world.effect().do(world.step, facts, world.context())
    assert isinstance(result, Failed)
    assert (result.code, result.applied) == ("conflict", False)
    assert world.state() == before


async def test_a_lost_race_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    """Catches entries that stay staged by a step that failed."""
    world = Repository(tmp_path, branch="work")
    facts = await prepared(world)
    index = world.git("ls-files", "--stage")

    class Racing(GitEffect):
        """Somebody else moves the ref when the index has been set already."""

        async def _within(self, step: Any, ctx: Any, work: Any, facts: Any = None) -> Any:
            async def raced(job: Any) -> Any:
                move = type(job).move

                class Late(type(job)):  # type: ignore[misc]
                    async def move(self, to: Any, from_: Any) -> bool:
                        world.interfere()
                        return await move(self, to, from_)

                fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
                return await work(Late(**fields))

            return await super()._within(step, ctx, raced, facts)

    result = await Racing().do(world.step, facts, world.context())
    assert isinstance(result, Failed)
    assert (result.code, result.applied) == ("conflict", False)
    assert world.git("ls-files", "--stage") == index


async def test_lost_objects_are_made_again_as_they_were(tmp_path: Path) -> None:
    """Catches a commit that depends on when it is made; and one that changes with the tree behind the intent."""
    world = Repository(tmp_path)
    facts = await prepared(world)
    assert await prepared(world) == facts
    world.git("prune", "--expire=now")
    assert world.git("cat-file", "-e", facts["new"], check=False) == ""
    assert (await world.effect().probe(world.step, facts, world.context())) == Absent()
    (world.root / "a").write_text("changed again\n")
    result = await world.effect().do(world.step, facts, world.context())
    assert isinstance(result, Failed)
    assert (result.code, result.applied) == ("objects_lost", False)
    (world.root / "a").write_bytes(b"a, changed\r\n")
    assert await done(world, facts) == Done({"commit": facts["new"]})
    assert world.tip() == facts["new"]


async def test_commits_on_top_are_found_and_not_taken_back(tmp_path: Path) -> None:
    """Catches a probe that only knows the tip, and an undo that throws away what others built on it."""
    world = Repository(tmp_path)
    facts = await prepared(world)
    await done(world, facts)
    tree = world.git("rev-parse", "work^{tree}")
    top = world.git("commit-tree", tree, "-p", "work", "-m", "on top")
    world.git("update-ref", "refs/heads/work", top)
    assert isinstance(await world.effect().probe(world.step, facts, world.context()), Done)
    assert await done(world, facts, attempt=2) == Done({"commit": facts["new"], "already": True})
    result = await world.effect().do(world.step, facts, world.context(direction="undo"))
    assert isinstance(result, Failed)
    assert (result.code, result.applied) == ("conflict", False)
    assert await world.effect().probe(world.step, facts, world.context(direction="undo")) == Absent()
    assert world.tip() == top
    world.git("update-ref", "-d", "refs/heads/work")
    world.interfere()
    assert isinstance(await world.effect().probe(world.step, facts, world.context()), Uncertain)


def _unborn(world: Repository) -> None:
    world.git("checkout", "-q", "--orphan", "empty")


def _merging(world: Repository) -> None:
    world.git("update-ref", "refs/heads/work", world.first)
    world.git("symbolic-ref", "HEAD", "refs/heads/work")
    (world.root / ".git" / "MERGE_HEAD").write_text(f"{world.first}\n")


def _unmerged(world: Repository) -> None:
    world.git("symbolic-ref", "HEAD", "refs/heads/work")
    world.git("update-ref", "refs/heads/work", world.first)
    blob = world.git("rev-parse", "HEAD:a")
    lines = "".join(f"100644 {blob} {stage}\ta\n" for stage in (1, 2, 3))
    feed = f"0 {'0' * 40}\ta\n{lines}"
    subprocess.run(["git", "update-index", "--index-info"], cwd=world.root, env=ENV, input=feed, text=True, check=True)


def _elsewhere(world: Repository) -> None:
    world.git("worktree", "add", "-q", "-b", "work", str(world.root.parent / "elsewhere"))


def _gitfile(world: Repository) -> None:
    (world.root / ".git").rename(world.root.parent / "git")
    (world.root / ".git").write_text(f"gitdir: {world.root.parent / 'git'}\n")


def _git_link(world: Repository) -> None:
    (world.root / ".git").rename(world.root.parent / "git")
    (world.root / ".git").symlink_to(world.root.parent / "git")


def _heads_link(world: Repository) -> None:
    (world.root / ".git" / "refs" / "heads").rename(world.root.parent / "heads")
    (world.root / ".git" / "refs" / "heads").symlink_to(world.root.parent / "heads")


def _symbolic(world: Repository) -> None:
    world.git("symbolic-ref", "refs/heads/work", "refs/heads/main")


def _attribute(world: Repository) -> None:
    (world.root / ".gitattributes").write_text("a filter=lfs\n")


def _attribute_elsewhere(world: Repository) -> None:
    _attribute(world)
    (world.root.parent / "empty").mkdir()
    world.git("config", "core.worktree", str(world.root.parent / "empty"))


def _path_link(world: Repository) -> None:
    (world.root / "a").unlink()
    (world.root / "a").symlink_to("/etc/hostname")


def _nothing(world: Repository) -> None:
    world.git("checkout", "-q", "--", "a", "b", "run.sh")
    (world.root / "sub" / "new").unlink()
    world.step = commit(["a", "b"])


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_unborn, "no_commit"),
        (_merging, "merge_under_way"),
        (_unmerged, "unmerged"),
        (_elsewhere, "checked_out_elsewhere"),
        (_gitfile, "no_repository"),
        (_git_link, "no_repository"),
        (_heads_link, "symlink"),
        (_symbolic, "symbolic_ref"),
        (_attribute, "filtered"),
        (_attribute_elsewhere, "filtered"),
        (_path_link, "symlink"),
        (_nothing, "nothing_to_commit"),
        (lambda world: setattr(world, "step", commit(["a", "nowhere"])), "no_such_path"),
        (lambda world: setattr(world, "step", commit(["sub"])), "not_a_file"),
        (lambda world: setattr(world, "step", commit([".git/config"])), "protected"),
        (lambda world: setattr(world, "step", commit(["policy.toml"])), "protected"),
        (lambda world: setattr(world, "step", commit(["a", "a"])), "bad_step"),
        (lambda world: setattr(world, "step", commit(["a"], message="x\0y")), "bad_step"),
    ],
)
async def test_what_cannot_be_committed_safely_is_refused(spoil: Any, code: str, tmp_path: Path) -> None:
    """Catches a commit into another repository, over somebody's merge, of a link's target, or of nothing."""
    world = Repository(tmp_path)
    spoil(world)
    tips = world.git("for-each-ref", check=False)
    found = await world.effect().prepare(world.step, world.context())
    assert isinstance(found, Failed), found
    assert (found.code, found.applied) == (code, False), found.message
    assert world.git("for-each-ref", check=False) == tips


async def test_without_git_it_says_so(tmp_path: Path) -> None:
    """Catches a traceback on a machine that has no git."""
    world = Repository(tmp_path)
    found = await GitEffect(program="git-of-another-machine").prepare(world.step, world.context())
    assert isinstance(found, Failed)
    assert (found.code, found.applied) == ("no_git", False)
    assert "install git" in found.message


async def test_nothing_of_the_repository_is_run(tmp_path: Path) -> None:
    """Catches a hook, a monitor, a filter, a signer, a pager or a transport that the repository starts through us."""
    world = Repository(tmp_path, branch="work")
    mark = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> {mark}\nexit 0\n')
    script.chmod(0o755)
    hooks = world.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("reference-transaction", "post-index-change", "pre-commit", "post-commit", "fsmonitor-watchman"):
        (hooks / hook).write_text(script.read_text())
        (hooks / hook).chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.gitProxy",
        "core.askPass",
        "gpg.program",
        "diff.external",
        "filter.evil.clean",
        "filter.evil.process",
        "credential.helper",
        "core.alternateRefsCommand",
        "alias.update-ref",
        "remote.evil.uploadpack",
    ):
        world.git("config", key, ("!" if key.startswith("alias") else "") + str(script))
    for key, value in (
        ("commit.gpgSign", "true"),
        ("core.hooksPath", str(hooks)),
        ("extensions.partialClone", "evil"),
        ("core.repositoryFormatVersion", "1"),
        ("remote.evil.url", f"ext::{script} %S"),
        ("remote.evil.promisor", "true"),
        ("protocol.ext.allow", "always"),
        ("core.worktree", str(tmp_path)),
    ):
        world.git("config", key, value)
    (world.root / ".gitattributes").write_text("b filter=evil\n")
    mark.unlink(missing_ok=True)
    world.step = commit(["a", "sub/new"])
    facts = await prepared(world)
    await done(world, facts)
    await world.effect().probe(world.step, {**facts, "new": "1" * 40}, world.context())  # an object that is missing
    await done(world, facts, direction="undo")
    assert not mark.exists(), mark.read_text()
    # The same repository does run them for whoever asks git plainly: the trap is real.
    world.git("status", check=False)
    assert mark.exists()


async def test_locks_of_others_are_waited_out_by_attempts(tmp_path: Path) -> None:
    """Catches a lock of the user's own git that is broken, or taken for a failure for good."""
    world = Repository(tmp_path, branch="work")
    facts = await prepared(world)
    for name in ("index.lock", "refs/heads/work.lock"):
        lock = world.root / ".git" / name
        lock.write_text("")
        result = await world.effect().do(world.step, facts, world.context())
        assert isinstance(result, Failed)
        assert (result.code, result.applied, result.transient) == ("busy", False, True), result
        assert world.tip() == world.first
        lock.unlink()
    await done(world, facts)


async def test_a_repository_with_sha256_names(tmp_path: Path) -> None:
    """Catches names of objects that are taken for 40 digits long."""
    world = Repository(tmp_path)
    for path in sorted((world.root / ".git").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (world.root / ".git").rmdir()
    world.git("init", "-q", "-b", "work", "--object-format=sha256")
    world.git("add", "other")
    world.git("commit", "-q", "-m", "first")
    world.step = commit(["a", "other"])
    (world.root / "other").unlink()
    before = world.state()
    facts = await prepared(world)
    await done(world, facts)
    assert len(world.tip()) == 64
    await done(world, facts, direction="undo")
    assert world.state() == before


async def test_the_policy_is_asked_again(tmp_path: Path) -> None:
    """Catches an effect that relies on the gate alone: a policy that was narrowed since admits no more."""
    world = Repository(tmp_path)
    allow = {"step": ["git_commit"], "refs": ["refs/heads/w*"], "paths": ["a"]}
    for policy in (Policy(), parse_policy({"allow": [allow]})):
        found = await world.effect().prepare(world.step, world.context(policy=policy))
        assert isinstance(found, Failed)
        assert (found.code, found.applied) == ("permission_denied", False)
