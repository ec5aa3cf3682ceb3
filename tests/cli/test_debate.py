"""`madflow debate` and `madflow replay`, against a loopback server."""

import json
import re
from pathlib import Path

import pytest

from madflow import Agent, Debate, TurnView, run_sync
from madflow.cli.progress import standing_of
from madflow.cli.summary import summary
from madflow.ledger.sqlite import open_ledger

from .conftest import Cli

QUESTION = {"question": "Where do retries live?", "options": ["client", "queue"]}


def ask(api_base: str, *models: str) -> list[str]:
    Path("task.json").write_text(json.dumps(QUESTION))
    named = [part for model in models for part in ("--model", model)]
    return ["debate", "--task", "task.json", "--api-base", api_base, *named]


def test_json_is_the_proposal_and_nothing_else(cli: Cli, api_base: str) -> None:
    """Would catch: progress or a second document on stdout, a file that differs from it, a replay that differs."""
    ran = cli(*ask(api_base, "says-A"), "--id", "d1", "--json", "--out", "p.json")
    assert ran.code == 0
    assert ran.json["content"]["answer"] == "A"
    assert "a1 position valid: A" in ran.err
    assert Path("p.json").read_text() == ran.out
    assert cli("replay", "d1", "--json").out == ran.out
    assert [path.name for path in Path().iterdir() if path.suffix == ".tmp"] == []


def test_the_same_id_resumes_and_asks_nobody_again(cli: Cli, api_base: str) -> None:
    first = cli(*ask(api_base, "says-A"), "--id", "d1", "--json")
    again = cli(*ask(api_base, "says-A"), "--id", "d1", "--json")
    assert again.out == first.out
    assert again.json["usage"]["calls"] == 3


def test_a_changed_resume_is_refused_and_named(cli: Cli, api_base: str) -> None:
    cli(*ask(api_base, "says-A"), "--id", "d1")
    ran = cli(*ask(api_base, "says-A"), "--id", "d1", "--rule", "unanimity")
    assert (ran.code, ran.out) == (2, "")
    assert "rule: 'majority' → 'unanimity'" in ran.err


def test_summary_for_a_human(cli: Cli, api_base: str) -> None:
    ran = cli(*ask(api_base, "says-A", "says-B", "says-A"), "--quiet")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out.startswith("approved: client\n")
    for line in ("  A  2  client", "  a2  B", "Stopped: converged", "Rule: majority", "3 calls"):
        assert line in ran.out


def test_undecided_exits_3(cli: Cli, api_base: str) -> None:
    ran = cli(*ask(api_base, "says-A", "says-B"), "--agents", "2", "--rounds", "2", "--json")
    assert ran.code == 3
    assert ran.json["decision"]["result"] == "no_decision"


def test_out_of_budget_exits_4(cli: Cli, api_base: str) -> None:
    """Two rounds are wanted, the calls last for one: would catch 3 where the budget is what ended it."""
    ran = cli(*ask(api_base, "says-A", "says-B"), "--agents", "2", "--calls", "3", "--json")
    assert ran.json["decision"]["stop_reason"] == "budget_exceeded"
    assert ran.code == 4


def test_rejected_plan_exits_3_approved_0(cli: Cli, api_base: str) -> None:
    base = ["debate", "Move the retries?", "--protocol", "proposal", "--api-base", api_base, "--rounds", "1"]
    approved = cli(*base, "--model", "approves", "--json")
    assert (approved.code, approved.json["decision"]["result"]) == (0, "approved")
    rejected = cli(*base, "--model", "rejects")
    assert rejected.code == 3
    assert "rejected: Move the retries" in rejected.out
    assert "step 0: write file:a.txt" in rejected.out


def test_replay_exits_as_the_debate_did(cli: Cli, api_base: str) -> None:
    cli(*ask(api_base, "says-A", "says-B"), "--agents", "2", "--rounds", "1", "--id", "d2")
    assert cli("replay", "d2").code == 3


