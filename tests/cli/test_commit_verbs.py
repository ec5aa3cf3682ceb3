"""`commit`, `execute`, `recover`, `resolve`, `leader`, `worker`: exit codes, one JSON document, and real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli, Ran

POLICY = """\
[[allow]]
step = ["write"]
paths = ["out/**"]
[[allow]]
step = ["test", "command"]
commands = ["true", "false", "sh"]
[[allow]]
step = ["call"]
names = ["*"]
"""
STEPS = """\
from pathlib import Path
from madflow import Step

def boom(args, ctx):
    with Path("calls").open("a") as file:
        file.write("boom\\n")
    raise RuntimeError("who knows")

steps = [Step(name="boom", do=boom, nothing_to_undo=True)]
none = 7
"""
WRITE = {"step": "write", "target": "file:out/a.txt", "content": "new\n"}
FAILS = {"step": "test", "cmd": ["false"]}
BOOM = {"step": "call", "name": "boom"}


@pytest.fixture
def here(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A root with a policy, and own steps that can be imported."""
    Path("policy.toml").write_text(POLICY)
    Path("own_steps_here.py").write_text(STEPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return cli


def approved(cli: Cli, name: str, *steps: dict[str, Any], **more: Any) -> Ran:
    Path("plan.json").write_text(json.dumps({"plan": steps, **more}))
    assert cli("propose", "plan.json", "--panel", "ann", "--proposer", "eve", "--id", name).code == 0
    assert cli("vote", name, "--agent", "ann", "--decision", "approve").code == 0
    checked = cli("check", name, "--json")
    assert checked.code == 0
    return checked


def test_commit_by_file_by_id_and_from_stdin(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a second effect, another receipt for another caller, or anything but JSON on stdout."""
    Path("p.json").write_text(approved(here, "one", WRITE).out)
    first = here("commit", "p.json", "--json", "--out", "record.json")
    assert (first.code, first.json["status"], Path("out/a.txt").read_text()) == (0, "committed", "new\n")
    Path("out/a.txt").unlink()
    assert here("commit", "one", "--json").out == first.out
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(Path("p.json").read_bytes())))
    assert here("execute", "-", "--json").out == first.out
    assert not Path("out/a.txt").exists(), "what was done is not done again"
    record = json.loads(Path("record.json").read_text())
    assert record["schema"] == here("schema", "commit_record").json["$id"]
    assert [row["kind"] for row in record["records"]] == ["intent", "started", "outcome", "committed"]
    shown = here("commit", "one")
    assert (shown.code, shown.out.splitlines()[0]) == (0, "committed: every step is done")


def test_a_dry_run_says_what_would_happen_and_records_nothing(here: Cli) -> None:
    approved(here, "one", WRITE, FAILS)
    records = len(here("history", "--json").out)
    ran = here("commit", "one", "--dry-run", "--json")
    assert (ran.code, ran.json["admitted"]) == (0, True)
    assert [step["effect_class"] for step in ran.json["steps"]] == ["verifiable", "none"]
    assert not Path("out").exists() and len(here("history", "--json").out) == records
    Path("policy.toml").unlink()
    refused = here("commit", "one", "--dry-run")
    assert refused.code == 3
    assert "no_policy" in refused.out and 'step = ["write"]' in refused.out, "it says what to write there"


def test_a_dry_run_of_what_is_committed_already(here: Cli) -> None:
    """Would catch a gate that holds against a commit what it changed itself, or lets an edited file pass."""
    proposal = approved(here, "one", WRITE).json
    receipt = here("commit", "one", "--json").json
    again = here("commit", "one", "--dry-run", "--json")
    assert (again.code, again.json["already"], again.json["receipt"]) == (0, "committed", receipt)
    shown = here("commit", "one", "--dry-run")
    assert shown.out.startswith("was admitted before") and "committed: every step is done" in shown.out
    Path("p.json").write_text(json.dumps({**proposal, "votes": []}))
    refused = here("commit", "p.json", "--dry-run", "--json")
    assert refused.code == 3 and "votes_differ" in {reason["code"] for reason in refused.json["reasons"]}


MISTYPED = [
    ["recover"],
    ["leader", "status"],
    ["leader", "transfer", "w2"],
    ["leader", "resign"],
    ["resolve", "0123456789", "--as", "done", "--by", "ann"],
    ["commit", "one"],
    ["commit", "one.json"],
    ["commit", "one", "--dry-run"],
    ["worker"],
]


@pytest.mark.parametrize("args", MISTYPED, ids=lambda args: "-".join(args[:2]))
def test_a_mistyped_ledger_is_not_made(here: Cli, args: list[str]) -> None:
    """Would catch an empty ledger that answers for the one that was meant."""
    Path("one.json").write_text("{}")
    ran = here(*args, "--ledger", "legder.db")
    assert (ran.code, ran.out) == (2, "") and "there is no ledger at legder.db" in ran.err
    if args != ["worker"]:  # which makes the default one: it may be the first to be started
        assert here(*args).code == 2
    assert not Path("legder.db").exists() and not Path(".madflow").exists()


def test_exit_codes(here: Cli) -> None:
    """Would catch a script that takes a refusal, a rollback or a doubt for success."""
    approved(here, "denied", {"step": "command", "cmd": ["rm", "x"]})
    refused = here("commit", "denied")
    assert refused.code == 3 and "command_not_allowed" in refused.out
    approved(here, "fails", WRITE, FAILS)
    back = here("commit", "fails")
    assert back.code == 5 and back.out.startswith("compensated: ") and not Path("out/a.txt").exists()
    missing = here("commit", "gone.json")
    assert missing.code == 2 and "no such file" in missing.err and missing.out == ""
    Path("broken.json").write_text("{")
    assert here("commit", "broken.json").code == 2
    assert here("commit", "nothing-of-that-name").code == 2
    assert here("commit", "denied", "--policy", "gone.toml").code == 2
    Path("policy.toml").write_text("[[allow]\n")
    broken = here("commit", "denied", "--json")
    assert broken.code == 2 and "policy.toml" in broken.err and broken.out == ""


@pytest.mark.parametrize(
    "name", ["own_steps_here", "own_steps_here:gone", "own_steps_here:none", "no_such_module:steps"]
)
def test_steps_that_cannot_be_loaded(here: Cli, name: str) -> None:
    approved(here, "x", WRITE)
    ran = here("commit", "x", "--steps", name)
    assert ran.code == 2 and f"--steps {name}" in ran.err


def test_a_doubt_is_settled_by_name_and_the_first_word_counts(here: Cli) -> None:
    """Would catch a step in doubt that is tried again, and a second word that overrules the first."""
    approved(here, "one", WRITE, BOOM)
    doubt = here("commit", "one", "--steps", "own_steps_here:steps")
    assert doubt.code == 5
    assert "look, then: madflow resolve " in doubt.out
    key = doubt.out.split("madflow resolve ")[1].split()[0]
    assert here("recover", "--steps", "own_steps_here:steps").code == 5
    assert Path("calls").read_text() == "boom\n"
    done = here(
        "resolve", key, "--as", "done", "--by", "ann", "--note", "seen", "--steps", "own_steps_here:steps", "--json"
    )
    assert (done.code, done.json["applied"], done.json["receipt"]["status"]) == (0, True, "committed")
    late = here("resolve", key, "--as", "failed", "--by", "bob", "--steps", "own_steps_here:steps")
    assert late.code == 3 and late.out.startswith("somebody was first: done, said by ann")
    assert here("resolve", "0" * 16, "--as", "done", "--by", "ann").code == 2
    assert here("recover", "--json").json == {"receipts": []}


def test_the_human_that_a_proposal_stops_for(here: Cli) -> None:
    approved(here, "one", WRITE, stop_conditions=[{"kind": "human", "note": ""}])
    refused = here("commit", "one")
    assert refused.code == 3 and "needs_human" in refused.out
    assert here("commit", "one", "--confirm", "ann").code == 0


def test_who_leads_when_nobody_does(here: Cli) -> None:
    approved(here, "one", WRITE)
    assert here("leader", "status").code == 3
    assert here("leader", "status", "--json").json == {"scope": "root", "leader": None}
    assert here("leader", "resign").code == 3


def test_what_a_terminal_shows_is_text(here: Cli) -> None:
    """Would catch a step's output that paints over the receipt."""
    approved(here, "one", {"step": "test", "cmd": ["sh", "-c", "printf '\\033[2Kfine' >&2; exit 1"]})
    ran = here("commit", "one")
    assert ran.code == 5 and "\x1b" not in ran.out + ran.err


def _madflow(*args: str, **fields: Any) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "madflow", *args]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **fields)


