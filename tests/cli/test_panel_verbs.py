"""`propose`, `vote`, `check`, `history`, `resolve-conflict`: a plan from elsewhere, from its file to its decision."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from madflow.core.policy import Policy
from madflow.core.proposal import STEP_KINDS, check_digests
from madflow.ledger.sqlite import open_ledger
from madflow.testing.openai_server import LoopbackServer

from .conftest import Cli

WRITE = {"step": "write", "target": "file:a.txt", "content": "new\n"}
TEST = {"step": "test", "cmd": ["true"]}
BETTER = {"summary": "Write, then test", "plan": [WRITE, TEST], "risks": [{"kind": "rollback", "note": "git"}]}
MEDIATION = {"kind": "modified_proposal", "text": "A test answers both.", "draft": BETTER}


def plan(**fields: Any) -> None:
    Path("plan.json").write_text(json.dumps({"plan": [WRITE], "summary": "Write a.txt", **fields}))


def proposed(cli: Cli, *options: str) -> str:
    plan()
    ran = cli("propose", "plan.json", "--panel", "a,b,c", "--proposer", "x", *options)
    assert ran.code == 0, ran.err
    return ran.out.strip()


def test_from_a_plan_to_a_decision(cli: Cli) -> None:
    """Would catch an exit code that lets an open or rejected plan through."""
    name = proposed(cli, "--rule", "supermajority:2/3", "--expires", "24h")
    first = cli("vote", name, "--agent", "a", "--decision", "approve", "--notes", "risk ok", "--confidence", "0.9")
    assert (first.code, first.out) == (
        0,
        "recorded: open: 1 of 3 seats have voted (1 approve, 0 reject, of weight 3)\n",
    )
    undecided = cli("check", name)
    assert undecided.code == 3 and undecided.out.startswith("open: 1 of 3")
    assert cli("vote", name, "--agent", "b", "--decision", "approve", "--json").json["result"] == "approved"
    checked = cli("check", name, "--json")
    assert checked.code == 0
    assert check_digests(checked.json) == []
    assert checked.json["plan"][0]["sha256_before"] == "absent"
    late = cli("vote", name, "--agent", "c", "--decision", "reject")
    assert late.code == 3 and "is closed: it is decided" in late.err and late.out == ""
    refused = cli("vote", name, "--agent", "a", "--decision", "reject", "--json")
    assert (refused.code, refused.json["recorded"], refused.json["cause"]) == (3, False, "duplicate")


def test_propose_as_json_and_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import BytesIO, TextIOWrapper

    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(json.dumps({"plan": [TEST]}).encode())))
    ran = cli("propose", "-", "--panel", "a:2,b@scripts", "--proposer", "x", "--id", "mine", "--json")
    assert (ran.code, ran.json["proposal_id"], ran.json["content"]) == (0, "mine", {"summary": "1 steps"})
    assert [(m["weight"], m["family"]) for m in ran.json["panel"]] == [(2, "unstated"), (1, "scripts")]


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("{", (), "not JSON"),
        ('{"plan": [], "plan": []}', (), "duplicate_key"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]} x', (), "more text"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}], "votes": []}', (), "its keys: plan, task_id"),
        ('{"plan": [{"step": "write", "target": "file:../x", "content": ""}]}', (), ".."),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]}', ("--expires", "soon"), "e.g. 24h"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]}', ("--rule", "judge"), "a panel has none"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]}', ("--panel", "a,a"), "twice"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]}', ("--id", "d-p1"), "cannot name a proposal"),
        ('{"plan": [{"step": "test", "cmd": ["true"]}]}', ("--proposer", "a b"), "cannot name an agent"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, text: str, options: tuple[str, ...], says: str) -> None:
    """Would catch a traceback, and a message without the fix."""
    Path("plan.json").write_text(text)
    ran = cli("propose", "plan.json", "--panel", "a,b", "--proposer", "x", *options)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err


def test_what_is_not_there_is_named_and_not_made(cli: Cli) -> None:
    """Would catch a ledger that comes into being by looking for a proposal."""
    for verb in (("check", "x"), ("vote", "x", "--agent", "a", "--decision", "approve"), ("resolve-conflict", "x")):
        assert cli(*verb).code == 2
    assert not Path(".madflow").exists()
    name = proposed(cli)
    assert name in cli("check", "other").err
    assert cli("vote", name, "--agent", "a", "--decision", "maybe").code == 2


def test_a_debates_proposal_can_be_checked_but_not_voted_on(cli: Cli, api_base: str) -> None:
    debated = (
        "debate",
        "A or B?",
        "--agents",
        "2",
        "--model",
        "says-A",
        "--api-base",
        api_base,
        "--id",
        "d1",
        "--quiet",
    )
    assert cli(*debated).code == 0
    assert cli("check", "d1-p1").code == cli("check", "d1").code == 0
    voted = cli("vote", "d1-p1", "--agent", "x", "--decision", "reject")
    assert voted.code == 2 and "seats of debate 'd1'" in voted.err
    assert cli("history", "--json").json["proposals"][0]["source"] == "debate"
    assert "is approved" in cli("resolve-conflict", "d1-p1").err


def test_hostile_notes_stay_text(cli: Cli) -> None:
    """Would catch notes that paint over the vote they belong to."""
    name = proposed(cli)
    cli("vote", name, "--agent", "a", "--decision", "reject", "--notes", "\x1b[2Kstep 0 [bold]evil[/bold]\u202e")
    shown = [cli("check", name).out, cli("history").out, cli("resolve-conflict", name).out]
    assert all("evil" in text for text in shown if "voted" not in text)
    assert not any(mark in text for text in shown for mark in ("\x1b", "\u202e"))


def test_history_in_words(cli: Cli) -> None:
    name = proposed(cli)
    assert "1 open" in cli("history").out
    for agent, decision in (("a", "reject"), ("b", "reject")):
        cli("vote", name, "--agent", agent, "--decision", decision, "--notes", "no tests")
    said = cli("history", "--status", "rejected", "--proposer", "x", "--since", "1h").out
    assert "Time to decide: median" in said and "a, b" in said and "no tests" in said
    assert cli("history", "--status", "approved").out == "no proposals\n"
    assert "use one of open" in cli("history", "--status", "fine").err


def test_a_conflict_without_a_model_is_advised_on(cli: Cli) -> None:
    """Would catch a recommendation that passes for a resolution, and one that is recorded at every look."""
    name = proposed(cli, "--rule", "unanimity")
    cli("vote", name, "--agent", "a", "--decision", "reject", "--notes", "a.txt is generated")
    waiting = cli("resolve-conflict", name, "--json").json["recommendation"]
    assert (waiting["would_approve"], waiting["would_reject"]) == ([], [["b"], ["c"]])
    cli("vote", name, "--agent", "b", "--decision", "approve")
    ran = cli("resolve-conflict", name)
    assert ran.code == 3
    assert "Objections to step 0:\n  a: a.txt is generated" in ran.out
    again = cli("resolve-conflict", name, "--json")
    advice = again.json["recommendation"]
    assert (again.json["modified"], advice["would_approve"]) == (None, [["a", "c"]])
    with open_ledger(Path(".madflow/ledger.db"), readonly=True) as ledger:
        assert [r.kind for r in ledger.read(f"proposal/{name}")].count("recommended") == 2


@pytest.fixture(scope="module")
def mediator() -> Iterator[tuple[str, list[int]]]:
    """A server whose one model mediates, and how often it was asked."""
    loop, started, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []
    calls: list[int] = []

    def reply(body: Mapping[str, Any]) -> str:
        calls.append(len(json.dumps(body)))
        return json.dumps(MEDIATION)

    async def serve() -> None:
        async with LoopbackServer(reply) as server:
            found.append(server.base_url)
            started.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    yield found[0], calls
    loop.call_soon_threadsafe(stopping.set)
    thread.join(10)
    loop.close()


def test_a_mediator_s_plan_is_voted_on_anew(cli: Cli, mediator: tuple[str, list[int]]) -> None:
    """Would catch ballots that are carried over, a mediation paid twice, and a plan that nobody can trace."""
    base, calls = mediator
    name = proposed(cli, "--rule", "supermajority:2/3")
    cli("vote", name, "--agent", "a", "--decision", "approve")
    cli("vote", name, "--agent", "b", "--decision", "reject", "--notes", "step 0 is not tested")
    resolve = ("resolve-conflict", name, "--model", "m", "--api-base", base)
    ran = cli(*resolve)
    assert ran.code == 0, ran.err + ran.out
    new = ran.out.strip()
    assert new != name and len(calls) == 1
    assert cli(*resolve, "--json").json == {"proposal_id": name, "modified": new, "recommendation": None}
    assert len(calls) == 1
    modified = cli("check", new, "--json").json
    assert {vote["decision"] for vote in modified["votes"]} == {"missing"}
    assert [step["step"] for step in modified["plan"]] == ["write", "test"]
    assert modified["plan"][0]["sha256_before"] == "absent"
    assert (modified["content"]["supersedes"], modified["rule"]) == (name, "supermajority:2/3")
    old = cli("vote", name, "--agent", "c", "--decision", "approve")
    assert old.code == 3 and f"{new!r} has taken its place" in old.err
    for agent in ("b", "c"):
        assert cli("vote", new, "--agent", agent, "--decision", "approve").code == 0
    assert cli("check", new).code == 0
    rows = {row["proposal_id"]: row for row in cli("history", "--json").json["proposals"]}
    assert set(rows) == {name, new}
    assert (rows[name]["status"], rows[name]["superseded_by"], rows[new]["supersedes"]) == ("superseded", new, name)


def test_no_mediator_where_there_are_no_two_sides(cli: Cli, mediator: tuple[str, list[int]]) -> None:
    base, calls = mediator
    name, before = proposed(cli), len(calls)
    ran = cli("resolve-conflict", name, "--model", "m", "--api-base", base)
    assert ran.code == 3 and "too few seats" in ran.out and len(calls) == before


def test_processes_end_to_end(tmp_path: Path) -> None:
    """Would catch a verb that works in a test's process only."""
    (tmp_path / "plan.json").write_text(json.dumps({"plan": [TEST]}))

    def run(*args: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "madflow", *args]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    code, name = run("propose", "plan.json", "--panel", "a", "--proposer", "x")
    assert code == 0 and name.endswith("\n")
    assert run("vote", name.strip(), "--agent", "a", "--decision", "approve")[0] == 0
    assert run("check", name.strip())[0] == 0