def test_human_word(cli: Cli, api_base: str) -> None:
    """Pending, answered wrongly, answered. Would catch an answer that is taken before the question is there."""
    base = [*ask(api_base, "says-A", "says-B"), "--agents", "2", "--rounds", "1", "--fallback", "human", "--id", "d1"]
    early = cli(*base, "--human", "A", "--by", "kim")
    assert early.code == 2
    assert "does not wait for a human" in early.err
    pending = cli(*base, "--json")
    assert pending.code == 3
    assert [option["id"] for option in pending.json["pending"]["options"]] == ["A", "B"]
    shown = cli(*base)
    assert "--id d1 --human CHOICE --by NAME" in shown.out
    wrong = cli(*base, "--human", "C", "--by", "kim")
    assert wrong.code == 2
    assert "choose one of A, B, none" in wrong.err
    assert cli("replay", "d1").code == 3
    done = cli(*base, "--human", "B", "--by", "kim", "--notes", "fewer parts", "--json")
    assert done.code == 0
    assert done.json["decision"]["decided_by"] == "human:kim"
    assert done.json["decision"]["choice"] == "B"
    late = cli(*base, "--human", "A", "--by", "lee")
    assert late.code == 2
    assert "does not wait for a human" in late.err


def test_hostile_text_reaches_no_terminal(cli: Cli, api_base: str) -> None:
    """Would catch a control sequence of a reply, or a direction mark, in a summary, in progress or in raw JSON."""
    ran = cli(*ask(api_base, "hostile"), "--id", "d1")
    document = cli("replay", "d1", "--json")
    for text in (ran.out, ran.err, document.out):
        assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(text)
    assert "[bold]" in ran.out
    assert "\x9b31m" in document.json["votes"][0]["notes"]  # nothing is lost: JSON escapes it


def test_money_in_exact_cents(cli: Cli, api_base: str) -> None:
    ran = cli(*ask(api_base, "says-A"), "--usd", "0.1.0")
    assert ran.code == 2
    assert "not a decimal number" in ran.err


@pytest.mark.parametrize("option", ["--warm-first", "--quiet"])
def test_flags(cli: Cli, api_base: str, option: str) -> None:
    assert cli(*ask(api_base, "says-B"), option).code == 0


def test_why_seats_failed(cli: Cli) -> None:
    """Would catch a summary or a progress line that says a seat is missing, and not why."""
    dead = ("debate", "Q?", "--model", "m", "--api-base", "http://127.0.0.1:9/v1", "--agents", "2", "--rounds", "1")
    shown = cli(*dead, "--id", "d1", "--call-seconds", "3")
    assert shown.code == 3
    for text in (shown.err, shown.out, cli("replay", "d1").out):
        assert "connection: m: http://127.0.0.1:9" in text
    assert "a1: a call failed: connection: m: http://127.0.0.1:9" in shown.err
    assert re.search("a[12] position missing: connection: m: http://127.0.0.1:9", shown.err)  # one loses the quorum
    assert "tokens unreported, charged at their worst case" in shown.out
    quiet = cli(*dead, "--quiet", "--call-seconds", "3")
    assert quiet.err == ""
    assert re.search("\nFailed\n(.*\n)?  a[12]  position missing: connection: m: http://127.0.0.1:9", quiet.out)


