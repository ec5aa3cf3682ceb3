"""A plan is pinned when it freezes: what its files hold is recorded with it, and voted on; a replay needs no tree."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from panels import make_debate, sound

from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.facts import verifier
from madflow.debate.run import replay, run
from madflow.debate.setup import Debate
from madflow.errors import ConfigError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash, KillingLedger
from madflow.testing.models import ScriptedModel

OLD = "one\ntwo\nthree\n"
FITS = "--- a/a.txt\n+++ b/a.txt\n@@ -2,1 +2,1 @@\n-two\n+TWO\n"
PATCH = {"step": "patch", "target": "file:a.txt", "patch": FITS}
WRITE = {"step": "write", "target": "file:new/b.txt", "content": "b\n"}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text(OLD)
    (tree / ".env").write_text("KEY=1\n")
    return tree


def panel(first: list[Any], then: list[Any] | None = None) -> tuple[ScriptedModel, list[TurnView]]:
    """Drafts `first`; with `then`, the voters reject it and the author revises."""
    seen: list[TurnView] = []

    def reply(view: TurnView) -> dict[str, Any]:
        seen.append(view)
        match view.stage:
            case "draft":
                return {"summary": "v1", "plan": first}
            case "concern":
                return {"claims": []}
            case "revise":
                return {"summary": "v2", "plan": then}
            case _:
                wanted = then is None or str(view.subject["proposal_id"]).endswith("-p2")
                return {"decision": "approve" if wanted else "reject"}

    return ScriptedModel(reply), seen


def debated(root: Path | str | None, ledger: Any, model: Any, **more: Any) -> Proposal:
    debate = make_debate("proposal", model, ledger, root=root, fallback=(), **more)
    return sound(asyncio.run(run(debate, clock=ManualClock())))


def opened(tmp_path: Path, name: str = "l.db") -> Any:
    return open_ledger(tmp_path / name, clock=ManualClock())


def test_each_step_names_what_its_file_holds_and_a_replay_needs_no_tree(root: Path, tmp_path: Path) -> None:
    """Would catch a plan that would overwrite what no voter saw, and one that is pinned anew by whoever reads it."""
    again = {**PATCH, "patch": FITS.replace("two", "TWO", 1).replace("+TWO", "+2")}
    model, seen = panel([PATCH, again, WRITE, {"step": "test", "cmd": ["true"]}])
    ledger = opened(tmp_path)
    proposal = debated(root, ledger, model)
    steps = proposal.to_json()["plan"]
    after = OLD.replace("two", "TWO")
    assert [step.get("sha256_before") for step in steps] == [sha(OLD), sha(after), "absent", None]
    assert "plan_problems" not in proposal.content
    voted = next(view for view in seen if view.stage == "ballot").subject
    assert voted["plan"] == steps and voted["digest"] == proposal.subject_digest
    shutil.rmtree(root)
    assert replay(ledger, "d1").to_json() == proposal.to_json()


def test_what_is_voted_on_is_pinned_by_its_digest(root: Path, tmp_path: Path) -> None:
    """Would catch a hash that is filled in behind the vote: another tree is another proposal."""
    one = debated(root, opened(tmp_path), panel([PATCH])[0])
    (root / "a.txt").write_text(OLD + "four\n")
    two = debated(root, opened(tmp_path, "m.db"), panel([PATCH])[0])
    none = debated(None, opened(tmp_path, "n.db"), panel([PATCH])[0])
    assert len({one.subject_digest, two.subject_digest, none.subject_digest}) == 3
    assert none.to_json()["plan"][0].get("sha256_before") is None


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ([WRITE, {**PATCH, "patch": FITS.replace("two", "zwei")}], "step 1: hunk 1"),
        ([{**PATCH, "target": "file:c.txt"}], "step 0: the patch"),
        ([{**WRITE, "target": "file:.madflow/ledger.db"}], "step 0"),
        ([{**WRITE, "target": "file:.git/config"}], "step 0"),
        ([{**PATCH, "sha256_before": "0" * 64}], "expects the file as 000000000000"),
        ([{**WRITE, "sha256_before": sha("b")}], "the tree has absent"),
        ([{**PATCH, "target": "file:.env", "patch": FITS.replace("a.txt", ".env")}], "it is not tried"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_seen_by_the_panel(
    plan: list[Any], says: str, root: Path, tmp_path: Path
) -> None:
    """Would catch a problem that only the commit would meet: voters see it, and the revision has it as an objection."""
    model, seen = panel(plan, [PATCH])
    proposal = debated(root, opened(tmp_path), model)
    ballot = next(view for view in seen if view.stage == "ballot")
    (problem,) = ballot.subject["content"]["plan_problems"]
    assert says in problem
    revision = next(view for view in seen if view.stage == "revise")
    assert problem in revision.subject["objections"]
    assert proposal.decision.result == "approved" and "plan_problems" not in proposal.content
    assert proposal.to_json()["plan"][0]["sha256_before"] == sha(OLD)


@pytest.mark.parametrize("guess", ["two", "zwei"])
def test_facts_never_tell_a_file(guess: str, root: Path) -> None:
    """Would catch an oracle: a model that guesses lines of a secret learns from the facts which guess was right."""
    (root / "a.txt").write_text(OLD.replace("two", "two-unseen"))
    check = verifier(root)
    assert check is not None
    for path in ("a.txt", ".env"):
        text = FITS.replace("a.txt", path).replace("two", guess if path == "a.txt" else f"KEY={len(guess) - 2}")
        step = {"step": "patch", "target": f"file:{path}", "patch": text}
        config = make_config()
        facts = check(config, config_ask(), {"plan": [step]})
        assert "unseen" not in json.dumps(facts) and "KEY" not in json.dumps(facts)
        assert facts["plan"]["problem"].startswith("step 0: ")


def make_config() -> Any:
    from madflow.core.config import Config
    from madflow.core.messages import Seat, Task

    seat = Seat(agent="a", model="m", family="f")
    return Config(debate_id="d", task=Task(task_id="t", question="q"), seats=(seat,), protocol="proposal")


def config_ask() -> Any:
    from madflow.core.state import Ask

    return Ask("a", "draft")


class Texts:
    """A client that says the given texts one after the other."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.prompts = list(texts), list[str]()

    def quote(self, request: ModelRequest) -> Quote:
        return Quote(prompt_tokens=10, output_tokens=10, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.prompts.append(request.prompt)
        return ModelReply(text=self.texts.pop(0), usage=Usage(10, 10))


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"step": "write", "target": "file:../x", "content": ""}, "does not climb"),
        ({"step": "write", "target": "file:x"}, "content"),
        ({"step": "command", "cmd": "rm -rf /"}, "cmd"),
        ({"step": "test", "cmd": ["true"], "sudo": True}, "sudo"),
    ],
)
def test_a_malformed_step_is_an_invalid_reply_and_repaired_once(
    step: dict[str, Any], says: str, root: Path, tmp_path: Path
) -> None:
    """Would catch a step that no commit could read, voted on; the model gets its one repair, and is told the step."""
    bad, good = (json.dumps({"summary": "s", "plan": [WRITE, made]}) for made in (step, PATCH))
    author = Texts(bad, good)
    voter = ScriptedModel(lambda view: {"decision": "approve"} if view.stage == "ballot" else {"claims": []})
    agents = [Agent("p", model=author, role="proposer"), Agent("b", model=voter, role="critic")]
    author.texts.append('{"decision": "approve"}')
    debate = Debate(task="t", agents=agents, protocol="proposal", root=root, ledger=opened(tmp_path), id="d1")
    proposal = sound(asyncio.run(run(debate, clock=ManualClock())))
    assert "plan.1" in author.prompts[1] and says in author.prompts[1]
    assert [row["step"] for row in proposal.to_json()["plan"]] == ["write", "patch"]


