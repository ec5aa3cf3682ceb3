"""Beneath the root and nowhere else: hostile paths, links swapped in, a full disk, SIGKILL anywhere."""

import asyncio
import hashlib
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from madflow.core.policy import parse_policy
from madflow.core.saga import Absent, Done, Failed
from madflow.effects.beneath import inspect, open_place, read_file, remove_file, replace_file
from madflow.effects.file import FileEffect
from madflow.effects.walk import open_dir
from madflow.errors import EffectError
from madflow.ports import EffectContext
from madflow.testing import effect_suite

ANYTHING = parse_policy({"allow": [{"step": ["write", "patch"], "paths": ["**"]}]})


def effect_context(root: Path, run_dir: Path, **changed: Any) -> EffectContext:
    return effect_suite.effect_context(root, run_dir, policy=ANYTHING, **changed)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with files and folders, and a secret outside of it."""
    top = tmp_path / "root"
    (top / "folder").mkdir(parents=True)
    (top / "folder" / "f").write_text("inside\n")
    (top / ".git").mkdir()
    (top / ".git" / "config").write_text("git's\n")
    (top / "policy.toml").write_text("policy\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("outside\n")
    (top / "link").symlink_to("../outside")
    (top / "inner").symlink_to("folder")
    (top / "folder" / "final").symlink_to("../../outside/f")
    (top / "folder" / "dangling").symlink_to("../../outside/new")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as server, _inside(top):
        server.bind("socket")
    return top


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        yield
    finally:
        os.chdir(before)


def everything(folder: Path) -> dict[str, Any]:
    """Every name beneath a folder: a file's bytes, a link's target, else its kind."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        name = str(path.relative_to(folder))
        if stat.S_ISREG(state.st_mode):
            found[name] = path.read_bytes()
        else:
            found[name] = str(path.readlink()) if path.is_symlink() else stat.S_IFMT(state.st_mode)
    return found


NEVER = [
    ("../outside/f", "bad_path"),
    ("folder/../../outside/f", "bad_path"),
    ("/etc/hostname", "bad_path"),
    ("~/f", "bad_path"),
    ("~root/f", "bad_path"),
    ("folder//f", "bad_path"),
    ("./folder/f", "bad_path"),
    ("folder/f\0", "bad_path"),
    ("folder\\f", "bad_path"),
    ("", "bad_path"),
    ("x" * 1025, "bad_path"),
    ("folder/" + "x" * 256, "bad_path"),
    ("folder/\udcff", "bad_path"),
    (".madflow/ledger.db", "protected"),
    ("folder/.MadFlow/x", "protected"),
    (".git/config", "protected"),
    (".GIT/config", "protected"),
    (".git./config", "protected"),
    (".git /config", "protected"),
    (".g\u200cit/config", "protected"),
    ("git~1/config", "protected"),
    (".git::$INDEX_ALLOCATION/config", "protected"),
    ("folder/.git/hooks/pre-commit", "protected"),
    (".git", "protected"),
    ("policy.toml", "protected"),
    ("Policy.TOML", "protected"),
    ("state/ledger.db-wal", "protected"),
    ("link/f", "symlink"),
    ("inner/f", "symlink"),
    ("link", "symlink"),
    ("folder/final", "symlink"),
    ("folder/dangling", "symlink"),
    ("pipe", "not_a_file"),
    ("socket", "not_a_file"),
    ("folder", "not_a_file"),
    ("pipe/x", "not_a_folder"),
    ("folder/f/x", "not_a_folder"),
]
PROTECTED = frozenset({"policy.toml", "state"})


@pytest.mark.parametrize(("path", "code"), NEVER, ids=[ascii(path)[:40] for path, _ in NEVER])
def test_what_is_no_steps_is_refused(path: str, code: str, root: Path) -> None:
    """Catches a path that leaves the root, follows a link, waits for a pipe, or reaches ledger, git or policy."""
    before = everything(root.parent)
    for call in (
        lambda: read_file(root, path, protected=PROTECTED),
        lambda: replace_file(root, path, b"x", token="t", protected=PROTECTED),
        lambda: remove_file(root, path, protected=PROTECTED),
    ):
        with pytest.raises(EffectError) as caught:
            call()
        assert (caught.value.code, caught.value.applied) == (code, False), caught.value
    found = inspect(root, path, protected=PROTECTED)
    assert found.problem
    assert (found.exists, found.sha256, found.size) == (False, None, 0)
    assert everything(root.parent) == before


