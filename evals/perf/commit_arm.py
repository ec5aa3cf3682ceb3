"""The commit layer's arms, each in a process of its own: jobs come in on stdin as JSON, measurements go out on stdout.

    append     loops that write record after record, each on the disk before the next, in turn; then many at once
    commit     whole commits of a plan of three steps, each beside as many bare syncs as it makes
    failover   two `madflow worker` processes; the leader is killed or stopped in its third step, the other goes on

Everything lies in the folder that the arm is given, so on one file system. All times in seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from madflow.clock import SystemClock
from madflow.commit.api import Committer
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, vote
from madflow.ports import Appended, Entry, Event
from madflow.testing.disk import FaultyDisk

Job = Mapping[str, Any]
Result = dict[str, Any]

POLICY = """
[[allow]]
step = ["write", "patch"]
paths = ["out/**"]
[[allow]]
step = ["sql"]
databases = ["ledger"]
[[allow]]
step = ["test"]
commands = ["true", "sh"]
"""
OLD, PATCHED = "old\n", "out/patched.txt"
PATCH = f"--- a/{PATCHED}\n+++ b/{PATCHED}\n@@ -1 +1 @@\n-old\n+new\n"
HANGS_ONCE = "test -e went || { touch went; exec sleep 60; }"
THIRD: Mapping[str, Mapping[str, Any]] = {
    "test": {"step": "test", "cmd": ["true"]},
    "sql": {"step": "sql", "target": "db:ledger", "statement": "INSERT INTO bench VALUES (1)"},
    "hangs": {"step": "test", "cmd": ["sh", "-c", HANGS_ONCE]},
}
WAIT_S = 60.0


class Loops:
    """Loops over records of one size, each durable before the next is begun.

    The bare loops write what a log of lines would hold: the record's line of an export. `bare` appends to a file, which
    grows, so that its length is synced too. `overwrite` goes through a file that has its length already: the least that
    a sync can cost, and a log that is known in advance.
    """

    def __init__(self, folder: Path) -> None:
        self.ledger = open_ledger(folder / "append.db")
        self.ledger.seal_now("bench", 1, Event("term_sealed", {"term": 1}))
        self._numbers = count()
        (self._tip,) = self.ledger.record_now("plain", [self.entry().event], after=0)
        self.line = [*self.ledger.export_lines()][-2].encode() + b"\n"
        self._bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._overwrite = os.open(folder / "overwritten", os.O_WRONLY | os.O_CREAT)
        os.write(self._overwrite, b"\0" * (4 << 20))
        os.fsync(self._overwrite)
        self._at = 0

    def entry(self) -> Entry:
        """An outcome as the submitter records it, under a slot of its own."""
        number = next(self._numbers)
        key = sha256(str(number).encode()).hexdigest()
        payload = {
            "term": 1,
            "commit_id": key[:32],
            "proposal_id": "p-20260101-000000-0a1b2c",
            "proposal_digest": key,
            "task_id": "bench",
            "agent_id": "host-12345-a1b2",
            "role": "submitter",
            "node": "host-12345-a1b2",
            "step_index": number % 3,
            "direction": "do",
            "idempotency_key": key,
            "resource_targets": ["file:out/some/file.txt"],
            "attempt": 1,
            "result": {"sha256": key, "bytes": 1234, "status": "done"},
            "error_code": None,
            "latency_ms": 3,
        }
        return Entry(Event("outcome", payload), f"{key}/terminal")

    async def bare(self, times: int) -> None:
        for _ in range(times):
            os.write(self._bare, self.line)
            os.fdatasync(self._bare)

    async def overwrite(self, times: int) -> None:
        for _ in range(times):
            self._at = (self._at + len(self.line)) % (4 << 20) if self._at + 2 * len(self.line) < 4 << 20 else 0
            os.pwrite(self._overwrite, self.line, self._at)
            os.fdatasync(self._overwrite)

    async def append_now(self, times: int) -> None:
        for _ in range(times):
            _appended(self.ledger.append_now("bench", 1, [self.entry()]))

    async def append(self, times: int) -> None:
        for _ in range(times):
            _appended(await self.ledger.append("bench", 1, [self.entry()]))

    async def record(self, times: int) -> None:
        for _ in range(times):
            (self._tip,) = await self.ledger.record("plain", [self.entry().event], after=self._tip.place)

    async def group(self, times: int) -> None:
        """All asked for at once, each in an append of its own."""
        asked = [self.ledger.append("bench", 1, [self.entry()]) for _ in range(times)]
        for answer in await asyncio.gather(*asked):
            _appended(answer)

    def close(self) -> None:
        os.close(self._bare)
        os.close(self._overwrite)
        self.ledger.close()


def _appended(answer: Any) -> None:
    if not isinstance(answer, Appended):
        raise SystemExit(f"not the append that was to be measured: {answer!r}")


async def append(folder: Path, job: Job) -> Result:
    """Records per second of every loop, by pair; the loops take turns, forwards and backwards."""
    loops = Loops(folder)
    names = ("bare", "append_now", "append", "record", "overwrite", "group")
    rates: dict[str, list[float]] = {name: [] for name in names}
    try:
        for pair in range(-1, job["pairs"]):
            for name in names if pair % 2 else reversed(names):
                times = job["group"] if name == "group" else job["appends"]
                began = time.perf_counter()
                await getattr(loops, name)(times)
                if pair >= 0:  # the one before is the warm-up
                    rates[name].append(times / (time.perf_counter() - began))
    finally:
        loops.close()
    return {"rates": rates, "record_bytes": len(loops.line)}


def make_root(root: Path) -> None:
    (root / "out").mkdir(parents=True)
    (root / "policy.toml").write_text(POLICY)
    (root / PATCHED).write_text(OLD)


async def approve(root: Path, ledger: Any, third: str, number: int) -> str:
    """A plan of three steps, write, patch and a third, proposed and approved; its id."""
    steps = [
        {"step": "write", "target": f"file:out/{number}.txt", "content": f"{number}\n"},
        {"step": "patch", "target": f"file:{PATCHED}", "patch": PATCH},
        THIRD[third],
    ]
    name = await propose(ledger, steps, proposer="bench", panel=["a"], root=root)
    await vote(ledger, name, agent="a", decision="approve")
    return str(name)


async def make_table(ledger: Any) -> None:
    """The app's own table, beside the ledger's."""

    def work(execute: Any) -> Event:
        execute("CREATE TABLE bench (number INTEGER)", [])
        return Event("made", {})

    ledger.seal_now("tables", 1, Event("term_sealed", {"term": 1}))
    _appended(await ledger.transact("tables", 1, "bench", work, timeout_s=10))


@contextmanager
def counted_syncs() -> Iterator[list[str]]:
    """What Python syncs while the block runs: what the effects do. SQLite's syncs are its own."""
    done: list[str] = []
    kept = os.fsync

    def fsync(descriptor: int) -> None:
        done.append("fsync")
        kept(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield done
    finally:
        os.fsync = kept


async def commits(root: Path, ledger: Any, third: str, times: int, beside: Callable[[], None]) -> Result:
    """Wall and CPU of `times` commits, one after the other; `beside` is timed before each."""
    if third == "sql":
        await make_table(ledger)
    committer, walls, cpus, besides = Committer(root, ledger=ledger), [], [], []
    for number in range(times):
        (root / PATCHED).write_text(OLD)
        name = await approve(root, ledger, third, number)
        began = time.perf_counter()
        beside()
        besides.append(time.perf_counter() - began)
        began, cpu = time.perf_counter(), time.process_time()
        receipt = await committer.commit(name)
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - began)
        if not receipt.committed:
            raise SystemExit(f"not the commit that was to be measured: {receipt!r}")
    return {"walls_s": walls, "cpu_s": cpus, "bare_s": besides}


