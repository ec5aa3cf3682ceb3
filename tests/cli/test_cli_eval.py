"""`eval list`, `run`, `report`, `predict`: what a user types, what a script reads, and what an exit code says."""

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from madflow.evals import work

from .conftest import Cli

PREDICTED = ["task_id", "run", "answer", "abstained", "confidence", "stop_reason", "rounds", "calls", "tokens"]


def samples(count: int = 4, seats: int = 4) -> list[dict[str, Any]]:
    """Open questions with a few samples each, as the suite `sampling` reads them."""
    chance = random.Random(count)
    rows = []
    for number in range(count):
        answers = [str(number + (chance.random() < 0.3)) for _ in range(seats)]
        agents = [
            {"id": f"s{place}", "rounds": [f"I count {answer}."], "answers": [answer]}
            for place, answer in enumerate(answers)
        ]
        rows.append({"task_id": f"t{number}", "question": f"Count to {number}.", "gold": str(number), "agents": agents})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


@pytest.fixture
def recorded(cli: Cli) -> str:
    write(Path("recorded/crowd_made.jsonl.gz"), samples())
    return "recorded"


def test_the_suites_are_listed(cli: Cli) -> None:
    """Would catch a suite that does not load, and a table instead of JSON."""
    shown, listed = cli("eval", "list"), cli("eval", "list", "--json")
    assert shown.code == listed.code == 0
    names = [suite["suite"] for suite in listed.json["suites"]]
    assert "accuracy-per-token" in names and names == sorted(names)
    assert all(name in shown.out for name in names)


def test_run_and_report(cli: Cli, recorded: str) -> None:
    """Would catch results that the report cannot read, a suite named on stdout that was not run."""
    ran = cli("eval", "run", "sampling", "--recorded", recorded, "--out", "results", "--workers", "1")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("sampling: 4 debates, ") and "madflow eval report results" in ran.out
    assert "of 6" in ran.err, "progress is on stderr"
    results = json.loads(Path("results/sampling/results.json").read_text())
    assert results["command"] == "madflow eval run sampling --recorded recorded --out results --workers 1"
    assert [file["rows"] for file in results["data"]] == [4]
    report = cli("eval", "report", "results", "--json")
    assert report.code == 0 and all(Path(path).is_file() for path in report.json["written"])
    assert "results/index.html" in report.json["written"]
    tables = cli("eval", "report", "results", "--out", "pages")
    assert tables.code == 0 and "robust" in tables.out and Path("pages/index.html").is_file()


def test_run_all_takes_what_is_there_and_says_what_is_not(cli: Cli, recorded: str) -> None:
    """Would catch a run of everything that ends at the first suite without data, or leaves one out in silence."""
    ran = cli("eval", "run", "all", "--recorded", recorded, "--json", "--quiet", "--workers", "1")
    assert ran.code == 0
    assert [suite["suite"] for suite in ran.json["suites"]] == ["sampling"]
    assert any("suite panels is left out" in line for line in ran.json["left_out"])
    assert "suite panels is left out" in ran.err


