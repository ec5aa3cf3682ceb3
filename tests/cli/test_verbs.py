"""`review`, `schema`, `doctor`, `init`, and the help of every verb."""

import json
import sys
import tomllib
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from madflow.cli.doctor import Check
from madflow.cli.summary import summary
from madflow.core.proposal import Proposal
from madflow.crews import load_crew

from .conftest import Cli

DIFF = """\
diff --git a/{name} b/{name}
new file mode 100644
--- /dev/null
+++ b/{name}
@@ -0,0 +1,{lines} @@
{body}
"""


def diff(name: str, text: str) -> str:
    lines = text.splitlines()
    return DIFF.format(name=name, lines=len(lines), body="\n".join(f"+{line}" for line in lines))


BAD = diff("app.py", "import subprocess\n\n\ndef run(cmd):\n    return subprocess.call(cmd, shell=True)\n")
GOOD = diff("app.py", "def double(number):\n    return 2 * number\n")
GO = diff("main.go", 'package main\n\nfunc main() { println("x") }\n')


def test_review_without_a_model_says_so_and_finds(cli: Cli) -> None:
    Path("change.diff").write_text(BAD)
    ran = cli("review", "change.diff", "--json", "--out", "p.json")
    assert ran.code == 0  # decided, whatever the verdict
    assert "the analysers crew reviews" in ran.err
    assert ran.json["content"]["verdict"] == "request_changes"
    assert Path("p.json").read_text() == ran.out


def test_a_review_merges_as_it_is_told(cli: Cli) -> None:
    """Would catch an option that never reaches the debate, and a default that is another one's than Python's."""
    Path("bad.diff").write_text(BAD)
    assert cli("review", "bad.diff", "--json").json["content"]["merge"]["rule"] == "same"
    assert "merge" not in cli("review", "bad.diff", "--json", "--merge", "overlap").json["content"]


def test_review_as_a_gate(cli: Cli) -> None:
    """Would catch a gate that lets request_changes through, or that stops what is fine."""
    Path("bad.diff").write_text(BAD)
    Path("good.diff").write_text(GOOD)
    bad = cli("review", "bad.diff", "--fail-on", "request_changes", "--quiet")
    assert bad.code == 3
    assert bad.out.startswith("request_changes")
    assert "app.py:5" in bad.out
    assert "Coverage: 1 of 1 files read" in bad.out
    assert cli("review", "good.diff", "--fail-on", "request_changes").code == 0


def test_a_review_says_what_was_voted_on_and_what_is_published(cli: Cli) -> None:
    """Would catch findings that read as published where the review has no verdict, and votes on who knows what."""
    Path("bad.diff").write_text(BAD)
    decided = Proposal.model_validate(cli("review", "bad.diff", "--json").json)
    assert "\nFindings (1)\n" in summary(decided)
    assert "\nVotes on publishing this review\n" in summary(decided)
    failed = decided.decision.model_copy(update={"result": "quorum_failed"})
    content = {**decided.content, "verdict": None}
    shown = summary(decided.model_copy(update={"decision": failed, "content": content}))
    assert shown.startswith("quorum_failed: nothing is published of this review\n")
    assert "\nFindings, not published (1)\n" in shown


def test_review_that_nobody_can_read_is_undecided(cli: Cli) -> None:
    """Would catch a change that passes because no analyser knows its language."""
    Path("go.diff").write_text(GO)
    ran = cli("review", "go.diff", "--quiet")
    assert ran.code == 3
    assert ran.out.startswith("quorum_failed")
    assert "not read: main.go" in ran.out


def test_review_of_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(BAD.encode())))
    assert cli("review", "-", "--json").json["content"]["findings"][0]["file"] == "app.py"


def test_review_checks_the_tree(cli: Cli) -> None:
    Path("change.diff").write_text(BAD)
    Path("tree").mkdir()
    ran = cli("review", "change.diff", "--root", "tree")
    assert ran.code == 2
    assert "app.py" in ran.err


