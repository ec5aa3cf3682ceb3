"""`ledger log|verify|export|stats|prune` and `explain`: what a reader sees, and what a script gets."""

import json
import shutil
import time
from pathlib import Path

import apsw
import jsonschema
import pytest

from madflow.core.journal import CommitRecord

from .conftest import Cli

LEDGER = ".madflow/ledger.db"
POLICY = """\
[[allow]]
step = ["write"]
paths = ["out/**"]
[[allow]]
step = ["test"]
commands = ["sh"]
"""
HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31m\u202eevil[bold]"
SAYS = ["sh", "-c", r"printf '\033[2J\033]0;title\007loud'; exit 1"]


@pytest.fixture
def committed(cli: Cli) -> Cli:
    """Proposal p1 is committed, p2 compensated: its notes, its path and its command's output are hostile."""
    Path("policy.toml").write_text(POLICY)
    Path("out").mkdir()
    write = {"step": "write", "target": "file:out/a.txt", "content": "hello\n"}
    bad = {"step": "write", "target": "file:out/b\u202e.txt", "content": "x"}
    plans = {"p1": [write], "p2": [bad, {"step": "test", "cmd": SAYS}]}
    for name, plan in plans.items():
        Path(f"{name}.json").write_text(json.dumps({"plan": plan, "summary": HOSTILE}))
        made = cli("propose", f"{name}.json", "--panel", "ann,bob", "--proposer", "eve", "--id", name)
        assert made.code == 0, made.err
        for agent in ("ann", "bob"):
            cli("vote", name, "--agent", agent, "--decision", "approve", "--notes", f"fine {HOSTILE}")
        cli("commit", name)
    return cli


def harmless(text: str) -> bool:
    return not any(sign in text for sign in ("\x1b", "\x07", "\u202e", "\x9b"))


def test_the_story_is_readable_and_harmless(committed: Cli) -> None:
    """Would catch an escape sequence of a voter, a path or a command that reaches the terminal."""
    for args in (["ledger", "log"], ["explain", "p1"], ["explain", "p2"], ["ledger", "stats"], ["ledger", "verify"]):
        shown = committed(*args)
        assert shown.code == 0 and harmless(shown.out + shown.err), args
        as_data = committed(*args, "--json")
        assert as_data.code == 0 and harmless(as_data.out + as_data.err), args
        assert as_data.json is not None
    story = committed("ledger", "log").out
    for said in (
        "proposes p1",
        "votes approve",
        "asks to commit p2",
        "is elected",
        "step 1: failed for good",
        "undo 0",
    ):
        assert said in story
    data = committed("ledger", "log", "--proposal", "p2", "--json").json["records"]
    said = [record for record in data if record["kind"] == "ballot"]
    assert said[0]["payload"]["notes"] == f"fine {HOSTILE}", "in JSON nothing is lost"


def test_the_log_can_be_cut_and_filtered(committed: Cli) -> None:
    """Would catch a limit that shows the oldest, or a filter that says nothing of what it left out."""
    whole = committed("ledger", "log", "--json").json
    last = committed("ledger", "log", "--limit", "3", "--json").json
    assert last["records"] == whole["records"][-3:] and last["left_out"] == len(whole["records"]) - 3
    assert f"{last['left_out']} older records" in committed("ledger", "log", "--limit", "3").out
    only = committed("ledger", "log", "--proposal", "p1").out
    assert "p1" in only and "p2" not in only
    scope = committed("explain", "p1", "--json").json["commits"][0]["scope"]
    streams = {record["stream"] for record in committed("ledger", "log", "--scope", scope, "--json").json["records"]}
    assert streams == {f"commit/{scope}", f"requests/{scope}", f"election/{scope}"}


def test_one_proposal_only(committed: Cli) -> None:
    """Would catch a mistyped id that is answered with success, another proposal's lines in an excerpt, or an excerpt
    that passes for an export."""
    for verb in ("log", "verify", "export", "stats"):
        missing = committed("ledger", verb, "--proposal", "nobody")
        assert missing.code == 2 and "no proposals" in missing.err and missing.out == "", verb
    assert committed("ledger", "verify", "--proposal", "p1").out.endswith(" records, 1 scopes, 1 debates and votes\n")
    assert committed("ledger", "stats", "--proposal", "p2", "--json").json["commits"] == {"compensated": 1}
    assert committed("ledger", "export", "--out", "copy.jsonl").code == 0
    whole = Path("copy.jsonl").read_text().splitlines()
    assert committed("ledger", "verify", "copy.jsonl", "--proposal", "p2").code == 0
    assert committed("ledger", "export", "--proposal", "p2", "--out", "p2.jsonl").code == 0
    *own, last = Path("p2.jsonl").read_text().splitlines()
    assert set(own) < set(whole) and '"p2"' in "".join(own) and '"p1"' not in "".join(own)
    of = json.loads(whole[-1])
    trailer = {"count": len(own), "excerpt": True, "of_count": of["count"], "of_head": of["head"], "proposal_id": "p2"}
    assert json.loads(last) == trailer
    told = committed("ledger", "log", "--accounts", "--proposal", "p2", "--json").json["records"]
    assert [json.loads(line)["seq"] for line in own] == [record["seq"] for record in told]
    refused = committed("ledger", "verify", "p2.jsonl")
    assert refused.code == 2 and "is an excerpt" in refused.err and refused.out == ""


