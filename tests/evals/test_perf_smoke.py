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


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a quick run of the cheap figures prints, and the file it writes."""
    file = tmp_path_factory.mktemp("perf") / "figures.json"
    command = [sys.executable, str(PERF / "bench.py"), "--quick", "--json", str(file), "--only", *CHEAP]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=file.parent, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text("utf-8"))


def test_every_debate_makes_agents_times_rounds_calls(outcome: tuple[str, dict[str, Any]]) -> None:
    """Catches a call that nobody asked for (a retry, a repair, a warm-up, a vote of its own), and an arm that skips."""
    figure = next(one for one in outcome[1]["figures"] if one["section"] == "calls")
    assert figure["value"] == 0
    assert figure["met"] is True
    for counted in ("3×3: 9", "3×3 warm-first: 9", "7×3: 21", "7×3 warm-first: 21"):
        assert counted in figure["detail"]


def test_every_figure_has_its_line(outcome: tuple[str, dict[str, Any]]) -> None:
    """Catches a figure that is measured and not shown, or shown without its target."""
    printed, data = outcome
    lines = printed.splitlines()
    assert {figure["section"] for figure in data["figures"]} == set(CHEAP)
    for figure in data["figures"]:
        line = next(line for line in lines if line.startswith(figure["section"]) and figure["name"] in line)
        assert figure["detail"] in line
        if figure["target"] is not None:
            assert f"{figure['target']:g}" in line


def test_warm_first_saves_tokens(outcome: tuple[str, dict[str, Any]]) -> None:
    """Catches prompts that no longer share their beginnings: tokens are counted, not timed."""
    ratios = {one["name"]: one["value"] for one in outcome[1]["figures"] if one["unit"] == "× at once"}
    assert ratios["3×3 uncacheable, warm-first"] < 0.5
    assert ratios["7×3 uncacheable, warm-first"] < 0.25


def test_the_reference_names_every_section() -> None:
    """Catches a figure that the reference does not explain."""
    script = (PERF / "bench.py").read_text("utf-8")
    sections = re.search(r"^SECTIONS = \((.+)\)$", script, re.M)
    assert sections is not None
    text = (ROOT / "docs" / "reference" / "performance.md").read_text("utf-8")
    for name in re.findall(r'"(\w+)"', sections[1]):
        assert f"def {name}(self)" in script
        assert f"`{name}`" in text
