"""Running suites: nothing is done twice, nothing is lost, nothing is dropped, and nothing of a text is written."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eval_rows import debates, write_folder, write_rows

from madflow.core.policies import policy_named
from madflow.errors import ConfigError, MadflowError, ResumeRefused
from madflow.evals import metrics, work
from madflow.evals.arms import run_arm
from madflow.evals.bootstrap import difference, estimate
from madflow.evals.load import load_recorded
from madflow.evals.records import outcomes
from madflow.evals.results import Results, read_results
from madflow.evals.runner import Progress, choose, run_suites
from madflow.evals.suites import Suite

ARMS = ("vote", "debate", "reliable")
DEBATES = "made-debates.jsonl.gz"


def suite(name: str = "small", **fields: Any) -> Suite:
    body: dict[str, Any] = {
        "name": name,
        "title": "A small suite",
        "arms": ARMS,
        "measures": ["accuracy", "token_share", "adversary_loss", "detection"],
        "recorded": ["right_to_wrong", "oracle:1"],
        "rounds": 3,
        "data": [{"label": "made", "files": ["made-debates"], "conditions": ["clean", "adversary"]}],
        "comparison": [{"against": "vote", "measures": ["accuracy", "token_share"]}],
    }
    return Suite.model_validate({**body, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "recorded")


def run(chosen: Suite | list[Suite], folder: Path, out: Path, **options: Any) -> Results:
    suites = chosen if isinstance(chosen, list) else [chosen]
    return run_suites(suites, [folder], out, **options)[0].results


def done_in(out: Path) -> int:
    """Pieces of work that are kept."""
    return sum(len(path.read_text().splitlines()) for path in (out / ".work").glob("*/*.jsonl"))


def test_figures_are_those_of_the_metrics(folder: Path, tmp_path: Path) -> None:
    """Catches: a group with other debates in it, an arm's outcomes under another's name, sides exchanged."""
    found = run(suite(), folder, tmp_path / "out")
    recordings = [row.recording for row in load_recorded(folder / DEBATES)]
    made = {
        (arm, condition): outcomes(policy_named(arm), [one for one in recordings if one.condition == condition])
        for arm in ARMS
        for condition in ("clean", "adversary")
    }
    for measured in found.measures:
        condition = measured.group["condition"]
        if measured.measure == "accuracy":
            expected = estimate(metrics.accuracy(made[measured.arm, condition]), share=True)
            assert (measured.value, measured.low, measured.high) == (expected.value, expected.low, expected.high)
            assert measured.n == 6
        if measured.measure == "adversary_loss":
            assert condition == "adversary"
            clean = metrics.accuracy(made[measured.arm, "clean"])
            loss = difference(clean, metrics.accuracy(made[measured.arm, "adversary"]))
            assert measured.value == loss.value
    for measure, metric in (("accuracy", metrics.accuracy), ("token_share", metrics.token_share)):
        same = [
            c for c in found.comparisons if (c.arm, c.group["condition"], c.measure) == ("debate", "clean", measure)
        ]
        sides = [metric(made[arm, "clean"]) for arm in ("debate", "vote")]
        assert [one.value for one in same] == [difference(*sides).value]
    assert same[0].value is not None and same[0].value > 0, "a debate costs more than a vote"
    assert [m.arm for m in found.measures if m.measure == "detection"] == ["reliable"]
    assert {m.measure for m in found.measures if m.arm == "recorded"} == {"right_to_wrong", "oracle:1"}
    assert {(r.round, r.measure) for r in found.rounds if r.measure == "accuracy"} == {
        (1, "accuracy"),
        (2, "accuracy"),
        (3, "accuracy"),
    }


def test_the_same_command_gives_the_same_results_with_any_number_of_workers(folder: Path, tmp_path: Path) -> None:
    """Catches: figures that depend on which worker is first, or on a clock."""
    one, two = run(suite(), folder, tmp_path / "a"), run(suite(), folder, tmp_path / "b", workers=2)
    same = {"created_at": "", "elapsed_s": 0.0, "config": {}}
    assert one.model_copy(update=same) == two.model_copy(update=same)
    for arm in ARMS:
        name = f"small/{arm}.jsonl"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


class Stop(Exception):
    """What ends a run in these tests."""


def test_an_interrupted_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    """Catches: work that is lost or done twice, and a torn last line that stops the next run or counts as work."""
    out = tmp_path / "out"
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.done == 3 and progress.doing != "running":
            raise Stop

    with pytest.raises(Stop):
        run(suite(), folder, out, on_progress=stop)
    assert done_in(out) == 3 and not (out / "small" / "results.json").exists()
    torn = max((out / ".work").glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    torn.write_bytes(torn.read_bytes()[:-9])
    seen.clear()
    again = run(suite(), folder, out, on_progress=seen.append)
    assert [p.done for p in seen if p.doing == "running"] == [2]
    assert done_in(out) == 6
    fresh = run(suite(), folder, tmp_path / "other")
    assert again.measures == fresh.measures and again.targets == fresh.targets


def test_work_is_shared_between_suites(folder: Path, tmp_path: Path) -> None:
    """Catches: an arm that is run once for every suite that names it."""
    other = suite("other", arms=["vote", "robust"], comparison=[], measures=["accuracy"])
    run([suite(), other], folder, tmp_path / "out")
    assert done_in(tmp_path / "out") == 2 * len({*ARMS, "robust"})


def test_nothing_is_run_that_no_group_needs(folder: Path, tmp_path: Path) -> None:
    """Catches: debates of a condition that is not measured, run for nothing; a loss without its other side."""
    data = [{"label": "made", "files": ["made-debates"], "conditions": ["adversary"]}]
    found = run(suite(data=data), folder, tmp_path / "out")
    assert done_in(tmp_path / "out") == len(ARMS)
    assert not [m for m in found.measures if m.measure == "adversary_loss"]


def test_rows_of_two_files_are_never_taken_for_each_other(folder: Path, tmp_path: Path) -> None:
    """Catches: kept work that is found by line numbers alone."""
    write_rows(folder / "made-others.jsonl.gz", debates(seed=3))
    data = [{"label": name, "files": [name]} for name in ("made-debates", "made-others")]
    found = run(suite(data=data, arms=["vote"], measures=["tokens"], comparison=[]), folder, tmp_path / "out")
    assert done_in(tmp_path / "out") == 4
    one, other = [measured.value for measured in found.measures if measured.measure == "tokens"]
    assert one != other


def test_two_files_with_the_same_rows_are_both_scored(folder: Path, tmp_path: Path) -> None:
    """Catches: a copy of a file under another name, whose work is taken for that of the first."""
    write_rows(folder / "made-copy.jsonl.gz", debates())
    data = [{"label": "made", "files": ["made-debates", "made-copy"], "each": True}]
    found = run(suite(data=data, measures=["accuracy"], comparison=[]), folder, tmp_path / "out")
    assert {m.group["data"] for m in found.measures if m.n} == {"made", "made-debates", "made-copy"}


def test_a_suite_without_a_debate_is_refused(folder: Path, tmp_path: Path) -> None:
    """Catches: results without a figure, and success, for files that hold no row."""
    write_rows(folder / DEBATES, [])
    with pytest.raises(ConfigError, match=rf"suite small: no debates are in {DEBATES}"):
        run(suite(), folder, tmp_path / "out")


@pytest.mark.parametrize("content", ["[1]", "{", "null"])
def test_a_manifest_that_is_none_is_refused(content: str, folder: Path, tmp_path: Path) -> None:
    """Catches: a traceback where somebody else wrote into the folder of the results."""
    (tmp_path / "out" / "small").mkdir(parents=True)
    (tmp_path / "out" / "small" / "manifest.json").write_text(content)
    with pytest.raises(ResumeRefused, match=r"manifest\.json: cannot be read .*; use --fresh"):
        run(suite(), folder, tmp_path / "out")


def test_what_changed_is_named_and_refused(folder: Path, tmp_path: Path) -> None:
    """Catches: results of two states of the data or of the suite mixed in one folder."""
    out = tmp_path / "out"
    before = run(suite(), folder, out)
    with pytest.raises(ResumeRefused, match="begun with another suite; use --fresh"):
        run(suite(title="Another title"), folder, out)
    with pytest.raises(ResumeRefused, match="begun with another limit"):
        run(suite(), folder, out, limit=3)
    write_rows(folder / DEBATES, debates(seed=9))
    with pytest.raises(ResumeRefused, match="begun with another data"):
        run(suite(), folder, out)
    after = run(suite(), folder, out, fresh=True)
    assert after.measures != before.measures
    assert read_results(out / "small") == after


def test_what_fails_stays_in_the_denominator(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a failed run that is dropped, which would raise the accuracy of whoever fails on hard questions."""
    hard = debates(runs=1, each=1)[0]
    hard["run"] = "hard"
    hard["agents"] = [{"id": f"a{n}", "rounds": ["The answer is (A)"]} for n in range(9)]
    write_rows(folder / DEBATES, [*debates(), hard])

    def failing(arm: Any, rows: Any) -> Any:
        if rows[0].run == "hard":
            raise ValueError("too hard")
        return run_arm(arm, rows)

    monkeypatch.setattr(work, "run_arm", failing)
    out = tmp_path / "out"
    found = run(suite(), folder, out)
    assert {failed.key for failed in found.failed} == {f"{arm}/{DEBATES}/hard" for arm in ARMS}
    assert found.failed[0].error == "ValueError: too hard"
    (accuracy,) = [
        m for m in found.measures if (m.arm, m.measure, m.group["condition"]) == ("vote", "accuracy", "clean")
    ]
    right = [json.loads(line) for line in (out / "small" / "vote.jsonl").read_text().splitlines()]
    clean = [line for line in right if line["condition"] == "clean"]
    assert accuracy.n == len(clean) == 7
    assert accuracy.value == pytest.approx(sum(line["right"] for line in clean) / 7)
    assert (clean[-1]["answer"], clean[-1]["right"], clean[-1]["stop_reason"]) == (None, 0.0, "failed")
    assert clean[-1]["tokens"] > 0 and clean[-1]["confidence"] == 1.0, "failing is not cheap, nor well calibrated"
    kept = done_in(out)
    run(suite(), folder, out)
    assert done_in(out) == kept + 3, "what failed is tried again"


