"""Committers that are told to stop, meet, are late, fail and try again; judged by a counter in another process."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madflow.clock import SystemClock
from madflow.commit.api import Committer
from madflow.commit.kit import default_effects
from madflow.commit.requests import request
from madflow.commit.steps import Step, StepContext
from madflow.core.invariants import violations
from madflow.core.journal import commit_id, slot_of
from madflow.core.plan import idempotency_key, step_digest
from madflow.core.policy import parse_policy
from madflow.core.saga import Absent
from madflow.election.local import LocalElector
from madflow.errors import CommitError, EffectError
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, vote
from madflow.ports import Appended, Entry, Event, Sealed, Term
from madflow.testing.counter import CounterServer, hit
from madflow.testing.faults import LosingEffect

STREAM = "commit/root"


class Tree:
    """A root whose policy allows own steps, some commands and requests to the judge."""

    def __init__(self, root: Path, server: CounterServer) -> None:
        self.root, self.server, self.address = root, server, server.address
        (root / "out").mkdir(parents=True)
        self.ledger: SqliteLedger = open_ledger(root / ".madflow/ledger.db")

    def policy(self, **tables: Any) -> Any:
        entries = [
            {"step": ["call"], "names": ["*"]},
            {"step": ["command", "test"], "commands": ["python3", "sleep", "false", "true"]},
            {"step": ["http"], "hosts": [self.address]},
            {"step": ["write"], "paths": ["out/**"]},
        ]
        return parse_policy({"allow": entries, "http": {"idempotent_hosts": [self.address]}, **tables})

    def committer(self, *steps: Step, **fields: Any) -> Committer:
        fields = {"policy": self.policy(), "ledger": self.ledger, **fields}
        return Committer(self.root, steps=steps, **fields)

    async def approved(self, name: str, plan: Sequence[Mapping[str, Any]]) -> str:
        await propose(self.ledger, list(plan), panel="a", proposer="dev", root=self.root, proposal_id=name)
        await vote(self.ledger, name, agent="a", decision="approve")
        return name

    def records(self, kind: str = "") -> list[Mapping[str, Any]]:
        return [r.payload for r in self.ledger.read(STREAM) if not kind or r.kind == kind]

    def order(self) -> list[str]:
        """What arrived at the judge, in its order."""
        return [line["name"] for line in self.server.received()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CounterServer]:
    with CounterServer(tmp_path_factory.mktemp("judge")) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path, server: CounterServer) -> Iterator[Tree]:
    """The judge is shared: each test has names of its own. At the end the records keep their promises."""
    made = Tree(tmp_path / "tree", server)
    yield made
    found = violations(made.ledger.read(STREAM))
    made.ledger.close()
    assert not found, found


def mark(tree: Tree, name: str = "mark", **fields: Any) -> Step:
    """A step that leaves its argument `at` with the judge, as often as it is done."""

    def do(args: Mapping[str, Any], ctx: StepContext) -> None:
        assert hit(tree.address, "POST", f"/effect/{args['at']}", ctx.key) == 201

    return Step(name=name, do=do, **{"nothing_to_undo": True, **fields})


def call(name: str, at: str, **more: Any) -> dict[str, Any]:
    return {"step": "call", "name": name, "args": {"at": at}, **more}


# --- attempts ---------------------------------------------------------------------------------------------------


async def test_a_lost_answer_is_asked_for_again_under_the_same_key_and_the_reason_is_kept(tree: Tree) -> None:
    """The server deduplicates by the key. Catches a second key for a second attempt."""
    plan = [{"step": "http", "method": "POST", "url": tree.server.url("/keyed/lost"), "undo": False}]
    await tree.approved("p", plan)
    made = tree.committer()
    made._setup = _with_effects(made, lambda inner: LosingEffect(inner, nth=1))
    receipt = await made.commit("p")
    assert (receipt.status, receipt.steps[0].attempts) == ("committed", 2)
    assert [r.get("retry_reason") for r in tree.records("started")] == [None, "connection_lost"]
    assert [r["error_code"] for r in tree.records("attempt_failed")] == ["connection_lost"]
    arrived = [line for line in tree.server.received() if line["name"] == "lost"]
    assert [line["counted"] for line in arrived] == [True, False]
    assert {line["key"] for line in arrived} == {receipt.steps[0].idempotency_key}


async def test_a_verifiable_step_whose_answer_is_lost_is_asked_after_and_not_repeated(tree: Tree) -> None:
    plan = [{"step": "write", "target": "file:out/x.txt", "content": "x\n"}]
    await tree.approved("p", plan)
    made = tree.committer()
    made._setup = _with_effects(made, lambda inner: LosingEffect(inner, nth=1))
    receipt = await made.commit("p")
    assert (receipt.status, receipt.steps[0].attempts) == ("committed", 1)
    assert (receipt.steps[0].result or {})["learnt_by"] == "probe"


async def test_attempts_are_bounded_by_the_policy_and_each_says_why(tree: Tree) -> None:
    """Three attempts reach the judge, not four; nothing is in doubt, because each says that it did nothing."""

    def do(args: Mapping[str, Any], ctx: StepContext) -> None:
        hit(tree.address, "POST", f"/effect/busy-{ctx.attempt}", ctx.key)
        raise EffectError("busy", "come back later", transient=True, applied=False)

    await tree.approved("p", [call("busy", "x")])
    busy = Step(name="busy", do=do, effect_class="idempotent")
    receipt = await tree.committer(busy, policy=tree.policy(retry={"attempts": 3})).commit("p")
    assert (receipt.status, receipt.steps[0].attempts, receipt.steps[0].error_code) == ("compensated", 3, "busy")
    assert [r.get("retry_reason") for r in tree.records("started")] == [None, "busy", "busy"]
    assert [name for name in tree.order() if name.startswith("busy-")] == ["busy-1", "busy-2", "busy-3"]


async def test_a_step_has_a_deadline_of_its_own_and_what_runs_is_ended(tree: Tree) -> None:
    """A command that nobody can ask is in doubt then; a test is tried again, up to the bound."""
    await tree.approved("p", [{"step": "command", "cmd": ["sleep", "300.25"], "timeout_ms": 200}])
    await tree.approved("q", [{"step": "test", "cmd": ["sleep", "300.5"], "timeout_ms": 200}])
    made = tree.committer(policy=tree.policy(retry={"attempts": 2}))
    first, second = await made.commit("p"), await made.commit("q")
    assert (first.status, first.steps[0].error_code, first.steps[0].attempts) == ("in_doubt", "timeout", 1)
    assert (second.status, second.steps[0].error_code, second.steps[0].attempts) == ("compensated", "timeout", 2)
    assert not _running("sleep\0300.25\0") and not _running("sleep\0300.5\0")


def _running(command_line: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if text.startswith(command_line):
            found.append(path.parent.name)
    return found


# --- what an earlier submitter left -------------------------------------------------------------------------------


class Unsettled:
    """An effect of which an earlier attempt may still be running, as long as `running`."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.running, self.calls = inner, True, list[str]()

    async def prepare(self, step: Any, ctx: Any) -> Any:
        return await self.inner.prepare(step, ctx)

    async def do(self, step: Any, facts: Any, ctx: Any) -> Any:
        self.calls.append("do")
        return await self.inner.do(step, facts, ctx)

    async def probe(self, step: Any, facts: Any, ctx: Any) -> Any:
        self.calls.append("probe")
        return Absent()

    async def settled(self, step: Any, ctx: Any) -> bool:
        self.calls.append("settled")
        return not self.running


