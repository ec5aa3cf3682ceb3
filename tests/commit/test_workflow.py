"""The whole way in one LangGraph run: a debate of models over a loopback server, the gate, the commit."""

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commit_bench import Bench, call
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from madflow import Agent, Debate, TurnView
from madflow.commit import Step
from madflow.core.gate import Rejected
from madflow.models.http_pool import aclose_all
from madflow.testing.openai_server import LoopbackServer
from madflow.workflow import build_workflow

ROOT = Path(__file__).resolve().parents[2]
PLAN = [{"step": "write", "target": "file:out/a.txt", "content": "debated\n"}, call("boom")]


def reply(body: Mapping[str, Any]) -> str:
    """`approves` and `rejects` draft one plan and vote so."""
    if '"plan"' in json.dumps(body.get("response_format") or {}):
        return json.dumps({"summary": "Do it", "plan": PLAN})
    decision = str(body["model"]).removesuffix("s")
    return json.dumps(
        {"decision": "approve" if decision == "approve" else "reject", "objections": ["no"], "claims": []}
    )


def request(server: LoopbackServer, model: str) -> dict[str, Any]:
    asked = {"task": "How?", "models": [model], "agents": 3, "protocol": "proposal", "rounds": 1, "id": "d1"}
    return {"request": {**asked, "api_base": server.base_url}}


async def test_debate_gate_commit_with_a_human_in_between(bench: Bench) -> None:
    """Would catch a workflow that loses the debate's proposal on its way, or a human's word in the inner graph."""
    calls: list[int] = []

    def boom(args: Any, ctx: Any) -> None:
        calls.append(ctx.attempt)
        raise RuntimeError("who knows")

    committer = bench.committer(Step(name="boom", do=boom))
    thread = {"configurable": {"thread_id": "w"}}
    graph = build_workflow(committer, root=bench.root, ledger=bench.path, checkpointer=InMemorySaver())
    async with LoopbackServer(reply) as server:
        asked = await graph.ainvoke(request(server, "approves"), thread)
        await aclose_all()
    question = asked["__interrupt__"][0].value
    assert (question["proposal_id"], question["step_index"], calls) == ("d1-p1", 1, [1])
    assert bench.read("a.txt") == "debated\n"
    done = await graph.ainvoke(Command(resume={"as": "done", "by": "ann"}), thread)
    assert (done["result"], done["status"], calls) == ("approved", "committed", [1])
    assert done["receipt"]["proposal_digest"] == done["digest"]


async def test_what_is_committed_already_gives_its_receipt(bench: Bench) -> None:
    """Would catch a gate that holds against a commit what it has changed itself, when the workflow runs again."""
    committer = bench.committer(Step(name="boom", do=lambda args, ctx: None))
    graph = build_workflow(committer, root=bench.root, ledger=bench.path)
    async with LoopbackServer(reply) as server:
        done = await graph.ainvoke(request(server, "approves"))
        again = await graph.ainvoke(request(server, "approves"))
        await aclose_all()
    assert done["status"] == "committed" and again["receipt"] == done["receipt"]
    assert isinstance(committer.check("d1-p1"), Rejected), "the file is no more what it was"


async def test_what_the_gate_refuses_is_not_even_asked_for(bench: Bench) -> None:
    """Would catch a debate that the policy would not have, and is carried out; and one that was rejected."""
    graph = build_workflow(bench.committer(), root=bench.root, ledger=bench.path)
    async with LoopbackServer(reply) as server:
        refused = await graph.ainvoke(request(server, "approves"))
        await aclose_all()
    assert (refused["result"], refused["status"]) == ("approved", "rejected")
    assert [reason["code"] for reason in refused["reasons"]] == ["unregistered"]
    assert bench.read("a.txt") is None and bench.kinds() == []
    assert bench.ledger.read("requests/root") == []


async def test_a_debate_that_rejects_commits_nothing(bench: Bench) -> None:
    graph = build_workflow(bench.committer(), root=bench.root, ledger=bench.path)
    async with LoopbackServer(reply) as server:
        done = await graph.ainvoke(request(server, "rejects"))
        await aclose_all()
    assert (done["result"], done["status"]) == ("rejected", "rejected")
    assert "rejected" in {reason["code"] for reason in done["reasons"]}
    assert bench.read("a.txt") is None and bench.kinds() == []


async def test_a_review_is_carried_out_by_the_same_workflow(tmp_path: Path) -> None:
    """Would catch a workflow for questions only: the analysers review, and their patch is applied, offline."""
    shutil.copytree(ROOT / "examples/pull_request", tmp_path / "pr")
    tree = tmp_path / "pr/tree"
    request = {"diff": (tmp_path / "pr/change.diff").read_text(), "id": "pr-1"}
    done = await build_workflow(root=tree).ainvoke({"request": request})
    assert (done["result"], done["status"], done["proposal_id"]) == ("approved", "committed", "pr-1-p1")
    assert "breakpoint()" not in (tree / "invoices/client.py").read_text()
    assert (tree / "reviews/pr-1.md").read_text().startswith("# Review: request changes")
    again = await build_workflow(root=tree).ainvoke({"request": request})
    assert (again["status"], again["receipt"]) == ("committed", done["receipt"]), "a job that is run twice"


async def test_own_agents_hold_the_seats(bench: Bench) -> None:
    """Would catch a debate of an app's own that lands in another ledger than the one the gate reads."""

    async def says(view: TurnView) -> Mapping[str, Any]:
        if view.stage in ("draft", "revise"):
            return {"summary": "Do it", "plan": PLAN[:1]}
        return {"decision": "approve"} if view.stage == "ballot" else {"claims": []}

    def debate_of(request: Mapping[str, Any]) -> Debate:
        seats = [Agent(role, says, role=role) for role in ("proposer", "critic", "auditor")]
        return Debate(task=request["task"], agents=seats, protocol="proposal", id="d1", root=Path(request["root"]))

    graph = build_workflow(bench.committer(), root=bench.root, ledger=bench.path, debate_of=debate_of)
    done = await graph.ainvoke({"request": {"task": "How?"}})
    assert (done["result"], done["status"], bench.read("a.txt")) == ("approved", "committed", "debated\n")


def test_the_entry_point_builds() -> None:
    """Would catch a graph of langgraph.json that cannot be loaded."""
    path, attribute = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["workflow"].split(":")
    spec = importlib.util.spec_from_file_location("graphs_workflow", ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {"debate", "gate", "commit"} <= set(getattr(module, attribute).get_graph().nodes)
