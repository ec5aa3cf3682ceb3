"""The effects on files: what is promised of write, patch and read."""

import asyncio
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from madflow.core.policy import Policy, parse_policy
from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.file import FileEffect
from madflow.testing.effect_suite import EffectSuite, effect_context

ANYTHING = parse_policy({"allow": [{"step": ["read", "write", "patch"], "paths": ["**"], "roles": ["developer"]}]})


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tree(root: Path) -> dict[str, Any]:
    """Every name beneath root: a file's bytes and mode, None for a folder."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


class FileWorld:
    """A file under a root, and a step on it."""

    policy = ANYTHING

    def __init__(self, folder: Path, step: Mapping[str, Any], files: Mapping[str, str]) -> None:
        self.root, self.run_dir, self.step = folder / "root", folder / "state" / "run", step
        self.root.mkdir()
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())

    @property
    def path(self) -> Path:
        return self.root / self.step["target"].removeprefix("file:")

    def effect(self) -> FileEffect:
        return FileEffect(protected={"policy.toml"})

    def state(self) -> dict[str, Any]:
        return tree(self.root)

    def interfere(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("somebody else's\n")

    def context(self, **changed: Any) -> Any:
        return effect_context(self.root, self.run_dir, **{"policy": self.policy, **changed})


def write(path: str, content: str, before: str | None) -> dict[str, Any]:
    return {"step": "write", "target": f"file:{path}", "content": content, "sha256_before": before}


def patch(path: str, text: str, before: str | None = None) -> dict[str, Any]:
    return {"step": "patch", "target": f"file:{path}", "patch": text, "sha256_before": before}


CHANGE = "--- a/f.txt\n+++ b/f.txt\n@@ -1 +1 @@\n-old\n+new\n"
CASES = {
    "write": (write("f.txt", "new\n", sha("old\n")), {"f.txt": "old\n"}),
    "write a new file": (write("a/b/f.txt", "ü\r\n\u2028", "absent"), {"other": ""}),
    "write an empty file": (write("f.txt", "", "absent"), {}),
    "patch": (patch("f.txt", CHANGE), {"f.txt": "old\n"}),
    "patch a new file": (patch("n/f.txt", "--- /dev/null\n+++ b/n/f.txt\n@@ -0,0 +1 @@\n+x\n"), {}),
    "patch a file away": (
        patch("d/f.txt", "--- a/d/f.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"),
        {"d/f.txt": "x"},
    ),
}


class TestFiles(EffectSuite):
    """Catches what the suite names, for every kind of change."""

    @pytest.fixture(params=list(CASES))
    def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> FileWorld:
        return FileWorld(tmp_path, *CASES[request.param])


async def prepared(world: FileWorld) -> Mapping[str, Any]:
    facts = await world.effect().prepare(world.step, world.context())
    assert not isinstance(facts, Failed), facts
    return facts


@pytest.mark.parametrize(
    ("step", "code", "said"),
    [
        (write("f.txt", "x", None), "precondition_unpinned", "freeze"),
        (write("f.txt", "x", "absent"), "precondition_failed", sha("old\n")),
        (write("f.txt", "x", sha("other")), "precondition_failed", sha("other")),
        (write("gone.txt", "x", sha("old\n")), "precondition_failed", "absent"),
        (patch("f.txt", CHANGE, sha("other")), "precondition_failed", sha("other")),
        (patch("f.txt", CHANGE.replace("-old", "-odd")), "patch_mismatch", "expects"),
        (write("f.txt", "ü" * (4 * 1024 * 1024 + 1), sha("old\n")), "too_large", "the limit is 8388608"),
        (write("f.txt", "\ud800", sha("old\n")), "bad_step", "content"),
        (write("f.txt/x", "x", "absent"), "not_a_folder", "f.txt"),
        (write("folder", "x", "absent"), "not_a_file", "a folder"),
        (write("policy.toml", "x", "absent"), "protected", "submitter's own"),
        (write("../x", "x", "absent"), "bad_step", "climb"),
        ({"step": "read", "target": "file:gone.txt"}, "precondition_failed", "not there"),
        ({"step": "read", "target": "file:f.txt", "sha256": sha("x")}, "precondition_failed", sha("old\n")),
        ({"step": "read", "target": "file:f.txt", "sha256": "absent"}, "precondition_failed", sha("old\n")),
    ],
)
async def test_a_broken_precondition_says_what_is_there(
    step: dict[str, Any], code: str, said: str, tmp_path: Path
) -> None:
    """Catches a step that goes on over another content than the plan says; and anything changed on the way."""
    world = FileWorld(tmp_path, step, {"f.txt": "old\n", "folder/f": ""})
    before = world.state()
    for found in (
        await world.effect().prepare(step, world.context()),
        await world.effect().do(step, {"before": "x", "after": "y"}, world.context()) if step["step"] == "read" else 0,
    ):
        if found:
            assert isinstance(found, Failed)
            assert (found.code, found.applied, found.transient) == (code, False, False)
            assert said in found.message
    assert world.state() == before
    assert not list(world.run_dir.rglob("kept/*"))


async def test_a_read_holds_when_it_holds(tmp_path: Path) -> None:
    """Catches a precondition that fails for a file that is as it should be."""
    step = {"step": "read", "target": "file:f.txt", "sha256": sha("old\n")}
    world = FileWorld(tmp_path, step, {"f.txt": "old\n"})
    assert await world.effect().prepare(step, world.context()) == {}
    assert await world.effect().do(step, {}, world.context()) == Done({"sha256": sha("old\n"), "bytes": 4})
    assert await world.effect().probe(step, {}, world.context()) == Absent()
    assert isinstance(await world.effect().do(step, {}, world.context(direction="undo")), Done)
    gone = {"step": "read", "target": "file:gone.txt", "sha256": "absent"}
    assert await world.effect().do(gone, {}, world.context()) == Done({"sha256": "absent"})


async def test_the_intent_knows_the_way_back_before_anything_happens(tmp_path: Path) -> None:
    """Catches old content that is kept only when it is gone already, and facts that do not name both sides."""
    world = FileWorld(tmp_path, *CASES["write"])
    world.path.chmod(0o640)
    facts = await prepared(world)
    assert facts == {
        "before": sha("old\n"),
        "after": sha("new\n"),
        "mode": 0o640,
        "kept": sha("old\n"),
        "parents": [],
    }
    assert (world.run_dir / "kept" / sha("old\n")).read_text() == "old\n"
    assert world.path.read_text() == "old\n"
    await world.effect().do(world.step, facts, world.context())
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o640
    assert sorted(tree(world.root)) == ["f.txt"]


async def test_a_removed_file_comes_back_with_its_mode(tmp_path: Path) -> None:
    """Catches an undo that restores the bytes and not the permissions."""
    world = FileWorld(tmp_path, *CASES["patch a file away"])
    world.path.chmod(0o755)
    facts = await prepared(world)
    await world.effect().do(world.step, facts, world.context())
    assert not world.path.exists()
    assert isinstance(await world.effect().do(world.step, facts, world.context(direction="undo")), Done)
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o755


async def test_taking_back_leaves_folders_that_are_used(tmp_path: Path) -> None:
    """Catches an undo that removes a folder somebody else has put something into, or one that was there before."""
    world = FileWorld(tmp_path, *CASES["write a new file"])
    facts = await prepared(world)
    assert facts["parents"] == ["a", "a/b"]
    await world.effect().do(world.step, facts, world.context())
    (world.root / "a" / "theirs").write_text("x")
    result = await world.effect().do(world.step, facts, world.context(direction="undo"))
    assert result == Done({"sha256": "absent", "removed_folders": ["a/b"]})
    assert sorted(tree(world.root)) == ["a", "a/theirs", "other"]


async def test_lost_or_altered_kept_content_is_not_put_back(tmp_path: Path) -> None:
    """Catches an undo that writes whatever lies where the old content should."""
    world = FileWorld(tmp_path, *CASES["write"])
    facts = await prepared(world)
    await world.effect().do(world.step, facts, world.context())
    kept = world.run_dir / "kept" / sha("old\n")
    kept.write_text("altered")
    for _ in range(2):
        result = await world.effect().do(world.step, facts, world.context(direction="undo"))
        assert isinstance(result, Failed)
        assert (result.code, result.applied) == ("kept_lost", False)
        kept.unlink(missing_ok=True)
    assert world.path.read_text() == "new\n"


async def test_writing_what_is_there_is_done_already(tmp_path: Path) -> None:
    """Catches a step without a change that is neither done nor absent, or whose undo removes the file."""
    world = FileWorld(tmp_path, write("f.txt", "old\n", sha("old\n")), {"f.txt": "old\n"})
    facts = await prepared(world)
    assert facts["kept"] is None
    for direction in ("do", "undo"):
        assert isinstance(await world.effect().probe(world.step, facts, world.context(direction=direction)), Done)
        result = await world.effect().do(world.step, facts, world.context(direction=direction))
        assert result == Done({"sha256": sha("old\n"), "already": True})
    assert world.path.read_text() == "old\n"


async def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    """Catches a replacement by rename, which needs no permission on the file itself."""
    world = FileWorld(tmp_path, *CASES["write"])
    world.path.chmod(0o444)
    found = await world.effect().prepare(world.step, world.context())
    assert isinstance(found, Failed)
    assert (found.code, found.applied) == ("permission_denied", False)


async def test_while_an_attempt_is_under_way_nobody_can_tell(tmp_path: Path) -> None:
    """Catches a probe that says "absent" of a write that a stopped thread or process may still make."""
    world = FileWorld(tmp_path, *CASES["write"])
    facts = await prepared(world)
    lock = os.open(world.run_dir / f"{world.context().key}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = await world.effect().probe(world.step, facts, world.context(timeout_s=0.3))
    assert isinstance(found, Uncertain)
    assert "under way" in found.why
    result = await world.effect().do(world.step, facts, world.context(timeout_s=0.3))
    assert isinstance(result, Failed)
    assert result.applied is None
    assert not await world.effect().settled(world.step, world.context(timeout_s=0.1))
    os.close(lock)
    assert await world.effect().settled(world.step, world.context(timeout_s=0.1))


async def test_many_writes_at_once_do_not_mix(tmp_path: Path) -> None:
    """Catches temporary files that are shared between keys, and folders made twice."""
    steps = [write(f"a/b/{number}.txt", f"{number}\n" * 1000, "absent") for number in range(24)]
    world = FileWorld(tmp_path, steps[0], {})

    async def one(number: int, step: dict[str, Any]) -> None:
        context = world.context(name=f"step-{number}")
        facts = await world.effect().prepare(step, context)
        assert isinstance(facts, Mapping)
        assert isinstance(await world.effect().do(step, facts, context), Done)

    await asyncio.gather(*(one(number, step) for number, step in enumerate(steps)))
    assert {name: value and value[0] for name, value in tree(world.root).items() if value} == {
        f"a/b/{number}.txt": b"%d\n" % number * 1000 for number in range(24)
    }


async def test_the_policy_is_asked_again(tmp_path: Path) -> None:
    """Catches an effect that relies on the gate alone: a policy that was narrowed since admits no more."""
    world = FileWorld(tmp_path, *CASES["write"])
    for policy in (Policy(), parse_policy({"allow": [{"step": ["write"], "paths": ["src/**"]}]})):
        found = await world.effect().prepare(world.step, world.context(policy=policy))
        assert isinstance(found, Failed)
        assert (found.code, found.applied) == ("permission_denied", False)


def system_calls(work: Coroutine[Any, Any, Any]) -> list[str]:
    """Which of the calls that make a change, or make it durable, `work` makes, in order, in its threads."""
    named = {os.write, os.fsync, os.rename, os.replace, os.mkdir, os.unlink, os.rmdir}
    seen: list[str] = []

    def watch(frame: object, event: str, called: Any) -> None:
        if event == "c_call" and called in named:
            seen.append(called.__name__)

    threading.setprofile(watch)
    try:
        asyncio.run(work)
    finally:
        threading.setprofile(None)
    return seen


LOCK, KEEP, CLEAR, PUT = "mkdir", "mkdir fsync fsync write fsync replace fsync", "unlink", "write fsync rename fsync"
FLUSHED = {
    "write": (KEEP, f"{LOCK} {CLEAR} {CLEAR} {PUT}", f"{LOCK} {CLEAR} {CLEAR} {PUT}"),
    "write a new file": (
        "",
        f"{LOCK} mkdir fsync mkdir fsync {CLEAR} {PUT}",
        f"{LOCK} {CLEAR} unlink fsync rmdir fsync rmdir fsync",
    ),
    "patch a file away": (KEEP, f"{LOCK} {CLEAR} unlink fsync", f"{LOCK} {CLEAR} {CLEAR} {PUT}"),
}


@pytest.mark.parametrize("name", list(FLUSHED))
def test_done_is_said_of_what_is_flushed(name: str, tmp_path: Path) -> None:
    """Catches a rename before its content is flushed, a folder that never is, old content kept too late."""
    prepares, does, undoes = FLUSHED[name]
    world = FileWorld(tmp_path, *CASES[name])
    world.run_dir.mkdir(parents=True)
    made: list[Any] = []

    async def prepare() -> None:
        made.append(await prepared(world))

    assert " ".join(system_calls(prepare())) == prepares
    effect, (facts,), undo = world.effect(), made, world.context(direction="undo")
    assert " ".join(system_calls(effect.do(world.step, facts, world.context()))) == does
    flushes = "fsync fsync" if world.path.exists() else "fsync"
    assert " ".join(system_calls(effect.probe(world.step, facts, world.context()))) == f"{LOCK} {flushes}"
    assert " ".join(system_calls(effect.do(world.step, facts, world.context()))).endswith(flushes)
    assert " ".join(system_calls(effect.do(world.step, facts, undo))) == undoes
