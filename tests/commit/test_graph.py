"""The commit as a LangGraph graph: it only enqueues and waits, however often LangGraph runs a node."""

from pathlib import Path
from typing import Any

import pytest
from commit_bench import Bench, call, write
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from madflow.commit import Step
from madflow.commit.graph import _Nodes, build_commit_graph
from madflow.errors import ConfigError
from madflow.panel.api import check


def doubtful(calls: list[int]) -> Step:
    def boom(args: Any, ctx: Any) -> None:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            raise RuntimeError("who knows")

    return Step(name="boom", do=boom, nothing_to_undo=True)


async def test_it_commits_and_a_second_run_does_nothing(bench: Bench) -> None:
    name = await bench.approved([write("a.txt")])
    graph = build_commit_graph(bench.committer())
    done = await graph.ainvoke({"proposal_id": name})
    assert (done["status"], done["receipt"]["status"]) == ("committed", "committed")
    records = len(bench.kinds())
    proposal = (await check(bench.ledger, name)).to_json()
    again = await graph.ainvoke({"proposal": proposal})
    assert again["receipt"] == done["receipt"] and len(bench.kinds()) == records


async def test_a_node_that_langgraph_runs_twice_does_it_once(bench: Bench) -> None:
    """Would catch an effect, or a second attempt, in a node's retryable body."""
    calls: list[int] = []
    nodes = _Nodes(bench.committer(Step(name="once", do=lambda args, ctx: calls.append(ctx.attempt))), 10)
    name = await bench.approved([call("once")])
    first = await nodes.submit({"proposal_id": name})
    second = await nodes.submit({"proposal_id": name})
    assert calls == [] and first["commit_id"] == second["commit_id"]
    one, two = await nodes.wait(first), await nodes.wait(second)
    assert one.update == two.update and calls == [1]


@pytest.mark.parametrize(
    ("word", "ends", "did"), [("done", "committed", 1), ("failed", "compensated", 1), ("retry", "committed", 2)]
)
async def test_a_step_in_doubt_interrupts_and_the_answer_goes_on(bench: Bench, word: str, ends: str, did: int) -> None:
    """A second graph over a checkpointer in a file stands for the second process."""
    calls: list[int] = []
    name = await bench.approved([write("a.txt"), call("boom")])
    thread = {"configurable": {"thread_id": "t"}}
    async with AsyncSqliteSaver.from_conn_string(str(bench.root / "c.db")) as saver:
        committer = bench.committer(doubtful(calls))
        asked = await build_commit_graph(committer, checkpointer=saver).ainvoke({"proposal_id": name}, thread)
        question = asked["__interrupt__"][0].value
        assert (question["step_index"], question["answers"]) == (1, ["done", "failed", "retry"])
        assert "who knows" in question["why"]
        graph = build_commit_graph(committer, checkpointer=saver)
        done = await graph.ainvoke(Command(resume={"as": word, "by": "ann", "note": "looked"}), thread)
    assert (done["status"], len(calls)) == (ends, did)
    assert (bench.read("a.txt") is None) == (ends == "compensated")


async def test_whoever_answers_first_counts(bench: Bench) -> None:
    """Would catch an interrupt's answer that overrules what was said on the command line meanwhile."""
    committer = bench.committer(doubtful([]))
    name = await bench.approved([call("boom")])
    thread = {"configurable": {"thread_id": "t"}}
    graph = build_commit_graph(committer, checkpointer=InMemorySaver())
    question = (await graph.ainvoke({"proposal_id": name}, thread))["__interrupt__"][0].value
    await bench.committer(doubtful([]), node="cli").resolve(question["key"], "failed", by="bob")
    done = await graph.ainvoke(Command(resume={"as": "done", "by": "ann"}), thread)
    assert (done["status"], done["receipt"]["steps"][0]["resolved_by"]) == ("compensated", "bob")


BAD: list[tuple[Any, str]] = [
    ("done", "is a str"),
    (["done"], "is a list"),
    ({"as": "yes", "by": "ann"}, "'yes'"),
    ({"as": ["done"], "by": "ann"}, "done, failed, retry"),
    ({"by": "ann"}, "'None'"),
    ({"as": "done"}, "who says so"),
    ({"as": "done", "by": "  "}, "who says so"),
    ({"as": "done", "by": 7}, "who says so"),
    ({"as": "done", "by": "ann", "note": 7}, '"note" is a int'),
    ({"as": "done", "by": "ann", "key": "nobodys"}, "nobodys"),
]


async def test_an_answer_that_cannot_be_used_is_asked_again(bench: Bench) -> None:
    """Would catch a thread that can never be carried on once a human has mistyped: every run met the word again."""
    calls: list[int] = []
    name = await bench.approved([call("boom")])
    thread = {"configurable": {"thread_id": "t"}}
    graph = build_commit_graph(bench.committer(doubtful(calls)), checkpointer=InMemorySaver())
    first = (await graph.ainvoke({"proposal_id": name}, thread))["__interrupt__"][0].value
    for word, says in BAD:
        asked = (await graph.ainvoke(Command(resume=word), thread))["__interrupt__"][0].value
        assert says in asked["problem"] and asked["key"] == first["key"], (word, asked)
    done = await graph.ainvoke(Command(resume={"as": "done", "by": "ann"}), thread)
    assert (done["status"], calls) == ("committed", [1])


async def test_what_the_gate_refuses_ends_with_its_reasons(bench: Bench) -> None:
    graph = build_commit_graph(bench.committer())
    file = {"proposal_id": "another-ledgers", "plan": []}
    done = await graph.ainvoke({"proposal": file})
    codes = {reason["code"] for reason in done["receipt"]["reasons"]}
    assert (done["status"], "unknown_proposal" in codes) == ("rejected", True)
    with pytest.raises(ConfigError, match="needs a proposal"):
        await graph.ainvoke({"confirmed_by": "ann"})


def test_the_drawing_is_the_graph(tmp_path: Path) -> None:
    """Would catch a page that shows another graph than the one that runs."""
    (tmp_path / "r").mkdir()
    bench = Bench(tmp_path / "r" / "tree")
    drawn = build_commit_graph(bench.committer()).get_graph()
    bench.close()
    assert {(edge.source, edge.target) for edge in drawn.edges} == {
        ("__start__", "submit"),
        ("submit", "wait"),
        ("wait", "human"),
        ("wait", "__end__"),
        ("human", "human"),
        ("human", "heard"),
        ("heard", "human"),
        ("heard", "wait"),
    }
