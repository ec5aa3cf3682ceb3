"""The graphs as LangGraph's own tools run them: by a JSON request, with a checkpointer, across two processes."""

import asyncio
import importlib.util
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from madflow import Agent, Debate
from madflow.clock import SystemClock
from madflow.debate.entry import build_graph
from madflow.debate.graph import build_debate_graph
from madflow.debate.run import open_session, replay
from madflow.debate.session import Session
from madflow.errors import ConfigError, DebateBusy
from madflow.ledger.sqlite import open_ledger
from madflow.models.http_pool import aclose_all
from madflow.models.scripted import ScriptedModel
from madflow.review.entry import build_review_graph
from madflow.testing.openai_server import LoopbackServer

ROOT = Path(__file__).resolve().parents[2]
DRAWING = ROOT / "docs" / "explanation" / "graphs" / "debate.mmd"
TASK = {"question": "Where do retries live?", "options": ["client", "queue"]}
DIFF = "--- a/a.py\n+++ b/a.py\n@@ -0,0 +1,1 @@\n+eval(input())\n"


def loaded(name: str) -> Any:
    """The graph that langgraph.json names, imported as LangGraph's tools do."""
    path, attribute = json.loads((ROOT / "langgraph.json").read_text())["graphs"][name].split(":")
    spec = importlib.util.spec_from_file_location(f"graphs_{name}", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, attribute)


def by_model(body: Mapping[str, Any]) -> str:
    return json.dumps({"answer": str(body["model"]).removeprefix("says-")})


def request(server: LoopbackServer, folder: Path, *models: str, **more: Any) -> dict[str, Any]:
    base = {"task": TASK, "models": list(models), "agents": 2, "api_base": server.base_url, "root": str(folder)}
    return {"request": {**base, "id": "d1", **more}}


async def test_entry_point_debates(tmp_path: Path) -> None:
    """Would catch an entry point that does not build, or a run whose result is not what the ledger has."""
    async with LoopbackServer(by_model) as server:
        done = await loaded("debate").ainvoke(request(server, tmp_path, "says-B"))
        await aclose_all()
    proposal = replay(tmp_path / ".madflow/ledger.db", "d1")
    assert (done["result"], done["digest"]) == ("approved", proposal.digest)


async def test_entry_point_reviews(tmp_path: Path) -> None:
    done = await loaded("review").ainvoke({"request": {"diff": DIFF, "ledger": str(tmp_path / "l.db"), "id": "r1"}})
    assert done["stop_reason"] in ("converged", "max_rounds", "quorum_lost")
    assert replay(tmp_path / "l.db", "r1").protocol == "review"


@pytest.mark.parametrize("kept", ["memory", "sqlite"])
async def test_a_human_answers_in_another_process(tmp_path: Path, kept: str) -> None:
    """Would catch a session, lock or ledger held while it waits, and a state that a checkpointer cannot carry.

    A second graph with the same checkpointer stands for the second process: it shares nothing else with the first."""
    thread = {"configurable": {"thread_id": "t1"}}
    async with LoopbackServer(by_model) as server, AsyncSqliteSaver.from_conn_string(str(tmp_path / "c.db")) as sqlite:
        saver = sqlite if kept == "sqlite" else InMemorySaver()
        asked = request(server, tmp_path, "says-A", "says-B", rounds=1, fallback=["human"])
        waiting = await build_graph(checkpointer=saver).ainvoke(asked, thread)
        question = waiting["__interrupt__"][0].value
        assert [option["id"] for option in question["options"]] == ["A", "B"]
        ledger = open_ledger(tmp_path / ".madflow/ledger.db")
        with ledger.lock_stream("debate/d1"):
            pass  # free: DebateBusy otherwise
        ledger.close()
        again = build_graph(checkpointer=saver)
        refused = await again.ainvoke(Command(resume={"choice": "Z", "by": "kim"}), thread)
        assert refused["__interrupt__"][0].value["options"] == question["options"]
        done = await again.ainvoke(Command(resume={"choice": "B", "by": "kim"}), thread)
        await aclose_all()
        assert server.stats.requests == 2
    assert done["result"] == "approved"
    assert replay(tmp_path / ".madflow/ledger.db", "d1").decision.decided_by == "human:kim"


async def test_one_runner_per_debate(tmp_path: Path) -> None:
    """Would catch two runs of one debate that pay twice; the refused one must not take the other's lock away."""
    async with LoopbackServer(by_model, latency_s=0.2) as server:
        asked = request(server, tmp_path, "says-A")
        first = asyncio.create_task(build_graph().ainvoke(asked))
        await asyncio.sleep(0.1)
        with pytest.raises(DebateBusy):
            await build_graph().ainvoke(asked)
        assert (await first)["result"] == "approved"
        await aclose_all()


async def test_an_error_closes_what_was_opened(tmp_path: Path) -> None:
    """Would catch a lock and a ledger that a failed run takes along until its process ends."""
    closed = []

    @asynccontextmanager
    async def opener(given: Mapping[str, Any]) -> AsyncIterator[Session]:
        debate = Debate(task=TASK, agents=[Agent("a", ScriptedModel({"*": {"answer": "A"}}))], id="d1")
        ledger = open_ledger(tmp_path / "l.db")
        session = await open_session(debate, ledger, debate_id="d1", clock=SystemClock())
        session.clients = {}  # the first call fails
        try:
            yield session
        finally:
            ledger.close()
            closed.append(given)

    with pytest.raises(KeyError):
        await build_debate_graph(opener).ainvoke({"request": {"id": "d1"}})
    assert closed == [{"id": "d1"}]


@pytest.mark.parametrize(
    ("graph", "given", "named"),
    [
        ("debate", {"task": "q", "question": "q"}, "unknown keys: question"),
        ("debate", {}, "no task"),
        ("debate", {"task": "q", "agents": 2, "crew": "generic"}, "both agents and crew"),
        ("debate", {"task": "q", "budget": {"token": 5}}, "it may have tokens"),
        ("review", {}, "no diff"),
        ("review", {"diff": DIFF, "task": "q"}, "unknown keys: task"),
    ],
)
async def test_a_bad_request_is_named(graph: str, given: dict[str, Any], named: str) -> None:
    built = build_graph() if graph == "debate" else build_review_graph()
    with pytest.raises(ConfigError, match=named):
        await built.ainvoke({"request": given})


def test_the_drawing_is_the_graph() -> None:
    """Would catch a drawing in the docs that is not the compiled graph. MADFLOW_REWRITE=1 draws it anew."""
    drawn = build_graph().get_graph().draw_mermaid()
    if os.environ.get("MADFLOW_REWRITE") == "1":
        DRAWING.parent.mkdir(parents=True, exist_ok=True)
        DRAWING.write_text(drawn)
    assert DRAWING.read_text() == drawn
