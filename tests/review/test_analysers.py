"""The analysers: what they find on changed lines, what they do not read, and how they vote."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Seat, Task, TaskFile
from madflow.core.replies import AssessReply, FindReply, parse_reply
from madflow.errors import ConfigError, PermanentModelError
from madflow.models.analysers import AREAS, AnalyserModel, Area, analyser_rules, analysers_crew
from madflow.models.lint import RuffLinter
from madflow.ports import ModelClient, ModelRequest, Quote, TurnView
from madflow.review.diff import read_diff


def request(stage: str, task: Task, subject: Mapping[str, Any] | None = None, **more: Any) -> ModelRequest:
    seat = Seat(agent="x", model="analyser", family="analyser")
    view = TurnView("d", stage, 1, seat, task, subject=subject or {}, **more)
    return ModelRequest("c1", "analyser", "", "", 1024, 10.0, view=view)


async def find(task: Task, area: Area, **more: Any) -> FindReply:
    reply = await AnalyserModel(area).complete(request("find", task, **more))
    parsed: FindReply = parse_reply("find", reply.text)
    return parsed


async def assess(task: Task, *findings: dict[str, Any], area: Area = "correctness") -> AssessReply:
    shown = [{"id": f"F{n}", "severity": "major", "text": "t", "quote": "", "code": "", "raised_by": ["B"], **item}
             for n, item in enumerate(findings, start=1)]  # fmt: skip
    reply = await AnalyserModel(area).complete(request("assess", task, {"findings": shown}))
    parsed: AssessReply = parse_reply("assess", reply.text)
    return parsed


def added(path: str, text: str) -> str:
    lines = text.split("\n")[:-1]
    body = "".join(f"+{line}\n" for line in lines)
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1,{len(lines)} @@\n{body}"


def new(path: str, text: str) -> Task:
    return read_diff(added(path, text), question="q")


def codes(reply: FindReply) -> list[tuple[int, str]]:
    return sorted((finding.line, finding.code) for finding in reply.findings)


BAD = "import os\n\n\ndef f(items=[]):\n    breakpoint()\n    eval(input())\n    return undefined\n"


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        ("correctness", [(1, "F401"), (4, "B006"), (7, "F821")]),
        ("security", [(6, "S307")]),
        ("maintainability", [(5, "T100")]),
    ],
)
async def test_each_area_finds_its_own(area: Area, expected: list[tuple[int, str]]) -> None:
    reply = await find(new("f.py", BAD), area)
    assert codes(reply) == expected
    assert not reply.abstain
    for finding in reply.findings:
        assert finding.quote == BAD.split("\n")[finding.line - 1].strip()
        assert finding.text and finding.code not in finding.text  # who prints a finding prints its code


async def test_severities_are_the_tables() -> None:
    reply = await find(new("f.py", BAD), "correctness")
    assert {finding.code: finding.severity for finding in reply.findings} == {
        "F401": "minor",
        "B006": "major",
        "F821": "critical",
    }


async def test_only_changed_lines_are_reported(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("import os\nimport sys\nX = 1\n")
    diff = "--- a/f.py\n+++ b/f.py\n@@ -1,2 +1,3 @@\n import os\n+import sys\n X = 1\n"
    reply = await find(read_diff(diff, question="q", root=tmp_path), "correctness")
    assert codes(reply) == [(2, "F401")]  # os is as unused, but not the change's doing


async def test_a_syntax_error_is_reported_wherever_it_shows(tmp_path: Path) -> None:
    text = "def f(:\n    pass\n\n\nX = 1\n"
    (tmp_path / "f.py").write_text(text)
    diff = "--- a/f.py\n+++ b/f.py\n@@ -4,1 +4,2 @@\n \n+X = 1\n"
    reply = await find(read_diff(diff, question="q", root=tmp_path), "correctness")
    assert codes(reply)[0] == (1, "invalid-syntax")


async def test_new_syntax_is_no_error() -> None:
    assert codes(await find(new("f.py", "type Pair[T] = tuple[T, T]\n"), "correctness")) == []


@pytest.mark.parametrize(
    "comment", ["# noqa", "# noqa: S307", "# nosec", "# ruff: noqa", "# flake8: noqa", "# ruff: disable[S307]"]
)
async def test_no_comment_of_the_change_hides_a_security_finding(comment: str) -> None:
    reply = await find(new("f.py", f"{comment}\neval(input())  {comment}\n"), "security")
    assert codes(reply) == [(2, "S307")]


async def test_no_configuration_of_the_tree_or_the_user_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ruff.toml").write_text('lint.ignore = ["ALL"]\n')
    (tmp_path / "f.py").write_text("eval(input())\n")
    (tmp_path / "home" / "ruff").mkdir(parents=True)
    (tmp_path / "home" / "ruff" / "ruff.toml").write_text(
        'lint.ignore = ["ALL"]\nlint.per-file-ignores = {"*" = ["S"]}\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "stolen"))
    diff = added("f.py", "eval(input())\n")
    assert codes(await find(read_diff(diff, question="q", root=tmp_path), "security")) == [(1, "S307")]
    left = await asyncio.to_thread(os.listdir, tmp_path)
    assert sorted(left) == ["f.py", "home", "ruff.toml"]  # and nothing is written there


async def test_tests_may_do_what_a_service_may_not() -> None:
    assert codes(await find(new("tests/test_f.py", "PASSWORD = 'hunter2'\n"), "security")) == []
    assert codes(await find(new("f.py", "PASSWORD = 'hunter2'\n"), "security")) == [(1, "S105")]


async def test_line_numbers_hold_with_odd_line_ends() -> None:
    # ruff ends a line at a lone \r too; ours end at \n only.
    text = "A = 'x\ry'\nB = '\x0c'\n\x0c\nprint(undefined)\r\n"
    assert codes(await find(new("f.py", text), "correctness")) == [(4, "F821")]


GO = added("main.go", 'package main\n\nfunc main() {\n\tkey := "AKIA' + "Z" * 16 + '"\n}\n')


@pytest.mark.parametrize("area", AREAS)
async def test_a_go_only_change_is_never_approved(area: Area) -> None:
    task = read_diff(GO, question="q")
    reply = await find(task, area)
    assert reply.abstain
    assert "language go" in reply.notes
    assert codes(reply) == ([(4, "diff/secret")] if area == "security" else [])  # seen all the same
    assert (await assess(task, area=area)).decision == "abstain"


async def test_without_a_root_a_changed_file_is_not_read() -> None:
    task = read_diff("--- a/f.py\n+++ b/f.py\n@@ -1,1 +1,2 @@\n a = 1\n+eval(input())\n", question="q")
    reply = await find(task, "security")
    assert reply.abstain
    assert "no root was given" in reply.notes


async def test_a_deletion_alone_is_not_read() -> None:
    diff = "diff --git a/f.py b/f.py\ndeleted file mode 100644\n--- a/f.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n"
    assert (await find(read_diff(diff, question="q"), "correctness")).abstain


CONFLICT = "a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> topic\n"


@pytest.mark.parametrize(
    ("path", "text", "area", "expected"),
    [
        ("c.yaml", CONFLICT, "correctness", [(n, "diff/conflict-marker") for n in (2, 4, 6)]),
        ("a.rst", "Title\n=======\n\ntext\n", "correctness", []),  # an underline is no conflict
        ("m.go.orig", "package main\n", "correctness", [(1, "diff/leftover-file")]),
        ("c.yaml", "token: ghp_" + "a1B2" * 9 + "\n", "security", [(1, "diff/secret")]),
        ("c.yaml", "url: postgres://u:hunter2x@h.test/d\n", "security", [(1, "diff/secret")]),
        (".env", "A=1\n", "security", [(1, "diff/secret-file")]),
        ("a.c", "int \u202ea;\n", "security", [(1, "diff/bidi")]),
        ("a.js", "console.log(1)\n", "maintainability", [(1, "diff/debug-leftover")]),
        ("a.go", "console.log(1)\n", "maintainability", []),
        ("uv.lock", "x\n", "maintainability", [(1, "diff/generated-file")]),
        ("a.js", "x" * 6000 + "\n", "maintainability", [(1, "diff/generated-file")]),
        ("a.c", "x;\n" * 2001, "maintainability", [(1, "diff/huge-file")]),
        ("a.py", "breakpoint()\n", "maintainability", [(1, "T100")]),  # once, not twice
        ("a.py", "HELP = 'call breakpoint()'\n", "maintainability", []),  # ruff knows code from text
        ("a.py", "X = 1  # DO NOT MERGE\n", "maintainability", [(1, "diff/marked-temporary")]),
    ],
)
async def test_checks_of_the_diff_itself(path: str, text: str, area: Area, expected: list[tuple[int, str]]) -> None:
    assert codes(await find(new(path, text), area)) == expected


async def test_a_reply_holds_at_most_a_hundred_findings_the_gravest_and_says_so() -> None:
    text = "import os\n" + "print(undefined)\n" * 150
    reply = await find(new("f.py", text), "correctness")
    assert len(reply.findings) == 100
    assert {finding.code for finding in reply.findings} == {"F821"}
    assert "51 more findings" in reply.notes
    second = await find(new("f.py", text), "correctness", part=1, parts=2)
    assert len(second.findings) == 51
    assert "more findings" not in second.notes


# --- votes


TEXT = "import os\n\n\ndef f(n):\n    return n\n"
SEEN = read_diff(added("f.py", TEXT) + GO, question="q")


@pytest.mark.parametrize(
    ("item", "decision", "why"),
    [
        ({"file": "f.py", "line": 1, "code": "F401"}, "accept", "the rule says so"),
        ({"file": "f.py", "line": 5, "code": "F401"}, "reject", "ruff does not report"),
        ({"file": "f.py", "line": 1, "code": "S608"}, "reject", "ruff does not report"),
        ({"file": "main.go", "line": 4, "code": "diff/secret"}, "accept", "the check says so"),
        ({"file": "main.go", "line": 3, "code": "diff/secret"}, "reject", "does not say so"),  # a forged code
        ({"file": "f.py", "line": 5, "quote": "    return n"}, "accept", "code cannot tell"),
        ({"file": "f.py", "line": 5, "quote": "return everything"}, "reject", "not in the file"),
        ({"file": "f.py", "line": 5}, "abstain", "nothing that code can check"),
        ({"file": "f.py", "line": 99}, "reject", "has 5 lines"),
        ({"file": "main.go", "line": 3, "quote": "func main() {"}, "abstain", "language go"),
        ({"file": "nowhere.py", "line": 1}, "reject", "no such file"),
    ],
)
async def test_votes_are_what_code_can_check(item: dict[str, Any], decision: str, why: str) -> None:
    reply = await assess(SEEN, item)
    (vote,) = reply.votes
    assert (vote.finding, vote.decision) == ("F1", decision)
    assert why in vote.notes
    assert reply.decision == "approve"


async def test_every_finding_gets_its_own_vote_in_a_mixture() -> None:
    items = [{"file": "f.py", "line": 5}, {"file": "f.py", "line": 1, "code": "F401"}, {"file": "f.py", "line": 99}]
    reply = await assess(SEEN, *items)
    assert [(vote.finding, vote.decision) for vote in reply.votes] == [
        ("F1", "abstain"),
        ("F2", "accept"),
        ("F3", "reject"),
    ]


async def test_a_quote_of_an_unchanged_line_is_no_finding_of_this_change(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("first = compute()\nsecond = 2\n")
    diff = "--- a/f.py\n+++ b/f.py\n@@ -1,1 +1,2 @@\n first = compute()\n+second = 2\n"
    task = read_diff(diff, question="q", root=tmp_path)
    (vote,) = (await assess(task, {"file": "f.py", "line": 1, "quote": "first = compute()"})).votes
    assert (vote.decision, vote.notes) == ("abstain", "the quoted line is not changed")


# --- the client


async def test_it_is_a_model_client_that_costs_nothing() -> None:
    model = AnalyserModel("security")
    assert isinstance(model, ModelClient)
    assert model.name == "analyser:security"  # what a resumed debate is compared by
    assert model.quote(request("find", SEEN)) == Quote(0, 0, 0, exact=True)
    reply = await model.complete(request("find", SEEN))
    assert reply.usage is not None and (reply.usage.prompt_tokens, reply.usage.usd_nanos) == (0, 0)


@pytest.mark.parametrize("stage", ["position", "ballot", "draft"])
async def test_other_stages_are_refused(stage: str) -> None:
    with pytest.raises(PermanentModelError, match=f"not in the stage '{stage}'; configure a model"):
        await AnalyserModel("security").complete(request(stage, SEEN))
    with pytest.raises(PermanentModelError, match="no view"):
        await AnalyserModel("security").complete(ModelRequest("c", "m", "", "", 1, 1.0))


def test_an_unknown_area_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are correctness, security, maintainability"):
        AnalyserModel("style")  # type: ignore[arg-type]


async def test_a_crew_runs_ruff_once_for_both_stages() -> None:
    crew = analysers_crew()
    await asyncio.gather(*(model.complete(request("find", SEEN)) for model in crew.values()))
    await asyncio.gather(*(model.complete(request("assess", SEEN, {"findings": []})) for model in crew.values()))
    assert crew["security"].linter.runs == 1
    other = read_diff(added("g.py", "X = 1\n"), question="q")
    await crew["security"].complete(request("find", other))
    assert crew["security"].linter.runs == 2


async def test_the_event_loop_goes_on_while_ruff_runs(tmp_path: Path) -> None:
    slow = _fake_ruff(tmp_path, "import time; time.sleep(0.3); print('[]')")
    model = AnalyserModel("security", linter=RuffLinter(("S",), command=slow))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await model.complete(request("find", SEEN))
    ticking.cancel()
    assert ticks >= 3  # a blocked loop ticks once at most


def _fake_ruff(folder: Path, program: str) -> tuple[str, ...]:
    script = folder / "fake_ruff.py"
    script.write_text(program)
    return (sys.executable, str(script))


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("import sys; sys.stderr.write('no such rule'); sys.exit(2)", "analyser_failed", "exit code 2: no such rule"),
        ("print('hello')", "analyser_failed", "not understood"),
        ("print('[{}]')", "analyser_failed", "not understood"),
        ("import os; os.kill(os.getpid(), 11)", "analyser_failed", "exit code -11"),
        ("import time; time.sleep(60)", "analyser_timeout", "longer than 0.5 s"),
        ("while True: print('x' * 1000)", "analyser_output", "more than 10,000 bytes"),
    ],
)
async def test_a_linter_that_fails_is_an_error_never_silence(
    tmp_path: Path, program: str, code: str, message: str
) -> None:
    linter = RuffLinter(("S",), command=_fake_ruff(tmp_path, program), seconds_max=0.5, output_bytes_max=10_000)
    with pytest.raises(PermanentModelError, match=message) as caught:
        await AnalyserModel("security", linter=linter).complete(request("find", SEEN))
    assert caught.value.code == code


async def test_a_missing_linter_names_the_fix() -> None:
    model = AnalyserModel("security", linter=RuffLinter(("S",), command=("/nonexistent/ruff",)))
    with pytest.raises(PermanentModelError, match=r"pip install 'ruff>=0\.14'"):
        await model.complete(request("find", SEEN))


def test_the_shipped_rules_fit_together() -> None:
    rules = analyser_rules()
    assert sorted(rules["areas"]) == sorted(AREAS)
    selected = [rule for area in AREAS for rule in rules["areas"][area]["select"]]
    assert len(selected) == len(set(selected))
    for prefix in rules["severity"]:
        assert prefix == "invalid-syntax" or any(prefix.startswith(rule) for rule in selected), prefix
    json.dumps(rules)  # plain data


def test_files_of_a_task_made_elsewhere_need_no_diff_reader() -> None:
    task = Task(
        task_id="t",
        question="q",
        files=(TaskFile(path="f.py", language="python", diff="", text="eval(1)\n", added=(1,)),),
    )
    reply = asyncio.run(find(task, "security"))
    assert codes(reply) == [(1, "S307")]


async def test_an_analyser_accepts_a_patch_only_if_it_would_suggest_the_same() -> None:
    """Would catch a repair that passes because its finding is a rule's: code cannot tell what another patch does."""
    task = new("f.py", "import os\nX = 1\n")
    (own,) = (finding for finding in (await find(task, "correctness")).findings)
    assert own.patch.endswith("@@ -1,2 +1,1 @@\n-import os\n X = 1\n")
    row = {"file": "f.py", "line": 1, "code": "F401", "quote": "import os"}
    other = {**row, "patch": own.patch.replace(" X = 1", "-X = 1\n+X = 2")}
    reply = await assess(task, {**row, "patch": own.patch}, other, row, {**row, "code": "", "patch": own.patch})
    assert [vote.decision for vote in reply.votes] == ["accept"] * 4
    assert [vote.patch for vote in reply.votes] == ["accept", "abstain", "abstain", "abstain"]