def test_a_function_that_raises_is_quoted(tmp_path: Path) -> None:
    """Would catch a bare code where the exception says what is wrong."""
    ledger = open_ledger(tmp_path / "l.db")

    async def divides(view: TurnView) -> dict[str, object]:
        return {"answer": str(1 // (view.round - 1))}

    async def answers(view: TurnView) -> dict[str, object]:
        return {"answer": "yes"}

    agents = [Agent("a1", divides), Agent("a2", answers)]
    proposal = run_sync(Debate(task="Q?", agents=agents, id="d1", rounds=1, ledger=ledger))
    failures = standing_of(ledger, "d1").failures
    assert list(failures) == ["a1"]
    assert re.match("position missing: callable: .*raised ZeroDivisionError: integer division", failures["a1"])
    assert f"\nFailed\n  a1  {failures['a1']}\n" in summary(proposal, failures)
    ledger.close()


def test_spent_and_reserved_are_told_apart(cli: Cli, api_base: str) -> None:
    """Would catch one number for what was billed and what open calls may still cost."""
    ran = cli(*ask(api_base, "says-A"))
    first = next(line for line in ran.err.splitlines() if "a1 position" in line or "a2 position" in line)
    assert re.search(r"\[[0-9,]+ spent, [1-9][0-9,]* reserved of 250,000 tokens, 3 of 200 calls\]", first)
    assert "reserved" not in ran.err.splitlines()[-1]


def test_a_proposal_names_its_debate(cli: Cli, api_base: str) -> None:
    """Would catch a proposal's id that nothing takes, and a debate whose own name ends like one."""
    ran = cli(*ask(api_base, "says-A"), "--id", "d1", "--json")
    assert cli("replay", ran.json["proposal_id"], "--json").out == ran.out
    own = cli(*ask(api_base, "says-B"), "--id", "d1-p1", "--json")
    assert cli("replay", "d1-p1", "--json").out == own.out
    assert cli("replay", "d2-p1").code == 2


def test_the_summary_names_the_file(cli: Cli, api_base: str) -> None:
    ran = cli(*ask(api_base, "says-A"), "--id", "d1", "--out", "p.json")
    assert ran.out.endswith("\nWritten: p.json\n")
    assert "Written" not in cli("replay", "d1").out


def test_free_answers_show_what_the_letters_mean(cli: Cli, api_base: str) -> None:
    """Would catch votes for an o1 that nothing explains, where all seats gave the same answer."""
    ran = cli("debate", "Where?", "--model", "says-client", "--api-base", api_base)
    assert ran.code == 0
    assert "  o1  3  client" in ran.out
    assert "Failed" not in ran.out


def test_a_policys_confidence_is_said_and_its_shares_are_not(cli: Cli, api_base: str) -> None:
    """Would catch a share that reads as a probability: it is right far less often than it says."""
    ran = cli(*ask(api_base, "says-A"), "--id", "d1", "--policy", "robust")
    policy = cli("replay", "d1", "--json").json["content"]["policy"]
    assert ran.code == 0 and "\n  A  client\n" in ran.out
    assert f"Confidence: {policy['confidence']} (ranks, not calibrated), by policy robust\n" in ran.out
    assert policy["shares"]["A"] != policy["confidence"] and policy["shares"]["A"] not in ran.out
    assert "Confidence" not in cli(*ask(api_base, "says-A")).out


def test_learning_from_earlier_debates(cli: Cli, api_base: str) -> None:
    """Would catch a list taken for one id, silence about too few, a resume refused in figures, exit 1 for a typo."""
    for name in ("d1", "d2", "d3"):
        assert cli(*ask(api_base, "says-A"), "--id", name, "-q").code == 0
    policy = [*ask(api_base, "says-A"), "--policy", "robust", "-q"]
    listed = cli(*policy, "--id", "n1", "--learn-from", "d1,d2", "--learn-from", "d3")
    assert listed.code == 0
    assert listed.err == "madflow: --learn-from: 3 debates can teach the wrong thing about a seat; 10 are a start\n"
    for others, said in (([], "is missing"), (["--learn-from", "d1"], "names others")):
        refused = cli(*policy, "--id", "n1", *others)
        assert refused.code == 2 and f"opened differently: --learn-from (learned=): {said}. Use" in refused.err
    cli(*policy, "--id", "n2")
    refused = cli(*policy, "--id", "n2", "--learn-from", "d1")
    assert "opened differently: --learn-from (learned=): was not given then. Use" in refused.err
    for ids, said in (("d1,nope", "--learn-from: this ledger has no debate 'nope'"), ("d1,,d2", "has an empty id")):
        refused = cli(*policy, "--learn-from", ids)
        assert (refused.code, refused.out) == (2, "") and said in refused.err
    refused = cli(*policy, "--ledger", "new.db", "--learn-from", "d1")
    assert refused.code == 2 and not Path("new.db").exists()
