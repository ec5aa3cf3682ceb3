"""One debate, lived in forked children that are killed: the harness behind test_kill_and_resume.py.

    python lives.py PROTOCOL CHECKPOINTS [LAST]

Runs the debate once undisturbed, then once for each fault point (every write and every model call, before and after),
killed there by SIGKILL and resumed in a new process. CHECKPOINTS is 1 to run the first life under LangGraph's own
SQLite checkpointer, whose file is deleted before the resume. Prints one JSON document with what each came to.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "debate"))

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from panels import IN_MEMORY, make_debate, reply, warm_up

from madflow.debate.graph import DebateContext, build_debate_graph
from madflow.debate.run import open_session, run
from madflow.errors import TransientModelError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import ModelReply, ModelRequest
from madflow.testing.clock import ManualClock
from madflow.testing.faults import KillingLedger, KillingModel, Life
from madflow.testing.models import ScriptedModel

POINTS = [(where, side) for where in ("ledger", "model") for side in ("before", "after")]


class Logged:
    """A client that appends each request's call id to a file outside of the debate.

    Seat b's call fails once in a process; seat c's reply is garbled, and comes right when it is asked to repair it.
    """

    name = "scripted"

    def __init__(self, path: Path) -> None:
        self.inner, self.path = ScriptedModel(reply), path
        self.tries = Counter[str]()

    def quote(self, request: ModelRequest) -> Any:
        return self.inner.quote(request)

    async def complete(self, request: ModelRequest) -> ModelReply:
        with self.path.open("a") as file:
            file.write(request.call_id + "\n")
        self.tries[request.call_id] += 1
        for _ in range(len(request.call_id) % 4):
            await asyncio.sleep(0)
        parts = request.call_id.split("/")
        if parts[2] == "b" and self.tries[request.call_id] == 1 and parts[1] in ("discuss", "concern"):
            raise TransientModelError("server_error", "once", status=500)
        answer = await self.inner.complete(request)
        if parts[2] == "c" and parts[-1] != "repair" and parts[1] in ("discuss", "ballot"):
            return ModelReply("I would rather not say", answer.usage, model=self.name)
        return answer


async def live(protocol: str, folder: Path, point: tuple[str, str, int], checkpoints: bool) -> dict[str, Any]:
    """One process's part of the debate. Returns its outcome and how many fault points it passed."""
    where, side, at = point
    life = Life(kill=True)
    clock = ManualClock()
    inner = open_ledger(folder / "ledger.db", clock=clock)
    known = inner.read("debate/d1")
    ledger = KillingLedger(inner, **({side: at} if where == "ledger" else {}), life=life)
    model = KillingModel(Logged(folder / "calls"), **({side: at} if where == "model" else {}), life=life)
    debate = make_debate(protocol, model, ledger)
    try:
        if checkpoints:
            session = await open_session(debate, ledger, debate_id="d1", clock=clock)
            async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
                graph = build_debate_graph(checkpointer=saver)
                config = {"configurable": {"thread_id": "d1"}}
                done = await graph.ainvoke({"debate_id": "d1"}, config, context=DebateContext(session))
            found = done["digest"]
        else:
            found = (await run(debate, clock=clock)).digest  # type: ignore[union-attr]
    finally:
        inner.close()
    recorded = [record.payload["entry"]["key"].rpartition("#")[0] for record in known if _answered_by(record)]
    return {"digest": found, "writes": ledger.writes, "calls": model.count[0], "recorded": recorded}


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


def main(protocol: str, checkpoints: bool, last: int) -> dict[str, Any]:
    warm_up()
    gc.freeze()
    began = time.perf_counter()
    base = Path(tempfile.mkdtemp(prefix="madflow-lives-", dir=IN_MEMORY))

    def lived(folder: Path, point: tuple[str, str, int], saved: bool) -> dict[str, Any] | None:
        return forked(lambda: asyncio.run(live(protocol, folder, point, saved)))

    try:
        reference = base / "reference"
        reference.mkdir()
        whole = lived(reference, ("", "", 0), checkpoints)
        assert whole is not None
        lives = []
        for where, side in POINTS:
            for at in range(1, min(last, whole["writes" if where == "ledger" else "calls"]) + 1):
                folder = base / f"{where}-{side}-{at}"
                folder.mkdir()
                first = lived(folder, (where, side, at), checkpoints)
                if first is not None:  # answers that met in one write: this life needed fewer than the reference
                    assert where == "ledger" and first["writes"] < at, f"not killed {side} {where} {at}"
                    continue
                for file in folder.glob("checkpoints.db*"):
                    file.unlink()
                before = (folder / "calls").read_text().split() if (folder / "calls").exists() else []
                second = lived(folder, ("", "", 0), False)
                assert second is not None
                calls = (folder / "calls").read_text().split()
                lives.append(
                    {
                        "point": f"{side} {where} {at}",
                        "same": second["digest"] == whole["digest"],
                        "begun_before": before,
                        "after": calls[len(before) :],
                        "recorded": second["recorded"],
                    }
                )
                shutil.rmtree(folder)
        return {"whole": whole, "lives": lives, "seconds": round(time.perf_counter() - began, 1)}
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2] == "1", int(sys.argv[3]) if len(sys.argv) > 3 else 10_000)))