@pytest.mark.parametrize("running", [True, False])
async def test_a_new_submitter_first_sees_to_it_that_nothing_is_running(tree: Tree, running: bool) -> None:
    """Catches a probe, or another attempt, beside what the dead one started: it answers for a moment only."""
    name = f"settled-{running}"
    key = await _left_open(tree, call("mark", name), "verifiable")
    effect: Any = None

    def wrap(inner: Any) -> Any:
        nonlocal effect
        effect = Unsettled(inner)
        effect.running = running
        return effect

    made = tree.committer(mark(tree, probe=lambda *_: False, effect_class="verifiable", nothing_to_undo=False))
    made._setup = _with_effects(made, wrap, only="call")
    (receipt,) = await made.recover()
    if running:
        assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "still_running")
        assert effect.calls == ["settled"]
        assert tree.server.counts().get(name) is None
    else:
        assert receipt.status == "committed"
        assert effect.calls == ["settled", "probe", "do"]
        assert tree.server.counts()[name] == 1
    assert receipt.steps[0].idempotency_key == key


async def test_a_key_that_another_step_took_is_refused(tree: Tree) -> None:
    """The ledger knows another step's digest under the key. Nothing happens, and who asks is told."""
    await _left_open(tree, call("mark", "other"), "non_verifiable", digest="0" * 64)
    with pytest.raises(CommitError, match="given to another step before"):
        await tree.committer(mark(tree)).commit("p")
    assert "other" not in tree.order()


