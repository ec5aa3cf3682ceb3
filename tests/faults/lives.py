"""One debate, lived in forked children that are killed: the harness behind test_kill_and_resume.py.

    python lives.py SHAPE CHECKPOINTS [EVERY [DEATHS]]

SHAPE is a debate of panels.py (answer, proposal) or of guided_panels.py (robust, open). The debate runs once
undisturbed, and then once for each EVERY-th fault point (every write and every model call, before and after; always
after the last write): killed there by SIGKILL, DEATHS - 1 times more at places drawn from the point, and resumed in a
new process each time.

CHECKPOINTS says what is done with LangGraph's own, in SQLite: `none` are made; all lives make them and the file is
`deleted` between two; it is `kept`, and a life begins a new run on it; or it is `taken-up`: a life goes on with the
node at which the last one died, as LangGraph resumes a run.

The provider bills the worst case when a request arrives, into a file. A debate that is killed is capped at the least
that it needs undisturbed, plus what its seats may have in flight at each death: it cannot pay twice and end the same.

Prints one JSON document with what each debate came to.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "debate"))

from guided_panels import GUIDED, guided_reply, learned, make_guided
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from panels import IN_MEMORY, ListLedger, make_debate, reply, warm_up

from madflow.core.limits import Limits
from madflow.core.policies import Reliabilities
from madflow.debate.graph import DebateContext, build_debate_graph
from madflow.debate.run import open_session, replay, run
from madflow.debate.setup import Debate
from madflow.debate.usage import usage_report
from madflow.errors import BudgetTooSmall, TransientModelError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import ModelReply, ModelRequest
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Bill, GreedyModel, KillingLedger, KillingModel, Life

POINTS = [(where, side) for where in ("ledger", "model") for side in ("before", "after")]
CHECKPOINTS = ("none", "deleted", "kept", "taken-up")
IN_FLIGHT = {"answer": 3, "proposal": 3, "robust": 2, "open": 2}  # most calls at once; a guided round comes in parts
LIVES_THAT_FAIL = 2
PRICE_NANOS = 150
AMPLE = Limits(tokens=10_000_000, calls=1_000, usd_nanos=10**12)

Point = tuple[str, str, int]
NOWHERE: Point = ("", "", 0)


class Logged:
    """A client that appends each request's call id to a file outside of the debate, and bills it.

    Seat b's call fails once in each of the first two processes, which leaves a third one the attempt that must do; seat
    c's reply is garbled, and comes right when it is asked to repair it.
    """

    name = "scripted"

    def __init__(self, inner: GreedyModel, path: Path) -> None:
        self.inner, self.path = inner, path
        self.fails = not path.exists() or len(log_of(path.parent)) <= LIVES_THAT_FAIL
        self.tries = Counter[str]()

    def quote(self, request: ModelRequest) -> Any:
        return self.inner.quote(request)

    async def complete(self, request: ModelRequest) -> ModelReply:
        with self.path.open("a") as file:
            file.write(json.dumps({"call": request.call_id}) + "\n")
        self.tries[request.call_id] += 1
        for _ in range(len(request.call_id) % 4):
            await asyncio.sleep(0)
        parts = request.call_id.split("/")
        if self.fails and parts[2] == "b" and self.tries[request.call_id] == 1 and parts[1] in ("discuss", "concern"):
            raise TransientModelError("server_error", "once", status=500)
        answer = await self.inner.complete(request)
        if parts[2] == "c" and parts[-1] != "repair" and parts[1] in ("discuss", "ballot"):
            return ModelReply("I would rather not say", answer.usage, model=self.name)
        return answer


@dataclass(frozen=True, slots=True)
class Sweep:
    """The debate that is killed, and how."""

    shape: str
    checkpoints: str
    known: Reliabilities
    caps: Limits = AMPLE

    def debate(self, model: Any, ledger: Any) -> Debate:
        if self.shape in GUIDED:
            return make_guided(self.shape, model, ledger, self.known, budget=self.caps)
        return make_debate(self.shape, model, ledger, budget=self.caps)

    def model(self, folder: Path) -> GreedyModel:
        replies = guided_reply if self.shape in GUIDED else reply
        return GreedyModel(replies, Bill(folder / "bill"), price_nanos=PRICE_NANOS)

    async def live(self, folder: Path, point: Point) -> dict[str, Any]:
        """One process's part of the debate. Returns its outcome and how many fault points it passed."""
        where, side, at = point
        life = Life(kill=True)
        clock = ManualClock()
        inner = open_ledger(folder / "ledger.db", clock=clock)
        recorded = [
            record.payload["entry"]["key"].rpartition("#")[0]
            for record in inner.read("debate/d1")
            if _answered_by(record)
        ]
        with (folder / "log").open("a") as file:
            file.write(json.dumps({"recorded": recorded}) + "\n")
        ledger = KillingLedger(inner, **({side: at} if where == "ledger" else {}), life=life)
        logged = Logged(self.model(folder), folder / "log")
        model = KillingModel(logged, **({side: at} if where == "model" else {}), life=life)
        try:
            if self.checkpoints == "none":
                proposal = await run(self.debate(model, ledger), clock=clock)
                found, used = proposal.digest, proposal.usage  # type: ignore[union-attr]
            else:
                found, used = await self._by_graph(self.debate(model, ledger), ledger, clock, folder)
            same = found == replay(inner, "d1").digest and inner.verify() > 0
        finally:
            inner.close()
        return {"digest": found, "replayed": same, "writes": ledger.writes, "calls": model.count[0], "used": used}

    async def _by_graph(
        self, debate: Debate, ledger: KillingLedger, clock: ManualClock, folder: Path
    ) -> tuple[str, Mapping[str, Any]]:
        session = await open_session(debate, ledger, debate_id="d1", clock=clock)
        async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
            graph = build_debate_graph(checkpointer=saver)
            config = {"configurable": {"thread_id": "d1"}}
            begun = self.checkpoints == "taken-up" and await saver.aget_tuple(config) is not None
            done = await graph.ainvoke(
                None if begun else {"debate_id": "d1"}, config, context=DebateContext(session), durability="sync"
            )
        return done["digest"], usage_report(session.stream)


