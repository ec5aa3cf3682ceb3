"""A tree, an approved plan, and judges outside of it: what the crash sweeps of the commit layer kill and recover.

A `World` is prepared once, as a folder, and copied for each run; a run has a scope of its own, and so its own keys. Who
tells what happened is never the ledger's records:

    http, commands, own steps    a `CounterServer`, by name and by key
    files and git refs           the kernel: inotify counts what arrived under a name
    sql                          rows of a table that the step inserts into
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import apsw

from madflow.clock import SystemClock
from madflow.commit.api import Committer
from madflow.commit.facts import protected_paths
from madflow.commit.kit import default_effects
from madflow.commit.steps import Step, StepContext, registry
from madflow.core.policy import Policy, parse_policy
from madflow.ledger.sqlite import open_ledger
from madflow.panel.api import propose, vote
from madflow.ports import Effect, EffectContext, FencedLedger
from madflow.testing.counter import CounterServer, hit
from madflow.testing.faults import KillingEffect, KillingLedger, Life

IN_MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "none": ("test", "read", "get"),
    "idempotent": ("put", "keyed", "keyed_step"),
    "verifiable": ("write", "patch", "git", "probed", "sqlite", "probed_step"),
    "transactional": ("ledger_sql", "ledger_step"),
    "non_verifiable": ("post", "command", "step"),
}
UNDONE: Final[Mapping[str, str]] = {
    "put+undo": "idempotent",
    "probed+undo": "verifiable",
    "command+undo": "non_verifiable",
    "step+undo": "verifiable",
    "false": "none",
}
"""Kinds with an undo, by their class; and a command that does nothing and fails."""
CLASS_OF: Final = {kind: name for name, kinds in KINDS.items() for kind in kinds} | UNDONE
FILES: Final = ("write", "patch", "git")
_TELLING: Final = ("idempotent", "verifiable", "transactional")
TIMEOUT_MS: Final = (20_000, 2_000)  # the second in the ledger's own transaction, where a policy gives no more
LATER_MS: Final = 60_000
ARRIVED_S: Final = 0.2


class Later(SystemClock):
    """A minute later by the wall: what was on its way when its submitter died has arrived."""

    def now_ms(self) -> int:
        return super().now_ms() + LATER_MS


class Hurried:
    """Requests of which it is known that they arrive at once: who waits for those of a dead process waits less."""

    def __init__(self, inner: Effect) -> None:
        self.prepare, self.do, self.probe, self._inner = inner.prepare, inner.do, inner.probe, inner

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        return await self._inner.settled(step, replace(ctx, timeout_s=min(ctx.timeout_s, ARRIVED_S)))


@dataclass(frozen=True, slots=True)
class Point:
    """Where a life ends: at the `nth` ledger write, or call of an effect's method; before, midway or after."""

    where: str
    side: str
    nth: int
    delay_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.side} {self.where} {self.nth}"


@dataclass(slots=True)
class Planned:
    """One step of a plan: its kind, and what its judge knows it by."""

    kind: str
    name: str
    data: dict[str, Any]

    @property
    def place(self) -> str:
        """The file whose arrivals are counted."""
        return ".git/refs/heads/main" if self.kind == "git" else f"out/{self.name}.txt"


class Watch:
    """What arrived in folders, by inotify(7): a rename onto a name, or a link, or a new file."""

    def __init__(self, root: Path, folders: list[str]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, str] = {}
        self._seen = Counter[str]()
        for folder in folders:
            number = libc.inotify_add_watch(self._file, os.fsencode(root / folder), 0x80 | 0x100)  # MOVED_TO, CREATE
            assert number > 0, os.strerror(ctypes.get_errno())
            self._folders[number] = folder

    def arrived(self) -> Counter[str]:
        """How often each name arrived."""
        while True:
            try:
                data = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return self._seen
            at = 0
            while at < len(data):
                number, _, _, size = struct.unpack_from("iIII", data, at)
                name = data[at + 16 : at + 16 + size].rstrip(b"\0").decode()
                self._seen[f"{self._folders[number]}/{name}"] += 1
                at += 16 + size

    def close(self) -> None:
        os.close(self._file)