def test_runs_are_cut_into_pieces(folder: Path, tmp_path: Path) -> None:
    """Catches: reliabilities learned from more rows than a user with few debates has."""
    data = {"label": "few", "files": ["made-debates"], "conditions": ["adversary"], "rows_per_run": 4}
    found = run(suite(data=[data], measures=["accuracy", "detection"]), folder, tmp_path / "out")
    (detection,) = [m for m in found.measures if m.measure == "detection"]
    assert (detection.n, detection.questions) == (2, 1), "a run of six rows is two pieces, and one panel"
    assert (tmp_path / "out" / "small" / "reliable.4.jsonl").exists()


def test_targets_say_what_was_found_and_what_else_was_asked(folder: Path, tmp_path: Path) -> None:
    """Catches: a target met although a condition beside it is not, or although it was not measured at all."""
    base = {"data": "made", "condition": "clean", "arm": "debate", "measure": "accuracy"}
    cheap = {"measure": "token_share", "target": "<= 0.5"}
    targets = [
        {**base, "name": "alone", "target": "> 0.1"},
        {**base, "name": "cheap", "target": "> 0.1", "given": [cheap]},
        {**base, "name": "above", "target": "> 0", "against": "vote", "significant": True},
        {**base, "name": "elsewhere", "target": "> 0", "condition": "night"},
    ]
    found = {target.name: target for target in run(suite(target=targets), folder, tmp_path / "out").targets}
    assert found["alone"].met and not found["cheap"].met
    assert found["cheap"].note == "token_share <= 0.5: 1.0000 [1.0000, 1.0000], no"
    above = found["above"]
    assert above.low is not None and above.met == (above.low > 0)
    assert found["elsewhere"].value is None and not found["elsewhere"].met