def test_a_run_with_failed_work_says_so(cli: Cli, recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a script that takes figures with failed work for complete ones."""

    def failing(arm: Any, rows: Any) -> Any:
        raise ValueError("no arm of mine")

    monkeypatch.setattr(work, "run_arm", failing)
    ran = cli("eval", "run", "sampling", "--recorded", recorded, "--workers", "1")
    assert ran.code == 1
    assert "FAILED" in ran.out and "failed: ValueError: no arm of mine" in ran.err
    assert Path("results/sampling/results.json").is_file()


def test_predict(cli: Cli, recorded: str) -> None:
    """Would catch predictions on stdout, in another order, or with other fields."""
    ran = cli("eval", "predict", "--recorded", recorded, "--policy", "vote", "--out", "p.jsonl", "--workers", "1")
    assert ran.code == 0 and ran.out.startswith("4 predictions by vote")
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [PREDICTED] * 4
    assert [line["task_id"] for line in lines] == ["t0", "t1", "t2", "t3"]
    told = cli("eval", "predict", "--recorded", recorded, "--out", "q.jsonl", "--json", "--quiet", "--workers", "1")
    assert (told.json["policy"], told.json["debates"], told.json["out"], told.err) == ("robust", 4, "q.jsonl", "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "sampling"], "no file for crowd (crowd_*) in any folder (none was given); name the folder with"),
        (["run", "flips", "--recorded", "recorded"], "(attack-*)"),
        (
            ["run", "flips", "--recorded", "recorded"],
            "its recordings (.jsonl, .jsonl.gz) are: crowd_made; name another",
        ),
        (["run", "live-gsm8k", "--recorded", "recorded", "--data", "q.jsonl", "--model", "m"], "leave out --recorded"),
        (["run", "nothing", "--recorded", "recorded"], "there is no suite nothing"),
        (["run", "sampling", "--recorded", "elsewhere"], "elsewhere: no such folder"),
        (["predict", "--recorded", "recorded", "--policy", "wise", "--out", "p"], "there is no policy 'wise'"),
        (["predict", "--recorded", "elsewhere", "--out", "p"], "elsewhere: no such folder"),
        (["predict", "--recorded", "recorded", "--out", "no/p"], "there is no folder no"),
        (["predict", "--recorded", "a" * 300, "--out", "p"], "cannot be listed (File name too long)"),
        (["run", "sampling", "--recorded", "a" * 300], "cannot be listed (File name too long)"),
        (["report", "elsewhere"], "elsewhere"),
        (["run"], "Missing argument"),
    ],
)
def test_bad_input_is_a_usage_error(args: list[str], said: str, cli: Cli, recorded: str) -> None:
    """Would catch a traceback, an exit code that says success, something on stdout."""
    ran = cli("eval", *args)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and len(ran.err.splitlines()) <= 2


def test_nothing_is_written_where_a_row_cannot_be_read(cli: Cli, recorded: str) -> None:
    """Would catch predictions for some of the rows, which look like predictions for all."""
    rows = samples()
    rows[2].pop("agents")
    write(Path("recorded/crowd_made.jsonl.gz"), rows)
    Path("p.jsonl").write_text("of before\n")
    ran = cli("eval", "predict", "--recorded", recorded, "--out", "p.jsonl")
    assert ran.code == 2 and "crowd_made.jsonl.gz:3" in ran.err
    assert Path("p.jsonl").read_text() == "of before\n"


def test_ctrl_c_ends_the_run_and_the_same_command_goes_on(cli: Cli, recorded: str) -> None:
    """Would catch workers that outlive Ctrl-C, a traceback, and a run that begins anew or is refused afterwards."""
    write(Path("recorded/crowd_made.jsonl.gz"), samples(count=250))
    command = ["eval", "run", "sampling", "--recorded", recorded, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "madflow", *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    work, deadline = Path("results/.work"), time.monotonic() + 60
    while not any(path.stat().st_size for path in work.glob("*/*.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, "it neither ran nor kept anything"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    said = [line for line in err.splitlines() if line and " of " not in line]
    assert said == ["madflow: what was finished is kept: the same command goes on", "madflow: interrupted"]
    kept = sum(len(path.read_text().splitlines()) for path in work.glob("*/*.jsonl"))
    assert 0 < kept < 6
    again = cli(*command)
    assert again.code == 0 and f" {kept} of 6 running" in again.err


def test_predictions_never_replace_a_recording(cli: Cli, recorded: str) -> None:
    """Would catch `--out` on the recording itself: the data would be gone."""
    file = Path("recorded/crowd_made.jsonl.gz")
    before = file.read_bytes()
    refused = cli("eval", "predict", "--recorded", recorded, "--out", str(file))
    assert refused.code == 2 and "is one of the recordings" in refused.err
    assert file.read_bytes() == before


def test_a_suite_of_ones_own_is_run_by_its_path(cli: Cli, recorded: str) -> None:
    """Would catch a format that is documented and cannot be used."""
    Path("mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\narms = ["vote"]\nmeasures = ["accuracy"]\n'
        '[[data]]\nlabel = "crowd"\nfiles = ["crowd_*"]\n'
    )
    ran = cli("eval", "run", "mine.toml", "--recorded", recorded, "--out", "results", "--workers", "1")
    assert ran.code == 0, ran.err
    assert Path("results/mine/results.json").is_file()


def test_all_of_nothing_is_no_success(cli: Cli) -> None:
    """Would catch exit 0 for a folder in which no suite finds its data."""
    write(Path("other/unknown.jsonl.gz"), samples())
    refused = cli("eval", "run", "all", "--recorded", "other")
    assert refused.code == 2 and "no suite has all of its files" in refused.err


def test_predictions_go_to_stdout(cli: Cli, recorded: str) -> None:
    """Would catch a file called `-`, a summary or progress between the lines, and two documents on one stdout."""
    to_file = cli("eval", "predict", "--recorded", recorded, "--policy", "vote", "--out", "p.jsonl", "--workers", "1")
    assert to_file.code == 0
    piped = cli("eval", "predict", "--recorded", recorded, "--policy", "vote", "--out", "-", "--workers", "1")
    assert piped.code == 0 and piped.out == Path("p.jsonl").read_text()
    assert "4 predictions by vote" in piped.err and not Path("-").exists()
    silent = cli("eval", "predict", "--recorded", recorded, "--policy", "vote", "--out", "-", "-q", "--workers", "1")
    assert (silent.out, silent.err) == (piped.out, "")
    both = cli("eval", "predict", "--recorded", recorded, "--out", "-", "--json")
    assert (both.code, both.out) == (2, "") and "both want stdout" in both.err


def test_nothing_is_on_stdout_where_a_row_cannot_be_read(cli: Cli, recorded: str) -> None:
    """Would catch lines that are printed as they are made: a reader would take them for all."""
    write(Path("recorded/later.jsonl.gz"), [{"agents": "nobody"}])
    ran = cli("eval", "predict", "--recorded", recorded, "--out", "-", "--workers", "1")
    assert (ran.code, ran.out) == (2, "") and "later.jsonl.gz:1" in ran.err


def test_predictions_of_several_folders(cli: Cli, recorded: str) -> None:
    """Would catch all but the last --recorded ignored, and rows of two files of one name taken for each other."""
    write(Path("more/crowd_other.jsonl.gz"), samples(count=3))
    folders = ["--recorded", recorded, "--recorded", "more", "--policy", "vote", "--workers", "1"]
    ran = cli("eval", "predict", *folders, "--out", "p.jsonl")
    assert ran.code == 0 and ran.out.startswith("7 predictions by vote")
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [line["run"] for line in lines] == ["crowd_made"] * 4 + ["crowd_other"] * 3
    write(Path("more/crowd_made.jsonl.gz"), samples())
    for again in ("more", "recorded/crowd_made.jsonl.gz"):
        refused = cli("eval", "predict", "--recorded", recorded, "--recorded", again, "--out", "p.jsonl")
        assert refused.code == 2 and "recorded/crowd_made.jsonl.gz have one name" in refused.err
    Path("more/crowd_made.jsonl.gz").unlink()
    taken = cli("eval", "predict", "--recorded", recorded, "--recorded", "more", "--out", "more/crowd_other.jsonl.gz")
    assert taken.code == 2 and "is one of the recordings" in taken.err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("/dev/null", "is a device or a pipe"),
        ("p.jsonl.gz", "predictions are written uncompressed"),
        ("a" * 300, "File name too long"),
        (".", "is a folder"),
    ],
)
def test_predictions_go_into_a_file_that_can_be_one(out: str, said: str, cli: Cli, recorded: str) -> None:
    """Would catch a device that is replaced by a file, plain text under a compressed name, a traceback."""
    refused = cli("eval", "predict", "--recorded", recorded, "--out", out, "--workers", "1")
    assert (refused.code, refused.out) == (2, "") and said in refused.err


def test_two_suites_of_one_name_are_refused(cli: Cli, recorded: str) -> None:
    """Would catch the results of one suite under the other's name."""
    Path("sampling.toml").write_text(
        'name = "sampling"\ntitle = "Mine"\narms = ["vote"]\n[[data]]\nlabel = "crowd"\nfiles = ["crowd_*"]\n'
    )
    ran = cli("eval", "run", "sampling.toml", "sampling", "--recorded", recorded)
    assert ran.code == 2 and "two suites are called sampling" in ran.err
    ran = cli("eval", "run", "samplin", "--recorded", recorded)
    assert ran.code == 2 and "there is no suite samplin (did you mean sampling?)" in ran.err


TARGETED = """
name = "mine"
title = "Mine"
arms = ["vote", "debate"]
measures = ["accuracy"]
[[data]]
label = "crowd"
files = ["crowd_*"]
each = true
"""
TARGET = """
[[target]]
name = "{data}"
data = "{data}"
arm = "vote"
measure = "accuracy"
target = "{target}"
"""


def test_targets_are_judged_on_what_is_there(cli: Cli, recorded: str) -> None:
    """Would catch a file that is there and has no group, absent ones that count as missed, a reason kept back."""
    aims = [("crowd_made", ">= 0"), ("crowd_other", ">= 0"), ("crowd", "> 1")]
    body = "".join(TARGET.format(data=data, target=target) for data, target in aims)
    given = '[[target.given]]\nmeasure = "token_share"\ntarget = "<= -1"\n'
    Path("mine.toml").write_text(TARGETED + body + given)
    command = ["eval", "run", "mine.toml", "--recorded", recorded, "--workers", "1"]
    ran = cli(*command)
    assert ran.code == 0, ran.err
    head, *lines, _ = ran.out.splitlines()
    assert "4 debates, 1 of 2 targets met, 1 without data" in head
    assert [line[:14].strip() for line in lines] == ["met", "no data", "not met"]
    assert lines[0].endswith("target >= 0, on 4 debates")
    assert lines[1].endswith("crowd_other: vote, accuracy, target >= 0")
    assert lines[2].endswith("on 4 debates (token_share 1.0000 is not <= -1)")
    brief = cli(*command, "--json").json["suites"][0]["targets"]
    assert [(one["met"], one["n"]) for one in brief] == [(True, 4), (None, None), (False, 4)]


def test_no_target_is_judged_on_a_part(cli: Cli, recorded: str) -> None:
    """Would catch "met" on the first rows of a file; a limit that cuts nothing leaves nothing unjudged."""
    Path("mine.toml").write_text(TARGETED + TARGET.format(data="crowd", target=">= 0"))
    command = ["eval", "run", "mine.toml", "--recorded", recorded, "--workers", "1"]
    ran = cli(*command, "--limit", "3", "--out", "part")
    assert ran.code == 0 and "3 debates, 1 not judged" in ran.out and "  not judged   crowd: vote" in ran.out
    assert "mine: No target is judged: --limit 3 took 3 of 4 debates." in ran.err
    (target,) = json.loads(Path("part/mine/results.json").read_text())["targets"]
    assert target["met"] is None and target["value"] is not None
    assert "not judged" in cli("eval", "report", "part").out
    whole = cli(*command, "--limit", "4", "--out", "whole")
    assert "1 of 1 target met" in whole.out and "No target" not in whole.err


def test_a_condition_that_nothing_has_is_refused(cli: Cli, recorded: str) -> None:
    """Would catch exit 0 and no figure for a misspelt condition, and for one of two no word about it."""
    rows = samples()
    write(Path("recorded/crowd_made.jsonl.gz"), [{**row, "condition": "clean"} for row in rows])
    command = ["eval", "run", "mine.toml", "--recorded", recorded, "--workers", "1"]
    Path("mine.toml").write_text(TARGETED + 'conditions = ["clen"]\n')
    ran = cli(*command)
    assert (ran.code, ran.out) == (2, "")
    assert "data 'crowd': no debate is of condition clen (did you mean clean?); its recordings have clean" in ran.err
    Path("mine.toml").write_text(TARGETED + 'conditions = ["clen", "clean"]\n')
    ran = cli(*command)
    assert ran.code == 0 and "mine: No debates, so no figures: crowd, condition clen" in ran.err
    write(Path("recorded/crowd_made.jsonl.gz"), rows)
    ran = cli(*command, "--out", "none")
    assert ran.code == 0 and "The conditions of the recordings are: none." in ran.err


def test_a_misspelt_right_answer_is_named(cli: Cli) -> None:
    """Would catch "no gold" without the line and the field that is meant."""
    command = ["eval", "run", "live-gsm8k", "--model", "m", "--data", "q.jsonl"]
    for row, said in (
        ({"question": "1 + 1?", "anser": "2"}, "q.jsonl:2 field anser: no right answer (did you mean answer?)"),
        ({"question": "1 + 1?"}, "q.jsonl:2 field gold: no right answer; a row has it in one of gold, answer"),
        ({"qestion": "1 + 1?", "answer": "2"}, "q.jsonl:2 field qestion: no question (did you mean question?)"),
    ):
        Path("q.jsonl").write_text(json.dumps({"question": "0?", "gold": "0"}) + "\n" + json.dumps(row) + "\n")
        ran = cli(*command)
        assert (ran.code, ran.out) == (2, "") and said in ran.err