def test_a_mediators_plan_is_pinned_too(root: Path, tmp_path: Path) -> None:
    """Would catch facts that are only asked of drafts."""

    def reply(view: TurnView) -> dict[str, Any]:
        if view.stage == "mediate":
            return {"kind": "modified_proposal", "text": "t", "draft": {"summary": "v2", "plan": [PATCH]}}
        if view.stage == "ballot":
            return {"decision": "approve" if str(view.subject["proposal_id"]).endswith("-p2") else "reject"}
        return {"claims": []} if view.stage == "concern" else {"summary": "v1", "plan": [WRITE]}

    debate = make_debate("proposal", ScriptedModel(reply), opened(tmp_path), root=root, rounds=1)
    proposal = sound(asyncio.run(run(debate, clock=ManualClock())))
    assert proposal.to_json()["plan"][0]["sha256_before"] == sha(OLD)


def test_the_apps_own_check_stands_beside_ours(root: Path, tmp_path: Path) -> None:
    """Would catch a verify= that turns the pinning off, and one whose facts are taken for ours."""
    asked: list[str] = []

    def own(config: Any, ask: Any, reply: Any) -> dict[str, Any]:
        asked.append(ask.kind)
        return {"plan": {"sha256_before": {"0": "f" * 64}}, "app": 1}

    ledger = opened(tmp_path)
    proposal = debated(root, ledger, panel([PATCH])[0], verify=own)
    kept = [record.payload for record in ledger.read("debate/d1") if record.kind == "answered"]
    assert kept and all(answer["facts"]["app"] == 1 for answer in kept)
    assert "draft" in asked and "ballot" in asked
    assert proposal.to_json()["plan"][0]["sha256_before"] == sha(OLD)


def each_write(tmp_path: Path, start: Callable[[Any], Proposal]) -> Proposal:
    """Run to the end once, then again with a death at each write; each resumes to the same bytes."""
    whole = start(opened(tmp_path, "whole.db"))
    for number in range(1, 40):
        path = f"{number}.db"
        inner = opened(tmp_path, path)
        try:
            start(KillingLedger(inner, after=number))
            return whole
        except Crash:
            inner.close()
        again = opened(tmp_path, path)
        resumed = start(again)
        assert resumed.digest == whole.digest
        assert replay(again, "d1").to_json() == resumed.to_json()
        again.close()
    pytest.fail("it never ended by itself")


def test_a_debate_that_dies_at_any_write_is_pinned_the_same(root: Path, tmp_path: Path) -> None:
    """Would catch facts that are lost between a reply and its record, or taken twice."""
    whole = each_write(tmp_path, lambda ledger: debated(root, ledger, panel([WRITE, WRITE], [PATCH, WRITE])[0]))
    assert [step["sha256_before"] for step in whole.to_json()["plan"]] == [sha(OLD), "absent"]


def test_a_root_that_is_no_folder_is_refused_by_name(tmp_path: Path) -> None:
    """Would catch a plan that is called impossible because the tree was misspelt. A text is a path, too."""
    for root in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(ConfigError, match="nowhere: no such folder"):
            debated(root, opened(tmp_path), panel([WRITE])[0])
    proposal = debated(str(tmp_path), opened(tmp_path, "m.db"), panel([WRITE])[0])
    assert proposal.to_json()["plan"][0]["sha256_before"] == "absent"