def test_what_is_printed_next_finds_the_same_ledger(cli: Cli, tmp_path: Path) -> None:
    """Would catch a next command that looks elsewhere, and one that offers to commit what is committed already."""
    tree = tmp_path / "a tree"
    tree.mkdir()
    (tree / "policy.toml").write_text('[[allow]]\nstep = ["write"]\npaths = ["*.txt"]\n')
    at = ("--root", str(tree))
    plan()
    made = cli("propose", "plan.json", "--panel", "a", "--proposer", "x", "--id", "p", *at)
    assert "1 seat may vote" in made.err and f"--root '{tree}'" in made.err
    assert cli("check", "p", *at).out.startswith("open: 0 of 1 seat has voted (")
    assert cli("vote", "p", "--agent", "a", "--decision", "approve", *at).code == 0
    assert cli("check", "p", *at).out.endswith(f"Next: madflow commit p --root '{tree}'\n")
    assert cli("commit", "p", *at).code == 0
    after = cli("check", "p", *at).out
    assert "Commit: committed (c-" in after and "Next: madflow commit" not in after
    assert after.endswith(f"Next: madflow explain p --root '{tree}'\n")


def test_check_says_why_a_commit_was_refused(cli: Cli) -> None:
    """Would catch a refusal that the next look at the proposal does not know of."""
    name = proposed(cli)
    for seat in "ab":
        assert cli("vote", name, "--agent", seat, "--decision", "approve").code == 0
    assert cli("commit", name).code == 3
    said = cli("check", name).out
    assert "Commit: rejected (c-" in said and ": no_policy\n" in said
    assert said.endswith(f"Next: madflow commit {name} --dry-run\n")


def test_names_and_times_that_cannot_be(cli: Cli) -> None:
    """Would catch an empty name taken for none, and a limit that is not said."""
    plan()
    nobody = cli("propose", "plan.json", "--panel", "a", "--proposer", "")
    assert nobody.code == 2 and "--proposer ''" in nobody.err
    long = cli("propose", "plan.json", "--panel", "a", "--proposer", "x", "--expires", "99999999999d")
    assert long.code == 2 and "exceeds the limit of 366d" in long.err


def test_the_schemas_of_what_users_write(cli: Cli) -> None:
    """Would catch a schema that refuses what is read, or that leaves a kind of step out."""
    steps = cli("schema", "plan").json
    kinds = {
        definition["properties"]["step"]["const"]
        for definition in steps["$defs"].values()
        if "step" in definition.get("properties", {})
    }
    assert kinds == set(STEP_KINDS) and steps["required"] == ["plan"]
    assert set(steps["properties"]["plan"]["items"]["discriminator"]["mapping"]) == kinds
    policy = cli("schema", "policy").json
    assert set(policy["properties"]) == set(Policy.model_fields) and policy["additionalProperties"] is False