class World:
    """A plan around a step of one class, as the seed has it, and perhaps a second plan beside it.

    Attributes:
        plans: by proposal id. target: the index of the step of the class in the first plan.

    Args:
        kinds: the one plan, instead of what the seed has.
    """

    def __init__(
        self, folder: Path, server: CounterServer, kind: str, seed: int, kinds: Sequence[str] | None = None
    ) -> None:
        self.folder, self.server, self.kind, self.seed = folder, server, kind, seed
        self.random = random.Random(f"{kind}/{seed}")
        self.steps, self.policy = tuple(_own_steps(server.address)), _policy(server.address)
        if kinds is not None:
            self.target = kinds.index(kind)
            self.plans = {"p1": [self._planned(kind, f"{at}-{seed}") for at, kind in enumerate(kinds)]}
            return
        names = [name for known, own in KINDS.items() for name in own if known in _TELLING or seed % 4 == 0]
        before, after = self.random.choice([(0, 0), (0, 1), (1, 0), (1, 1)])
        kinds = [*self.random.choices(names, k=before), kind, *self.random.choices(names, k=after)]
        self.target = before
        self.plans = {"p1": [self._planned(kind, f"{kind}-{seed}-{at}") for at, kind in enumerate(kinds)]}
        if seed % 3 == 2:
            beside = self.random.choices(names, k=self.random.choice([1, 2]))
            self.plans["p2"] = [self._planned(kind, f"{kind}-{seed}-beside-{at}") for at, kind in enumerate(beside)]

    @property
    def planned(self) -> list[Planned]:
        """All steps of all plans."""
        return [step for plan in self.plans.values() for step in plan]

    def prepare(self) -> None:
        """Make the folder that is copied for each run: the tree, and a ledger in which all plans are approved."""
        for part in ("in", "out", "data", ".madflow"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "in/fixed.txt").write_text("fixed\n")
        for step in self.planned:
            if step.kind == "patch":
                (self.folder / step.place).write_text("old\n")
            elif step.kind == "git":
                (self.folder / f"in/{step.name}.txt").write_text("to be committed\n")
        if any(step.kind == "git" for step in self.planned):
            _make_repository(self.folder)
        if any(step.kind == "sqlite" for step in self.planned):
            _make_table(self.folder / "data/app.db")
        asyncio.run(self._propose())
        if any(step.kind.startswith("ledger") for step in self.planned):
            _make_table(self.folder / ".madflow/ledger.db")

    async def _propose(self) -> None:
        ledger = open_ledger(self.folder / ".madflow/ledger.db")
        try:
            for name, plan in self.plans.items():
                steps = [{**step.data, "timeout_ms": TIMEOUT_MS[step.kind.startswith("ledger")]} for step in plan]
                await propose(ledger, steps, panel=["a"], proposer="dev", root=self.folder, proposal_id=name)
                await vote(ledger, name, agent="a", decision="approve")
        finally:
            ledger.close()

    def _planned(self, kind: str, name: str) -> Planned:
        server, file = self.server, f"file:out/{name}.txt"
        local = server.url("").replace("127.0.0.1", "localhost")
        made: dict[str, dict[str, Any]] = {
            "test": {"step": "test", "cmd": ["true"]},
            "read": {"step": "read", "target": "file:in/fixed.txt"},
            "get": {"step": "http", "method": "GET", "url": f"{local}/effect/always"},
            "put": {"step": "http", "method": "PUT", "url": f"{local}/effect/{name}"},
            "keyed": {"step": "http", "method": "POST", "url": f"{local}/keyed/{name}"},
            "post": {"step": "http", "method": "POST", "url": server.url(f"/effect/{name}")},
            "write": {"step": "write", "target": file, "content": f"{name}\n"},
            "patch": {"step": "patch", "target": file, "patch": _patch_of(name)},
            "git": {
                "step": "git_commit",
                "target": "git:refs/heads/main",
                "paths": [f"in/{name}.txt"],
                "message": name,
            },
            "command": {"step": "command", "cmd": server.command("POST", f"/effect/{name}")},
            "sqlite": {**_INSERT, "target": "db:app", "params": [name]},
            "ledger_sql": {**_INSERT, "target": "db:ledger", "params": [name]},
        }
        made["probed"] = {**made["command"], "probe": server.command("GET", f"/effect/{name}")}
        made["put+undo"] = {**made["put"], "undo": {"method": "DELETE", "url": made["put"]["url"]}}
        for own in ("command", "probed"):
            made[f"{own}+undo"] = {**made[own], "undo": server.command("DELETE", f"/effect/{name}")}
        made["false"] = {"step": "test", "cmd": ["false"]}
        return Planned(
            kind, name, made.get(kind) or {"step": "call", "name": kind.replace("+", "_"), "args": {"name": name}}
        )

    def committer(
        self, root: Path, scope: str, point: Point | None = None, *, later: bool = False
    ) -> tuple[Committer, FencedLedger]:
        """A committer of this process, which dies at `point`, and its ledger."""
        life, count = Life(kill=True), [0]
        inner: Any = open_ledger(root / ".madflow/ledger.db")
        protected = frozenset(protected_paths(root, inner, None))
        effects: dict[str, Effect] = default_effects(registry(self.steps), protected)
        effects["http"] = Hurried(effects["http"])
        if point is not None and point.where == "ledger":
            inner = KillingLedger(inner, **{point.side: point.nth}, life=life)  # type: ignore[arg-type]
        elif point is not None:
            own = {"at": point.where, "side": point.side, "nth": point.nth, "delay_s": point.delay_s}
            effects = {k: KillingEffect(e, **own, life=life, count=count) for k, e in effects.items()}  # type: ignore[arg-type]
        made = Committer(
            root,
            ledger=inner,
            policy=self.policy,
            steps=self.steps,
            scope=scope,
            effects=effects,
            own_process=self.seed % 2 == 0,  # a host application, too, dies without anybody's leave
            clock=Later() if later else None,
        )
        return made, inner