async def _left_open(tree: Tree, step: Mapping[str, Any], kind: str, *, digest: str = "") -> str:
    """Approve the step as the plan of `p`, and write what a submitter leaves that died in its first attempt."""
    await tree.approved("p", [step])
    body = tree.committer(mark(tree))._setup.gatekeeper(tree.ledger).body_of("p")
    assert body is not None
    elector = LocalElector(tree.ledger, lock_dir=tree.root / ".madflow/locks", clock=SystemClock())
    term = await elector.campaign("root", "dead", ttl_s=5, timeout_s=0)
    assert isinstance(term, Term)
    sealed = await tree.ledger.seal("root", term.number, Event("term_sealed", {"term": term.number, "node": "dead"}))
    assert isinstance(sealed, Sealed)
    key = idempotency_key("root", "p", 0, "do")
    said = {
        "term": term.number,
        "commit_id": commit_id("root", "p"),
        "proposal_id": "p",
        "proposal_digest": body["digest"],
        "task_id": body["task_id"],
        "node": "dead",
        "step_index": 0,
        "direction": "do",
        "idempotency_key": key,
        "timeout_ms": 100,
    }
    intent = {**said, "attempt": 0, "step_digest": digest or step_digest(step), "effect_class": kind, "undoable": "no"}
    intent["admission"] = {"policy_digest": "", "targets": [], "steps": 1}
    drafts = [("intent", intent), ("started", {**said, "attempt": 1})]
    if digest:
        del drafts[1]
    entries = [Entry(Event(kind, body), slot_of(kind, body)) for kind, body in drafts]
    assert isinstance(await tree.ledger.append("root", term.number, entries), Appended)
    await elector.resign(term)
    return key


# --- meeting others -----------------------------------------------------------------------------------------------


def slow(tree: Tree, meets: Callable[[str], str | None] = lambda _: None) -> Step:
    """Tells the judge when it begins and when it ends; waits in between for another's begin, or a moment."""

    def do(args: Mapping[str, Any], ctx: StepContext) -> None:
        hit(tree.address, "POST", f"/effect/{args['at']}-began", ctx.key)
        other, until = meets(str(args["at"])), time.monotonic() + 5
        while other and hit(tree.address, "GET", f"/effect/{other}-began") != 200:
            assert time.monotonic() < until, "it never met the other"
            time.sleep(0.01)
        time.sleep(0.05)
        hit(tree.address, "POST", f"/effect/{args['at']}-ended", ctx.key)

    return Step(name="slow", do=do, nothing_to_undo=True)


