"""Real recordings through the loader: every file is read, and names, order and what scoring knows change nothing."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from madflow.evals.load import load_recorded, stripped

FILES = ("lmcouncil_mmlupro100_structured", "dylan_mmlu_7x3", "slm_debates", "crowd_alg514")


def recorded(name: str) -> Path:
    folder = os.environ.get("MADFLOW_RECORDED", "")
    path = Path(folder) / f"{name}.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip(f"MADFLOW_RECORDED names no folder with {path.name}: real recordings are not shipped")
    return path


def disguised(rows: list[Any], seed: int) -> list[Any]:
    """Rows shuffled and without gold, seats in another order, everything that has a name called otherwise."""
    chance, names = random.Random(seed), {}
    made = []
    for number, row in enumerate(stripped(rows)):
        agents = []
        for agent in chance.sample(row["agents"], len(row["agents"])):
            held = (str(agent["id"]), agent.get("model"))
            agents.append({**agent, "id": names.setdefault(held, f"z{len(names)}"), "model": None})
        made.append({**row, "agents": agents, "task_id": f"t{number}", "run": "r"})
    chance.shuffle(made)
    return made


@pytest.mark.parametrize("name", FILES)
def test_names_and_order_change_nothing(tmp_path: Path, name: str) -> None:
    """Catches a seat, an order or an answer that depends on a name, on places or on gold, on texts nobody made up."""
    path = recorded(name)
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps(row) for row in disguised(rows, seed=1)))
    before = {row.fingerprint: (row.recording.debated, row.prompt, row.options) for row in load_recorded(path)}
    assert before == {row.fingerprint: (row.recording.debated, row.prompt, row.options) for row in load_recorded(other)}
    assert len(before) == len(rows)
