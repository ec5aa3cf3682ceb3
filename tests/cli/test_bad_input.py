"""Everything that can be known before the first call: one line that names the fix, exit code 2, nothing on stdout."""

import json
from pathlib import Path

import pytest

from .conftest import Cli

BASE = "http://127.0.0.1:9/v1"  # nothing listens there: a call would end as exit code 3 and a proposal
MODEL = ("--model", "m", "--api-base", BASE)


def files() -> None:
    Path("crew").mkdir()
    Path("crew/crew.toml").write_text('[[agents]]\nid = "a"\nrole = "critc"\n')
    Path("bad.json").write_text("{")
    Path("files.json").write_text(json.dumps({"question": "q", "files": [{"path": "a", "language": "", "diff": ""}]}))
    Path("text.db").write_text("not a ledger " * 200)
    Path("empty.diff").write_text("")
    Path("a.py").write_text("a = 1\n")
    Path("new.diff").write_text("--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+a = 1\n")
    Path("binary.diff").write_bytes(bytes(range(256)) * 8)


CASES = {
    "no model": (["debate", "q"], "give --model NAME"),
    "no key": (["debate", "q", "--model", "openai/gpt-5-mini"], "set OPENAI_API_KEY"),
    "unknown model": (["debate", "q", "--model", "nobody/nothing"], "write provider/model"),
    "unknown crew": (["debate", "q", "--crew", "genric", *MODEL], "did you mean generic?"),
    "crew typo": (["debate", "q", "--crew", "./crew", *MODEL], "agents[1].role"),
    "budget": (["debate", "q", "--tokens", "100", *MODEL], "raise it to at least"),
    "empty question": (["debate", " ", *MODEL], "write what is to be debated"),
    "no question": (["debate", *MODEL], "give a QUESTION or --task FILE"),
    "two questions": (["debate", "q", "--task", "bad.json", *MODEL], "one of the two"),
    "bad rule": (["debate", "q", "--rule", "mostly", *MODEL], "unknown decision rule 'mostly'"),
    "bad stop": (["debate", "q", "--stop", "never", *MODEL], "never"),
    "bad topology": (["debate", "q", "--topology", "star", *MODEL], "star"),
    "bad protocol": (["debate", "q", "--protocol", "review", *MODEL], "'answer', 'proposal'"),
    "task not there": (["debate", "--task", "none.json", *MODEL], "give the path of a JSON task file"),
    "task not JSON": (["debate", "--task", "bad.json", *MODEL], "not JSON"),
    "task with files": (["debate", "--task", "files.json", *MODEL], "madflow review"),
    "out without folder": (["debate", "q", "--out", "no/p.json", *MODEL], "there is no folder no"),
    "out is a folder": (["debate", "q", "--out", "crew", *MODEL], "is a folder"),
    "bad id": (["debate", "q", "--id", "../x", *MODEL], "use letters, digits"),
    "empty id": (["debate", "q", "--id", "", *MODEL], "use letters, digits"),
    "agents and crew": (["debate", "q", "--agents", "3", "--crew", "generic", *MODEL], "leave it out with --crew"),
    "crew of reviewers": (["debate", "q", "--crew", "analysers"], "madflow review DIFF --crew analysers"),
    "judge without seat": (["debate", "q", "--fallback", "judge", *MODEL], "needs an agent with the role judge"),
    "human without id": (["debate", "q", "--human", "A", *MODEL], "give its --id"),
    "root": (["debate", "q", "--root", "nowhere", *MODEL], "no such folder"),
    "unknown option": (["debate", "q", "--token", "5"], "--tokens"),
    "unknown verb": (["reveiw", "q"], "No such command 'reveiw'; did you mean review?"),
    "base without scheme": (["debate", "q", "--model", "m", "--api-base", "localhost:99"], "write http://localhost:99"),
    "later verb": (["mcp", "x"], "No such command 'mcp'"),
    "no proposal": (["commit", "p.json"], "p.json: no such file; give a proposal.json"),
    "ledger": (["debate", "q", "--ledger", "text.db", *MODEL], "is no ledger"),
    "ledger folder": (["debate", "q", "--ledger", "bad.json/l.db", *MODEL], "--ledger bad.json/l.db"),
    "replay without ledger": (["replay", "d1"], "there is no ledger"),
    "replay bad id": (["replay", "a b"], "use letters, digits"),
    "schema": (["schema", "budget"], "'proposal'"),
    "no diff": (["review", "none.diff"], "give the path of a unified diff"),
    "empty diff": (["review", "empty.diff"], "nothing to review"),
    "binary diff": (["review", "binary.diff"], "diff"),
    "bad merge": (["review", "new.diff", "--merge", "words"], "'same', 'overlap'"),
    "no such judge": (["review", "new.diff", "--same-judge", "ann", *MODEL], "no seat 'ann' to judge"),
    "judge of words": (
        ["review", "new.diff", "--same-judge", "security", "--merge", "overlap", *MODEL],
        "by the merge rule same",
    ),
    "judge is code": (
        ["review", "new.diff", "--same-judge", "security", "--crew", "analysers", "--root", "."],
        "an analyser (analyser:security) compares no claims",
    ),
}


@pytest.mark.parametrize("case", ["no such judge", "judge of words", "judge is code", "empty diff"])
def test_what_a_review_cannot_use_leaves_no_ledger_behind(cli: Cli, case: str) -> None:
    """Would catch a ledger that is made for a review that is refused."""
    files()
    before = {path.name for path in Path().iterdir()}
    assert cli(*CASES[case][0], "--ledger", "y.db").code == 2
    assert {path.name for path in Path().iterdir()} == before


@pytest.mark.parametrize("case", CASES)
def test_usage(cli: Cli, case: str) -> None:
    """Would catch a traceback, a call made in vain, an exit code that says less, a message without the fix."""
    files()
    args, named = CASES[case]
    ran = cli(*args)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    errors = [line for line in ran.err.splitlines() if line.startswith("madflow: ") and "analysers crew" not in line]
    assert len(errors) == 1, ran.err
    assert named in errors[0]


def test_unknown_id_names_those_there_are(cli: Cli, api_base: str) -> None:
    cli("debate", "q", "--model", "says-yes", "--api-base", api_base, "--id", "known")
    ran = cli("replay", "unknown")
    assert ran.code == 2
    assert "the latest it has: known" in ran.err


def test_a_cap_on_money_is_named_in_dollars(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch nano-dollars, which no option takes."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    ran = cli("debate", "q", "--model", "openai/gpt-4o-mini", "--usd", "0.00001")
    assert ran.code == 2
    assert "the usd limit of 0.00001 does not cover round 1 (0.00" in ran.err


def test_json_errors_leave_stdout_empty(cli: Cli) -> None:
    ran = cli("debate", "q", "--json")
    assert (ran.code, ran.out) == (2, "")