async def test_commits_that_share_a_file_never_overlap(tree: Tree) -> None:
    """By the judge's order, over three commits under one submitter. Catches two holders of one resource."""
    names = [f"shared-{number}" for number in range(3)]
    for name in names:
        await tree.approved(name, [call("slow", name, target="file:out/x.txt"), call("slow", f"{name}-b")])
    made = tree.committer(slow(tree))
    receipts = await asyncio.gather(*(made.commit(name) for name in names))
    assert {receipt.status for receipt in receipts} == {"committed"}
    order = [name for name in tree.order() if name.startswith("shared-")]
    assert len(order) == 12
    blocks = [order[at : at + 4] for at in (0, 4, 8)]
    assert sorted(blocks) == [[f"{n}-began", f"{n}-ended", f"{n}-b-began", f"{n}-b-ended"] for n in names], order


async def test_commits_that_share_nothing_run_at_once(tree: Tree) -> None:
    """Each waits for the other's begin: one after the other would never end."""
    meets = {"free-a": "free-b", "free-b": "free-a"}
    for name in meets:
        await tree.approved(name, [call("slow", name, target=f"file:out/{name}.txt")])
    made = tree.committer(slow(tree, meets.get))
    receipts = await asyncio.gather(*(made.commit(name) for name in meets))
    assert {receipt.status for receipt in receipts} == {"committed"}


async def test_of_two_people_the_first_counts_and_the_second_learns_who(tree: Tree) -> None:
    """They speak at once, through ledgers of their own. Catches two words on one doubt."""

    def do(args: Mapping[str, Any], ctx: StepContext) -> None:
        hit(tree.address, "POST", f"/effect/{args['at']}", ctx.key)
        raise RuntimeError("nobody knows")

    await tree.approved("p", [call("torn", "two-people")])
    torn = Step(name="torn", do=do)
    receipt = await tree.committer(torn).commit("p")
    assert receipt.status == "in_doubt"
    key = receipt.steps[0].idempotency_key
    path = tree.root / ".madflow/ledger.db"
    ann, bob = await asyncio.gather(
        tree.committer(torn, ledger=path).resolve(key, "done", by="ann"),
        tree.committer(torn, ledger=path).resolve(key, "failed", by="bob"),
    )
    assert ann.applied is not bob.applied
    winner = ann if ann.applied else bob
    assert (ann.by, ann.word) == (bob.by, bob.word) == (winner.by, winner.word)
    assert winner.by == ("ann" if ann.applied else "bob")
    assert [r["agent_id"] for r in tree.records("resolved")] == [winner.by]
    end = await tree.committer(torn).commit("p")
    assert end.status == ("committed" if ann.applied else "compensated")
    assert tree.server.counts()["two-people"] == 1


async def test_of_two_words_that_wait_for_a_leader_the_first_is_applied(tree: Tree) -> None:
    """Both are in the ledger before anybody leads. Catches a leader that takes the newest, or both."""
    await _left_open(tree, call("mark", "two-words"), "non_verifiable")
    made = tree.committer(mark(tree))
    (receipt,) = await made.recover()
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "submitter_lost")
    key = receipt.steps[0].idempotency_key
    for by, word in (("ann", "done"), ("bob", "retry"), ("cid", "failed")):
        said = {"key": key, "as": word, "by": by, "note": ""}
        await request(tree.ledger, "root", Event("resolve", said), SystemClock())
    (receipt,) = await made.recover()
    assert (receipt.status, receipt.steps[0].resolved_by) == ("committed", "ann")
    assert [r["agent_id"] for r in tree.records("resolved")] == ["ann"]
    assert "two-words" not in tree.order()