def test_what_is_a_steps_is_done(root: Path) -> None:
    """Catches a refusal of everything: the same calls on paths that are beneath the root."""
    assert read_file(root, "folder/f") == b"inside\n"
    assert inspect(root, "folder/f") == ("", True, sha(b"inside\n"), 7)
    assert inspect(root, "new/f") == ("", False, None, 0)
    assert inspect(root, "folder", folder=True).exists
    assert not inspect(root, "nowhere", folder=True).exists
    assert inspect(root, "link", folder=True).problem
    assert "a device" in inspect(Path("/dev"), "null").problem
    replace_file(root, "new/deep/f", b"x", 0o600, token="t")
    assert (root / "new" / "deep" / "f").read_bytes() == b"x"
    assert (root / "new" / "deep" / "f").stat().st_mode & 0o777 == 0o600
    replace_file(root, "folder/f", b"changed", token="t")
    assert read_file(root, "folder/f") == b"changed"
    for harmless in (".github/workflows/f", ".gitignore", "git", "madflow/x", "policy.toml.md", "..f", "f..", "a~b"):
        replace_file(root, harmless, b"x", token="t", protected=PROTECTED)
        assert remove_file(root, harmless, protected=PROTECTED)
    assert remove_file(root, "folder/f") and not remove_file(root, "folder/f")
    with open_dir(root, ["a", "b"], create=True) as made:
        assert made is not None
    assert (root / "a" / "b").is_dir()


def test_sizes_are_bounded(root: Path) -> None:
    """Catches a file that is read or written without end."""
    (root / "big").write_bytes(b"")
    os.truncate(root / "big", 1 << 40)
    with pytest.raises(EffectError, match="1099511627776 bytes, the limit is 8388608"):
        read_file(root, "big")
    with pytest.raises(EffectError, match="would have 8388609 bytes"):
        replace_file(root, "f", b"x" * (8 * 1024 * 1024 + 1), token="t")
    assert not (root / "f").exists()


def test_the_other_names_of_a_file_keep_the_old_content(root: Path) -> None:
    """Catches a write in place, which reaches a hard link outside of the root."""
    os.link(root.parent / "outside" / "f", root / "hard")
    replace_file(root, "hard", b"new", token="t")
    assert (root.parent / "outside" / "f").read_text() == "outside\n"
    assert (root / "hard").read_bytes() == b"new"


def test_the_owner_stays(root: Path) -> None:
    """Catches a replacement that changes hands; only root can make such a file here, and so only root tests it."""
    if os.geteuid() == 0:
        os.chown(root / "folder" / "f", 1234, 5678)
        replace_file(root, "folder/f", b"new", token="t")
        state = (root / "folder" / "f").stat()
        assert (state.st_uid, state.st_gid) == (1234, 5678)


def test_no_descriptor_is_left_open(root: Path) -> None:
    """Catches a leak on the ways that end early."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(20):
        for path in ("folder/f", "link/f", "folder/final", "pipe", "new/x/y", "folder/f/x", "../f"):
            inspect(root, path)
            inspect(root, path, folder=True)
            with suppress(EffectError):
                replace_file(root, path, b"x", token="t")
    assert count() == before


def test_what_changes_at_the_last_moment_is_noticed(root: Path) -> None:
    """Catches a rename over somebody else's file, or into a folder that has left the tree."""
    with open_place(root, "folder/f") as place:
        seen = place.read()
        with pytest.raises(EffectError) as caught:
            place.replace(b"ours", token="t", seen=seen, proceed=lambda: _write(root / "folder" / "f", "theirs"))
        assert (caught.value.code, caught.value.applied) == ("conflict", False)
        with pytest.raises(EffectError) as caught:
            place.remove(seen=seen, proceed=lambda: None)
        assert caught.value.code == "conflict"
        assert everything(root / "folder")["f"] == b"theirs"
        seen = place.read()
        with pytest.raises(EffectError) as caught:
            place.replace(b"ours", token="t", seen=seen, proceed=lambda: _move(root / "folder", root / "moved"))
        assert (caught.value.code, caught.value.applied) == ("moved", None)
    assert not list(root.rglob("*.tmp"))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _move(path: Path, to: Path) -> None:
    path.rename(to)