def test_no_text_of_the_data_is_written(folder: Path, tmp_path: Path) -> None:
    """Catches: questions or replies copied into results, which may be published."""
    out = tmp_path / "out"
    run(suite(), folder, out)
    written = "".join(path.read_text() for path in out.rglob("*") if path.is_file())
    for row in debates():
        texts = [
            row["question"],
            row["task_id"] + '"',
            *row["options"],
            *(t for a in row["agents"] for t in a["rounds"]),
        ]
        assert not any(text in written for text in texts)


def test_bad_input_is_refused_before_anything_is_run(folder: Path, tmp_path: Path) -> None:
    """Catches: a suite that fails after an hour for what could be known at once."""
    out = tmp_path / "out"
    for wrong, said in [
        ({"arms": ["vote", "guess"]}, "no arm 'guess'"),
        ({"measures": ["goodness"]}, "no measure 'goodness'"),
        ({"measures": ["oracle"]}, "takes an argument"),
        ({"comparison": [{"against": "vote", "measures": ["auc"]}]}, "cannot be compared"),
        ({"data": [{"label": "gone", "files": ["gone-*"]}]}, "no file for gone"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run(suite(**wrong), folder, out)
    write_rows(folder / DEBATES, [{k: v for k, v in row.items() if k != "gold"} for row in debates()])
    with pytest.raises(ConfigError, match="12 of 12 rows have no gold"):
        run(suite(), folder, out)
    with pytest.raises(ConfigError, match="there is no suite nothing"):
        choose(["nothing"], [folder])
    assert not out.exists()


def test_one_run_writes_at_a_time(folder: Path, tmp_path: Path) -> None:
    """Catches: two runs that append to one file."""
    out = tmp_path / "out"

    def second(progress: Progress) -> None:
        if progress.doing == "running":
            run(suite(), folder, out)

    with pytest.raises(MadflowError, match="another run writes here"):
        run(suite(), folder, out, on_progress=second)


def test_a_changed_line_of_kept_work_is_an_error(folder: Path, tmp_path: Path) -> None:
    """Catches: kept work that somebody edited, taken for what was measured or skipped in silence."""
    out = tmp_path / "out"
    run(suite(), folder, out)
    path = next((out / ".work").glob("*/vote.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(['{"item": 1}\n', *lines[1:]]))
    with pytest.raises(MadflowError, match=r"vote\.jsonl:1: nothing that a run wrote"):
        run(suite(), folder, out)
    path.write_text("".join(["nonsense\n", *lines[1:]]))
    with pytest.raises(MadflowError, match=r"vote\.jsonl:1: no JSON"):
        run(suite(), folder, out)


ENDLESS = """
import sys, time
from madflow.evals.pool import each
if __name__ == "__main__":
    for argument, result in each(time.sleep, [0.0, 60.0, 60.0], 2):
        print("done", flush=True)
"""


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Catches: processes that stay for ever when a run is killed."""
    script = tmp_path / "endless_script.py"
    script.write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "done\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.02)