@pytest.mark.parametrize(("word", "end"), [("done", "complete"), ("failed", "partial"), ("retry", "complete")])
async def test_a_compensation_that_fails_asks_a_human_whose_word_leads_on(tree: Tree, word: str, end: str) -> None:
    """The undo fails at its first attempt. What was done before it is taken back only after the human's word."""
    tried = list[str]()

    def undo(args: Mapping[str, Any], ctx: StepContext) -> None:
        tried.append(ctx.key)
        if len(tried) == 1:
            raise EffectError("refused", "not today", applied=False)

    def first_undo(args: Mapping[str, Any], ctx: StepContext) -> None:
        hit(tree.address, "DELETE", f"/effect/{args['at']}", ctx.key)

    steps = [
        mark(tree, "first", undo=first_undo, nothing_to_undo=False),
        mark(tree, "second", undo=undo, nothing_to_undo=False),
    ]
    at = f"undo-{word}"
    plan = [call("first", f"{at}-1"), call("second", f"{at}-2"), {"step": "test", "cmd": ["false"]}]
    await tree.approved("p", plan)
    made = tree.committer(*steps)
    receipt = await made.commit("p")
    doubt = next(step for step in receipt.steps if step.status == "in_doubt")
    assert (receipt.status, doubt.step_index, doubt.direction, doubt.error_code) == ("in_doubt", 1, "undo", "refused")
    assert tree.server.undone().get(f"{at}-1") is None
    receipt = (await made.resolve(doubt.idempotency_key, word, by="ann")).receipt
    receipt = await made.commit("p")
    assert (receipt.status, receipt.rollback) == ("compensated", end)
    assert tree.server.undone()[f"{at}-1"] == 1
    assert len(tried) == (2 if word == "retry" else 1)


# --- being told to stop -------------------------------------------------------------------------------------------


async def test_a_worker_that_is_terminated_finishes_what_runs_and_begins_nothing(tree: Tree) -> None:
    """A real process and SIGTERM. One commit is under way, one waits for the file that it holds: the first is
    finished, the second is left to the next worker, which does it."""
    place = str(Path(hit.__code__.co_filename).parent)
    slowly = f"import sys, time; sys.path.insert(0, {place!r}); import counter; "
    names = ("worker-a", "worker-b")
    for name in names:
        lines = "".join(
            f"counter.hit({tree.address!r}, 'POST', '/effect/{name}-{at}'); time.sleep(0.7); "
            for at in ("began", "ended")
        )
        own = {"step": "command", "cmd": ["python3", "-c", slowly + lines], "target": "file:out/x.txt", "undo": []}
        await tree.approved(
            name, [own, {"step": "command", "cmd": tree.server.command("POST", f"/effect/{name}-last")}]
        )
    (tree.root / "policy.toml").write_text('[[allow]]\nstep = ["command"]\ncommands = ["python3"]\n')
    async with _worker(tree.root) as worker:
        await _until(lambda: any(name.endswith("-began") for name in tree.order() if name.startswith("worker-")))
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 20) == 0
    first = next(name for name in tree.order() if name.startswith("worker-"))[: len("worker-a")]
    done = [name for name in tree.order() if name.startswith("worker-")]
    assert done == [f"{first}-{at}" for at in ("began", "ended", "last")]
    assert tree.committer().receipt(first).status == "committed"
    async with _worker(tree.root) as worker:
        await _until(lambda: all(tree.committer().receipt(name).status == "committed" for name in names))
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 20) == 0
    assert sum(name.startswith("worker-") for name in tree.order()) == 6


@asynccontextmanager
async def _worker(root: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "madflow", "worker", "--root", str(root), "--quiet"]
    process = await asyncio.create_subprocess_exec(*command, env=dict(os.environ))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until(said: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not said():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


def _with_effects(made: Committer, wrap: Callable[[Any], Any], only: str = "") -> Any:
    """The committer's setup with its default effects wrapped."""
    own = default_effects(made._setup.steps, frozenset())
    wrapped = {kind: wrap(effect) if not only or kind == only else effect for kind, effect in own.items()}
    return replace(made._setup, effects=wrapped)