def test_hostile_file_names_stay_text(cli: Cli) -> None:
    """Would catch a path that paints over the finding it belongs to."""
    name = "a\\033[2Kb.py"
    text = BAD.replace("b/app.py", f'"b/{name}"').replace("a/app.py", f'"a/{name}"')
    Path("change.diff").write_text(text)
    ran = cli("review", "change.diff")
    assert "\x1b" not in ran.out + ran.err


def test_schema_accepts_a_proposal(cli: Cli) -> None:
    Path("change.diff").write_text(GOOD)
    proposal = cli("review", "change.diff", "--json").json
    schema = cli("schema", "proposal").json
    assert schema["$id"] == "madflow/proposal/1"
    assert set(schema["required"]) <= set(proposal) <= set(schema["properties"])


def test_doctor(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a key's value in the report, and an exit code that hides what is broken."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-shown")
    ran = cli("doctor", "--json")
    assert ran.code == 0
    assert ran.json["ok"]
    states = {check["name"]: check["state"] for check in ran.json["checks"]}
    assert set(states.values()) == {"ok"}
    assert "OPENAI_API_KEY" in ran.out
    assert "sk-not" not in ran.out + ran.err
    assert "ready" in cli("doctor").out
    Path("broken.db").write_text("x" * 2000)
    broken = cli("doctor", "--ledger", "broken.db")
    assert broken.code == 1
    assert "is no ledger" in broken.out


def test_doctor_reads_a_ledger(cli: Cli) -> None:
    Path("change.diff").write_text(GOOD)
    cli("review", "change.diff")
    report = cli("doctor", "--json").json
    ledger = next(check["detail"] for check in report["checks"] if check["name"] == "ledger")
    assert "the chain verifies" in ledger
    assert " in 1 streams" in ledger


def test_a_missing_option_is_not_a_failure() -> None:
    assert not Check("x", "missing", "", needed=False).fails
    assert Check("x", "missing", "").fails


def test_init_writes_what_a_debate_can_use(cli: Cli, api_base: str) -> None:
    ran = cli("init")
    assert ran.code == 0
    assert len(load_crew("./crew").agents) == 3
    done = cli("debate", "--task", "task.json", "--crew", "./crew", "--model", "says-B", "--api-base", api_base)
    assert done.code == 0
    assert "approved: in the queue" in done.out
    assert ".madflow/" in Path(".gitignore").read_text().splitlines()


def test_init_never_overwrites(cli: Cli) -> None:
    Path("crew").mkdir()
    Path("crew/crew.toml").write_text("mine")
    Path(".gitignore").write_text("mine too\n")
    ran = cli("init", "--json")
    assert ran.json == {
        "written": ["crew/skeptic.md", "task.json", "policy.toml"],
        "kept": ["crew/crew.toml", ".gitignore"],
    }
    assert Path("crew/crew.toml").read_text() == "mine"
    again = cli("init")
    assert "task.json: it exists, and nothing is overwritten" in again.out
    assert "make sure that it has the line .madflow/" in again.out


@pytest.mark.parametrize(
    "verb", ["debate", "review", "commit", "execute", "recover", "resolve", "replay", "schema", "doctor", "init"]
)
def test_help_of_every_verb(cli: Cli, verb: str) -> None:
    ran = cli(verb, "--help")
    assert ran.code == 0
    assert "--json" in ran.out
    assert ran.out.count("\n") > 5


def test_version(cli: Cli) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert cli("--version").out == f"madflow {project['version']}\n"


def test_no_verb_of_later_issues(cli: Cli) -> None:
    listed = json.dumps(cli("--help").out)
    for verb in ("report", "view", "mcp"):
        assert f"  {verb} " not in listed


def test_no_verb_prints_the_help_as_it_is(cli: Cli) -> None:
    ran = cli()
    assert (ran.code, ran.out) == (2, "")
    assert "\nCommands:\n" in ran.err and "madflow: " not in ran.err


def test_a_review_by_code_without_a_root_says_what_it_cannot_read(cli: Cli) -> None:
    Path("new.diff").write_text("--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x = 1\n")
    assert "give --root" in cli("review", "new.diff").err
    Path("a.py").write_text("x = 1\n")
    assert "give --root" not in cli("review", "new.diff", "--root", ".").err