@dataclass(slots=True)
class Judge:
    """What happened in one run, told from outside."""

    world: World
    root: Path
    mark: int = 0
    watch: Watch | None = None
    _keys: dict[str, set[str]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget what earlier runs did under the same names."""
        address = self.world.server.address
        for step in self.world.planned:
            if step.kind.removesuffix("+undo") in ("put", "probed", "probed_step", "command", "step"):
                hit(address, "DELETE", f"/effect/{step.name}")
        hit(address, "PUT", "/effect/always")
        self.mark = len(self.world.server.received())
        folders = ["out", *([".git/refs/heads"] if (self.root / ".git").is_dir() else [])]
        self.watch = Watch(self.root, folders)

    def outside(self) -> Counter[str]:
        """How often each step happened, by its name, as the server and the tables tell."""
        found = Counter[str]()
        for line in self.world.server.received()[self.mark :]:
            if line["counted"] and line["method"] != "DELETE":
                found[line["name"]] += 1
                self._keys.setdefault(line["name"], set()).add(line["key"])
        kinds = {step.kind for step in self.world.planned}
        if "sqlite" in kinds:
            found.update(_rows(self.root / "data/app.db"))
        if kinds & {"ledger_sql", "ledger_step"}:
            found.update(_rows(self.root / ".madflow/ledger.db"))
        return found

    def undone(self) -> list[str]:
        """What was taken back, in that order; each as often as it was."""
        lines = self.world.server.received()[self.mark :]
        return [line["name"] for line in lines if line["counted"] and line["method"] == "DELETE"]

    def count(self, step: Planned, outside: Counter[str]) -> int:
        """How often one step happened; git steps share a ref, and so a count."""
        if step.kind in FILES:
            assert self.watch is not None
            return self.watch.arrived()[step.place]
        return outside[step.name]

    def keys(self, step: Planned) -> set[str]:
        """The idempotency keys under which it arrived."""
        return self._keys.get(step.name, set())


def forked(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked child, as JSON; None if the child was killed. Raises what it raised, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(60)
        try:
            said = {"ok": work()}
        except BaseException as error:
            said = {"error": "".join(traceback.format_exception(error))}
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(status)}"
        return None
    found = json.loads(text)
    if "error" in found:
        raise AssertionError(found["error"])
    return found["ok"]


def copied(world: World, root: Path) -> Judge:
    """A copy of the world's folder at `root`, and its judge."""
    shutil.copytree(world.folder, root, symlinks=True)
    judge = Judge(world, root)
    judge.begin()
    return judge


_INSERT: Final = {"step": "sql", "statement": "INSERT INTO hits VALUES (?)"}


def _patch_of(name: str) -> str:
    return f"--- a/out/{name}.txt\n+++ b/out/{name}.txt\n@@ -1 +1 @@\n-old\n+new\n"


def _policy(address: str) -> Policy:
    port = address.rpartition(":")[2]
    everything = [
        {"step": ["read", "write", "patch", "git_commit"], "paths": ["**"], "refs": ["refs/heads/*"]},
        {"step": ["command", "test"], "commands": ["python3", "true", "false"]},
        {"step": ["http"], "hosts": [address, f"localhost:{port}"]},
        {"step": ["sql"], "databases": ["ledger", "app"]},
        {"step": ["call"], "names": [kind.replace("+", "_") for kind in CLASS_OF]},
    ]
    http = {"idempotent_hosts": [f"localhost:{port}"]}
    return parse_policy({"allow": everything, "http": http, "databases": {"app": "data/app.db"}})


def _own_steps(address: str) -> list[Step]:
    def send(method: str, kind: str) -> Callable[[Mapping[str, Any], StepContext], None]:
        def do(args: Mapping[str, Any], ctx: StepContext) -> None:
            status = hit(address, method, f"/{kind}/{args['name']}", ctx.key)
            assert 200 <= status < 300, status

        return do

    def insert(args: Mapping[str, Any], ctx: StepContext) -> None:
        assert ctx.execute is not None
        ctx.execute("INSERT INTO hits VALUES (?)", [args["name"]])

    def there(args: Mapping[str, Any], ctx: StepContext) -> bool:
        return hit(address, "GET", f"/effect/{args['name']}") == 200

    own = {"nothing_to_undo": True}
    return [
        Step(name="keyed_step", do=send("POST", "keyed"), effect_class="idempotent", **own),  # type: ignore[arg-type]
        Step(name="probed_step", do=send("POST", "effect"), probe=there, effect_class="verifiable"),
        Step(name="ledger_step", do=insert, effect_class="transactional"),
        Step(name="step", do=send("POST", "effect")),
        Step(
            name="step_undo",
            do=send("POST", "effect"),
            undo=send("DELETE", "effect"),
            probe=there,
            effect_class="verifiable",
        ),
    ]


def _make_repository(root: Path) -> None:
    def git(*args: str) -> None:
        own = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.templateDir=")
        env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(root)}
        subprocess.run(["git", *own, *args], cwd=root, check=True, capture_output=True, env=env)

    git("init", "-q", "-b", "main")
    git("add", "in/fixed.txt")
    git("commit", "-q", "-m", "first")


def _make_table(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE hits (name TEXT)")
    connection.close()


def _rows(path: Path) -> dict[str, int]:
    connection = apsw.Connection(str(path))
    try:
        return dict(connection.execute("SELECT name, count(*) FROM hits GROUP BY name").fetchall())
    finally:
        connection.close()