async def syncs(root: Path, third: str) -> tuple[int, int]:
    """How often one commit syncs the ledger, and how often its effects sync files and folders."""
    disk, marks = FaultyDisk("counting"), [0, 0]  # a disk that works, and counts
    (root / ".madflow").mkdir()
    with counted_syncs() as by_effects:

        def mark() -> None:
            marks[:] = [len(disk.done), len(by_effects)]

        with SqliteLedger(root / ".madflow/ledger.db", clock=SystemClock(), vfs=disk.name) as ledger:
            await commits(root, ledger, third, 2, mark)  # the first makes folders, too
            by_ledger = sum(what == "sync" for what, _ in disk.done[marks[0] :])
            by_steps = len(by_effects) - marks[1]
    disk.unregister()
    return by_ledger, by_steps


async def commit(folder: Path, job: Job) -> Result:
    """Commits of one kind of plan: first one whose syncs are counted, then those that are timed."""
    for name in ("counted", "timed"):
        make_root(folder / name)
    by_ledger, by_steps = await syncs(folder / "counted", job["third"])
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def beside() -> None:
        for _ in range(by_ledger + by_steps):
            os.write(bare, b"x" * job["record_bytes"])
            os.fdatasync(bare)

    with open_ledger(folder / "timed/.madflow/ledger.db") as ledger:
        found = await commits(folder / "timed", ledger, job["third"], job["warm_up"] + job["commits"], beside)
    os.close(bare)
    measured = {name: values[job["warm_up"] :] for name, values in found.items()}
    return {**measured, "ledger_syncs": by_ledger, "effect_syncs": by_steps}


