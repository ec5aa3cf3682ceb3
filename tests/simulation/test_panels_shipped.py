"""The data that ships is what its generator writes, small, readable by the loader, and made of nothing recorded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from madflow.evals.load import Row, load_recorded

SHIPPED = Path(__file__).resolve().parents[2] / "evals" / "shipped"
BYTES_MAX = 300_000


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shipped_make", SHIPPED / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return load_recorded(SHIPPED)


def test_the_generator_writes_the_same_bytes(make: ModuleType, tmp_path: Path) -> None:
    """Catches data edited by hand, and a change of the simulator that nobody wrote anew: run evals/shipped/make.py."""
    make.main(tmp_path)
    names = sorted(path.name for path in SHIPPED.glob("*.jsonl"))
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_it_is_small_and_says_what_it_is() -> None:
    """Catches data that swells the wheel, and simulated rows that could be taken for recorded ones."""
    files = list(SHIPPED.glob("*.jsonl"))
    assert sum(path.stat().st_size for path in files) <= BYTES_MAX
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert row["source"]["note"] == "simulated, written for madflow"
            assert {agent["model"] for agent in row["agents"]} == {"simulated"}


def test_the_loader_reads_what_was_said(make: ModuleType, rows: list[Row]) -> None:
    """Catches words that the loader reads as another answer than was simulated, or as none."""
    for row in rows:
        said = [(one.text, one.answer) for spoken in row.recording.debated.rounds for one in spoken]
        for text, answer in said:
            assert (answer is None) == (text in make.UNREADABLE), (row.task_id, text)
            letters = {letter for letter, _ in row.options if f"({letter})" in text}
            assert not row.options or answer is None or letters == {answer}, (row.task_id, text)
        assert row.recording.gold in ({letter for letter, _ in row.options} or {row.recording.gold})
        assert row.kind == ("choice" if row.options else "number")


def test_it_has_what_the_suites_need(rows: list[Row]) -> None:
    """Catches a run too short to learn from, a missing condition, or questions that are always or never answered."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row.recording.run, []).append(row)
    assert all(len(run) >= 20 for run in runs.values())
    assert {row.recording.condition for row in rows} == {"clean", "adversary"}
    for run in runs.values():
        right = [row.recording.gold in row.recording.debated.votes(1).values() for row in run]
        assert 0.3 < sum(right) / len(right) < 1
    assert all(bool(row.recording.adversaries) == (row.recording.condition == "adversary") for row in rows)