def _answered_by(record: Any) -> bool:
    """Whether a record says that a provider's reply has arrived, whatever it was worth."""
    return record.kind == "settled" and record.payload.get("status") == "ok"


def forked(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What `work` returns in a forked child; None if the child was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            found = {"ok": work()}
        except BaseException as error:
            found = {"error": "".join(traceback.format_exception(error))}
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    found = json.loads(text)
    if "error" in found:
        raise AssertionError(found["error"])
    return dict(found["ok"])


def lived(sweep: Sweep, folder: Path, point: Point) -> dict[str, Any] | None:
    return forked(lambda: asyncio.run(sweep.live(folder, point)))


def log_of(folder: Path) -> list[dict[str, list[str]]]:
    """Of each life, in order: whose replies it found in the ledger, and the calls that it made."""
    lives: list[dict[str, list[str]]] = []
    for line in (folder / "log").read_text().splitlines():
        entry = json.loads(line)
        if "recorded" in entry:
            lives.append({"recorded": entry["recorded"], "calls": []})
        else:
            lives[-1]["calls"].append(entry["call"])
    return lives


def billed(folder: Path) -> dict[str, int]:
    """What the provider has billed."""
    charges = Bill(folder / "bill").charges
    return {
        "tokens": sum(charge.tokens for charge in charges),
        "calls": len(charges),
        "usd_nanos": sum(charge.usd_nanos for charge in charges),
    }


def caps_for(sweep: Sweep, folder: Path, deaths: int) -> Limits:
    """The least under which the undisturbed debate ends as it does with plenty, and for each death what may be lost:
    the calls in flight, and seat b's failure, each at the worst."""

    def ended(caps: Limits) -> str:
        room = Path(tempfile.mkdtemp(dir=folder))
        held = replace(sweep, caps=caps)
        try:
            outcome = asyncio.run(
                run(held.debate(Logged(sweep.model(room), room / "log"), ListLedger()), clock=ManualClock())
            )
        except BudgetTooSmall:
            return ""
        most.update(charge.tokens for charge in Bill(room / "bill").charges)
        return outcome.digest  # type: ignore[union-attr]

    def least(limits: Callable[[int], Limits], high: int) -> int:
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if ended(limits(middle)) == whole else (middle, high)
        return high

    most: set[int] = set()
    whole = ended(AMPLE)
    calls = least(lambda n: AMPLE.model_copy(update={"calls": n}), 100)
    tokens = least(lambda n: AMPLE.model_copy(update={"tokens": n}), 100_000)
    lost = deaths * (IN_FLIGHT[sweep.shape] + 1)
    tokens += lost * max(most)
    return Limits(tokens=tokens, calls=calls + lost, usd_nanos=tokens * PRICE_NANOS)


def killed_at(sweep: Sweep, folder: Path, points: list[Point]) -> dict[str, Any] | None:
    """The debate that is killed at these places, one life each, and then left alone.

    None where the first life needed fewer writes than the undisturbed one, because answers met in one write.
    """
    died: list[str] = []
    for number, point in enumerate([*points, NOWHERE]):
        last = lived(sweep, folder, point)
        where, side, at = point
        if last is None:
            died.append(f"{side} {where} {at}")
            if sweep.checkpoints == "deleted":
                for file in folder.glob("checkpoints.db*"):
                    file.unlink()
        elif number == 0:
            assert where == "ledger" and last["writes"] < at, f"not killed {side} {where} {at}"
            return None
        else:
            break
    assert last is not None
    return {
        "point": ", then ".join(died),
        "digest": last["digest"],
        "replayed": last["replayed"],
        "lives": log_of(folder),
        "billed": billed(folder),
        "used": last["used"],
    }


def main(shape: str, checkpoints: str, every: int, deaths: int) -> dict[str, Any]:
    warm_up()
    began = time.perf_counter()
    base = Path(tempfile.mkdtemp(prefix="madflow-lives-", dir=IN_MEMORY))
    try:
        sweep = Sweep(shape, checkpoints, learned())
        sweep = replace(sweep, caps=caps_for(sweep, base, deaths))
        gc.freeze()
        reference = base / "reference"
        reference.mkdir()
        whole = lived(sweep, reference, NOWHERE)
        assert whole is not None
        places = {"ledger": whole["writes"], "model": whole["calls"]}
        points = [(where, side, at) for where, side in POINTS for at in range(1, places[where] + 1)]
        killed = []
        for point in dict.fromkeys([*points[::every], ("ledger", "after", whole["writes"])]):
            drawn = random.Random(str(point))
            folder = base / "-".join(map(str, point))
            folder.mkdir()
            found = killed_at(sweep, folder, [point, *drawn.sample(points, deaths - 1)])
            killed += [found] if found is not None else []
            shutil.rmtree(folder)
        seconds = round(time.perf_counter() - began, 1)
        return {"whole": whole, "caps": sweep.caps.model_dump(), "killed": killed, "seconds": seconds}
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=("answer", "proposal", *GUIDED))
    parser.add_argument("checkpoints", choices=CHECKPOINTS)
    parser.add_argument("every", type=int, nargs="?", default=1)
    parser.add_argument("deaths", type=int, nargs="?", default=1)
    given = parser.parse_args()
    print(json.dumps(main(given.shape, given.checkpoints, given.every, given.deaths)))