class Swapper(threading.Thread):
    """Exchanges a folder for a link to another, and back, at all paces, until it is left."""

    def __init__(self, folder: Path, outside: Path) -> None:
        super().__init__(daemon=True)
        self._folder, self._outside = folder, outside
        self._over, self._rest = threading.Event(), threading.Lock()
        self.swaps = 0

    def run(self) -> None:
        aside = self._folder.with_name("aside")
        while not self._over.is_set():
            with self._rest:
                self._folder.rename(aside)
                self._folder.symlink_to(self._outside)
                self._pause()
                self._folder.unlink()
                aside.rename(self._folder)
            self._pause()
            self.swaps += 1

    def _pause(self) -> None:
        time.sleep((0, 0.0001, 0.0005, 0.002)[self.swaps % 4])

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The folder is itself while the block runs."""
        with self._rest:
            yield

    def __enter__(self) -> "Swapper":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


async def test_a_link_swapped_in_between_leads_nowhere(tmp_path: Path) -> None:
    """Catches a path that is checked first and opened later: 300 writes, while a folder becomes a link and back."""
    root, outside, run_dir = tmp_path / "root", tmp_path / "outside", tmp_path / "run"
    (root / "a" / "b").mkdir(parents=True)
    (outside / "b").mkdir(parents=True)
    (outside / "b" / "f").write_text("outside\n")
    (root / "a" / "b" / "f").write_text("0\n")
    effect, before, codes = FileEffect(), everything(outside), []
    with Swapper(root / "a", outside) as swapper:
        for number in range(300):
            context = effect_context(root, run_dir, name=f"step-{number}")
            with swapper.resting():
                now = (root / "a" / "b" / "f").read_bytes()
                step = {"step": "write", "target": "file:a/b/f", "content": f"{number}\n", "sha256_before": sha(now)}
                facts = await effect.prepare(step, context)
            assert not isinstance(facts, Failed), facts
            result = await effect.do(step, facts, context)
            codes.append(result.code if isinstance(result, Failed) else "done")
            assert everything(outside) == before
    assert swapper.is_alive() is False
    assert swapper.swaps > 50
    assert codes.count("done") > 10
    assert set(codes) - {"done"}
    assert set(codes) <= {"done", "symlink", "not_a_folder", "conflict", "moved", "io_error"}
    with Swapper(root / "a", outside):  # the trap is real: who checks the path and then opens it, falls into it
        for _ in range(100_000):
            with suppress(OSError):
                if (root / "a" / "b" / "f").resolve().is_relative_to(root):
                    (root / "a" / "b" / "f").write_text("naive\n")
            if everything(outside) != before:
                break
    assert everything(outside) != before


def in_child(work: Callable[[], str]) -> tuple[int, str]:
    """(the signal that killed it or 0, what it returned) of `work` in a real process."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writes, work().encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as stream:
        said = stream.read().decode()
    return os.WTERMSIG(os.waitpid(child, 0)[1]), said


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Catches a file that is truncated before the new content is complete, and a temporary file left behind."""
    root, run_dir = tmp_path / "root", tmp_path / "run"
    root.mkdir()
    (root / "f").write_text("old\n")
    step = {"step": "write", "target": "file:f", "content": "x" * 100_000, "sha256_before": sha(b"old\n")}
    context = effect_context(root, run_dir)
    facts = asyncio.run(FileEffect().prepare(step, context))
    assert isinstance(facts, Mapping)

    def full() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        result = asyncio.run(FileEffect().do(step, facts, context))
        assert isinstance(result, Failed)
        (root / "f").read_text()
        return f"{result.code} {result.applied}"

    assert in_child(full) == (0, "disk_full False")
    assert everything(root) == {"f": b"old\n"}
    assert asyncio.run(FileEffect().probe(step, facts, context)) == Absent()

    def nothing_kept() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2, 2))
        result = asyncio.run(FileEffect().prepare(step, effect_context(root, tmp_path / "other")))
        assert isinstance(result, Failed)
        return f"{result.code} {result.applied}"

    assert in_child(nothing_kept) == (0, "cannot_keep False")
    assert everything(root) == {"f": b"old\n"}


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Whether `work`, in a real process, was killed before its `number`-th call that names a file."""

    def run() -> str:
        count = 0

        def watch(event: str, args: object) -> None:
            nonlocal count
            if event == "open" or event.startswith("os."):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        work()
        return "ended"

    ended, said = in_child(run)
    assert (ended, said) in ((signal.SIGKILL, ""), (0, "ended"))
    return ended == signal.SIGKILL


