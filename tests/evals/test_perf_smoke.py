"""The benchmark script works: no figure is judged here, since nothing that a test run times means anything."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PERF = ROOT / "evals" / "perf"
CHEAP = ("cpu", "cache", "calls", "start")
COMMIT = ("append", "group", "commit", "failover")


def run(folder: Path, sections: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """What a quick run of these sections prints, and the file it writes."""
    file = folder / "figures.json"
    command = [sys.executable, str(PERF / "bench.py"), "--quick", "--json", str(file), "--only", *sections]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The cheap figures of a debate."""
    return run(tmp_path_factory.mktemp("perf"), CHEAP)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The figures of the commit layer."""
    return run(tmp_path_factory.mktemp("perf-commit"), COMMIT)


def test_every_debate_makes_agents_times_rounds_calls(outcome: tuple[str, dict[str, Any]]) -> None:
    """Catches a call that nobody asked for (a retry, a repair, a warm-up, a vote of its own), and an arm that skips."""
    figure = next(one for one in outcome[1]["figures"] if one["section"] == "calls")
    assert figure["value"] == 0
    assert figure["met"] is True
    for counted in ("3×3: 9", "3×3 warm-first: 9", "7×3: 21", "7×3 warm-first: 21"):
        assert counted in figure["detail"]


@pytest.mark.parametrize(("name", "sections"), [("outcome", CHEAP), ("committed", COMMIT)])
def test_every_figure_has_its_line(name: str, sections: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    """Catches a figure that is measured and not shown, or shown without its target."""
    printed, data = request.getfixturevalue(name)
    lines = printed.splitlines()
    assert {figure["section"] for figure in data["figures"]} == set(sections)
    for figure in data["figures"]:
        line = next(line for line in lines if line.startswith(figure["section"]) and figure["name"] in line)
        assert figure["detail"] in line
        if figure["target"] is not None:
            assert f"{'≥' if figure['least'] else '=' if figure['equal'] else '≤'} {figure['target']:g}" in line


@pytest.mark.parametrize(("third", "ledger", "files"), [("test", 10, 6), ("sql", 11, 6)])
def test_a_commit_syncs_what_is_promised_and_no_more(
    third: str, ledger: int, files: int, committed: tuple[str, dict[str, Any]]
) -> None:
    """The request, the vote and the seal; intent with started, and an outcome, for each step; the end, with the last
    outcome unless that is in a transaction of its own. For each file its bytes and its folder, and what is kept of
    the one that was replaced. Catches a sync too many, and one that was saved at the promise's expense."""
    figure = next(one for one in committed[1]["figures"] if one["name"] == f"write, patch, {third}")
    assert f"{ledger + files} syncs ({ledger} of the ledger, {files} of files and folders)" in figure["detail"]


@pytest.mark.parametrize(
    ("value", "least", "equal", "met"),
    [
        (5.0, True, False, True),
        (4.9, True, False, False),
        (5.0, False, False, True),
        (5.1, False, False, False),
        (5.0, False, True, True),
        (4.9, False, True, False),
    ],
)
def test_a_target_is_judged_in_its_own_direction(
    value: float, least: bool, equal: bool, met: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rate that is met by being too low."""
    monkeypatch.syspath_prepend(str(PERF))
    from figures import Figure

    assert Figure("append", "rate", value, "×", 5.0, equal=equal, least=least).met is met


def test_warm_first_saves_tokens(outcome: tuple[str, dict[str, Any]]) -> None:
    """Catches prompts that no longer share their beginnings: tokens are counted, not timed."""
    ratios = {one["name"]: one["value"] for one in outcome[1]["figures"] if one["unit"] == "× at once"}
    assert ratios["3×3 uncacheable, warm-first"] < 0.5
    assert ratios["7×3 uncacheable, warm-first"] < 0.25


def test_the_reference_names_every_section() -> None:
    """Catches a figure that the reference does not explain."""
    script = (PERF / "bench.py").read_text("utf-8") + (PERF / "commit_sections.py").read_text("utf-8")
    sections = re.findall(r"^(?:DEBATE|COMMIT) = \((.+)\)$", script, re.M)
    assert len(sections) == 2
    text = (ROOT / "docs" / "reference" / "performance.md").read_text("utf-8")
    for name in re.findall(r'"(\w+)"', " ".join(sections)):
        assert f"def {name}(self)" in script
        assert f"`{name}`" in text