def test_records_receipts_and_their_schemas(committed: Cli) -> None:
    """Would catch a schema that its own documents do not meet."""
    records = [r for r in committed("ledger", "log", "--json").json["records"] if r["stream"].startswith("commit/")]
    for record in records:
        CommitRecord.model_validate({name: value for name, value in record.items() if name != "stream"})
    receipt = committed("explain", "p2", "--json").json["commits"][0]
    schema = committed("schema", "receipt").json
    assert schema["$id"] == receipt["schema"] == "madflow/receipt/1"
    jsonschema.validate(receipt, schema)
    assert committed("schema", "commit_record").json["$id"] == "madflow/commit_record/1"


def test_a_ledger_and_its_copy_are_verified(committed: Cli) -> None:
    """Would catch an exit code of 0 for a ledger that somebody changed, and a copy that cannot be checked alone."""
    assert committed("ledger", "verify").out.startswith("verified: ")
    exported = committed("ledger", "export", "--out", "copy.jsonl")
    assert exported.code == 0 and exported.out == ""
    assert committed("ledger", "export").out == Path("copy.jsonl").read_text()
    Path("elsewhere").mkdir()
    assert committed("ledger", "verify", "copy.jsonl", "--root", "elsewhere").code == 0
    text = Path("copy.jsonl").read_text()
    for changed in (text.replace("approve", "abstain", 1), text[:-2], text.rsplit("\n", 2)[0] + "\n", "", "x\n"):
        Path("bad.jsonl").write_text(changed)
        found = committed("ledger", "verify", "bad.jsonl", "--json")
        assert (found.code, found.json["ok"], len(found.json["problems"])) == (1, False, 1)
    shutil.copy(LEDGER, "bad.db")
    connection = apsw.Connection("bad.db")
    connection.execute("DELETE FROM slots WHERE slot LIKE '%/terminal'")
    connection.close()
    found = committed("ledger", "verify", "--ledger", "bad.db")
    assert found.code == 1 and "is taken by nobody" in found.out
    Path("torn.db").write_bytes(Path(LEDGER).read_bytes()[:6_000])
    assert committed("ledger", "verify", "--ledger", "torn.db").code == 1


def test_explain_of_what_is_not_there(committed: Cli) -> None:
    """Would catch a made-up story, and a ledger that is created by asking."""
    assert committed("explain", "nobody").code == 2
    assert committed("explain", "p1", "--ledger", "none.db").code == 2
    assert committed("ledger", "verify", "none.jsonl").code == 2
    assert committed("ledger", "prune", "--before", "1d", "--ledger", "none.db").code == 2
    assert committed("ledger", "prune", "--before", "soon").code == 2
    assert not Path("none.db").exists()


def test_explain_says_where_it_ended(committed: Cli) -> None:
    """Would catch an answer that needs the table below it to be understood."""
    first = committed("explain", "p2").out.splitlines()[0]
    assert first.startswith("p2: The commit: step 1 (test command:sh) failed: exit_code")
    assert committed("explain", "p1").out.startswith("p1: Neither: it was approved and committed, every step is done.")
    key = committed("explain", "p1", "--json").json["commits"][0]["steps"][0]["idempotency_key"]
    assert committed("explain", key[:8]).out == committed("explain", "p1").out


def test_pruning_says_first_and_does_then(committed: Cli) -> None:
    """Would catch a dry run that removes, and a commit that starts anew once its votes are gone."""
    before = committed("commit", "p1", "--json").json
    time.sleep(1.1)
    tried = committed("ledger", "prune", "--before", "1s", "--dry-run", "--json")
    assert tried.json["records"] == 6 and tried.json["dry_run"] is True
    assert committed("check", "p1").code == 0
    assert committed("ledger", "prune", "--before", "1d").out.startswith("0 payloads of 0")
    done = committed("ledger", "prune", "--before", "1s", "--json").json
    assert (done["records"], done["erased"], done["kept"]) == (6, True, {})
    assert b"evil" not in Path(LEDGER).read_bytes()
    assert committed("ledger", "verify").code == 0
    assert committed("commit", "p1", "--json").json == before
    assert "pruned" in committed("ledger", "log").out
    assert committed("explain", "p2").out.startswith("p2: The commit: step 1")


@pytest.mark.parametrize("args", [["ledger"], ["ledger", "log"], ["ledger", "prune"], ["explain"]])
def test_help(cli: Cli, args: list[str]) -> None:
    assert cli(*args, "--help").code == 0