def test_what_a_killed_attempt_left_over_is_cleared_away(tmp_path: Path) -> None:
    """Catches a temporary file that stays in the tree although the step goes on to fail, or to be done already."""
    root, run_dir = tmp_path / "root", tmp_path / "run"
    root.mkdir()
    step = {"step": "write", "target": "file:f", "content": "new\n", "sha256_before": "absent"}
    context = effect_context(root, run_dir)
    facts = asyncio.run(FileEffect().prepare(step, context))
    assert isinstance(facts, Mapping)

    def left_over() -> str:
        with open_place(root, "f") as place:
            place.replace(b"new\n", token=context.key, seen=None, proceed=lambda: os.kill(os.getpid(), signal.SIGKILL))
        return "not killed"

    for theirs in (b"theirs\n", b"new\n"):
        with suppress(FileNotFoundError):
            (root / "f").unlink()
        assert in_child(left_over) == (signal.SIGKILL, "")
        assert len(everything(root)) == 1
        (root / "f").write_bytes(theirs)
        asyncio.run(FileEffect().do(step, facts, context))
        assert everything(root) == {"f": theirs}


REMOVAL = "--- a/d/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n"
STEPS: dict[str, tuple[dict[str, Any], bytes | None, bytes | None]] = {
    "replace": (
        {"step": "write", "target": "file:d/f", "content": "new\n", "sha256_before": sha(b"old\n")},
        b"old\n",
        b"new\n",
    ),
    "make": (
        {"step": "write", "target": "file:d/e/f", "content": "new\n", "sha256_before": "absent"},
        None,
        b"new\n",
    ),
    "remove": ({"step": "patch", "target": "file:d/f", "patch": REMOVAL}, b"old\n", None),
}


@pytest.mark.parametrize("direction", ["do", "undo"])
@pytest.mark.parametrize("name", list(STEPS))
def test_killed_anywhere_the_file_is_old_or_new(name: str, direction: Any, tmp_path: Path) -> None:
    """Catches a torn file, a probe that does not tell which it is, and something left over by the attempt before."""
    step, before, after = STEPS[name]
    wanted, expected = (after, before) if direction == "do" else (before, after)
    seen: set[type] = set()
    for number in range(1, 100):
        top = tmp_path / str(number)
        root, run_dir = top / "root", top / "run"
        root.mkdir(parents=True)
        path = root / step["target"].removeprefix("file:")
        if before is not None:
            path.parent.mkdir(parents=True)
            path.write_bytes(before)
        facts = asyncio.run(FileEffect().prepare(step, effect_context(root, run_dir)))
        assert isinstance(facts, Mapping)
        if direction == "undo":
            assert isinstance(asyncio.run(FileEffect().do(step, facts, effect_context(root, run_dir))), Done)
        context = effect_context(root, run_dir, direction=direction)
        killed = killed_at(number, lambda: asyncio.run(FileEffect().do(step, facts, context)))  # noqa: B023
        now = path.read_bytes() if path.exists() else None
        assert now in (wanted, expected)
        found = asyncio.run(FileEffect().probe(step, facts, context))
        assert isinstance(found, Done if now == wanted else Absent), found
        seen.add(type(found))
        again = asyncio.run(FileEffect().do(step, facts, context))
        assert isinstance(again, Done), again
        assert (path.read_bytes() if path.exists() else None) == wanted
        assert [path.name for path in root.rglob("*") if path.is_file()] == ([path.name] if wanted is not None else [])
        if not killed:
            break
    assert number > 3
    assert seen == {Done, Absent}