class Node:
    """A `madflow worker` with its root's ledger; it says on stderr whether it leads or waits."""

    def __init__(self, root: Path, name: str, lease_s: float) -> None:
        command = [sys.executable, "-m", "madflow", "worker", "--root", str(root), "--node", name]
        self.process = subprocess.Popen([*command, "--lease", str(lease_s)], stderr=subprocess.PIPE, text=True)

    def hear(self, words: str) -> None:
        """Read until it says `words`."""
        assert self.process.stderr is not None
        for said in self.process.stderr:
            if words in said:
                return
        raise SystemExit(f"a worker ended with {self.process.wait()} and never said {words!r}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


async def failover(folder: Path, job: Job) -> Result:
    """For each run: from the signal to the next node's seal, and to the end of the commit."""
    sealed, committed = [], []
    for run in range(job["runs"]):
        root = folder / f"run-{run}"
        make_root(root)
        with open_ledger(root / ".madflow/ledger.db") as ledger:
            await approve(root, ledger, "hangs", run)
            first = Node(root, "first", job["lease_s"])
            second: Node | None = None
            try:
                first.hear("leading")
                second = Node(root, "second", job["lease_s"])
                second.hear("waiting")
                await _until((root / "went").exists, "the third step never began")
                signalled_ms = time.time_ns() / 1e6
                first.process.send_signal(getattr(signal, job["signal"]))

                def found(kind: str) -> list[float]:
                    records = ledger.read("commit/root")
                    return [r.at_ms for r in records if r.kind == kind and r.payload["node"] == "second"]

                await _until(lambda: bool(found("committed")), "nobody finished the commit")
            finally:
                for node in (first, second):
                    if node is not None:
                        node.end()
            sealed.append((found("term_sealed")[0] - signalled_ms) / 1000)
            committed.append((found("committed")[0] - signalled_ms) / 1000)
    return {"sealed_s": sealed, "committed_s": committed}


async def _until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{otherwise} within {WAIT_S:g} s")
        await asyncio.sleep(0.02)


ARMS = {"append": append, "commit": commit, "failover": failover}


async def perform(name: str, folder: Path, jobs: list[Job]) -> list[Result]:
    results = []
    for job in jobs:
        own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
        results.append(await ARMS[name](own, job))
    return results


def main() -> None:
    name, folder = sys.argv[1:]
    print(json.dumps(asyncio.run(perform(name, Path(folder), json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