def test_processes_at_once_get_one_receipt(here: Cli) -> None:
    """Would catch two leaders at once: the command would be counted twice."""
    counted = {"step": "command", "cmd": ["sh", "-c", "echo x >> out/count"], "undo": []}
    approved(here, "one", WRITE, counted)
    running = [_madflow("commit", "one", "--json") for _ in range(4)]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
    assert Path("out/count").read_text() == "x\n"


def test_a_killed_commit_is_recovered(here: Cli) -> None:
    """Would catch a plan that stays half done, or a step that is done twice, after SIGKILL in the middle of it."""
    slow = {"step": "command", "cmd": ["sh", "-c", "echo x >> out/count; touch out/began; sleep 60"], "undo": []}
    approved(here, "one", WRITE, slow)
    process = _madflow("commit", "one", "--lease", "0.5")
    deadline = time.monotonic() + 30
    while not Path("out/began").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    ran = here("recover", "--json", "--lease", "0.5")
    (receipt,) = ran.json["receipts"]
    assert (ran.code, receipt["status"], receipt["steps"][1]["error_code"]) == (5, "in_doubt", "submitter_lost")
    key = receipt["steps"][1]["idempotency_key"]
    assert here("resolve", key[:8], "--as", "failed", "--by", "ann").code == 0
    assert (Path("out/a.txt").exists(), Path("out/count").read_text()) == (False, "x\n")


def test_a_worker_drains_hands_over_and_ends_with_0(here: Cli) -> None:
    """Would catch a worker that does not stop on SIGTERM, and a transfer to somebody else."""
    approved(here, "one", WRITE)
    workers = {name: _madflow("worker", "--node", name, "--lease", "0.5") for name in ("w1", "w2")}
    try:
        assert here("commit", "one", "--wait", "30").code == 0
        first = _leader(here)
        second = "w2" if first == "w1" else "w1"
        assert here("leader", "transfer", second, "--by", "ann").code == 0
        _leader(here, second)
    finally:
        for process in workers.values():
            process.send_signal(signal.SIGTERM)
        ends = {name: process.communicate(timeout=30)[1] for name, process in workers.items()}
    assert [process.returncode for process in workers.values()] == [0, 0], ends
    assert all(text.rstrip().endswith("stopped") for text in ends.values()), ends


def _leader(cli: Cli, wanted: str = "") -> str:
    deadline = time.monotonic() + 30
    while True:
        ran = cli("leader", "status", "--json")
        found = (ran.json["leader"] or {}).get("node", "")
        if ran.code == 0 and found.startswith("w") and wanted in ("", found):
            return str(found)
        assert time.monotonic() < deadline, ran
        time.sleep(0.05)
